//! The few system calls without a safe wrapper, and what the process may do.

#![allow(unsafe_code)]

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until a descriptor can be read; false when the time passed.
pub(super) fn wait_readable(owner: &impl AsRawFd, wait: Duration) -> nix::Result<bool> {
    // SAFETY: `owner` keeps the descriptor open while it is borrowed, which is
    // no longer than this function; neli's sockets offer no AsFd.
    let fd = unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut fds, timeout)? > 0)
}

/// Whether the other side of a stream socket has closed it.
pub(super) fn is_hung_up(socket: &impl AsFd) -> bool {
    // The driver answers the end of the stream by shutting the socket down.
    let hung_up = PollFlags::POLLHUP | PollFlags::POLLERR;
    let mut fds = [PollFd::new(socket.as_fd(), hung_up)];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds
            .first()
            .and_then(PollFd::revents)
            .is_some_and(|events| events.intersects(hung_up))
}

/// Whether this process has CAP_SYS_ADMIN in effect, which every command but
/// STATUS needs.
#[must_use]
pub fn has_sys_admin() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|caps| (caps >> CAP_SYS_ADMIN) & 1 == 1)
}
