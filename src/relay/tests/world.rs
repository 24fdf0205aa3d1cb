//! The pump of the random runs: carries messages to the engine and its actions out,
//! and has all that the kernel gets judged.

use super::super::{Action, BufferId, SessionId, Step};
use super::model::{Link, World};
use super::server::{BLOCK, blocks};
use crate::proto::HeaderStyle;
use crate::proto::transmission::{
    Command, CommandFlags, ErrorCode, ReplyHeader, Request, header_len,
};

impl World {
    /// A message of a server arrives, whichever.
    pub(super) fn deliver(&mut self) {
        let busy = |(index, link): (usize, &Link)| {
            (!link.closed && !link.replies.is_empty()).then_some(index)
        };
        let busy: Vec<usize> = self.links.iter().enumerate().filter_map(busy).collect();
        if busy.is_empty() {
            return;
        }
        let which = busy[self.dice.pick(busy.len())];
        let link = &mut self.links[which];
        let reply = self.dice.pick(link.replies.len());
        let message = link.replies[reply].remove(0);
        if link.replies[reply].is_empty() {
            link.replies.remove(reply);
        }
        let (session, style) = (link.session, link.style);
        self.pump(session, style, &message);
    }

    /// What a pump does with one message.
    fn pump(&mut self, session: SessionId, style: HeaderStyle, message: &[u8]) {
        let (header, payload) = message.split_at(header_len(style, message).unwrap());
        let header = ReplyHeader::parse(style, header).unwrap();
        let mut step = self.engine.reply(session, &header);
        let mut payload = payload;
        loop {
            step = match step {
                Step::Header | Step::Over => return,
                Step::Prefix(chunk) => {
                    let (prefix, rest) = payload.split_at(chunk.prefix_len());
                    payload = rest;
                    self.engine.reply_prefix(session, chunk, prefix)
                }
                Step::Data(place, ending) => {
                    let buffer = self.buffers.get_mut(&place.buffer.0).unwrap();
                    let at = usize::try_from(place.at).unwrap();
                    assert_eq!(place.length, payload.len() as u64);
                    buffer[at..][..payload.len()].copy_from_slice(payload);
                    self.engine.reply_end(session, ending)
                }
                Step::Zeroes(place, ending) => {
                    let buffer = self.buffers.get_mut(&place.buffer.0).unwrap();
                    let at = usize::try_from(place.at).unwrap();
                    buffer[at..][..usize::try_from(place.length).unwrap()].fill(0);
                    self.engine.reply_end(session, ending)
                }
            };
        }
    }

    /// Does what the engine wants.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send {
                    session,
                    request,
                    data,
                } => self.send(session, request, data),
                Action::Answer {
                    cookie,
                    error,
                    data,
                } => self.answer(cookie, error, data),
                Action::Release(buffer) => assert!(self.buffers.remove(&buffer.0).is_some()),
                Action::Close { session, .. } => {
                    let mut links = self.links.iter().enumerate();
                    let found = links.find(|(_, link)| link.session == session);
                    let (which, _) = found.unwrap();
                    self.end_link(which);
                    self.links[which].closed = true;
                }
                Action::Trouble { .. } => {}
                Action::Finish => assert!(!std::mem::replace(&mut self.finished, true)),
            }
        }
    }

    fn send(&mut self, session: SessionId, request: Request, data: Option<(BufferId, u64)>) {
        let mut links = self.links.iter_mut();
        let Some(link) = links.find(|link| link.session == session) else {
            return;
        };
        assert!(!link.closed, "nothing is sent to what was closed");
        assert!(request.encode(link.style).is_ok());
        let data = data.map_or_else(Vec::new, |(buffer, at)| {
            let (at, length) = (
                usize::try_from(at).unwrap(),
                usize::try_from(request.length).unwrap(),
            );
            self.buffers[&buffer.0][at..at + length].to_vec()
        });
        assert_eq!(data.len() as u64, request.payload_len());
        if link.served {
            link.requests.push((request, data));
        }
    }

    fn answer(&mut self, cookie: u64, error: ErrorCode, data: Option<(BufferId, u64)>) {
        let op = self.ops.remove(&cookie);
        let op = op.expect("each request is answered once");
        let bad = error.is_error();
        assert!(!bad || self.may_fail, "{op:?}: {error}");
        assert_ne!(error, ErrorCode::ESHUTDOWN);
        match op.request.command {
            Command::READ if bad => {}
            Command::READ => {
                let (buffer, length) = data.unwrap();
                assert_eq!(length, op.request.length);
                let bytes = self.buffers.remove(&buffer.0).unwrap();
                for (block, value) in blocks(&op.request).zip(bytes.chunks(8)) {
                    let seen = u64::from_be_bytes(value.try_into().unwrap());
                    self.checker.read(block, seen, op.invoked, self.now);
                }
            }
            Command::FLUSH if bad => {}
            Command::FLUSH => {
                self.checker.flushed(op.invoked);
                self.check_disk();
            }
            _ => {
                let fua = op.request.flags.contains(CommandFlags::FUA);
                for block in blocks(&op.request) {
                    if bad {
                        self.checker.failed(block, op.id, self.now);
                    } else {
                        let durable = fua || !self.mood.flushes;
                        self.checker.answered(block, op.id, self.now, durable);
                    }
                }
                if fua {
                    self.check_disk();
                }
            }
        }
    }

    /// What was promised is on the disk, whichever of its values each block has.
    pub(super) fn check_disk(&self) {
        for (block, values) in self.disk.blocks.iter().enumerate() {
            for value in values {
                self.checker.on_disk(block, *value);
            }
        }
    }

    pub(super) fn check_memory(&self) {
        let figures = self.engine.figures();
        let limits = self.mood.limits;
        let largest = 5 * BLOCK;
        assert!(figures.logged_bytes <= limits.log.bytes.max(largest));
        assert!(figures.logged <= limits.log.entries);
        assert!(figures.asked <= limits.depth);
        let reads = limits.depth as u64 * largest;
        let held: u64 = self.buffers.values().map(|data| data.len() as u64).sum();
        assert!(held <= limits.log.bytes.max(largest) + reads);
    }
}
