//! Cutting a link that only the kernel has, by `SOCK_DESTROY` of sock_diag(7).
//!
//! DISCONNECT writes a farewell into each link, and waits where the send buffer
//! is full; it does so under the lock of all generic netlink, which then stands
//! still on the whole machine. A link that is cut takes no farewell.

use neli::consts::nl::{NlType, NlmF};
use neli::consts::socket::NlFamily;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::Buffer;
use neli::utils::Groups;
use nix::errno::Errno;
use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP};

use super::error::Error;
use super::tcp_table::{TcpEntry, tcp_entry};

#[allow(unreachable_pub, missing_docs)]
mod numbers {
    /// Messages of sock_diag.
    #[neli::neli_enum(serialized_type = "u16")]
    pub enum Diag {
        /// `SOCK_DESTROY`
        Destroy = 21,
    }
}
use numbers::Diag;

impl NlType for Diag {}

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
    let failed = |e: neli::err::SocketError| Error::Netlink(e.to_string());
    let socket =
        NlSocketHandle::connect(NlFamily::SockOrInetDiag, None, Groups::empty()).map_err(failed)?;
    let message = NlmsghdrBuilder::default()
        .nl_type(Diag::Destroy)
        .nl_flags(NlmF::REQUEST | NlmF::ACK)
        .nl_payload(NlPayload::Payload(Buffer::from(request(&entry))))
        .build()
        .map_err(|e| Error::Netlink(e.to_string()))?;
    socket.send(&message).map_err(failed)?;
    for answer in socket.recv::<Diag, Buffer>().map_err(failed)?.0 {
        if let NlPayload::Err(error) = answer.map_err(failed)?.nl_payload() {
            return match Errno::from_raw(-error.error()) {
                Errno::ENOENT => Ok(Cut::Closed),
                Errno::EOPNOTSUPP | Errno::EINVAL => Ok(Cut::Unable(entry.unacknowledged)),
                errno => Err(Error::Netlink(errno.desc().to_owned())),
            };
        }
    }
    Ok(Cut::Closed)
}

/// `struct inet_diag_req_v2`: family, protocol, states, and the socket's id.
fn request(entry: &TcpEntry) -> Vec<u8> {
    let family = if entry.local.v6 { AF_INET6 } else { AF_INET };
    let byte = |number: i32| u8::try_from(number).unwrap_or_default();
    let mut bytes = vec![byte(family), byte(IPPROTO_TCP), 0, 0];
    // Every state.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(entry.local.port.to_be_bytes());
    bytes.extend(entry.remote.port.to_be_bytes());
    for address in [entry.local, entry.remote] {
        bytes.extend(address.words.iter().flat_map(|word| word.to_ne_bytes()));
    }
    // Any interface; INET_DIAG_NOCOOKIE.
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}
