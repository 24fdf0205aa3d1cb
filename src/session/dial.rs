//! From an endpoint to a connected stream.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::{io, thread};

use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, UnixAddr, setsockopt, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;

use super::deadline::Deadline;
use super::error::Fault;
use super::stream::Stream;
use crate::uri::Endpoint;

/// One address to dial.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => Endpoint::Unix { path: path.clone() }.fmt(f),
        }
    }
}

/// Every address of an endpoint, in the resolver's order.
pub(super) fn targets(endpoint: &Endpoint, deadline: Deadline) -> Result<Vec<Target>, Fault> {
    match endpoint {
        Endpoint::Tcp { host, port } => resolve(host, *port, deadline),
        Endpoint::Unix { path } => Ok(vec![Target::Unix(path.clone())]),
    }
}

/// Resolves in a thread of its own, which is left behind where the resolver
/// outlasts the deadline: getaddrinfo(3) takes none.
fn resolve(host: &str, port: u16, deadline: Deadline) -> Result<Vec<Target>, Fault> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![Target::Tcp(SocketAddr::new(address, port))]);
    }
    let (sender, receiver) = mpsc::channel();
    let query = (host.to_owned(), port);
    thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || {
            let answer = query
                .to_socket_addrs()
                .map(|addresses| addresses.map(Target::Tcp).collect::<Vec<_>>());
            // The caller may have given up.
            let _ = sender.send(answer);
        })
        .map_err(Fault::Io)?;
    let wait = deadline.remaining().unwrap_or_default();
    match receiver.recv_timeout(wait) {
        Ok(Ok(mut targets)) => {
            dedup(&mut targets);
            if targets.is_empty() {
                return Err(Fault::Unresolved {
                    host: host.to_owned(),
                    why: "it has no address".to_owned(),
                });
            }
            Ok(targets)
        }
        Ok(Err(error)) => Err(Fault::Unresolved {
            host: host.to_owned(),
            why: plain(&error),
        }),
        Err(_) => Err(Fault::TimedOut {
            waits_for: "the resolver",
            allowed: deadline.allowed(),
        }),
    }
}

fn dedup(targets: &mut Vec<Target>) {
    let mut seen = std::collections::HashSet::new();
    targets.retain(|target| seen.insert(target.to_string()));
}

/// std wraps what getaddrinfo says into a sentence of its own.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text)
        .to_owned()
}

impl Target {
    pub(super) fn dial(&self, deadline: Deadline) -> Result<Stream, Fault> {
        let Some(left) = deadline.remaining() else {
            return Err(connect_timed_out(deadline));
        };
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, left)
                    .map_err(|e| connect_fault(e, deadline))?;
                // Requests are small and each is waited for.
                stream.set_nodelay(true).map_err(Fault::Io)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(path) => connect_unix(path, left)
                .map(Stream::Unix)
                .map_err(|e| connect_fault(e, deadline)),
        }
    }
}

/// connect(2) on a Unix socket waits while the server's backlog is full, and
/// honours the time-out for sending (`unix_stream_connect`).
fn connect_unix(path: &std::path::Path, left: std::time::Duration) -> io::Result<UnixStream> {
    let address = match path.as_os_str().as_bytes().strip_prefix(b"\0") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(path)?,
    };
    let socket = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let micros = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
    let wait = TimeVal::new(micros / 1_000_000, micros % 1_000_000);
    setsockopt(&socket, SendTimeout, &wait)?;
    socket::connect(socket.as_raw_fd(), &address)?;
    Ok(UnixStream::from(socket))
}

fn connect_timed_out(deadline: Deadline) -> Fault {
    Fault::TimedOut {
        waits_for: "the connection",
        allowed: deadline.allowed(),
    }
}

fn connect_fault(error: io::Error, deadline: Deadline) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => connect_timed_out(deadline),
        _ => Fault::Connect(error),
    }
}
