//! One question to sock_diag(7), and the first message of its answer.
//!
//! A lookup is done inside sendmsg(2); what it answers is there when that
//! returns, and the deadline is for a kernel that does it otherwise.

use std::time::Duration;

use neli::consts::nl::{NlType, NlmF, Nlmsg};
use neli::consts::socket::NlFamily;
use neli::err::SocketError;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::Buffer;
use neli::utils::Groups;
use nix::errno::Errno;
use nix::libc::{AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP};

use super::error::Error;
use super::sys;
use super::tcp_table::TcpEntry;

/// Who asks is an event loop.
const DEADLINE: Duration = Duration::from_secs(1);

#[allow(unreachable_pub, missing_docs)]
mod numbers {
    /// Messages of sock_diag.
    #[neli::neli_enum(serialized_type = "u16")]
    pub enum Diag {
        /// `SOCK_DIAG_BY_FAMILY`
        ByFamily = 20,
        /// `SOCK_DESTROY`
        Destroy = 21,
    }
}
pub(super) use numbers::Diag;

impl NlType for Diag {}

/// What the kernel says.
pub(super) enum Answer {
    /// A message of the family's own.
    Bytes(Vec<u8>),
    /// It is done.
    Done,
    /// ENOENT: there is no such socket, or nobody who could look it up.
    Refused(Errno),
}

pub(super) fn ask(message: Diag, request: Vec<u8>) -> Result<Answer, Error> {
    ask_family(NlFamily::SockOrInetDiag, message, NlmF::empty(), request)
}

/// The same of another family than sock_diag.
pub(super) fn ask_family<T: NlType>(
    family: NlFamily,
    message: T,
    flags: NlmF,
    request: Vec<u8>,
) -> Result<Answer, Error> {
    let socket = say(family, message, NlmF::ACK | flags, request)?;
    wait(&socket)?;
    let (mut answers, _) = socket.recv::<T, Buffer>().map_err(failed)?;
    let Some(answer) = answers.next() else {
        return Ok(Answer::Done);
    };
    Ok(match answer.map_err(failed)?.nl_payload() {
        NlPayload::Payload(bytes) => Answer::Bytes(bytes.as_ref().to_vec()),
        NlPayload::Err(error) => Answer::Refused(Errno::from_raw(-error.error())),
        _ => Answer::Done,
    })
}

fn failed(error: SocketError) -> Error {
    Error::Netlink(error.to_string())
}

fn say<T: NlType>(
    family: NlFamily,
    message: T,
    flags: NlmF,
    request: Vec<u8>,
) -> Result<NlSocketHandle, Error> {
    let socket = NlSocketHandle::connect(family, None, Groups::empty()).map_err(failed)?;
    let message = NlmsghdrBuilder::default()
        .nl_type(message)
        .nl_flags(NlmF::REQUEST | flags)
        .nl_payload(NlPayload::Payload(Buffer::from(request)))
        .build()
        .map_err(|e| Error::Netlink(e.to_string()))?;
    socket.send(&message).map_err(failed)?;
    Ok(socket)
}

fn wait(socket: &NlSocketHandle) -> Result<(), Error> {
    let readable = sys::wait_readable(socket, DEADLINE)
        .map_err(|errno| Error::Netlink(errno.desc().to_owned()))?;
    if readable {
        return Ok(());
    }
    Err(Error::Stuck {
        what: "a question to sock_diag or rtnetlink".to_owned(),
        allowed: DEADLINE,
    })
}

/// All that a family has of a kind, as the messages' payloads.
pub(super) fn dump_family<T: NlType + Into<u16> + Copy>(
    family: NlFamily,
    message: T,
    request: Vec<u8>,
) -> Result<Vec<Vec<u8>>, Error> {
    /// More than any machine has.
    const MOST: usize = 65_536;
    let socket = say(family, message, NlmF::DUMP, request)?;
    let mut all = Vec::new();
    while all.len() < MOST {
        wait(&socket)?;
        let (answers, _) = socket.recv::<T, Buffer>().map_err(failed)?;
        for answer in answers {
            let answer = answer.map_err(failed)?;
            if (*answer.nl_type()).into() == u16::from(Nlmsg::Done) {
                return Ok(all);
            }
            match answer.nl_payload() {
                NlPayload::Payload(bytes) => all.push(bytes.as_ref().to_vec()),
                NlPayload::Err(error) => {
                    let errno = Errno::from_raw(-error.error());
                    return Err(Error::Netlink(errno.desc().to_owned()));
                }
                _ => {}
            }
        }
    }
    Ok(all)
}

/// `struct inet_diag_req_v2`: family, protocol, what to tell, states, and the
/// socket's id.
pub(super) fn tcp_request(entry: &TcpEntry, extensions: u8) -> Vec<u8> {
    let family = if entry.local.v6 { AF_INET6 } else { AF_INET };
    let mut bytes = vec![byte(family), byte(IPPROTO_TCP), extensions, 0];
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

/// `struct unix_diag_req`: family, protocol, states, the inode, what to show
/// (nothing: the shutdown is told unasked), and no cookie.
pub(super) fn unix_request(inode: u32) -> Vec<u8> {
    let mut bytes = vec![byte(AF_UNIX), 0, 0, 0];
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(inode.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

/// An attribute's payload, of those that begin at `start`.
pub(super) fn attribute(message: &[u8], start: usize, kind: u16) -> Option<&[u8]> {
    let mut rest = message.get(start..)?;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let payload = rest.get(4..length)?;
        if u16_at(rest, 2)? == kind {
            return Some(payload);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn byte(number: i32) -> u8 {
    u8::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_others_and_never_beyond_the_end() {
        let mut message = vec![9; 16];
        for (kind, payload) in [(1u16, &[7u8][..]), (6, &[3]), (2, &[1, 2, 3, 4])] {
            let length = u16::try_from(4 + payload.len()).unwrap();
            message.extend(length.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(payload);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        assert_eq!(attribute(&message, 16, 6), Some(&[3][..]));
        assert_eq!(attribute(&message, 16, 2), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&message, 16, 5), None);
        for end in 0..message.len() {
            assert_eq!(attribute(&message[..end], 16, 2), None, "{end}");
        }
        // A length of nothing must not turn in circles.
        assert_eq!(attribute(&[0; 64], 0, 1), None);
    }
}
