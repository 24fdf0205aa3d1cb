//! Whether the sockets that the kernel was given still live, as /proc/net shows
//! them to anyone.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// The inode of this process's network namespace.
pub(super) fn network_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/net")
        .ok()
        .map(|meta| meta.ino())
}

/// Whether a TCP socket is established; `None` where that cannot be told: a Unix
/// socket, or one of another network namespace.
pub(super) fn is_established(
    inode: Option<u64>,
    is_tcp: bool,
    namespace: Option<u64>,
) -> Option<bool> {
    let inode = inode?;
    if !is_tcp || namespace.is_none() || namespace != network_namespace() {
        return None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    Some(
        tables
            .iter()
            .flatten()
            .any(|table| established(table, inode)),
    )
}

/// Looks for an inode in a table of proc_net_tcp(5): state in the fourth
/// column, inode in the tenth.
fn established(table: &str, inode: u64) -> bool {
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace();
        let state = columns.nth(3);
        let found = columns.nth(5).and_then(|text| text.parse::<u64>().ok());
        state == Some("01") && found == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2A39 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 0100007F:9C40 0100007F:2A39 01 00000000:00000000 00:00000000 00000000     0        0 222 1
   2: 0100007F:9C42 0100007F:2A39 08 00000000:00000000 00:00000000 00000000     0        0 333 1
";

    #[test]
    fn only_an_established_socket_lives() {
        assert!(established(TABLE, 222));
        assert!(!established(TABLE, 111), "listening");
        assert!(!established(TABLE, 333), "closed by the peer");
        assert!(!established(TABLE, 444), "gone");
    }
}
