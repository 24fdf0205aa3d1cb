//! Who answers, as users and state.json write it.

use std::net::SocketAddr;

/// Whether two peers are one: the same address, or any two of this machine's own with one port.
#[must_use]
pub fn same_peer(one: &str, other: &str) -> bool {
    match (one.parse::<SocketAddr>(), other.parse::<SocketAddr>()) {
        (Ok(one), Ok(other)) => {
            let loopback = one.ip().is_loopback() && other.ip().is_loopback();
            one.port() == other.port() && (one.ip() == other.ip() || loopback)
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_server_are_the_same_place() {
        assert!(same_peer("127.0.0.1:10809", "[::1]:10809"));
        assert!(same_peer("10.0.0.5:10809", "10.0.0.5:10809"));
        assert!(!same_peer("10.0.0.5:10809", "10.0.0.6:10809"));
        assert!(!same_peer("127.0.0.1:10809", "127.0.0.1:10810"));
    }
}
