//! What this machine's kernel has, for whoever asks before something fails.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt::TcpUlp};

use super::error::Error;
use super::netlink::Netlink;
use super::sysfs::read;

/// What the driver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Its netlink family answers.
    Present,
    /// It is not there, or has no netlink family.
    Missing,
    /// It does not answer in time: a command of somebody's is stuck in it.
    Stuck,
}

/// Looks for the driver. Newer kernels load it when its family is asked for.
#[must_use]
pub fn driver(allowed: Duration) -> Driver {
    match Netlink::open(allowed) {
        Ok(_) => Driver::Present,
        Err(Error::Stuck { .. }) => Driver::Stuck,
        Err(_) => Driver::Missing,
    }
}

/// How many partitions a device may show; `None` where the driver is not loaded.
#[must_use]
pub fn max_part() -> Option<u32> {
    let path = Path::new("/sys/module/nbd/parameters/max_part");
    read(path).ok()?.parse().ok()
}

/// Whether TCP sockets can do TLS in the kernel. Asking loads the module where
/// that can be.
#[must_use]
pub fn has_kernel_tls() -> bool {
    let Ok(fd) = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    ) else {
        return false;
    };
    // A socket that is not connected is refused for that, and only where the
    // protocol exists (`tls_init`).
    setsockopt(&fd, TcpUlp::default(), b"tls") == Err(Errno::ENOTCONN)
}
