//! Cutting a link that only the kernel has, by `SOCK_DESTROY` of sock_diag(7).
//!
//! DISCONNECT writes a farewell into each link, and waits where the send buffer
//! is full; it does so under the lock of all generic netlink, which then stands
//! still on the whole machine. A link that is cut takes no farewell.

use nix::errno::Errno;

use super::diag::{Answer, Diag, ask, tcp_request};
use super::error::Error;
use super::tcp_table::tcp_entry;

/// What became of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is closed: by this, or before.
    Closed,
    /// This kernel cannot do it; so many bytes wait in it for the server.
    Unable(u64),
}

/// Cuts the TCP socket with this inode.
///
/// # Errors
///
/// sock_diag cannot be used at all.
pub fn cut(inode: u64) -> Result<Cut, Error> {
    let Some(entry) = tcp_entry(inode) else {
        return Ok(Cut::Closed);
    };
    match ask(Diag::Destroy, tcp_request(&entry, 0))? {
        Answer::Bytes(_) | Answer::Done => Ok(Cut::Closed),
        // It was closed by now; or this kernel has no tcp_diag, or does not find the
        // socket for its interface.
        Answer::Refused(Errno::ENOENT) => {
            Ok(tcp_entry(inode).map_or(Cut::Closed, |entry| Cut::Unable(entry.unacknowledged)))
        }
        Answer::Refused(Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(Cut::Unable(entry.unacknowledged)),
        Answer::Refused(errno) => Err(Error::Netlink(errno.desc().to_owned())),
    }
}
