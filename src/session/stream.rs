//! A connected stream whose every read and write ends at a deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::deadline::Deadline;
use super::error::Fault;

/// TCP or Unix; the kernel's driver takes both.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Reads what is there, at least one byte; 0 when the server closed, with or
    /// without manners: closed with bytes unread, a socket resets.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        deadline: Deadline,
        waits_for: &'static str,
    ) -> Result<usize, Fault> {
        let timed_out = || Fault::TimedOut {
            waits_for,
            allowed: deadline.allowed(),
        };
        loop {
            let left = deadline.remaining().ok_or_else(timed_out)?;
            self.set_timeouts(left)?;
            let result = match self {
                Self::Tcp(stream) => stream.read(buffer),
                Self::Unix(stream) => stream.read(buffer),
            };
            match result {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
                Err(error) if again(&error) => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8], deadline: Deadline) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let left = deadline.remaining().ok_or_else(|| Fault::TimedOut {
                waits_for: "the server to read",
                allowed: deadline.allowed(),
            })?;
            self.set_timeouts(left)?;
            let result = match self {
                Self::Tcp(stream) => stream.write(bytes),
                Self::Unix(stream) => stream.write(bytes),
            };
            match result {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if again(&error) => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
        Ok(())
    }

    fn set_timeouts(&self, left: Duration) -> Result<(), Fault> {
        self.timeouts(Some(left)).map_err(Fault::Io)
    }

    fn timeouts(&self, left: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream
                .set_read_timeout(left)
                .and_then(|()| stream.set_write_timeout(left)),
            Self::Unix(stream) => stream
                .set_read_timeout(left)
                .and_then(|()| stream.set_write_timeout(left)),
        }
    }

    /// Ends the time-outs of the handshake: the kernel's driver would take a
    /// read that times out for the end of the link.
    pub(super) fn clear_timeouts(&self) -> Result<(), Fault> {
        self.timeouts(None).map_err(Fault::Io)
    }

    /// Whether nothing has come that was not read, not even the end.
    pub(super) fn is_silent(&self) -> bool {
        let socket = match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        };
        let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(socket, &mut [0], look) == Err(Errno::EAGAIN)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        match self {
            Self::Tcp(stream) => stream.into(),
            Self::Unix(stream) => stream.into(),
        }
    }
}

/// A time-out of the socket's is looked at again by the deadline.
fn again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
