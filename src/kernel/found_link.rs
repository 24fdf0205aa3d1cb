//! A link of which this process has no descriptor, because whoever had it died:
//! the kernel knows it by the socket's inode.
//!
//! The driver shuts down the socket of a link that it finds dead
//! (`nbd_mark_nsock_dead`), and keeps it until another takes its place. So a dead
//! link is still there to be seen, but never established again.

use super::cut::{Cut, cut};
use super::diag::{Answer, Diag, ask, attribute, tcp_request, unix_request};
use super::error::Error;
use super::tcp_info::TcpFacts;
use super::tcp_table::{TcpEntry, tcp_entry};

/// A socket of this network namespace.
#[derive(Debug, Clone)]
pub struct FoundLink {
    inode: u64,
    tcp: bool,
    /// Its addresses, once they were found: the table of all sockets is long.
    entry: Option<TcpEntry>,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is connected; without facts for a Unix socket, and where the kernel has
    /// no tcp_diag.
    Alive(Option<TcpFacts>),
    /// It is closed, by whichever side, or shut down.
    Dead,
    /// The kernel does not tell.
    Unknown,
}

impl FoundLink {
    /// The link that had this inode, a TCP or a Unix socket.
    #[must_use]
    pub fn new(inode: u64, tcp: bool) -> Self {
        Self {
            inode,
            tcp,
            entry: None,
        }
    }

    /// How it is now. It takes a few system calls, and not the server.
    pub fn look(&mut self) -> Seen {
        if self.tcp {
            self.look_at_tcp()
        } else {
            self.look_at_unix()
        }
    }

    /// Whether it is closed by our side, and was not by the peer's.
    #[must_use]
    pub fn is_shut_by_us(&self) -> bool {
        self.tcp && tcp_entry(self.inode).is_some_and(|entry| entry.shut_by_us)
    }

    /// Cuts it, as far as this kernel can: a Unix socket by no means.
    ///
    /// # Errors
    ///
    /// sock_diag cannot be used at all.
    pub fn cut(&self) -> Result<Cut, Error> {
        if self.tcp {
            cut(self.inode)
        } else {
            Ok(Cut::Unable(0))
        }
    }

    fn look_at_tcp(&mut self) -> Seen {
        // 1 << (INET_DIAG_INFO - 1)
        const WITH_INFO: u8 = 1 << 1;
        if self.entry.is_none() {
            self.entry = tcp_entry(self.inode);
        }
        let Some(entry) = &self.entry else {
            return Seen::Dead;
        };
        if let Ok(Answer::Bytes(message)) = ask(Diag::ByFamily, tcp_request(entry, WITH_INFO)) {
            return tcp_seen(&message, self.inode).unwrap_or(Seen::Unknown);
        }
        // ENOENT is for a closed socket and for a kernel without tcp_diag alike.
        match tcp_entry(self.inode) {
            Some(entry) if entry.established => Seen::Alive(None),
            _ => Seen::Dead,
        }
    }

    fn look_at_unix(&self) -> Seen {
        let Ok(inode) = u32::try_from(self.inode) else {
            return Seen::Unknown;
        };
        match ask(Diag::ByFamily, unix_request(inode)) {
            Ok(Answer::Bytes(message)) => unix_seen(&message).unwrap_or(Seen::Unknown),
            // Here the table does not tell whether it is shut down.
            Ok(Answer::Refused(_)) if unix_table_has(self.inode) == Some(false) => Seen::Dead,
            _ => Seen::Unknown,
        }
    }
}

/// `struct inet_diag_msg` and its attributes. The addresses may be another
/// socket's by now.
fn tcp_seen(message: &[u8], inode: u64) -> Option<Seen> {
    const ESTABLISHED: u8 = 1;
    const INODE: usize = 68;
    const ATTRIBUTES: usize = 72;
    const INET_DIAG_INFO: u16 = 2;
    let state = *message.get(1)?;
    let found = u32::from_ne_bytes(*message.get(INODE..)?.first_chunk()?);
    if u64::from(found) != inode || state != ESTABLISHED {
        return Some(Seen::Dead);
    }
    let facts = attribute(message, ATTRIBUTES, INET_DIAG_INFO).and_then(TcpFacts::parse);
    Some(Seen::Alive(facts))
}

/// `struct unix_diag_msg` and its attributes.
fn unix_seen(message: &[u8]) -> Option<Seen> {
    const ATTRIBUTES: usize = 16;
    const UNIX_DIAG_SHUTDOWN: u16 = 6;
    const BOTH: u8 = 3;
    let [how, ..] = attribute(message, ATTRIBUTES, UNIX_DIAG_SHUTDOWN)? else {
        return None;
    };
    Some(if *how == BOTH {
        Seen::Dead
    } else {
        Seen::Alive(None)
    })
}

/// Whether /proc/net/unix has the inode, in its seventh column.
fn unix_table_has(inode: u64) -> Option<bool> {
    let table = std::fs::read_to_string("/proc/net/unix").ok()?;
    let has = |line: &str| {
        let column = line.split_whitespace().nth(6);
        column.and_then(|text| text.parse().ok()) == Some(inode)
    };
    Some(table.lines().skip(1).any(has))
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use nix::sys::stat::fstat;

    use super::*;

    fn tcp_message(state: u8, inode: u32) -> Vec<u8> {
        let mut message = vec![0; 72];
        message[1] = state;
        message[68..72].copy_from_slice(&inode.to_ne_bytes());
        message.extend(108u16.to_ne_bytes());
        message.extend(2u16.to_ne_bytes());
        message.extend([1; 104]);
        message
    }

    #[test]
    fn a_tcp_socket_lives_as_itself_and_established_only() {
        let facts = match tcp_seen(&tcp_message(1, 77), 77) {
            Some(Seen::Alive(facts)) => facts,
            other => panic!("{other:?}"),
        };
        assert!(facts.unwrap().established);
        assert_eq!(tcp_seen(&tcp_message(1, 78), 77), Some(Seen::Dead));
        assert_eq!(tcp_seen(&tcp_message(8, 77), 77), Some(Seen::Dead));
        let without = &tcp_message(1, 77)[..72];
        assert_eq!(tcp_seen(without, 77), Some(Seen::Alive(None)));
        assert_eq!(tcp_seen(&without[..71], 77), None);
    }

    #[test]
    fn a_unix_socket_is_dead_when_shut_down_both_ways() {
        let message = |how: u8| {
            let mut message = vec![0; 16];
            message.extend(5u16.to_ne_bytes());
            message.extend(6u16.to_ne_bytes());
            message.extend([how, 0, 0, 0]);
            message
        };
        assert_eq!(unix_seen(&message(0)), Some(Seen::Alive(None)));
        assert_eq!(unix_seen(&message(1)), Some(Seen::Alive(None)));
        assert_eq!(unix_seen(&message(3)), Some(Seen::Dead));
        assert_eq!(unix_seen(&[0; 16]), None);
    }

    #[test]
    fn this_kernels_tcp_sockets_are_seen_and_cut_as_far_as_it_can() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let mut link = FoundLink::new(fstat(&ours).unwrap().st_ino, true);
        assert!(matches!(link.look(), Seen::Alive(_)));
        // Only root may, and not every kernel can.
        if link.cut().ok() == Some(Cut::Closed) {
            assert_eq!(link.look(), Seen::Dead);
            let end = theirs.read(&mut [0]).unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
            assert_eq!(link.cut().unwrap(), Cut::Closed, "again");
        } else {
            drop(theirs);
            assert_eq!(link.look(), Seen::Dead);
        }
    }

    #[test]
    fn this_kernels_unix_sockets_are_never_mistaken() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut link = FoundLink::new(fstat(&ours).unwrap().st_ino, false);
        assert_ne!(link.look(), Seen::Dead);
        drop(theirs);
        assert!(!matches!(link.look(), Seen::Alive(_)));
        drop(ours);
        assert_eq!(link.look(), Seen::Dead);
    }
}
