//! The user's wish to end, at a moment when ending at once would leave half a
//! device behind.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// From here on SIGINT, SIGTERM and SIGHUP end nothing by themselves; whoever
/// waits looks here. When it is dropped they do what they did before.
pub(super) struct Interrupt {
    before: Option<SigSet>,
    pending: Option<SignalFd>,
    /// Who asked reads our standard output; they may be killed.
    has_reader: bool,
}

impl Interrupt {
    pub(super) fn hold() -> Self {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGHUP);
        // Where it cannot be had, a signal does what it always does.
        let before = signals
            .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
            .ok();
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let pending = before.and_then(|_| SignalFd::with_flags(&signals, flags).ok());
        Self {
            before,
            pending,
            has_reader: false,
        }
    }

    /// Whoever reads standard output going away is a wish to end, too.
    pub(super) fn watch_reader(&mut self, watch: bool) {
        self.has_reader = watch;
    }

    /// Whether one has come.
    pub(super) fn came(&self) -> bool {
        let signalled = self
            .pending
            .as_ref()
            .is_some_and(|pending| matches!(pending.read_signal(), Ok(Some(_))));
        signalled || (self.has_reader && is_closed(io::stdout().as_fd()))
    }

    /// Waits until one has come.
    pub(super) fn wait(&self) {
        let mut fds: Vec<_> = self
            .as_fd()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .into_iter()
            .collect();
        let _ = poll(&mut fds, PollTimeout::NONE);
    }

    /// Readable when one has come.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pending.as_ref().map(AsFd::as_fd)
    }
}

/// Whether nobody reads a pipe any more.
fn is_closed(pipe: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds
            .first()
            .and_then(PollFd::revents)
            .is_some_and(|events| events.contains(PollFlags::POLLERR))
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = before.thread_set_mask();
        }
    }
}
