//! TCP resets from the middle. `ss -K` needs an option that User Mode Linux's
//! kernels lack, and iptables a package: so whoever sees a packet, as we do, knows
//! the numbers of a reset that its receiver believes.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket,
};

const TCP: u8 = 6;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 0x10;

pub struct Resetter {
    /// Sees what comes and goes.
    packets: OwnedFd,
    /// Sends with whatever source.
    raw: OwnedFd,
    ours: Ipv4Addr,
}

type End = (Ipv4Addr, u16);

/// What matters of a TCP segment.
#[derive(Clone, Copy)]
struct Segment {
    from: End,
    to: End,
    /// The number behind its last byte.
    next: u32,
    ack: u32,
    flags: u8,
}

impl Resetter {
    /// For all connections of an address of this machine.
    pub fn new(ours: Ipv4Addr) -> Self {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let open = |family, kind, protocol| socket(family, kind, flags, protocol).unwrap();
        Self {
            packets: open(
                AddressFamily::Packet,
                SockType::Datagram,
                SockProtocol::EthAll,
            ),
            raw: open(AddressFamily::Inet, SockType::Raw, SockProtocol::Raw),
            ours,
        }
    }

    /// Answers packets with resets, until it is done or the time is up.
    pub fn run(&self, limit: Duration, done: impl Fn() -> bool) {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            let latest = self.latest();
            for segment in latest.values() {
                self.answer(*segment);
            }
            if done() {
                return;
            }
        }
    }

    /// Of what has come and gone, the last of each direction: the numbers of
    /// those before it are no longer expected by anybody.
    fn latest(&self) -> HashMap<(End, End), Segment> {
        let mut buffer = [0; 128];
        let mut latest = HashMap::new();
        loop {
            match recv(self.packets.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let segment = Segment::parse(&buffer[..length]);
                    let of_ours = |one: &Segment| one.from.0 == self.ours || one.to.0 == self.ours;
                    if let Some(segment) = segment.filter(of_ours) {
                        latest.insert((segment.from, segment.to), segment);
                    }
                }
                Err(Errno::EAGAIN) => return latest,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Both ends believe a reset with just the number that they expect next.
    fn answer(&self, segment: Segment) {
        if segment.flags & (SYN | RST | FIN) != 0 {
            return;
        }
        self.send(segment.from, segment.to, segment.next);
        if segment.flags & ACK != 0 {
            self.send(segment.to, segment.from, segment.ack);
        }
    }

    fn send(&self, from: End, to: End, sequence: u32) {
        let mut tcp = [0; 20];
        tcp[..2].copy_from_slice(&from.1.to_be_bytes());
        tcp[2..4].copy_from_slice(&to.1.to_be_bytes());
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[13] = RST;
        let pseudo = [&from.0.octets()[..], &to.0.octets(), &[0, TCP, 0, 20], &tcp].concat();
        tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
        // The kernel fills in the length, the identification and the checksum.
        let mut ip = [
            0x45, 0, 0, 0, 0, 0, 0, 0, 64, TCP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        ip[12..16].copy_from_slice(&from.0.octets());
        ip[16..].copy_from_slice(&to.0.octets());
        let address = SockaddrIn::from(std::net::SocketAddrV4::new(to.0, 0));
        // A full queue or a route that went away: the next packet is answered again.
        let _ = sendto(
            self.raw.as_raw_fd(),
            &[ip, tcp].concat(),
            &address,
            MsgFlags::empty(),
        );
    }
}

impl Segment {
    fn parse(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 15) * 4;
        if packet[0] >> 4 != 4 || *packet.get(9)? != TCP || packet.len() < header + 20 {
            return None;
        }
        let number = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let total = u32::from(port(2));
        let data_at = header + usize::from(packet[header + 12] >> 4) * 4;
        Some(Self {
            from: (number(12).into(), port(header)),
            to: (number(16).into(), port(header + 2)),
            next: number(header + 4).wrapping_add(total - u32::try_from(data_at).unwrap()),
            ack: number(header + 8),
            flags: packet[header + 13],
        })
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}
