//! From settings to a usable device.
//!
//! Every step that took something gives it back when a later one fails: a
//! device that attach did not announce is not there afterwards.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::error::Error;
use super::interrupt::Interrupt;
use super::links::Links;
use super::lookup::{by_name, foreign_owner};
use super::reconcile::{claimed, reconcile, reconcile_one};
use super::runtime::{Runtime, State, index_lock};
use super::status::{DeviceState, report};
use crate::config::{BackendIdentifier, Settings, io_timeout};
use crate::kernel::geometry::Geometry;
use crate::kernel::{
    self, Connect, Device, KernelSocket, Netlink, QueueSettings, SavedQueue, free_indices, holders,
    wait_until_readable,
};

/// What a command of the kernel's may take. They are done in milliseconds; one
/// that waits for a full send buffer or another's freeze is not coming back.
pub(super) const KERNEL_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for whoever holds a lock. An attach holds that of the index
/// for the time of one CONNECT; 24 at once take their turns within it.
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
/// See [`enum@Error`]; nothing is left behind.
pub fn attach(settings: &Settings) -> Result<Attached, Error> {
    if !kernel::has_sys_admin() {
        return Err(kernel::Error::NoRight.into());
    }
    let netlink = Netlink::open(KERNEL_DEADLINE)?;
    let runtime = Runtime::of(&settings.name);
    let _lock = runtime.lock(LOCK_DEADLINE)?;
    let bringing = Bringing {
        settings,
        netlink: &netlink,
        identifier: BackendIdentifier::new(&settings.name, &settings.uri),
        runtime: &runtime,
    };
    match by_name(&settings.name)? {
        Some((device, found)) => bringing.already(device, &found),
        None => {
            let attached = bringing.bring_up();
            if attached.is_err() {
                // The lock made the folder; a state in it tells of something
                // that could not be undone.
                reconcile_one(&runtime);
                runtime.tidy();
            }
            attached
        }
    }
}

struct Bringing<'a> {
    settings: &'a Settings,
    netlink: &'a Netlink,
    identifier: BackendIdentifier,
    runtime: &'a Runtime,
}

impl Bringing<'_> {
    /// Idempotence: what is attached as asked is a success.
    fn already(&self, device: Device, found: &BackendIdentifier) -> Result<Attached, Error> {
        let settings = self.settings;
        let path = device.path().display().to_string();
        let differs = |difference| {
            Err(Error::Differs {
                device: path.clone(),
                difference,
            })
        };
        if *found != self.identifier {
            return Err(Error::NameTaken {
                name: settings.name.clone(),
                device: path,
            });
        }
        if device.size() == 0 {
            return Err(Error::Leaving {
                holders: holders::of(&device),
                device: path,
            });
        }
        if settings.read_only && !device.is_read_only() {
            return differs("for writing");
        }
        if settings.device.is_some_and(|index| index != device.index()) {
            return differs("which is not the one asked for");
        }
        if report(&device, found).state == DeviceState::Dead {
            return Err(Error::Dead(path));
        }
        let state = self.runtime.load();
        let warnings = self.differences(state.as_ref());
        // A state is there before the device is; one that was lost since tells
        // nothing, and the device may be in use: it is left as it is.
        if let Some(state) = state.filter(|state| !state.usable) {
            self.finish_anothers(&device, state)?;
        }
        Ok(Attached {
            device,
            already: true,
            warnings,
        })
    }

    /// What was asked and stays as it is.
    fn differences(&self, state: Option<&State>) -> Vec<String> {
        let Some(state) = state else {
            return vec![
                "what it was attached with is not known: /run/nbdctl has lost it".to_owned(),
            ];
        };
        let settings = self.settings;
        let mut warnings = Vec::new();
        let mut keeps =
            |what: &str| warnings.push(format!("it is attached already, and keeps {what}"));
        let connections = state.links.len();
        if usize::try_from(settings.connections.get()) != Ok(connections) {
            keeps(&format!("its connections ({connections})"));
        }
        if settings.dead_timeout.kernel_seconds() != state.dead_timeout {
            keeps(&format!("its dead timeout ({} s)", state.dead_timeout));
        }
        if settings
            .block_size
            .is_some_and(|size| size.bytes() != state.block_size)
        {
            keeps(&format!("its block size ({})", state.block_size));
        }
        warnings
    }

    /// Whoever attached it was killed before it was done.
    fn finish_anothers(&self, device: &Device, state: State) -> Result<(), Error> {
        let interrupt = Interrupt::hold();
        // By the connections that it has, not by those asked for now: the wrong
        // time-out would make the driver cut slow links.
        let queue = QueueSettings {
            io_timeout: io_timeout(state.links.len()),
            max_sectors_kb: state.max_sectors_kb,
        };
        queue.finish(device, KERNEL_DEADLINE)?;
        wait_until_readable(device, self.settings.connect_timeout, || {
            interrupt.came().then_some(kernel::Error::Interrupted)
        })?;
        self.runtime.store(&State {
            usable: true,
            ..state
        })
    }

    fn bring_up(&self) -> Result<Attached, Error> {
        let links = Links::open(self.settings)?;
        let interrupt = Interrupt::hold();
        let queue = QueueSettings {
            io_timeout: io_timeout(links.sockets.len()),
            max_sectors_kb: links.geometry.max_sectors_kb,
        };
        let (device, saved) = self.connect(&links, queue)?;
        match self.make_usable(&device, &links, queue, saved, &interrupt) {
            Ok(()) => Ok(Attached {
                warnings: warnings(&links.geometry),
                device,
                already: false,
            }),
            Err(Error::Kernel(error)) => Err(Error::Unusable {
                device: device.path().display().to_string(),
                error,
                left: self.abandon(&device, &links).err().map(Box::new),
            }),
            Err(error) => {
                if let Err(left) = self.abandon(&device, &links) {
                    tracing::warn!("{} is left attached: {left}", device.path().display());
                }
                Err(error)
            }
        }
    }

    /// From CONNECT to what can be announced.
    fn make_usable(
        &self,
        device: &Device,
        links: &Links,
        queue: QueueSettings,
        saved: SavedQueue,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        // CONNECT may have made the device: what it has now is what it had then.
        let saved = if saved == SavedQueue::default() {
            SavedQueue::of(device)
        } else {
            saved
        };
        let mut state = self.state(device, links, &saved);
        self.runtime.store(&state)?;
        queue.finish(device, KERNEL_DEADLINE)?;
        wait_until_readable(device, self.settings.connect_timeout, || {
            if interrupt.came() {
                return Some(kernel::Error::Interrupted);
            }
            let lost = links.sockets.iter().all(KernelSocket::is_hung_up);
            lost.then_some(kernel::Error::LinkLost)
        })?;
        state.usable = true;
        self.runtime.store(&state)
    }

    /// Takes an index and connects it, trying the next where another was faster.
    fn connect(&self, links: &Links, queue: QueueSettings) -> Result<(Device, SavedQueue), Error> {
        let _turn = index_lock(LOCK_DEADLINE)?;
        reconcile_one(self.runtime);
        reconcile();
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
            if Instant::now() >= until {
                return Err(last.unwrap_or(kernel::Error::NoFreeIndex).into());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn candidates(&self) -> Result<Box<dyn Iterator<Item = u32>>, Error> {
        let Some(index) = self.settings.device else {
            let claimed = claimed(self.runtime);
            let free = free_indices()?;
            return Ok(Box::new(free.filter(move |index| !claimed.contains(index))));
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
        // Another detach may have to put its queue back yet.
        let free = !claimed(self.runtime).contains(&index);
        Ok(Box::new(free.then_some(index).into_iter()))
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
        let connected = self.netlink.connect(Connect {
            index: device.index(),
            size: links.geometry.size,
            block_size: links.geometry.block_size,
            server_flags: links.geometry.flags.0,
            dead_conn_timeout: self.settings.dead_timeout.kernel_seconds(),
            backend_identifier: self.identifier.to_string(),
            sockets: links.sockets.clone(),
            queue,
        });
        if let Err(error) = connected {
            // Also where another program has it by now: its requests are not to
            // have our time-out.
            if device.exists() {
                if let Err(left) = saved.restore(device, KERNEL_DEADLINE) {
                    tracing::warn!("{}: {left}", device.path().display());
                }
            }
            return Err(error.into());
        }
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
            block_size: links.geometry.block_size,
            max_sectors_kb: links.geometry.max_sectors_kb,
            usable: false,
            saved_queue: saved.clone(),
            links: links.links.clone(),
            network_namespace: kernel::network_namespace(),
            since,
        }
    }

    /// Takes down what turned out to be of no use. The links are shut down
    /// first, or DISCONNECT could wait for a server that reads nothing.
    fn abandon(&self, device: &Device, links: &Links) -> Result<(), kernel::Error> {
        links.sockets.iter().for_each(KernelSocket::shut_down);
        self.netlink.disconnect(device.index())?;
        device.wait_until_free(&self.identifier.to_string(), KERNEL_DEADLINE)?;
        if let Ok(_turn) = index_lock(LOCK_DEADLINE) {
            reconcile_one(self.runtime);
        }
        Ok(())
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
