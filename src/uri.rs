//! NBD URIs: where an export is and what it is called (`doc/uri.md` of the
//! `NetworkBlockDevice/nbd` project).
//!
//! It must not know how anything is dialled. What a URI asks for and this
//! version cannot do is refused by name: an unknown parameter that is ignored
//! could be the one that asks for encryption.

use std::fmt;
use std::path::PathBuf;

use fluent_uri::Uri as Rfc3986;
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// The port that IANA assigned to NBD, for a URI that names none.
pub const DEFAULT_PORT: u16 = 10809;

/// The longest URI that is looked at: an export name of 4096 bytes, every one
/// percent-encoded, and a socket's path beside it.
const MAX_LEN: usize = 16 * 1024;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP; the host is a name or an address, without brackets.
    Tcp {
        /// Name, IPv4 or IPv6 address, the latter with its zone if it has one.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix stream socket; a path that begins with NUL is in the abstract
    /// namespace.
    Unix {
        /// Path.
        path: PathBuf,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => {
                write!(f, "[{}]:{port}", host.escape_debug())
            }
            Self::Tcp { host, port } => write!(f, "{}:{port}", host.escape_debug()),
            Self::Unix { path } => match path.to_string_lossy().strip_prefix('\0') {
                Some(name) => write!(f, "@{}", name.escape_default()),
                None => write!(f, "{}", path.display().to_string().escape_debug()),
            },
        }
    }
}

/// A parsed NBD URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    text: String,
    endpoint: Endpoint,
    export: String,
}

/// Why a text is no URI that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Not a URI at all.
    #[error("not a URI: write nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH ({0})")]
    Syntax(String),
    /// Longer than any sensible one.
    #[error("a URI of {0} bytes is longer than {MAX_LEN}")]
    TooLong(usize),
    /// Some other scheme.
    #[error(
        "the scheme \"{0}\" is not NBD's: use nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH"
    )]
    Scheme(String),
    /// TLS was asked for.
    #[error(
        "{0} asks for TLS, which this version of nbdctl cannot speak yet: it will not fall back to plaintext"
    )]
    Tls(String),
    /// A transport that the kernel's driver does not take.
    #[error("{0} asks for vsock, which the kernel's driver does not accept")]
    Vsock(String),
    /// A query parameter that is not known.
    #[error("the parameter \"{0}\" is not known: a Unix socket takes \"socket\", TCP takes none")]
    Parameter(String),
    /// A Unix URI without its socket.
    #[error("nbd+unix needs the socket's path: nbd+unix:///EXPORT?socket=PATH")]
    NoSocket,
    /// A Unix URI with a host.
    #[error(
        "nbd+unix takes no host, but \"{0}\" is given: write nbd+unix:///EXPORT?socket=PATH with three slashes"
    )]
    HostWithSocket(String),
    /// A port outside 1 to 65535.
    #[error("the port \"{0}\" is not a number from 1 to 65535")]
    Port(String),
    /// Bytes that are no UTF-8, or NUL.
    #[error("the {0} has characters that NBD does not allow (NUL, or what is no UTF-8)")]
    Characters(&'static str),
    /// A password, which nothing here needs and much would show.
    #[error("a URI of NBD has no password: leave out what is between the user's name and the @")]
    Password,
    /// A fragment.
    #[error("a URI of NBD has no #fragment: write %23 for a # in the export's name")]
    Fragment,
    /// An export name over the protocol's limit.
    #[error("the export's name has {0} bytes, and NBD allows 4096")]
    LongExport(usize),
}

impl Uri {
    /// Parses a URI.
    ///
    /// The path is taken as it stands, without resolving `..`: it is a name, and
    /// `nbd://host/a/../b` must not open another disk than it says.
    ///
    /// # Errors
    ///
    /// See [`enum@Error`]; each says what to write instead.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_LEN {
            return Err(Error::TooLong(text.len()));
        }
        let (plain, zone) = take_zone(text);
        let parsed = Rfc3986::parse(plain.as_str()).map_err(|e| Error::Syntax(e.to_string()))?;
        let scheme = parsed.scheme().as_str().to_ascii_lowercase();
        let unix = match scheme.as_str() {
            "nbd" => false,
            "nbd+unix" => true,
            "nbds" | "nbds+unix" | "nbds+vsock" => return Err(Error::Tls(format!("{scheme}://"))),
            "nbd+vsock" => return Err(Error::Vsock(format!("{scheme}://"))),
            _ => return Err(Error::Scheme(scheme)),
        };
        if parsed.has_fragment() {
            return Err(Error::Fragment);
        }
        if parsed.authority().is_none() {
            return Err(Error::Syntax(format!("no // after {scheme}:")));
        }
        let socket = parameters(&parsed, unix)?;
        let endpoint = if unix {
            unix_endpoint(&parsed, socket)?
        } else {
            tcp_endpoint(&parsed, zone)?
        };
        Ok(Self {
            text: text.to_owned(),
            endpoint,
            export: export(&parsed)?,
        })
    }

    /// The text that was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it means another server in another folder: a Unix socket with a
    /// relative path. Such a URI is no identity.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        match &self.endpoint {
            Endpoint::Unix { path } => {
                !path.is_absolute() && !path.to_string_lossy().starts_with('\0')
            }
            Endpoint::Tcp { .. } => false,
        }
    }

    /// Whether it is reached by TCP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { .. })
    }

    /// Where the server is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The export's name; empty for the server's default.
    #[must_use]
    pub fn export(&self) -> &str {
        &self.export
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Cuts the zone out of `[fe80::1%25eth0]` (RFC 6874), which RFC 3986 itself
/// does not know.
fn take_zone(text: &str) -> (String, Option<String>) {
    let cut = || {
        let open = text.find("://[")?;
        let close = open + text.get(open..)?.find(']')?;
        let percent = open + text.get(open..close)?.find("%25")?;
        let zone = text.get(percent + 3..close)?;
        let plain = format!("{}{}", text.get(..percent)?, text.get(close..)?);
        (!zone.is_empty()).then(|| (plain, Some(zone.to_owned())))
    };
    cut().unwrap_or_else(|| (text.to_owned(), None))
}

fn decoded(text: &str, what: &'static str, nul: bool) -> Result<String, Error> {
    let bytes = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Error::Characters(what))?;
    if bytes.contains('\0') && !nul {
        return Err(Error::Characters(what));
    }
    Ok(bytes.into_owned())
}

/// The `socket` parameter; anything else is refused by its name.
fn parameters(uri: &Rfc3986<&str>, unix: bool) -> Result<Option<String>, Error> {
    let mut socket = None;
    let query = uri.query().map_or("", |query| query.as_str());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match decoded(key, "parameter", false)?.as_str() {
            "socket" if unix && socket.is_none() => {
                socket = Some(decoded(value, "socket's path", true)?);
            }
            key if key.starts_with("tls-") => return Err(Error::Tls(format!("\"{key}\""))),
            key => return Err(Error::Parameter(key.escape_debug().to_string())),
        }
    }
    Ok(socket)
}

fn unix_endpoint(uri: &Rfc3986<&str>, socket: Option<String>) -> Result<Endpoint, Error> {
    if let Some(authority) = uri.authority().filter(|a| !a.as_str().is_empty()) {
        return Err(Error::HostWithSocket(authority.as_str().to_owned()));
    }
    let path = socket
        .filter(|path| !path.is_empty())
        .ok_or(Error::NoSocket)?;
    // NUL may stand first, for the abstract namespace, and nowhere else.
    if path.get(1..).is_some_and(|rest| rest.contains('\0')) {
        return Err(Error::Characters("socket's path"));
    }
    Ok(Endpoint::Unix {
        path: PathBuf::from(path),
    })
}

fn tcp_endpoint(uri: &Rfc3986<&str>, zone: Option<String>) -> Result<Endpoint, Error> {
    let Some(authority) = uri.authority() else {
        return Err(Error::NoSocket);
    };
    let user = authority.userinfo().map_or("", |user| user.as_str());
    if user.contains(':') {
        return Err(Error::Password);
    }
    let port = match authority.port().map(|port| port.as_str()) {
        None | Some("") => DEFAULT_PORT,
        Some(text) => match text.parse() {
            Ok(0) | Err(_) => return Err(Error::Port(text.to_owned())),
            Ok(port) => port,
        },
    };
    let bare = authority.host().trim_matches(['[', ']']);
    let mut host = decoded(bare, "host", false)?;
    if host.is_empty() {
        // As libnbd does: nbd:///export is this machine's.
        "localhost".clone_into(&mut host);
    }
    if let Some(zone) = zone {
        host = format!("{host}%{}", decoded(&zone, "zone", false)?);
    }
    Ok(Endpoint::Tcp { host, port })
}

/// The path without its first slash.
fn export(uri: &Rfc3986<&str>) -> Result<String, Error> {
    let path = uri.path().as_str();
    let name = decoded(
        path.strip_prefix('/').unwrap_or(path),
        "export's name",
        false,
    )?;
    if name.len() > 4096 {
        return Err(Error::LongExport(name.len()));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> (String, u16, String) {
        let uri = Uri::parse(text).unwrap();
        match uri.endpoint() {
            Endpoint::Tcp { host, port } => (host.clone(), *port, uri.export().to_owned()),
            Endpoint::Unix { .. } => panic!("{text} is not TCP"),
        }
    }

    fn unix(text: &str) -> (PathBuf, String) {
        let uri = Uri::parse(text).unwrap();
        match uri.endpoint() {
            Endpoint::Unix { path } => (path.clone(), uri.export().to_owned()),
            Endpoint::Tcp { .. } => panic!("{text} is not a Unix socket"),
        }
    }

    #[test]
    fn takes_the_export_names_of_the_uri_document() {
        let host = || "example.com".to_owned();
        for (text, export) in [
            ("nbd://example.com/disk", "disk"),
            ("nbd://example.com/", ""),
            ("nbd://example.com", ""),
            ("nbd://example.com//disk", "/disk"),
            ("nbd://example.com/hello%20world", "hello world"),
            ("NBD://example.com/d%C3%A9j%C3%A0", "déjà"),
        ] {
            assert_eq!(tcp(text), (host(), 10809, export.to_owned()), "{text}");
        }
        assert_eq!(
            unix("nbd+unix:///disk?socket=sock"),
            ("sock".into(), "disk".to_owned())
        );
        assert_eq!(
            unix("nbd+unix:///?socket=%00/abstract"),
            ("\0/abstract".into(), String::new())
        );
    }

    #[test]
    fn never_resolves_dots_in_an_exports_name() {
        assert_eq!(tcp("nbd://h/a/../b").2, "a/../b");
        assert_eq!(tcp("nbd://h/%2e%2e/b").2, "../b");
        assert_eq!(tcp("nbd://h/./b").2, "./b");
    }

    #[test]
    fn takes_addresses_ports_and_zones() {
        assert_eq!(tcp("nbd://[::1]:10810/x").0, "::1");
        assert_eq!(tcp("nbd://[::1]:10810/x").1, 10810);
        assert_eq!(tcp("nbd://[fe80::1%25eth0]/x").0, "fe80::1%eth0");
        assert_eq!(tcp("nbd://10.0.0.5:/x").1, 10809);
        assert_eq!(tcp("nbd://user@10.0.0.5/x").0, "10.0.0.5");
        assert_eq!(tcp("nbd:///x").0, "localhost");
    }

    #[test]
    fn a_relative_socket_is_no_identity() {
        let relative = |text| Uri::parse(text).unwrap().is_relative();
        assert!(relative("nbd+unix:///x?socket=s"));
        assert!(relative("nbd+unix:///x?socket=./s"));
        assert!(!relative("nbd+unix:///x?socket=/s"));
        assert!(!relative("nbd+unix:///x?socket=%00s"));
        assert!(!relative("nbd://h/x"));
    }

    #[test]
    fn prints_endpoints_as_users_write_them() {
        let shown = |text| Uri::parse(text).unwrap().endpoint().to_string();
        assert_eq!(shown("nbd://[::1]/x"), "[::1]:10809");
        assert_eq!(shown("nbd://h:1/x"), "h:1");
        assert_eq!(shown("nbd://h%0a%1b/x"), "h\\n\\u{1b}:10809");
        assert_eq!(shown("nbd+unix:///x?socket=/run/s"), "/run/s");
        assert_eq!(shown("nbd+unix:///x?socket=%00s"), "@s");
    }

    #[test]
    fn refuses_every_way_to_ask_for_tls() {
        for text in [
            "nbds://h/x",
            "nbds+unix:///x?socket=s",
            "nbd://h/x?tls-type=x509",
            "nbd://h/x?tls-certificates=/etc/pki",
            "nbd+unix:///x?socket=s&tls-psk-file=/p",
        ] {
            assert!(matches!(Uri::parse(text), Err(Error::Tls(_))), "{text}");
        }
    }

    #[test]
    fn refuses_what_it_would_misunderstand() {
        let refused = |text: &str| Uri::parse(text).unwrap_err();
        assert!(matches!(refused("h/x"), Error::Syntax(_)));
        assert!(matches!(refused("nbd:h/x"), Error::Syntax(_)));
        assert!(matches!(refused("nbd://h/a b"), Error::Syntax(_)));
        assert!(matches!(refused("http://h/x"), Error::Scheme(_)));
        assert!(matches!(refused("nbd+vsock://3/x"), Error::Vsock(_)));
        assert!(matches!(refused("nbd://h/x?socket=s"), Error::Parameter(_)));
        assert!(matches!(
            refused("nbd+unix:///x?scoket=s"),
            Error::Parameter(_)
        ));
        assert!(matches!(
            refused("nbd+unix:///x?socket=a&socket=b"),
            Error::Parameter(_)
        ));
        assert_eq!(refused("nbd+unix:///x"), Error::NoSocket);
        assert_eq!(refused("nbd+unix:///x?socket="), Error::NoSocket);
        assert!(matches!(
            refused("nbd+unix://h/x?socket=s"),
            Error::HostWithSocket(_)
        ));
        assert!(matches!(refused("nbd://h:0/x"), Error::Port(_)));
        assert!(matches!(refused("nbd://h:65536/x"), Error::Port(_)));
        assert!(matches!(refused("nbd://h/a%00b"), Error::Characters(_)));
        assert!(matches!(refused("nbd://h/a%ffb"), Error::Characters(_)));
        assert_eq!(refused("nbd://user:secret@h/a"), Error::Password);
        assert_eq!(refused("nbd://h/a#b"), Error::Fragment);
        let long = format!("nbd://h/{}", "a".repeat(4097));
        assert_eq!(refused(&long), Error::LongExport(4097));
        let longer = format!("nbd://h/{}", "a".repeat(MAX_LEN));
        assert!(matches!(refused(&longer), Error::TooLong(_)));
    }
}
