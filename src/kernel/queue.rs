//! The settings of a device's queue: what they were, what they become, and
//! putting them back.
//!
//! `queue/*` is written before CONNECT, or live with nothing in flight, and
//! never while a link is dead: on 6.12 such a write froze the queue for good.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::helper;
use super::sysfs::{Device, read};

/// What attach sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// `queue/io_timeout`: how often a request that was in flight when its link
    /// died asks whether there is a new one.
    pub io_timeout: Duration,
    /// `queue/max_sectors_kb`: the largest request, in KiB.
    pub max_sectors_kb: u32,
}

/// `read_ahead_kb`: at 5 ms of delay, buffered reads run at four times the speed
/// that the default of 256 gives, and without delay at the same.
const READ_AHEAD_KB: u32 = 4096;

/// What the queue was before, to be put back at detach. All is `None` where the
/// device did not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedQueue {
    /// `queue/io_timeout`, in ms.
    pub io_timeout: Option<u64>,
    /// `queue/max_sectors_kb`
    pub max_sectors_kb: Option<u64>,
    /// `read_ahead_kb`
    pub read_ahead_kb: Option<u64>,
}

/// The block layer's default, which is what the driver's own attributes reset it
/// to (`nbd_set_cmd_timeout`); for a device whose earlier value is not known.
const DEFAULT_IO_TIMEOUT_MS: u64 = 30_000;

impl SavedQueue {
    /// What a device's queue is now.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        let number = |name| device.attribute(name).and_then(|text| text.parse().ok());
        Self {
            io_timeout: number("queue/io_timeout"),
            max_sectors_kb: number("queue/max_sectors_kb"),
            read_ahead_kb: number("queue/read_ahead_kb"),
        }
    }

    /// Puts everything back, on a device that is detached. Each value is tried.
    ///
    /// # Errors
    ///
    /// The first that could not be written.
    pub fn restore(&self, device: &Device, allowed: Duration) -> Result<(), Error> {
        let device = device.clone();
        let values = [
            (
                queue_file(&device, "io_timeout"),
                Some(self.io_timeout.unwrap_or(DEFAULT_IO_TIMEOUT_MS)),
            ),
            (queue_file(&device, "max_sectors_kb"), self.max_sectors_kb),
            (queue_file(&device, "read_ahead_kb"), self.read_ahead_kb),
        ];
        helper::run(
            format!("restoring the queue of {}", device.path().display()),
            allowed,
            move || {
                values
                    .into_iter()
                    .filter_map(|(path, value)| Some((path, value?)))
                    .map(|(path, value)| set(path, value))
                    .fold(Ok(()), Result::and)
            },
        )
    }
}

impl QueueSettings {
    /// Writes what must stand before CONNECT: a request's deadline is fixed when
    /// it is issued. A device that CONNECT is yet to make has no queue, and is
    /// left to [`QueueSettings::finish`]. It runs where CONNECT does.
    pub(super) fn prepare(self, device: &Device) -> Result<(), Error> {
        if !device.exists() {
            return Ok(());
        }
        self.values(device)
            .into_iter()
            .try_for_each(|(path, value)| set(path, value))
    }

    /// Completes it on the live link, with nothing in flight yet: read-ahead,
    /// which a commit of the limits at CONNECT may reset, and whatever of the
    /// rest does not stand.
    ///
    /// # Errors
    ///
    /// A value could not be written, or does not stand.
    pub fn finish(self, device: &Device, allowed: Duration) -> Result<(), Error> {
        let number = device
            .attribute("dev")
            .ok_or_else(|| Error::Netlink(format!("{} is gone", device.path().display())))?;
        let bdi = PathBuf::from(format!("/sys/class/bdi/{number}/read_ahead_kb"));
        let values = self.values(device);
        helper::run(
            format!("setting the queue of {}", device.path().display()),
            allowed,
            move || {
                set(bdi, u64::from(READ_AHEAD_KB))?;
                values
                    .into_iter()
                    .try_for_each(|(path, value)| set(path, value))
            },
        )
    }

    fn values(self, device: &Device) -> [(PathBuf, u64); 2] {
        let io_timeout = u64::try_from(self.io_timeout.as_millis()).unwrap_or(u64::MAX);
        [
            (queue_file(device, "io_timeout"), io_timeout),
            (
                queue_file(device, "max_sectors_kb"),
                u64::from(self.max_sectors_kb),
            ),
        ]
    }
}

fn queue_file(device: &Device, name: &str) -> PathBuf {
    device.dir().join("queue").join(name)
}

/// Writes a value unless it stands already, and reads it back.
fn set(path: PathBuf, value: u64) -> Result<(), Error> {
    let stands = |path: &PathBuf| {
        read(path)
            .map(|text| text.parse() == Ok(value))
            .map_err(Error::file(path))
    };
    if stands(&path)? {
        return Ok(());
    }
    fs::write(&path, value.to_string()).map_err(Error::file(&path))?;
    if stands(&path)? {
        Ok(())
    } else {
        let error = std::io::Error::other(format!("{value} was written but does not stand"));
        Err(Error::File { path, error })
    }
}
