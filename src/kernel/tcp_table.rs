//! The kernel's TCP sockets as /proc/net shows them to anyone: how a link is,
//! without a descriptor of it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::tcp_info::is_shut_by_us;

/// The inode of this process's network namespace; the tables are its own.
#[must_use]
pub fn network_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/net")
        .ok()
        .map(|meta| meta.ino())
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpEntry {
    /// It is connected, and neither side has closed.
    pub established: bool,
    /// Our side has closed it, and the peer had not.
    pub shut_by_us: bool,
    /// Bytes that the peer has not acknowledged, or that were not sent.
    pub unacknowledged: u64,
    pub(super) local: Address,
    pub(super) remote: Address,
}

/// Address and port, in the order of the wire; an IPv4 address is the first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) words: [u32; 4],
    pub(super) port: u16,
    pub(super) v6: bool,
}

/// Finds a socket by its inode; `None` for one that is closed, or not TCP, or of
/// another network namespace.
#[must_use]
pub fn tcp_entry(inode: u64) -> Option<TcpEntry> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|path| find(&fs::read_to_string(path).ok()?, inode))
}

/// A line of proc_net_tcp(5): addresses, state, queues, and in the tenth column
/// the inode.
fn find(table: &str, inode: u64) -> Option<TcpEntry> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        if columns.get(9)?.parse() != Ok(inode) {
            return None;
        }
        let (unacknowledged, _) = columns.get(4)?.split_once(':')?;
        Some(TcpEntry {
            established: *columns.get(3)? == "01",
            shut_by_us: u8::from_str_radix(columns.get(3)?, 16).is_ok_and(is_shut_by_us),
            unacknowledged: u64::from_str_radix(unacknowledged, 16).ok()?,
            local: address(columns.get(1)?)?,
            remote: address(columns.get(2)?)?,
        })
    })
}

/// `0100007F:2A39`: words in this machine's order of the wire's bytes, and the
/// port as a number.
fn address(text: &str) -> Option<Address> {
    let (host, port) = text.split_once(':')?;
    let mut words = [0; 4];
    for (number, word) in words.iter_mut().enumerate().take(host.len() / 8) {
        let hex = host.get(number * 8..number * 8 + 8)?;
        *word = u32::from_str_radix(hex, 16).ok()?;
    }
    Some(Address {
        words,
        port: u16::from_str_radix(port, 16).ok()?,
        v6: host.len() > 8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2A39 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 0100007F:9C40 0100007F:2A39 01 00000010:00000000 00:00000000 00000000     0        0 222 1
   2: 0100007F:9C42 0100007F:2A39 08 00000000:00000000 00:00000000 00000000     0        0 333 1
   3: 0100007F:9C43 0100007F:2A39 05 00000000:00000000 00:00000000 00000000     0        0 555 1
";

    #[test]
    fn only_an_established_socket_lives() {
        let established = |inode| find(TABLE, inode).map(|entry| entry.established);
        assert_eq!(established(222), Some(true));
        assert_eq!(established(111), Some(false), "listening");
        assert_eq!(established(333), Some(false), "closed by the peer");
        assert_eq!(established(444), None, "gone");
        let by_us = |inode| find(TABLE, inode).map(|entry| entry.shut_by_us);
        assert_eq!(by_us(333), Some(false));
        assert_eq!(by_us(555), Some(true));
    }

    #[test]
    fn addresses_and_queues_are_read_as_they_stand() {
        let entry = find(TABLE, 222).unwrap();
        assert_eq!(entry.unacknowledged, 16);
        assert_eq!(entry.local.port, 0x9c40);
        assert_eq!(entry.remote.words, [0x0100_007f, 0, 0, 0]);
        let v6 = address("00000000000000000000000001000000:2A39").unwrap();
        assert_eq!((v6.words, v6.v6), ([0, 0, 0, 0x0100_0000], true));
    }
}
