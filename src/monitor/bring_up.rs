//! From settings to a usable device: what a monitor does that finds none.
//!
//! Every step that took something gives it back when a later one fails: a
//! device that was not announced is not there afterwards.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::error::Error;
use super::hook;
use super::links::Links;
use super::lookup::{by_name, foreign_owner};
use super::machine::Inheritance;
use super::reconcile::{claimed, reconcile, reconcile_one};
use super::runtime::{Lock, Runtime, index_lock};
use super::state::State;
use super::{KERNEL_DEADLINE, LOCK_DEADLINE};
use crate::config::{BackendIdentifier, Settings, io_timeout};
use crate::kernel::geometry::Geometry;
use crate::kernel::{
    self, Connect, Device, KernelSocket, Netlink, QueueSettings, SavedQueue, free_indices, holders,
    wait_for_names, wait_until_readable,
};

/// How long a free device may be held open by udev, which looks at each after
/// every event.
const BUSY_DEADLINE: Duration = Duration::from_secs(5);

/// How long udev may take to name a device; it takes milliseconds where it is not
/// busy with others.
const NAMES: Duration = Duration::from_secs(5);

/// A device that is up.
pub(super) struct BroughtUp {
    pub(super) state: State,
    pub(super) links: Links,
    /// What its user should know, a sentence each.
    pub(super) warnings: Vec<String>,
}

/// Brings up an export under a NAME whose lock the caller has. Once `stopped`, it
/// ends as soon as it can.
///
/// # Errors
///
/// See [`enum@Error`]; nothing is left behind.
pub(super) fn bring_up(
    settings: &Settings,
    netlink: &Netlink,
    runtime: &Runtime,
    stopped: &dyn Fn() -> bool,
) -> Result<BroughtUp, Error> {
    let bringing = Bringing {
        settings,
        netlink,
        identifier: BackendIdentifier::new(&settings.name, &settings.uri),
        runtime,
        stopped,
    };
    let brought = bringing.run();
    match &brought {
        // The command may be carried out yet, this one or the one before: its device
        // is to be known.
        Err(Error::Kernel(error)) if error.is_timeout() => {}
        Err(Error::Locked { .. } | Error::Appeared { .. }) | Ok(_) => {}
        // A state tells of something that could not be undone.
        Err(_) => match index_lock(LOCK_DEADLINE) {
            Ok(_turn) => reconcile_one(runtime),
            Err(error) => tracing::warn!("{error}"),
        },
    }
    brought
}

/// What the queue of a device with so many sockets becomes. With a relay there is one:
/// with more, the driver's timer would cut a relay for being patient.
pub(super) fn queue_settings(
    settings: &Settings,
    sockets: usize,
    max_sectors_kb: u32,
) -> QueueSettings {
    QueueSettings {
        io_timeout: settings.io_timeout.unwrap_or_else(|| io_timeout(sockets)),
        max_sectors_kb,
    }
}

struct Bringing<'a> {
    settings: &'a Settings,
    netlink: &'a Netlink,
    identifier: BackendIdentifier,
    runtime: &'a Runtime,
    stopped: &'a dyn Fn() -> bool,
}

impl Bringing<'_> {
    fn run(&self) -> Result<BroughtUp, Error> {
        {
            // What an earlier device of this NAME left, before there is anything new.
            let _turn = index_lock(LOCK_DEADLINE)?;
            self.none_yet()?;
            reconcile_one(self.runtime);
        }
        let links = Links::open(self.settings, self.runtime, self.stopped)?;
        if (self.stopped)() {
            return Err(kernel::Error::Interrupted.into());
        }
        let sockets = links.sockets.len();
        let queue = queue_settings(self.settings, sockets, links.geometry.max_sectors_kb);
        let (device, saved) = self.connect(&links, queue)?;
        match self.make_usable(&device, &links, queue, saved) {
            Ok(state) => Ok(BroughtUp {
                warnings: warnings(&links.geometry),
                state,
                links,
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
    ) -> Result<State, Error> {
        // CONNECT may have made the device: what it has now is what it had then.
        let saved = if saved == SavedQueue::default() {
            SavedQueue::of(device)
        } else {
            saved
        };
        let mut state = self.state(device, links, &saved);
        self.runtime.store(&state)?;
        queue.finish(device, KERNEL_DEADLINE)?;
        hook::reached("queue-set");
        wait_until_readable(device, self.settings.connect_timeout, || {
            if (self.stopped)() {
                return Some(kernel::Error::Interrupted);
            }
            let lost = links.sockets.iter().all(KernelSocket::is_hung_up);
            lost.then_some(kernel::Error::LinkLost)
        })?;
        // Whoever waits for it may use a name.
        if !wait_for_names(&self.settings.name.by_id(), NAMES) {
            tracing::warn!("udev has not named {} yet", device.path().display());
        }
        state.usable = true;
        self.runtime.store(&state)?;
        hook::reached("usable");
        Ok(state)
    }

    /// One CONNECT that was not waited for may have made it meanwhile.
    fn none_yet(&self) -> Result<(), Error> {
        by_name(&self.settings.name)?.map_or(Ok(()), |(device, _)| {
            Err(Error::Appeared {
                device: device.path().display().to_string(),
            })
        })
    }

    /// Takes an index and connects it, trying the next where another was faster.
    fn connect(&self, links: &Links, queue: QueueSettings) -> Result<(Device, SavedQueue), Error> {
        let turn = Arc::new(index_lock(LOCK_DEADLINE)?);
        self.none_yet()?;
        reconcile();
        let until = Instant::now() + BUSY_DEADLINE;
        loop {
            let mut last = None;
            for index in self.candidates()? {
                let device = Device::new(index);
                match self.connect_one(&device, links, queue, Arc::clone(&turn)) {
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
    /// it failed. One that is not waited for keeps the turn: whoever had it next would
    /// find no device, and take what is known of it away.
    fn connect_one(
        &self,
        device: &Device,
        links: &Links,
        queue: QueueSettings,
        turn: Arc<Lock>,
    ) -> Result<SavedQueue, Error> {
        let saved = SavedQueue::of(device);
        // Before CONNECT: were this process to die right after it, detach would
        // still know what to put back.
        let state = self.state(device, links, &saved);
        self.runtime.store(&state)?;
        hook::reached("connect-stored");
        let connect = Connect {
            index: device.index(),
            size: links.geometry.size,
            block_size: links.geometry.block_size,
            server_flags: links.geometry.flags.0,
            dead_conn_timeout: state.kernel_patience(),
            backend_identifier: self.identifier.to_string(),
            sockets: links.sockets.clone(),
            queue,
        };
        if let Err(error) = self.netlink.connect(connect, turn) {
            if error.is_timeout() {
                return Err(error.into());
            }
            // Also where another program has it by now: its requests are not to
            // have our time-out.
            if device.exists() {
                if let Err(left) = saved.restore(device, KERNEL_DEADLINE) {
                    tracing::warn!("{}: {left}", device.path().display());
                }
            }
            return Err(error.into());
        }
        hook::reached("connected");
        Ok(saved)
    }

    fn state(&self, device: &Device, links: &Links, saved: &SavedQueue) -> State {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs());
        State {
            version: State::VERSION,
            settings: self.settings.clone(),
            index: device.index(),
            backend_identifier: self.identifier.to_string(),
            size: links.geometry.size,
            block_size: links.geometry.block_size,
            flags: links.geometry.flags.0,
            max_sectors_kb: links.geometry.max_sectors_kb,
            usable: false,
            queue_unset: false,
            saved_queue: saved.clone(),
            links: links.links.clone(),
            offered: None,
            network_namespace: kernel::network_namespace(),
            addresses: links.links.iter().map(|link| link.peer.clone()).collect(),
            since,
            inheritance: Inheritance::default(),
            ending: None,
            written_at: 0,
        }
    }

    /// Takes down what turned out to be of no use. The links are shut down
    /// first, or DISCONNECT could wait for a server that reads nothing.
    ///
    /// Not from under somebody: what udev named, systemd may have mounted already.
    fn abandon(&self, device: &Device, links: &Links) -> Result<(), kernel::Error> {
        let mut users = holders::of(device).into_iter();
        if let Some(user) = users.find(|user| !user.is_udev()) {
            return Err(kernel::Error::Device(format!("{user}")));
        }
        for socket in &links.sockets {
            socket.reset_on_close(false);
            socket.shut_down();
        }
        self.netlink.disconnect(device.index())?;
        device.wait_until_free(&self.identifier.to_string(), KERNEL_DEADLINE)?;
        reconcile_one(self.runtime);
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
