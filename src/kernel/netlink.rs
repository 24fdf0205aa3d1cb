//! The `nbd` family's commands, each in a helper thread with a deadline.
//!
//! A command runs inside sendmsg(2) and cannot be interrupted, so its answers
//! are there when sendmsg returns; all are read, to the acknowledgement. The
//! thread owns the sockets whose descriptors the message names: were they
//! closed while it waits, the kernel would take whatever has the number by then.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use neli::consts::nl::GenlId;
use neli::socket::synchronous::NlSocketHandle;
use nix::errno::Errno;

use super::error::Error;
use super::exchange::{Failure, exchange, open_socket, resolve};
use super::family::{self, Attributes, Message, NbdAttribute, NbdCommand, attribute};
use super::helper;
use super::queue::QueueSettings;
use super::socket::KernelSocket;
use super::sys;
use super::sysfs::Device;

/// A command of the family, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `nbd_genl_connect`
    Connect,
    /// `nbd_genl_disconnect`
    Disconnect,
    /// `nbd_genl_reconfigure`
    Reconfigure,
    /// `nbd_genl_status`
    Status,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "NBD_CMD_CONNECT",
            Self::Disconnect => "NBD_CMD_DISCONNECT",
            Self::Reconfigure => "NBD_CMD_RECONFIGURE",
            Self::Status => "NBD_CMD_STATUS",
        })
    }
}

/// What CONNECT gets. `NBD_ATTR_TIMEOUT` is never sent: it would rewrite
/// `io_timeout` and make the driver cut slow links (`nbd_xmit_timeout`).
#[derive(Debug)]
pub struct Connect {
    /// The device; it must not be configured.
    pub index: u32,
    /// In bytes, a multiple of the block size.
    pub size: u64,
    /// 512, or a power of two up to the page size.
    pub block_size: u32,
    /// Transmission flags.
    pub server_flags: u16,
    /// How long fresh requests wait for a link, in seconds; at least 1 and at
    /// most 2^31, as the driver multiplies it by HZ.
    pub dead_conn_timeout: u64,
    /// What RECONFIGURE will have to repeat.
    pub backend_identifier: String,
    /// One for each connection.
    pub sockets: Vec<KernelSocket>,
    /// What its queue must be before it gets them.
    pub queue: QueueSettings,
}

/// What RECONFIGURE gets: one socket for one dead connection.
#[derive(Debug)]
pub struct Reconfigure {
    /// The device.
    pub index: u32,
    /// As CONNECT had it, or the driver refuses.
    pub backend_identifier: String,
    /// As [`Connect::dead_conn_timeout`].
    pub dead_conn_timeout: u64,
    /// The new link.
    pub socket: KernelSocket,
}

/// Whether the driver took the socket of a RECONFIGURE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It replaced a dead connection.
    Yes,
    /// No connection was dead; the driver dropped it.
    No,
}

/// What STATUS tells of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Its index.
    pub index: u32,
    /// A configuration is referenced. It stays true through an outage, on a
    /// dead device, and while anything holds the device open: never a health
    /// check (`populate_nbd_status`).
    pub configured: bool,
}

/// No machine is up for longer.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A socket on the family. Keep the one that sent CONNECT open as long as the
/// device is served: a later kernel may tie the two together.
#[derive(Debug, Clone)]
pub struct Netlink {
    socket: Arc<Socket>,
    allowed: Duration,
}

struct Socket {
    handle: NlSocketHandle,
    family: u16,
    sequence: AtomicU32,
    /// A command is inside the kernel.
    busy: AtomicBool,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens a socket and finds the family. Each command may take `allowed`.
    ///
    /// # Errors
    ///
    /// [`Error::NoFamily`] when the driver is not loaded.
    pub fn open(allowed: Duration) -> Result<Self, Error> {
        let socket = helper::run("the look-up of the nbd family", allowed, || {
            let handle = open_socket()?;
            let family = resolve(&handle)?.id;
            Ok(Socket {
                handle,
                family,
                sequence: AtomicU32::new(1),
                busy: AtomicBool::new(false),
            })
        })?;
        Ok(Self {
            socket: Arc::new(socket),
            allowed,
        })
    }

    /// The same socket for somebody who waits as long as it takes: a command that
    /// is given up on may be carried out all the same, and nobody would know.
    #[must_use]
    pub fn for_ever(&self) -> Self {
        Self {
            socket: Arc::clone(&self.socket),
            allowed: FOR_EVER,
        }
    }

    /// A duplicate, to be kept open: a kernel to come may take down the devices of
    /// a socket that is closed.
    ///
    /// # Errors
    ///
    /// No descriptor is to be had.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(sys::duplicate(&self.socket.handle)?)
    }

    /// Prepares a device's queue, and makes a device of sockets
    /// (`nbd_genl_connect`). `until_done` is dropped when the kernel is done with it,
    /// which may be long after this has come back.
    ///
    /// # Errors
    ///
    /// [`Error::is_busy`] when the device is configured or just held open.
    pub fn connect(&self, connect: Connect, until_done: impl Send + 'static) -> Result<(), Error> {
        self.command(Command::Connect, connect.index, move || {
            connect.queue.prepare(&Device::new(connect.index))?;
            let fds: Vec<_> = connect.sockets.iter().map(KernelSocket::raw).collect();
            let attributes = [
                attribute(NbdAttribute::Index, connect.index)?,
                attribute(NbdAttribute::SizeBytes, connect.size)?,
                attribute(NbdAttribute::BlockSizeBytes, u64::from(connect.block_size))?,
                attribute(NbdAttribute::ServerFlags, u64::from(connect.server_flags))?,
                attribute(NbdAttribute::DeadConnTimeout, connect.dead_conn_timeout)?,
                attribute(
                    NbdAttribute::BackendIdentifier,
                    connect.backend_identifier.as_str(),
                )?,
                family::sockets(&fds)?,
            ];
            let message = family::message(NbdCommand::Connect, attributes.into_iter().collect())?;
            Ok((message, (connect, until_done)))
        })
        .map(drop)
    }

    /// Takes a device down (`nbd_genl_disconnect`). The kernel answers with
    /// success for one that is not configured, too.
    ///
    /// # Errors
    ///
    /// As any command.
    pub fn disconnect(&self, index: u32) -> Result<(), Error> {
        self.command(Command::Disconnect, index, move || {
            let attributes = std::iter::once(attribute(NbdAttribute::Index, index)?).collect();
            Ok((family::message(NbdCommand::Disconnect, attributes)?, ()))
        })
        .map(drop)
    }

    /// Has the driver disconnect the device when its last user closes it, or not
    /// (`NBD_CFLAG_DISCONNECT_ON_CLOSE`).
    ///
    /// # Errors
    ///
    /// As any command.
    pub fn disconnect_on_close(&self, index: u32, backend: &str, yes: bool) -> Result<(), Error> {
        const DISCONNECT_ON_CLOSE: u64 = 1 << 1;
        let flags = if yes { DISCONNECT_ON_CLOSE } else { 0 };
        self.change(index, backend, NbdAttribute::ClientFlags, flags)
    }

    /// Changes a device's size. The block size need not be told again, and
    /// stays (`nbd_genl_size_set`).
    ///
    /// Only on a live link with nothing in flight: Linux 6.12 freezes the queue,
    /// which waits for all that is in flight, while all of generic netlink waits
    /// for it. What a smaller size cuts off is lost to whoever uses it.
    ///
    /// # Errors
    ///
    /// As any command.
    pub fn resize(&self, index: u32, backend: &str, size: u64) -> Result<(), Error> {
        self.change(index, backend, NbdAttribute::SizeBytes, size)
    }

    /// How long a request may wait for a live link from now on, in seconds; those that
    /// wait already keep their time (`NBD_ATTR_DEAD_CONN_TIMEOUT`).
    ///
    /// # Errors
    ///
    /// As any command.
    pub fn set_patience(&self, index: u32, backend: &str, seconds: u64) -> Result<(), Error> {
        self.change(index, backend, NbdAttribute::DeadConnTimeout, seconds)
    }

    /// Changes one property of a device, and no link.
    pub(super) fn change(
        &self,
        index: u32,
        backend: &str,
        property: NbdAttribute,
        value: u64,
    ) -> Result<(), Error> {
        let backend = backend.to_owned();
        self.command(Command::Reconfigure, index, move || {
            let attributes = [
                attribute(NbdAttribute::Index, index)?,
                attribute(NbdAttribute::BackendIdentifier, backend.as_str())?,
                attribute(property, value)?,
            ];
            let message =
                family::message(NbdCommand::Reconfigure, attributes.into_iter().collect())?;
            Ok((message, ()))
        })
        .map(drop)
    }

    /// Replaces one dead connection, and tells whether the driver took it: it
    /// answers with success either way (`nbd_genl_reconfigure`). The proof is a
    /// second item that is no socket: the driver gets to it, and fails, only
    /// after it took the first.
    ///
    /// # Errors
    ///
    /// As any command.
    pub fn reconfigure(&self, request: Reconfigure) -> Result<Taken, Error> {
        let no_socket = File::open("/dev/null").map_err(Error::file("/dev/null"))?;
        let index = request.index;
        let answer = self.command(Command::Reconfigure, index, move || {
            let attributes = [
                attribute(NbdAttribute::Index, request.index)?,
                attribute(NbdAttribute::DeadConnTimeout, request.dead_conn_timeout)?,
                attribute(
                    NbdAttribute::BackendIdentifier,
                    request.backend_identifier.as_str(),
                )?,
                family::sockets(&[request.socket.raw(), no_socket.as_raw_fd()])?,
            ];
            let message =
                family::message(NbdCommand::Reconfigure, attributes.into_iter().collect())?;
            Ok((message, (request, no_socket)))
        });
        match answer {
            Ok(_) => Ok(Taken::No),
            Err(Error::Refused {
                errno: Errno::ENOTSOCK,
                ..
            }) => Ok(Taken::Yes),
            Err(error) => Err(error),
        }
    }

    /// The status of one device, or of all (`nbd_genl_status`).
    ///
    /// # Errors
    ///
    /// As any command.
    pub fn status(&self, index: Option<u32>) -> Result<Vec<DeviceStatus>, Error> {
        let answers = self.command(Command::Status, index.unwrap_or(0), move || {
            let attributes: Result<Attributes, Error> = index
                .into_iter()
                .map(|index| attribute(NbdAttribute::Index, index))
                .collect();
            Ok((family::message(NbdCommand::Status, attributes?)?, ()))
        })?;
        let mut devices = Vec::new();
        for answer in &answers {
            for (index, configured) in family::device_list(answer)? {
                devices.push(DeviceStatus { index, configured });
            }
        }
        Ok(devices)
    }

    /// Runs one command to its acknowledgement. `build` makes the message and
    /// whatever must live as long as the kernel works on it.
    pub(super) fn command<K: 'static>(
        &self,
        command: Command,
        index: u32,
        build: impl FnOnce() -> Result<(Message, K), Error> + Send + 'static,
    ) -> Result<Vec<Message>, Error> {
        let what = format!("{command} for /dev/nbd{index}");
        let Some(turn) = Turn::take(&self.socket) else {
            return Err(Error::Busy(what));
        };
        helper::run(what, self.allowed, move || {
            let result = build().map_err(Failure::from).and_then(|(message, keep)| {
                let answers = turn.0.transact(message);
                drop(keep);
                answers
            });
            drop(turn);
            result.map_err(|failure| failure.into_error(command, index))
        })
    }
}

/// The right to the socket for one command, given back whatever becomes of it.
struct Turn(Arc<Socket>);

impl Turn {
    fn take(socket: &Arc<Socket>) -> Option<Self> {
        let taken = socket.busy.swap(true, Ordering::Acquire);
        (!taken).then(|| Self(Arc::clone(socket)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Failure {
    fn into_error(self, command: Command, index: u32) -> Error {
        match self {
            Self::Refused(Errno::EPERM, _) => Error::NoRight,
            Self::Refused(errno, told) => Error::Refused {
                command,
                index,
                errno,
                told,
            },
            Self::Other(error) => error,
        }
    }
}

impl Socket {
    fn transact(&self, message: Message) -> Result<Vec<Message>, Failure> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        exchange(&self.handle, GenlId::from(self.family), sequence, message)
    }
}
