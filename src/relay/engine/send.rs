//! How a request is sent, and how it ends. It must not know when that may be done.

use crate::proto::transmission::{Command, CommandFlags, ErrorCode, Request};

use super::super::action::{Action, Reason};
use super::super::log::is_fua;
use super::super::{BufferId, SessionId};
use super::{Engine, Owner};

impl Engine {
    /// Sends a request of the kernel, or what is left of it; whether that is done.
    pub(super) fn send_asked(&mut self, index: usize) -> bool {
        let Some(asked) = self.asked.get(index) else {
            return true;
        };
        let request = asked.request;
        match (request.command, asked.seq) {
            (Command::FLUSH, _) => self.send_flush(Some(index)),
            (_, Some(seq)) if asked.delayed => self.send_fragment(index, seq),
            _ => self.send_range(index, request.offset, asked.end()),
        }
    }

    /// A change that newer ones may have passed: sends what they left of it.
    fn send_fragment(&mut self, index: usize, seq: u64) -> bool {
        let Some(asked) = self.asked.get(index) else {
            return true;
        };
        let (progress, end) = (asked.progress, asked.end());
        let next = self.log.fragment(seq, progress);
        let skipped = next.map_or(end, |(start, _)| start) - progress;
        if let Some((start, until)) = next {
            if !self.send_range(index, start, until) {
                return false;
            }
        }
        if let Some(asked) = self.asked.get_mut(index) {
            asked.left_out = asked.left_out.saturating_add(skipped);
        }
        if next.is_none() {
            self.finish_change(index, seq);
        }
        true
    }

    fn send_range(&mut self, index: usize, start: u64, end: u64) -> bool {
        let Some(asked) = self.asked.get(index) else {
            return true;
        };
        let whole = asked.request;
        let request = Request {
            offset: start,
            length: end.saturating_sub(start),
            ..whole
        };
        let at = start.saturating_sub(whole.offset);
        let writes = whole.command == Command::WRITE;
        let data = asked.buffer.filter(|_| writes).map(|buffer| (buffer, at));
        let sent = self.send(request, data, Owner::Asked(index));
        if let Some(asked) = self.asked.get_mut(index) {
            asked.sent = sent;
            asked.until = end;
        }
        sent
    }

    /// A FLUSH of our own, or for the kernel: of all that was answered until now.
    pub(super) fn send_flush(&mut self, asked: Option<usize>) -> bool {
        let request = Request {
            command: Command::FLUSH,
            flags: CommandFlags::NONE,
            cookie: 0,
            offset: 0,
            length: 0,
        };
        let number = self.flushes;
        let owner = Owner::Flush(asked, self.log.mark(), number);
        let sent = self.send(request, None, owner);
        if sent {
            self.flushes += 1;
        }
        sent
    }

    pub(super) fn send(
        &mut self,
        request: Request,
        data: Option<(BufferId, u64)>,
        owner: Owner,
    ) -> bool {
        let Some((session, terms)) = self.sessions.pick() else {
            return false;
        };
        match self.outstanding.begin(session, terms, request, owner) {
            Ok(Some(request)) => {
                self.sessions.sent(session);
                self.actions.push_back(Action::Send {
                    session,
                    request,
                    data,
                });
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.close(session, Reason::Lacks(error));
                false
            }
        }
    }

    pub(super) fn close(&mut self, session: SessionId, reason: Reason) {
        if self.sessions.close(session) {
            self.actions.push_back(Action::Close { session, reason });
        }
    }

    /// All of a change is at the server, but for what newer ones replaced.
    pub(super) fn finish_change(&mut self, index: usize, seq: u64) {
        self.lost.retain(|lost| *lost != index);
        let can_flush = self.can_flush();
        let Some(asked) = self.asked.get_mut(index) else {
            return;
        };
        let fua = is_fua(&asked.request);
        if fua && asked.left_out > 0 && can_flush {
            // What replaced parts of it may not be on the disk: a FLUSH makes the
            // promise true.
            asked.request.command = Command::FLUSH;
            asked.buffer = None;
            asked.seq = None;
            asked.sent = false;
            self.log.answered(seq, false);
            if !self.plan.is_done() || !self.send_flush(Some(index)) {
                self.held.push_back(index);
            }
            return;
        }
        let durable = fua || !can_flush;
        let released = self.log.answered(seq, durable);
        if let Some(asked) = self.asked.take(index) {
            self.answer(&asked.request, None, ErrorCode(0));
        }
        self.actions.extend(released.map(Action::Release));
    }

    /// The kernel is told that a request failed.
    pub(super) fn fail_asked(&mut self, index: usize, code: ErrorCode) {
        let Some(asked) = self.asked.take(index) else {
            return;
        };
        self.lost.retain(|lost| *lost != index);
        let released = asked.seq.and_then(|seq| self.log.failed(seq));
        // The log's buffer and the request's are one.
        let buffer = if asked.seq.is_some() {
            released
        } else {
            asked.buffer
        };
        self.answer(&asked.request, buffer, code);
    }

    /// Answers the kernel. The buffer goes with the answer where that has data.
    pub(super) fn answer(&mut self, request: &Request, buffer: Option<BufferId>, error: ErrorCode) {
        let good = !error.is_error() && request.command == Command::READ;
        let data = buffer.filter(|_| good).map(|it| (it, request.length));
        self.actions.push_back(Action::Answer {
            cookie: request.cookie,
            error,
            data,
        });
        if let Some(buffer) = buffer.filter(|_| !good) {
            self.actions.push_back(Action::Release(buffer));
        }
    }
}
