//! How a TCP link is, as the kernel keeps count of it: `struct tcp_info` of
//! `linux/tcp.h`, the same from getsockopt(2) and from sock_diag(7).

use std::time::Duration;

/// What of it tells a slow peer from a silent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFacts {
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Since the peer acknowledged anything, a keepalive probe included.
    pub since_ack: Duration,
    /// Since the peer sent data.
    pub since_data: Duration,
    /// Sent again, or probed, and not acknowledged, in a row.
    pub unanswered: u32,
    /// Bytes that the peer acknowledged.
    pub bytes_sent: Option<u64>,
    /// Bytes that came from it.
    pub bytes_received: Option<u64>,
    /// It is connected, and neither side has closed.
    pub established: bool,
    /// Our side has closed it, and the peer had not.
    pub shut_by_us: bool,
}

/// The states of `tcp_states.h` in which a connection is that our side closed first:
/// FIN_WAIT1, FIN_WAIT2, CLOSING.
pub(super) fn is_shut_by_us(state: u8) -> bool {
    matches!(state, 4 | 5 | 11)
}

impl TcpFacts {
    /// Reads `struct tcp_info`; `None` for one that is too short to be any
    /// kernel's.
    pub(super) fn parse(info: &[u8]) -> Option<Self> {
        // TCP_ESTABLISHED
        const ESTABLISHED: u8 = 1;
        let u32_at = |at: usize| Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?));
        let milliseconds = |at| Some(Duration::from_millis(u32_at(at)?.into()));
        let (retransmits, probes) = (*info.get(2)?, *info.get(3)?);
        Some(Self {
            rtt: Duration::from_micros(u32_at(68)?.into()),
            since_ack: milliseconds(56)?,
            since_data: milliseconds(52)?,
            unanswered: u32::from(retransmits) + u32::from(probes),
            // Linux 4.1 and later.
            bytes_sent: u64_at(120),
            bytes_received: u64_at(128),
            established: *info.first()? == ESTABLISHED,
            shut_by_us: is_shut_by_us(*info.first()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct tcp_info` of Linux 6.1, each field that is read distinct.
    fn info() -> Vec<u8> {
        let mut bytes = vec![0xee; 240];
        bytes[..4].copy_from_slice(&[1, 0, 3, 2]);
        for (at, value) in [(52, 5000u32), (56, 7000), (68, 250)] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        for (at, value) in [(120, 1u64 << 40), (128, 9)] {
            bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn every_field_is_where_the_kernel_has_it() {
        let facts = TcpFacts::parse(&info()).unwrap();
        let expected = TcpFacts {
            rtt: Duration::from_micros(250),
            since_ack: Duration::from_secs(7),
            since_data: Duration::from_secs(5),
            unanswered: 5,
            bytes_sent: Some(1 << 40),
            bytes_received: Some(9),
            established: true,
            shut_by_us: false,
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn an_older_kernel_tells_less_and_a_short_answer_nothing() {
        let old = TcpFacts::parse(&info()[..104]).unwrap();
        assert_eq!((old.bytes_sent, old.bytes_received), (None, None));
        assert_eq!(old.unanswered, 5);
        for end in 0..72 {
            assert_eq!(TcpFacts::parse(&info()[..end]), None, "{end}");
        }
    }

    #[test]
    fn only_the_first_state_is_established() {
        for state in 2..13 {
            let mut closing = info();
            closing[0] = state;
            let facts = TcpFacts::parse(&closing).unwrap();
            assert!(!facts.established, "{state}");
            assert_eq!(facts.shut_by_us, [4, 5, 11].contains(&state), "{state}");
        }
    }
}
