//! Replies of servers, and what follows from them. It must not know where bytes
//! come from.

use crate::proto::transmission::{Command, ErrorCode, Fault, Outcome, ReplyHeader};

use super::super::SessionId;
use super::super::action::{Action, Place, Reason, Step};
use super::super::translate::{Chunk, Content, Ending};
use super::{Engine, Owner};

impl Engine {
    /// The header of a reply: of
    /// [`header_len`](crate::proto::transmission::header_len) bytes, in the style of
    /// the session.
    pub fn reply(&mut self, session: SessionId, header: &ReplyHeader) -> Step {
        if !self.sessions.is_open(session) {
            return Step::Over;
        }
        match self.outstanding.header(session, header) {
            Ok(chunk) if chunk.prefix_len() > 0 => Step::Prefix(chunk),
            Ok(chunk) => self.reply_prefix(session, chunk, &[]),
            Err(fault) => self.fault(session, fault),
        }
    }

    /// The first bytes of a chunk: pass exactly [`Chunk::prefix_len`].
    pub fn reply_prefix(&mut self, session: SessionId, chunk: Chunk, bytes: &[u8]) -> Step {
        if !self.sessions.is_open(session) {
            return Step::Over;
        }
        let (content, owner) = match self.outstanding.prefix(chunk, bytes) {
            Ok((content, owner)) => (content, *owner),
            Err(fault) => return self.fault(session, fault),
        };
        match content {
            Content::Nothing(ending) => self.reply_end(session, ending),
            Content::Data(at, length, ending) => self
                .place(owner, at, length)
                .map_or(Step::Over, |place| Step::Data(place, ending)),
            Content::Zeroes(at, length, ending) => self
                .place(owner, at, length)
                .map_or(Step::Over, |place| Step::Zeroes(place, ending)),
            Content::Trouble(trouble, ending) => {
                self.actions.push_back(Action::Trouble {
                    session,
                    command: self.command(owner),
                    code: ErrorCode(trouble.code),
                    offset: trouble.offset,
                    message: trouble.message,
                });
                self.reply_end(session, ending)
            }
        }
    }

    /// All of a chunk was read, or set to zero.
    pub fn reply_end(&mut self, session: SessionId, ending: Ending) -> Step {
        if !self.sessions.is_open(session) {
            return Step::Over;
        }
        match self.outstanding.end(ending) {
            Ok(None) => {}
            Ok(Some((owner, outcome))) => {
                self.sessions.answered(session);
                self.outcome(session, owner, outcome);
            }
            Err(fault) => return self.fault(session, fault),
        }
        if self.sessions.is_open(session) {
            Step::Header
        } else {
            Step::Over
        }
    }

    fn fault(&mut self, session: SessionId, fault: Fault) -> Step {
        self.close(session, Reason::Fault(fault));
        Step::Over
    }

    /// Only a READ of the kernel has content: `proto` lets no other pass.
    fn place(&self, owner: Owner, at: u64, length: u64) -> Option<Place> {
        let Owner::Asked(index) = owner else {
            return None;
        };
        let buffer = self.asked.get(index)?.buffer?;
        Some(Place { buffer, at, length })
    }

    fn command(&self, owner: Owner) -> Command {
        let asked = match owner {
            Owner::Asked(index) => self.asked.get(index).map(|asked| asked.request.command),
            Owner::Piece(index) => self.plan.get(index).and_then(|piece| {
                let entry = self.log.get(piece.seq)?;
                Some(entry.request.command)
            }),
            Owner::Flush(..) => None,
        };
        asked.unwrap_or(Command::FLUSH)
    }

    fn outcome(&mut self, session: SessionId, owner: Owner, outcome: Outcome) {
        if outcome == Outcome::Failed(ErrorCode::ESHUTDOWN) {
            // Not for applications: the next server will do it.
            self.take_back(owner);
            self.close(session, Reason::Shutdown);
            return;
        }
        match (owner, outcome) {
            (Owner::Asked(index), Outcome::Good) => {
                self.served = self.served.wrapping_add(1);
                self.asked_is_good(index);
            }
            (Owner::Asked(index), Outcome::Failed(code)) => self.fail_asked(index, code),
            (Owner::Piece(index), outcome) => self.piece_is_answered(session, index, outcome),
            (Owner::Flush(asked, mark, number), Outcome::Good) => {
                self.served = self.served.wrapping_add(1);
                self.sessions.proved(number);
                while let Some(buffer) = self.log.flushed(mark) {
                    self.actions.push_back(Action::Release(buffer));
                }
                self.flush_is_answered(session, asked, number, ErrorCode(0));
            }
            (Owner::Flush(asked, _, number), Outcome::Failed(code)) => {
                // The server is there, at least.
                self.sessions.proved(number);
                self.flush_is_answered(session, asked, number, code);
            }
        }
        if !self.is_calm() || self.log.wants_flush() || self.pressed || self.closing {
            self.advance();
        }
    }

    fn asked_is_good(&mut self, index: usize) {
        let Some(asked) = self.asked.get_mut(index) else {
            return;
        };
        let Some(seq) = asked.seq else {
            if let Some(asked) = self.asked.take(index) {
                self.answer(&asked.request, asked.buffer, ErrorCode(0));
            }
            return;
        };
        asked.progress = asked.until;
        asked.sent = false;
        if asked.progress >= asked.end() {
            self.finish_change(index, seq);
        } else {
            // What newer changes leave of the rest goes next.
            self.held.push_front(index);
        }
    }

    fn piece_is_answered(&mut self, session: SessionId, index: usize, outcome: Outcome) {
        self.pieces = self.pieces.saturating_sub(1);
        if let Outcome::Failed(code) = outcome {
            let piece = self.plan.get(index);
            self.plan.again(index);
            let (offset, end) = piece.map_or((0, 0), |piece| (piece.start, piece.end));
            let length = end.saturating_sub(offset);
            let reason = Reason::Replay {
                offset,
                length,
                code,
            };
            self.close(session, reason);
            return;
        }
        self.plan.done(index);
        if self.plan.is_done() {
            self.served = self.served.wrapping_add(1);
            self.log.restored();
        }
    }

    fn flush_is_answered(
        &mut self,
        session: SessionId,
        asked: Option<usize>,
        number: u64,
        code: ErrorCode,
    ) {
        if let Some(index) = asked {
            if let Some(asked) = self.asked.take(index) {
                self.answer(&asked.request, None, code);
            }
            return;
        }
        self.own_flush = self.own_flush.filter(|own| *own != number);
        // Where nothing is owed, it was a newcomer's proof: that the server is there, and
        // it is.
        if code.is_error() && !self.log.is_empty() {
            self.close(session, Reason::Flush(code));
        }
    }
}
