//! The user's wish to end, at a moment when ending at once would leave half a
//! device behind.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// From here on SIGINT, SIGTERM and SIGHUP end nothing by themselves; whoever
/// waits looks here. They do so again when it is dropped.
pub(super) struct Interrupt {
    signals: SigSet,
    pending: Option<SignalFd>,
}

impl Interrupt {
    pub(super) fn hold() -> Self {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGHUP);
        // Where it cannot be had, a signal does what it always does.
        let blocked = signals.thread_block().is_ok();
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let pending = blocked
            .then(|| SignalFd::with_flags(&signals, flags).ok())
            .flatten();
        Self { signals, pending }
    }

    /// Whether one has come.
    pub(super) fn came(&self) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| matches!(pending.read_signal(), Ok(Some(_))))
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        let _ = self.signals.thread_unblock();
    }
}
