//! From an address to a connected stream.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, getsockopt, setsockopt,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::address::{Address, Place};
use super::deadline::Deadline;
use super::error::Fault;
use super::stream::Stream;

impl Address {
    /// Connects, from the local address `from` where that can be had.
    pub(super) fn connect(
        &self,
        from: Option<SocketAddr>,
        deadline: Deadline,
    ) -> Result<Stream, Fault> {
        match &self.0 {
            Place::Tcp(to) => connect_tcp(*to, from, deadline).map(Stream::Tcp),
            Place::Unix(path) => {
                let left = deadline.remaining();
                let left = left.ok_or_else(|| timed_out(deadline))?;
                connect_unix(path, left)
                    .map(Stream::Unix)
                    .map_err(|e| connect_fault(e, deadline))
            }
        }
    }
}

fn connect_tcp(
    to: SocketAddr,
    from: Option<SocketAddr>,
    deadline: Deadline,
) -> Result<TcpStream, Fault> {
    let begun = match from {
        // Whatever it is that keeps us from that port, another one will do.
        Some(from) => begin(to, Some(from)).or_else(|_| begin(to, None)),
        None => begin(to, None),
    };
    let socket = begun.map_err(|e| connect_fault(e.into(), deadline))?;
    await_connection(&socket, deadline)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).map_err(Fault::Io)?;
    // Requests are small and each is waited for.
    stream.set_nodelay(true).map_err(Fault::Io)?;
    Ok(stream)
}

/// Sends the SYN.
fn begin(to: SocketAddr, from: Option<SocketAddr>) -> Result<OwnedFd, Errno> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    if let Some(from) = from {
        // A socket that was bound to this port and is dead may still be open:
        // the kernel's driver keeps those.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    }
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        // Interrupted, it goes on all the same.
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

fn await_connection(socket: &OwnedFd, deadline: Deadline) -> Result<(), Fault> {
    loop {
        let left = deadline.remaining().ok_or_else(|| timed_out(deadline))?;
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut polled, left) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(errno) => return Err(Fault::Io(errno.into())),
        }
    }
    match getsockopt(socket, sockopt::SocketError).map_err(io::Error::from) {
        Ok(0) => Ok(()),
        Ok(errno) => Err(connect_fault(io::Error::from_raw_os_error(errno), deadline)),
        Err(error) => Err(Fault::Io(error)),
    }
}

/// connect(2) on a Unix socket waits while the server's backlog is full, and
/// honours the time-out for sending (`unix_stream_connect`).
fn connect_unix(path: &Path, left: Duration) -> io::Result<UnixStream> {
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
    setsockopt(&socket, sockopt::SendTimeout, &wait)?;
    socket::connect(socket.as_raw_fd(), &address)?;
    Ok(UnixStream::from(socket))
}

fn timed_out(deadline: Deadline) -> Fault {
    Fault::TimedOut {
        waits_for: "the connection",
        allowed: deadline.allowed(),
    }
}

fn connect_fault(error: io::Error, deadline: Deadline) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => timed_out(deadline),
        _ => Fault::Connect(error),
    }
}
