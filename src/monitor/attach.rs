//! From settings to a usable device.
//!
//! Every step that took something gives it back when a later one fails: a
//! device that attach did not announce is not there afterwards.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::error::Error;
use super::lookup::{by_name, foreign_owner};
use super::runtime::{Link, Runtime, State, index_lock};
use super::sockets;
use crate::config::{BackendIdentifier, Settings};
use crate::kernel::geometry::Geometry;
use crate::kernel::{
    self, Connect, Device, KernelSocket, Netlink, QueueSettings, SavedQueue, free_indices,
    wait_until_readable,
};
use crate::session::{Deadline, Session, open_each};

/// What a command of the kernel's may take. They are done in milliseconds; one
/// that waits for a full send buffer or another's freeze is not coming back.
pub(super) const KERNEL_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for whoever holds a lock: longer than attach's own
/// deadlines together, and 24 attaches at once take their turns within it.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// How long a free device may be held open by udev, which looks at each after
/// every event.
const BUSY_DEADLINE: Duration = Duration::from_secs(5);

/// An attached device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The device.
    pub device: Device,
    /// It was attached before.
    pub already: bool,
    /// What its user should know, a sentence each.
    pub warnings: Vec<String>,
}

/// Attaches an export, or finds that it is.
///
/// # Errors
///
/// See [`Error`]; nothing is left behind.
pub fn attach(settings: &Settings) -> Result<Attached, Error> {
    if !kernel::has_sys_admin() {
        return Err(kernel::Error::NoRight.into());
    }
    let netlink = Netlink::open(KERNEL_DEADLINE)?;
    let identifier = BackendIdentifier::new(&settings.name, &settings.uri);
    let runtime = Runtime::of(&settings.name);
    let _lock = runtime.lock(LOCK_DEADLINE)?;
    if let Some((device, found)) = by_name(&settings.name)? {
        return already(settings, device, &found, &identifier);
    }
    let attached = Bringing {
        settings,
        netlink: &netlink,
        identifier,
        runtime: &runtime,
    }
    .bring_up();
    if attached.is_err() {
        // The folder was made for the lock.
        runtime.remove()?;
    }
    attached
}

/// Idempotence: what is attached as asked is a success.
fn already(
    settings: &Settings,
    device: Device,
    found: &BackendIdentifier,
    wanted: &BackendIdentifier,
) -> Result<Attached, Error> {
    let path = device.path().display().to_string();
    if found != wanted {
        return Err(Error::NameTaken {
            name: settings.name.clone(),
            device: path,
        });
    }
    if settings.read_only && !device.is_read_only() {
        return Err(Error::Differs {
            device: path,
            difference: "for writing",
        });
    }
    if settings.device.is_some_and(|index| index != device.index()) {
        return Err(Error::Differs {
            device: path,
            difference: "which is not the one asked for",
        });
    }
    Ok(Attached {
        device,
        already: true,
        warnings: Vec::new(),
    })
}

struct Bringing<'a> {
    settings: &'a Settings,
    netlink: &'a Netlink,
    identifier: BackendIdentifier,
    runtime: &'a Runtime,
}

/// Sessions that became the kernel's.
struct Links {
    sockets: Vec<KernelSocket>,
    links: Vec<Link>,
    geometry: Geometry,
}

impl Bringing<'_> {
    fn bring_up(&self) -> Result<Attached, Error> {
        let links = self.open_links()?;
        let queue = QueueSettings {
            io_timeout: self.settings.io_timeout(),
            max_sectors_kb: links.geometry.max_sectors_kb,
        };
        let (device, saved) = self.connect(&links, queue)?;
        let usable = queue
            .finish(&device, KERNEL_DEADLINE)
            .and_then(|()| wait_until_readable(&device, self.settings.connect_timeout));
        if let Err(error) = usable {
            self.abandon(&device, &links, &saved);
            return Err(Error::Unreadable {
                device: device.path().display().to_string(),
                error,
            });
        }
        Ok(Attached {
            warnings: warnings(&links.geometry),
            device,
            already: false,
        })
    }

    /// Opens every connection, side by side, and makes sure that they lead to one
    /// export.
    fn open_links(&self) -> Result<Links, Error> {
        let deadline = Deadline::after(self.settings.connect_timeout);
        let count = self.settings.connections.get();
        let mut sessions: Vec<Session> = Vec::new();
        for session in open_each(&self.settings.uri, count, deadline)? {
            let session = session?;
            // The first to stand knows; the others may wait in vain at a server
            // that serves one client at a time.
            if count > 1 && !session.export().can_multi_conn() {
                return Err(Error::OneConnection);
            }
            if sessions
                .iter()
                .any(|first| first.export() != session.export())
            {
                return Err(Error::Disagree);
            }
            sessions.push(session);
        }
        let Some(first) = sessions.first() else {
            return Err(Error::Disagree);
        };
        let geometry = Geometry::new(
            first.export(),
            self.settings.block_size.map(|size| size.bytes()),
            self.settings.read_only,
        )
        .map_err(kernel::Error::from)?;
        let mut sockets = Vec::new();
        let mut links = Vec::new();
        for session in sessions {
            let peer = session.peer().to_owned();
            let compact = session
                .into_compact()
                .map_err(|session| Error::NotCompact(session.header_style().as_str()))?;
            let socket = KernelSocket::from(compact);
            links.push(Link {
                peer,
                inode: socket.inode(),
            });
            sockets.push(socket);
        }
        Ok(Links {
            sockets,
            links,
            geometry,
        })
    }

    /// Takes an index and connects it, trying the next where another was faster.
    fn connect(&self, links: &Links, queue: QueueSettings) -> Result<(Device, SavedQueue), Error> {
        let _turn = index_lock(LOCK_DEADLINE)?;
        let until = Instant::now() + BUSY_DEADLINE;
        loop {
            let mut last = None;
            for index in self.candidates()? {
                let device = Device::new(index);
                match self.connect_one(&device, links, queue) {
                    Err(Error::Kernel(error)) if error.is_busy() => last = Some(error),
                    result => return result.map(|saved| (device, saved)),
                }
            }
            if let Some(error) = last.filter(|_| Instant::now() >= until) {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn candidates(&self) -> Result<Vec<u32>, Error> {
        let Some(index) = self.settings.device else {
            return Ok(free_indices()?);
        };
        let device = Device::new(index);
        if device.is_configured() {
            return Err(Error::DeviceTaken {
                device: device.path().display().to_string(),
                by: device
                    .backend()
                    .and_then(|backend| BackendIdentifier::parse(&backend))
                    .map_or_else(
                        || foreign_owner(&device),
                        |identifier| format!("\"{}\"", identifier.name()),
                    ),
            });
        }
        Ok(vec![index])
    }

    /// One CONNECT, with the queue as it must be before it, and as it was after
    /// it failed.
    fn connect_one(
        &self,
        device: &Device,
        links: &Links,
        queue: QueueSettings,
    ) -> Result<SavedQueue, Error> {
        let saved = SavedQueue::of(device);
        // Before CONNECT: were this process to die right after it, detach would
        // still know what to put back.
        self.runtime.store(&self.state(device, links, &saved))?;
        let connected = queue.prepare(device, KERNEL_DEADLINE).and_then(|()| {
            self.netlink.connect(Connect {
                index: device.index(),
                size: links.geometry.size,
                block_size: links.geometry.block_size,
                server_flags: links.geometry.flags.0,
                dead_conn_timeout: self.settings.dead_timeout.kernel_seconds(),
                backend_identifier: self.identifier.to_string(),
                sockets: links.sockets.clone(),
            })
        });
        match connected {
            Ok(()) if saved == SavedQueue::default() => self.made(device, links),
            Ok(()) => Ok(saved),
            Err(error) => {
                if device.exists() && !device.is_configured() {
                    saved.restore(device, KERNEL_DEADLINE)?;
                }
                Err(error.into())
            }
        }
    }

    /// CONNECT made the device, so what it has now is what it had before.
    fn made(&self, device: &Device, links: &Links) -> Result<SavedQueue, Error> {
        let saved = SavedQueue::of(device);
        self.runtime.store(&self.state(device, links, &saved))?;
        Ok(saved)
    }

    fn state(&self, device: &Device, links: &Links, saved: &SavedQueue) -> State {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs());
        State {
            version: State::VERSION,
            uri: self.settings.uri.to_string(),
            index: device.index(),
            backend_identifier: self.identifier.to_string(),
            dead_timeout: self.settings.dead_timeout.kernel_seconds(),
            saved_queue: saved.clone(),
            links: links.links.clone(),
            network_namespace: sockets::network_namespace(),
            since,
        }
    }

    /// Takes down what turned out to be of no use. The links are shut down
    /// first, or DISCONNECT could wait for a server that reads nothing.
    fn abandon(&self, device: &Device, links: &Links, saved: &SavedQueue) {
        links.sockets.iter().for_each(KernelSocket::shut_down);
        let undone = self
            .netlink
            .disconnect(device.index())
            .and_then(|()| device.wait_until_free(KERNEL_DEADLINE))
            .and_then(|()| saved.restore(device, KERNEL_DEADLINE));
        if let Err(error) = undone {
            tracing::warn!("{}: {error}", device.path().display());
        }
    }
}

fn warnings(geometry: &Geometry) -> Vec<String> {
    let mut warnings = Vec::new();
    if geometry.lost_bytes > 0 {
        warnings.push(format!(
            "the export's last {} bytes, from offset {}, cannot be reached: its size is no \
             multiple of the block size of {}",
            geometry.lost_bytes, geometry.size, geometry.block_size
        ));
    }
    warnings
}
