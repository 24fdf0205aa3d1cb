//! What the system knows of a connection to a server, and does to one, whoever carries
//! its requests. It must not know who that is.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

use super::sys;
use super::tcp_info::TcpFacts;

/// Has the kernel probe an idle TCP connection, so that the peer's silence shows in
/// [`tcp_facts`]. The verdict is left to whoever looks: the kernel's own comes after
/// 127 unanswered probes.
pub fn keep_alive(socket: BorrowedFd<'_>, interval: Duration) {
    // The kernel's own bounds: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPCNT.
    const LONGEST: u64 = 32_767;
    const PROBES: u32 = 127;
    if !is_tcp(socket) {
        return;
    }
    let seconds = u32::try_from(interval.as_secs().clamp(1, LONGEST)).unwrap_or(1);
    let set = setsockopt(&socket, sockopt::TcpKeepIdle, &seconds)
        .and_then(|()| setsockopt(&socket, sockopt::TcpKeepInterval, &seconds))
        .and_then(|()| setsockopt(&socket, sockopt::TcpKeepCount, &PROBES))
        .and_then(|()| setsockopt(&socket, sockopt::KeepAlive, &true));
    if let Err(errno) = set {
        tracing::debug!("keepalive: {}", errno.desc());
    }
}

/// Whether the last close of a TCP connection, by whomever, resets it and drops what it
/// has not sent (`SO_LINGER` of 0). Without, one that was shut down goes on sending:
/// TCP delivers an old write when a lost network comes back, minutes after newer data
/// was written through another connection.
pub fn reset_on_close(socket: BorrowedFd<'_>, reset: bool) {
    if !is_tcp(socket) {
        return;
    }
    let linger = libc::linger {
        l_onoff: i32::from(reset),
        l_linger: 0,
    };
    if let Err(errno) = setsockopt(&socket, sockopt::Linger, &linger) {
        tracing::warn!("SO_LINGER: {}", errno.desc());
    }
}

/// Cuts a connection. A TCP peer gets an RST and drops what it had not read; after a
/// mere shutdown it would go on with writes that are about to be sent anew.
pub fn cut(socket: BorrowedFd<'_>) {
    if is_tcp(socket) {
        match sys::disconnect_tcp(&socket) {
            Ok(()) => return,
            // Linux 6.4 to 6.6 refuse it (EBUSY) while somebody reads.
            Err(errno) => {
                tracing::debug!("a link is shut down, as it cannot be cut: {}", errno.desc());
            }
        }
    }
    // It may be shut down already.
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
}

/// How a connection is; `None` for what is not TCP.
#[must_use]
pub fn tcp_facts(socket: BorrowedFd<'_>) -> Option<TcpFacts> {
    TcpFacts::parse(&sys::tcp_info(&socket)?)
}

fn is_tcp(socket: BorrowedFd<'_>) -> bool {
    sys::tcp_info(&socket).is_some()
}
