//! A socket that the driver may have.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use super::error::Error;
use super::tcp_info::TcpFacts;
use super::{sys, wire};
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

impl AsFd for KernelSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl KernelSocket {
    /// A duplicate of a socket that an earlier process handed to the driver, and
    /// proved compact then: the one with this inode, and no other.
    #[must_use]
    pub fn kept(descriptor: OwnedFd, inode: u64) -> Option<Self> {
        let socket = Self(Arc::new(descriptor));
        (socket.inode() == Some(inode)).then_some(socket)
    }

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

    /// Cuts the link, which the driver finds dead at once. A TCP peer gets an RST
    /// and drops what it had not read; after a mere shutdown it would go on with
    /// writes that are about to be sent anew.
    pub fn cut(&self) {
        wire::cut(self.as_fd());
    }

    /// Has the kernel probe an idle TCP link, so that the peer's silence shows in
    /// [`KernelSocket::tcp_facts`]. The verdict is left to whoever looks: the
    /// kernel's own comes after 127 unanswered probes.
    pub fn keep_alive(&self, interval: Duration) {
        wire::keep_alive(self.as_fd(), interval);
    }

    /// Whether the last close of a TCP link, by whomever, resets it and drops what it
    /// has not sent (`SO_LINGER` of 0). Without, a link that the driver shut down
    /// goes on sending: TCP delivers an old write when a lost network comes back,
    /// minutes after newer data was written through another link.
    pub fn reset_on_close(&self, reset: bool) {
        wire::reset_on_close(self.as_fd(), reset);
    }

    /// How the link is; `None` for a Unix socket.
    #[must_use]
    pub fn tcp_facts(&self) -> Option<TcpFacts> {
        wire::tcp_facts(self.as_fd())
    }

    /// Whether the link is dead: cut, reset, or closed by the other side and
    /// found so by the driver.
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
