//! One connection to a server: what is to be sent waits here, in order, and is sent
//! without ever waiting for the server by whoever has it; a thread of its own goes on
//! where the socket is full. It must not know what the requests are for.
//!
//! So who reads replies never waits for a server to read: a server that answers before
//! it reads on would wait for us in turn.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, sendmsg, shutdown};

use super::super::{BufferId, SessionId};
use super::buffers::Buffers;
use crate::proto::HeaderStyle;
use crate::proto::transmission::{Command, CommandFlags, HeaderBytes, Request};

/// Messages in one call.
const TOGETHER: usize = 16;

/// Messages that wait for the socket: a few times what the engine has under way. Where
/// there are more, replies to what was not sent have made room for others.
const MOST: usize = 1024;

/// A request to be sent.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) header: HeaderBytes,
    /// A buffer, the first byte of it, and how many.
    pub(super) data: Option<(BufferId, usize, usize)>,
}

#[derive(Debug)]
struct Out {
    queue: VecDeque<Item>,
    /// Bytes of the first item that are sent.
    sent: usize,
    /// The socket is full: the writer waits for it.
    full: bool,
    dead: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: SessionId,
    pub(super) peer: String,
    pub(super) style: HeaderStyle,
    socket: OwnedFd,
    out: Mutex<Out>,
    wake: Condvar,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    /// It was left though its server may live.
    cut: AtomicBool,
    /// Why it is to end, where that was decided here.
    reason: Mutex<Option<String>>,
}

impl Link {
    pub(super) fn new(id: SessionId, peer: String, style: HeaderStyle, socket: OwnedFd) -> Self {
        Self {
            id,
            peer,
            style,
            socket,
            out: Mutex::new(Out {
                queue: VecDeque::with_capacity(256),
                sent: 0,
                full: false,
                dead: false,
            }),
            wake: Condvar::new(),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            reason: Mutex::new(None),
        }
    }

    /// Queues requests, and sends what can be sent now. Their buffers are released
    /// when they are sent, or will never be.
    pub(super) fn send(&self, items: &mut impl Iterator<Item = Item>, buffers: &Buffers) {
        let mut out = self.lock();
        out.queue.extend(items);
        if out.queue.len() > MOST {
            self.hang_up("it answers what it has not read");
        }
        if !out.full {
            self.advance(&mut out, buffers);
        }
    }

    /// The writer's thread: until the link is dead.
    pub(super) fn write(&self, buffers: &Buffers) {
        loop {
            let mut out = self.lock();
            while !out.full && !out.dead {
                let waited = self.wake.wait(out);
                out = waited.unwrap_or_else(PoisonError::into_inner);
            }
            if out.dead {
                return;
            }
            drop(out);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
            // A link that ends makes it writable, too.
            let _ = poll(&mut fds, PollTimeout::NONE);
            let mut out = self.lock();
            out.full = false;
            self.advance(&mut out, buffers);
        }
    }

    /// Sends until the socket is full.
    fn advance(&self, out: &mut Out, buffers: &Buffers) {
        while !out.dead && !out.queue.is_empty() {
            match self.send_some(out, buffers) {
                Ok(count) => self.account(out, count, buffers),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    out.full = true;
                    self.wake.notify_one();
                    return;
                }
                Err(errno) => {
                    self.hang_up(errno.desc());
                    // Its reader clears the queue when it has seen the end.
                    return;
                }
            }
        }
        if out.dead {
            clear(out, buffers);
        }
    }

    fn send_some(&self, out: &Out, buffers: &Buffers) -> Result<usize, Errno> {
        let mut guards = [const { None }; TOGETHER];
        let items = out.queue.iter().take(TOGETHER);
        for (place, item) in guards.iter_mut().zip(items) {
            *place = item.data.and_then(|(buffer, ..)| buffers.read(buffer));
        }
        let mut slices = [IoSlice::new(&[]); 2 * TOGETHER];
        let mut count = 0;
        let mut skip = out.sent;
        for (item, guard) in out.queue.iter().zip(&guards) {
            let data = item.data.map_or(&[] as &[u8], |(_, at, length)| {
                let bytes = guard.as_ref().and_then(|data| data.get(at..at + length));
                bytes.unwrap_or_default()
            });
            for bytes in [item.header.as_slice(), data] {
                let left = bytes.get(skip..);
                skip = skip.saturating_sub(bytes.len());
                if let (Some(left), Some(slice)) = (left, slices.get_mut(count)) {
                    *slice = IoSlice::new(left);
                    count += 1;
                }
            }
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let slices = slices.get(..count).unwrap_or_default();
        sendmsg::<()>(self.socket.as_raw_fd(), slices, &[], flags, None)
    }

    /// So many bytes more were sent.
    fn account(&self, out: &mut Out, count: usize, buffers: &Buffers) {
        let total = u64::try_from(count).unwrap_or(0);
        self.bytes_sent.fetch_add(total, Ordering::Relaxed);
        out.sent += count;
        while let Some(item) = out.queue.front() {
            let length = item.header.as_slice().len() + item.data.map_or(0, |(.., length)| length);
            if out.sent < length {
                return;
            }
            out.sent -= length;
            if let Some((buffer, ..)) = item.data {
                buffers.release(buffer);
            }
            out.queue.pop_front();
        }
    }

    /// Nothing is sent any more, and no buffer is touched for sending. For the one
    /// that reads, when it has seen the end.
    pub(super) fn die(&self, buffers: &Buffers) {
        self.hang_up("it ended");
        let mut out = self.lock();
        out.dead = true;
        clear(&mut out, buffers);
        self.wake.notify_all();
    }

    /// Sends DISC, and ends the connection behind it.
    pub(super) fn leave(&self, buffers: &Buffers, linger: impl Fn(BorrowedFd<'_>)) {
        let disc = Request {
            command: Command::DISC,
            flags: CommandFlags::NONE,
            cookie: 0,
            offset: 0,
            length: 0,
        };
        linger(self.socket.as_fd());
        let header = disc.encode(self.style).ok();
        let mut items = header.into_iter().map(|header| Item { header, data: None });
        self.send(&mut items, buffers);
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }

    /// Notes that it is to end, and why; the first word counts. `cut`: its server may
    /// still be at what it had.
    pub(super) fn condemn(&self, why: &str, cut: bool) {
        self.cut.fetch_or(cut, Ordering::AcqRel);
        let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.get_or_insert_with(|| why.to_owned());
    }

    /// Ends the connection; whoever reads from it sees that.
    pub(super) fn hang_up(&self, why: &str) {
        self.condemn(why, false);
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// The same where its server may live: `reset` has it drop what it has not read.
    pub(super) fn cut(&self, why: &str, reset: impl Fn(BorrowedFd<'_>)) {
        self.condemn(why, true);
        reset(self.socket.as_fd());
    }

    pub(super) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Why it ended, where that was decided on this side.
    pub(super) fn reason(&self) -> Option<String> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone()
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn came(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(0);
        self.bytes_received.fetch_add(count, Ordering::Relaxed);
    }

    /// Bytes sent, and bytes received.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.bytes_sent), load(&self.bytes_received))
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn clear(out: &mut Out, buffers: &Buffers) {
    for item in out.queue.drain(..) {
        if let Some((buffer, ..)) = item.data {
            buffers.release(buffer);
        }
    }
    out.sent = 0;
}
