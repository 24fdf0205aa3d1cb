//! Sessions that come and go: what is said again, and what waits for it. It must
//! not know what a reply looks like.
//!
//! When the last member of a server is gone, so may be all that was answered and
//! not durable. The first session after that gets the pieces of the [`Plan`]; a
//! request of the kernel is sent when no piece that it overlaps waits for its
//! answer, a FLUSH when none does at all. Requests that were under way are sent
//! again, in the order in which they came, as soon as that is so.
//!
//! When one of several members is gone, the others vouch for what was answered;
//! only what was under way on it is sent again.
//!
//! A change that is sent again must not undo a newer one, and none may be read or
//! written over while it is unknown whether it was done. So of two that overlap:
//!
//! - What is newer than a lost change waits until that one is answered.
//! - A change that was held waits for newer ones under way, and leaves out what
//!   newer ones that are done have replaced ([`Log::fragment`]).
//!
//! Waiting has no circles: a request waits for pieces, for older ones that were
//! lost, and for newer ones that a server has already.
//!
//! [`Plan`]: super::super::plan::Plan
//! [`Log::fragment`]: super::super::log::Log::fragment

use crate::proto::TransmissionFlags;
use crate::proto::transmission::{Command, CommandFlags, Request};

use super::super::SessionId;
use super::super::action::Action;
use super::super::asked::Blocker;
use super::super::offer::{Offer, Unfit};
use super::super::sessions::MAX_SESSIONS;
use super::{Engine, Owner, REPLAY_WINDOW};

impl Engine {
    /// A handshake ended well, with this offer. After a cut for silence, call it
    /// only when the old server had time to end what it was at.
    ///
    /// # Errors
    ///
    /// A session that cannot carry the device's I/O: close it.
    pub fn session_up(&mut self, offer: Offer) -> Result<SessionId, Unfit> {
        offer.serves(&self.device)?;
        let others = self.sessions.len();
        let shared = TransmissionFlags::CAN_MULTI_CONN;
        if others > 0 && !(offer.has(shared) && self.device.has(shared)) {
            return Err(Unfit::Alone);
        }
        if others >= MAX_SESSIONS {
            return Err(Unfit::Many(others));
        }
        self.gave_up = false;
        let first = !self.sessions.has_members();
        // A server that has nothing to flush cannot have forgotten anything.
        let proof = (!first && self.can_flush()).then_some(self.flushes);
        let session = self.sessions.add(offer.terms, proof);
        if first {
            self.begin_replay();
        }
        self.advance();
        Ok(session)
    }

    /// A connection is of no use any more, though its server may still be at what it
    /// got there: it is sent nothing, and what it has is not sent elsewhere before
    /// [`Self::session_down`].
    pub fn suspend(&mut self, session: SessionId) {
        self.sessions.close(session);
    }

    /// A connection ended, and nothing of it touches a buffer any more: neither
    /// what was sent there nor what was read from it.
    pub fn session_down(&mut self, session: SessionId) {
        let had_members = self.sessions.has_members();
        if !self.sessions.remove(session) {
            return;
        }
        while let Some(owner) = self.outstanding.lose(session) {
            self.take_back(owner);
        }
        let asked = &self.asked;
        let arrival = |index: &usize| asked.get(*index).map(|asked| asked.arrival);
        self.held.make_contiguous().sort_unstable_by_key(arrival);
        if had_members && !self.sessions.has_members() {
            self.log.lose();
            self.plan.clear();
            self.forget_parts();
            if self.sessions.promote() {
                self.begin_replay();
            }
        }
        self.advance();
    }

    /// Parts of changes that the gone server did are to be done again.
    fn forget_parts(&mut self) {
        for (index, asked) in self.asked.iter_mut() {
            let begun = asked.changes() && asked.progress > asked.request.offset;
            if begun && !self.lost.contains(&index) {
                self.lost.push(index);
            }
            asked.progress = asked.request.offset;
            asked.left_out = 0;
        }
    }

    /// A request will have no answer: it is sent again.
    pub(super) fn take_back(&mut self, owner: Owner) {
        match owner {
            Owner::Asked(index) | Owner::Flush(Some(index), ..) => {
                if self.asked.get(index).is_some_and(|asked| asked.changes())
                    && !self.lost.contains(&index)
                {
                    self.lost.push(index);
                }
                self.hold(index);
            }
            Owner::Piece(index) => {
                self.pieces = self.pieces.saturating_sub(1);
                self.plan.again(index);
            }
            Owner::Flush(None, _, number) => {
                self.own_flush = self.own_flush.filter(|own| *own != number);
            }
        }
    }

    /// Keeps a request until it can be sent.
    pub(super) fn hold(&mut self, index: usize) {
        if let Some(asked) = self.asked.get_mut(index) {
            asked.sent = false;
            asked.delayed = true;
            self.held.push_back(index);
        }
    }

    fn begin_replay(&mut self) {
        self.plan.make(&self.log);
        if self.plan.is_done() {
            self.log.restored();
        }
    }

    /// Does all that can be done now.
    pub(super) fn advance(&mut self) {
        self.send_pieces();
        self.send_held();
        self.flush_for_ourselves();
        let done = self.asked.len() == 0 && self.log.is_empty();
        if self.closing && done && !self.finished {
            self.finished = true;
            self.actions.push_back(Action::Finish);
        }
    }

    fn send_pieces(&mut self) {
        while self.pieces < REPLAY_WINDOW {
            let Some((index, piece)) = self.plan.next() else {
                return;
            };
            let Some(entry) = self.log.get(piece.seq) else {
                continue;
            };
            // That it was fast to do is no matter any more.
            let flags = entry.request.flags.without(CommandFlags::FAST_ZERO);
            let request = Request {
                flags,
                offset: piece.start,
                length: piece.end.saturating_sub(piece.start),
                ..entry.request
            };
            let at = piece.start.saturating_sub(entry.start());
            let data = entry.buffer.map(|buffer| (buffer, at));
            if !self.send(request, data, Owner::Piece(index)) {
                self.plan.again(index);
                return;
            }
            self.pieces += 1;
        }
    }

    fn send_held(&mut self) {
        for _ in 0..self.held.len() {
            let Some(index) = self.held.pop_front() else {
                return;
            };
            if self.is_blocked(index) || !self.send_asked(index) {
                self.held.push_back(index);
            }
        }
    }

    fn is_blocked(&mut self, index: usize) -> bool {
        let Some(asked) = self.asked.get(index) else {
            return false;
        };
        let arrival = asked.arrival;
        if asked.blocker.is_some_and(|it| self.still(it, arrival)) {
            return true;
        }
        let blocker = self.blocker(index);
        if let Some(asked) = self.asked.get_mut(index) {
            asked.blocker = blocker;
        }
        blocker.is_some()
    }

    /// Whether a request of this arrival still has to wait for what it waited for.
    fn still(&self, blocker: Blocker, this: u64) -> bool {
        match blocker {
            Blocker::Plan => !self.plan.is_done(),
            Blocker::Piece(index) => self.plan.waits(index),
            Blocker::Asked(index, arrival) => {
                let other = self.asked.get(index);
                other.is_some_and(|other| {
                    let same = other.arrival == arrival && other.changes();
                    same && (arrival < this || other.sent)
                })
            }
        }
    }

    fn blocker(&self, index: usize) -> Option<Blocker> {
        let this = self.asked.get(index)?;
        if this.request.command == Command::FLUSH {
            return (!self.plan.is_done()).then_some(Blocker::Plan);
        }
        if let Some(piece) = self.plan.blocker(this.request.offset, this.end()) {
            return Some(Blocker::Piece(piece));
        }
        for index in &self.lost {
            let older = self.asked.get(*index);
            let older = older.filter(|other| other.arrival < this.arrival && other.overlaps(this));
            if let Some(older) = older {
                return Some(Blocker::Asked(*index, older.arrival));
            }
        }
        if !this.changes() {
            return None;
        }
        let mut under_way = self.asked.iter().filter(|(_, other)| {
            let newer = other.sent && other.changes() && other.arrival > this.arrival;
            newer && other.overlaps(this)
        });
        let (index, newer) = under_way.next()?;
        Some(Blocker::Asked(index, newer.arrival))
    }

    /// Makes room, proves newcomers, empties the log at the end. One at a time,
    /// but for newcomers that came after it was sent.
    fn flush_for_ourselves(&mut self) {
        if !self.can_flush() {
            return;
        }
        let full =
            self.log.wants_flush() || (self.pressed || self.closing) && self.log.has_answered();
        let wanted = full && self.own_flush.is_none();
        if (wanted || self.sessions.wants_proof(self.own_flush)) && self.send_flush(None) {
            self.own_flush = self.flushes.checked_sub(1);
            self.pressed = false;
        }
    }
}
