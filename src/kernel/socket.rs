//! A socket that the driver may have.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use super::error::Error;
use super::sys;
use crate::proto::Compact;

/// A duplicate of a socket that the driver has or gets. The driver holds a
/// reference of its own; this one serves to watch it and to cut it, and is
/// closed with its last clone.
#[derive(Debug, Clone)]
pub struct KernelSocket(Arc<OwnedFd>);

impl From<Compact<OwnedFd>> for KernelSocket {
    fn from(compact: Compact<OwnedFd>) -> Self {
        Self(Arc::new(compact.into_stream()))
    }
}

impl KernelSocket {
    /// A socket that nobody serves, and its other end: while that is open the
    /// driver finds the link alive, and dead as soon as it is closed.
    pub(super) fn to_nobody() -> Result<(Self, OwnedFd), Error> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|e| Error::Netlink(e.desc().to_owned()))?;
        Ok((Self(Arc::new(ours)), theirs))
    }

    /// Shuts the connection down in both directions, so that nothing that the
    /// driver does with it can wait any more.
    pub fn shut_down(&self) {
        // It may be shut down already.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }

    /// Whether the other side has closed.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        sys::is_hung_up(&*self.0)
    }

    /// The socket's inode, by which /proc/net shows it.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        nix::sys::stat::fstat(&*self.0).ok().map(|stat| stat.st_ino)
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
