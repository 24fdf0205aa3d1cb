//! Where to dial: one address of an endpoint, which can be kept as text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockaddrStorage;
use thiserror::Error;

use crate::uri::{Endpoint, Uri};

/// One address to dial. It prints as users write it, and parses back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(pub(super) Place);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An address of this machine's own, from which another is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name of the interface that it is on.
    pub interface: String,
    /// Its four or sixteen bytes,
    pub address: Vec<u8>,
    /// of which so many bits are the network's.
    pub prefix: u32,
}

fn ip(storage: SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|it| it.ip().into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|it| it.ip().into()))
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A text that no [`Address`] prints as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an address as nbdctl prints it")]
pub struct BadAddress;

impl Address {
    pub(super) fn tcp(address: SocketAddr) -> Self {
        Self(Place::Tcp(address))
    }

    pub(super) fn unix(path: PathBuf) -> Self {
        Self(Place::Unix(path))
    }

    /// Whether it is reached by TCP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        matches!(self.0, Place::Tcp(_))
    }

    /// The host's own, of four or sixteen bytes, where it is reached by TCP.
    #[must_use]
    pub fn host(&self) -> Option<Vec<u8>> {
        match self.0 {
            Place::Tcp(address) => Some(bytes(address.ip())),
            Place::Unix(_) => None,
        }
    }

    /// From where it is reached now; nothing is sent for that. `None` where there is no way
    /// there, and for what is not TCP.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        let Place::Tcp(address) = self.0 else {
            return None;
        };
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(address).ok()?;
        let ours = socket.local_addr().ok()?.ip();
        let found = getifaddrs()
            .ok()?
            .find(|one| one.address.and_then(ip) == Some(ours))?;
        let mask = bytes(found.netmask.and_then(ip)?);
        Some(Source {
            interface: found.interface_name,
            address: bytes(ours),
            prefix: mask.iter().fold(0, |sum, byte| sum + byte.count_ones()),
        })
    }

    pub(super) fn has_port(&self, port: u16) -> bool {
        matches!(self.0, Place::Tcp(address) if address.port() == port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.0 {
            Place::Tcp(address) => return write!(f, "{address}"),
            Place::Unix(path) => path,
        };
        let text = path.to_string_lossy();
        match text.chars().next() {
            // A relative path that looks like an address of another kind.
            Some(first) if first == '@' || text.parse::<SocketAddr>().is_ok() => {
                let rest = text.get(first.len_utf8()..).unwrap_or_default();
                write!(f, "{}{}", first.escape_unicode(), rest.escape_debug())
            }
            _ => Endpoint::Unix { path: path.clone() }.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let address = match text.parse() {
            Ok(address) => Self::tcp(address),
            Err(_) => {
                let path = match text.strip_prefix('@') {
                    Some(name) => format!("\0{}", unescaped(name).ok_or(BadAddress)?),
                    None => unescaped(text).ok_or(BadAddress)?,
                };
                Self::unix(path.into())
            }
        };
        let printed = !text.is_empty() && address.to_string() == text;
        printed.then_some(address).ok_or(BadAddress)
    }
}

/// The inverse of `escape_debug` and `escape_default`.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = escape.chars().next()?;
        rest = escape.get(code.len_utf8()..)?;
        plain.push(match code {
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            '0' => '\0',
            '\\' | '\'' | '"' => code,
            'u' => {
                let (hex, behind) = rest.strip_prefix('{')?.split_once('}')?;
                rest = behind;
                char::from_u32(u32::from_str_radix(hex, 16).ok()?)?
            }
            _ => return None,
        });
    }
    plain.push_str(rest);
    Some(plain)
}

/// The URI's addresses where no resolver is needed to know them.
#[must_use]
pub fn addresses_now(uri: &Uri) -> Option<Vec<Address>> {
    let address = match uri.endpoint() {
        Endpoint::Unix { path } => Address::unix(path.clone()),
        Endpoint::Tcp { host, port } => Address::tcp(literal(host, *port)?),
    };
    Some(vec![address])
}

/// An IP address, a link-local one with its zone.
fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let Some((ip, zone)) = host.split_once('%') else {
        return Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port));
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    let index = if_nametoindex(zone).ok().or_else(|| zone.parse().ok())?;
    ip.is_unicast_link_local()
        .then(|| SocketAddrV6::new(ip, port, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(uri: &str) -> Option<String> {
        let addresses = addresses_now(&Uri::parse(uri).unwrap())?;
        let [address] = addresses.as_slice() else {
            panic!("{addresses:?}");
        };
        assert_eq!(Ok(address.clone()), address.to_string().parse());
        Some(address.to_string())
    }

    #[test]
    fn literals_and_sockets_need_no_resolver_and_parse_back() {
        for (uri, shown) in [
            ("nbd://10.0.0.5:10810/x", "10.0.0.5:10810"),
            ("nbd://[::1]/x", "[::1]:10809"),
            ("nbd://[fe80::1%25lo]/x", "[fe80::1%1]:10809"),
            ("nbd://[fe80::1%257]/x", "[fe80::1%7]:10809"),
            ("nbd+unix:///x?socket=/run/s", "/run/s"),
            ("nbd+unix:///x?socket=%00s", "@s"),
            ("nbd+unix:///x?socket=/a%0ab'%5c%c3%a9", "/a\\nb\\'\\\\é"),
            ("nbd+unix:///x?socket=%00s%0a%c3%a9", "@s\\n\\u{e9}"),
            // Paths that look like something else.
            ("nbd+unix:///x?socket=@s", "\\u{40}s"),
            ("nbd+unix:///x?socket=10.0.0.5:1", "\\u{31}0.0.0.5:1"),
        ] {
            assert_eq!(now(uri).as_deref(), Some(shown), "{uri}");
        }
        for name in [
            "nbd://localhost",
            "nbd://h/x",
            "nbd://[fe80::1%25no-such]/x",
        ] {
            assert_eq!(now(name), None, "{name}");
        }
    }

    #[test]
    fn what_no_address_prints_as_is_none() {
        for text in [
            "",
            "\n",
            "/a\\",
            "/a\\x",
            "/a\\u{110000}",
            "/a'b",
            "@é",
            "[0::1]:5",
        ] {
            assert_eq!(text.parse::<Address>(), Err(BadAddress), "{text:?}");
        }
    }
}
