//! Carries out what the engine wants: what was decided under its lock is done without
//! it, many messages in one call. It must not decide anything.

use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::sync::{Arc, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, sendmsg, shutdown};

use super::super::BufferId;
use super::super::action::{Action, Reason};
use super::link::{Item, Link};
use super::{Core, News, Pump};
use crate::proto::transmission::SimpleReply;

/// Replies in one call.
const TOGETHER: usize = 16;

/// An answer to the kernel.
#[derive(Debug)]
struct Reply {
    header: [u8; 16],
    data: Option<(BufferId, usize)>,
}

/// What is to be done; one of each thread, used again and again.
#[derive(Debug, Default)]
pub(super) struct Batch {
    sends: Vec<(Arc<Link>, Item)>,
    replies: Vec<Reply>,
    closes: Vec<Arc<Link>>,
    finish: bool,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            sends: Vec::with_capacity(256),
            replies: Vec::with_capacity(256),
            ..Self::default()
        }
    }

    /// Takes what the engine wants. Call it before the lock is let go: what one thread
    /// takes, it does in the order that was meant. (Between threads there is none, and
    /// the engine needs none: what must wait for an answer is not wanted before that.)
    pub(super) fn collect(&mut self, core: &mut Core, pump: &Pump) {
        while let Some(action) = core.engine.poll_action() {
            match action {
                Action::Send {
                    session,
                    request,
                    data,
                } => {
                    let Some(link) = core.link(session) else {
                        continue;
                    };
                    let Ok(header) = request.encode(link.style) else {
                        link.hang_up("a request could not be encoded");
                        continue;
                    };
                    let length = usize::try_from(request.length).unwrap_or(usize::MAX);
                    let data = data.map(|(buffer, at)| {
                        pump.buffers.retain(buffer);
                        (buffer, usize::try_from(at).unwrap_or(usize::MAX), length)
                    });
                    self.sends.push((Arc::clone(link), Item { header, data }));
                }
                Action::Answer {
                    cookie,
                    error,
                    data,
                } => self.replies.push(Reply {
                    header: SimpleReply { error, cookie }.encode(),
                    data: data.map(|(buffer, length)| {
                        (buffer, usize::try_from(length).unwrap_or(usize::MAX))
                    }),
                }),
                Action::Release(buffer) => pump.buffers.release(buffer),
                Action::Close { session, reason } => {
                    let Some(link) = core.link(session) else {
                        continue;
                    };
                    // A server that goes down has a successor when it is gone. Any other
                    // lives, and may still be at what it had: as after silence.
                    link.condemn(&reason.to_string(), reason != Reason::Shutdown);
                    self.closes.push(Arc::clone(link));
                }
                Action::Trouble {
                    session,
                    command,
                    code,
                    offset,
                    message,
                } => {
                    let peer = core.link(session).map(Arc::clone);
                    let peer = peer.as_ref().map_or("a server", |link| &link.peer);
                    core.troubles.say(peer, command, code, offset, &message);
                }
                Action::Finish => self.finish = true,
            }
        }
    }

    /// Whether nothing is to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.replies.is_empty() && self.closes.is_empty() && !self.finish
    }

    /// Does it.
    pub(super) fn carry(&mut self, pump: &Pump) {
        self.send(pump);
        self.answer(pump);
        for link in self.closes.drain(..) {
            if link.was_cut() {
                link.cut("", pump.wires.reset);
            } else {
                link.hang_up("");
            }
        }
        if std::mem::take(&mut self.finish) {
            pump.news(News::Finished);
        }
        pump.tell_intake();
    }

    fn send(&mut self, pump: &Pump) {
        let mut sends = self.sends.drain(..).peekable();
        while let Some((link, first)) = sends.next() {
            let mut items = Some(first);
            let mut same = std::iter::from_fn(|| {
                let next = items.take();
                next.or_else(|| {
                    let follows = sends.next_if(|(other, _)| Arc::ptr_eq(other, &link));
                    follows.map(|(_, item)| item)
                })
            });
            link.send(&mut same, &pump.buffers);
        }
    }

    /// The kernel reads whatever happens: this may wait for it, and never for long.
    fn answer(&mut self, pump: &Pump) {
        if self.replies.is_empty() {
            return;
        }
        let turn = pump.answering.lock();
        let _turn = turn.unwrap_or_else(PoisonError::into_inner);
        for replies in self.replies.chunks(TOGETHER) {
            if let Err(errno) = send_all(replies, pump) {
                // What is not answered now never is, and half an answer is worse: only a
                // new pair has the kernel ask again.
                tracing::debug!("the kernel takes no answer: {}", errno.desc());
                let _ = shutdown(pump.kernel.as_raw_fd(), Shutdown::Both);
                break;
            }
        }
        for reply in self.replies.drain(..) {
            if let Some((buffer, _)) = reply.data {
                pump.buffers.release(buffer);
            }
        }
    }
}

fn send_all(replies: &[Reply], pump: &Pump) -> Result<(), Errno> {
    let mut guards = [const { None }; TOGETHER];
    for (place, reply) in guards.iter_mut().zip(replies) {
        *place = reply.data.and_then(|(buffer, _)| pump.buffers.read(buffer));
    }
    let mut slices = [IoSlice::new(&[]); 2 * TOGETHER];
    let mut count = 0;
    for (reply, guard) in replies.iter().zip(&guards) {
        let data = reply.data.map_or(&[] as &[u8], |(_, length)| {
            let bytes = guard.as_ref().and_then(|data| data.get(..length));
            bytes.unwrap_or_default()
        });
        for bytes in [&reply.header[..], data] {
            if let Some(slice) = slices.get_mut(count) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
        }
    }
    let mut left = slices.get_mut(..count).unwrap_or_default();
    while !left.is_empty() {
        let socket = pump.kernel.as_raw_fd();
        match sendmsg::<()>(socket, left, &[], MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => IoSlice::advance_slices(&mut left, sent),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
