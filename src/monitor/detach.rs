//! From a device back to nothing, unless somebody uses it.

use std::thread;
use std::time::{Duration, Instant};

use super::attach::KERNEL_DEADLINE;
use super::error::Error;
use super::lookup::{Target, foreign_owner};
use super::runtime::Runtime;
use crate::config::BackendIdentifier;
use crate::kernel::holders::{self, Holder};
use crate::kernel::{self, Claim, Device, Netlink, SavedQueue};

/// Longer than one attach of the same name may take.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// udev opens a device for a moment after every event; that is not a use.
const UDEV_DEADLINE: Duration = Duration::from_secs(3);

/// A device that is detached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detached {
    /// The device.
    pub device: Device,
    /// What its user should know, a sentence each.
    pub warnings: Vec<String>,
}

/// Detaches a device.
///
/// It is refused for one that is mounted in any mount namespace, swapped on,
/// part of another device, open, or not ours; `force` overrides that, and makes
/// the I/O of whoever uses it fail.
///
/// # Errors
///
/// See [`Error`].
pub fn detach(target: &Target, force: bool) -> Result<Detached, Error> {
    if !kernel::has_sys_admin() {
        return Err(kernel::Error::NoRight.into());
    }
    let netlink = Netlink::open(KERNEL_DEADLINE)?;
    let (device, identifier) = target.find()?;
    if identifier.is_none() && !force {
        return Err(Error::Foreign {
            device: device.path().display().to_string(),
            by: foreign_owner(&device),
        });
    }
    let runtime = identifier.as_ref().map(|found| Runtime::of(found.name()));
    let _lock = runtime
        .as_ref()
        .map(|runtime| runtime.lock(LOCK_DEADLINE))
        .transpose()?;
    still_the_same(target, &device, identifier.as_ref())?;
    let claim = (!force).then(|| claim(&device)).transpose()?;
    netlink.disconnect(device.index())?;
    if let Some(claim) = claim {
        claim.release(KERNEL_DEADLINE)?;
    }
    if device.wait_until_free(Duration::from_secs(2)).is_err() {
        return Err(Error::Lingers {
            holders: holders::of(&device),
            device: device.path().display().to_string(),
        });
    }
    Ok(Detached {
        warnings: clean_up(&device, runtime.as_ref())?,
        device,
    })
}

/// Between the look-up and the lock, another detach and attach may have passed.
fn still_the_same(
    target: &Target,
    device: &Device,
    identifier: Option<&BackendIdentifier>,
) -> Result<(), Error> {
    let (found, now) = target.find()?;
    if found == *device && now.as_ref() == identifier {
        return Ok(());
    }
    Err(Error::NotAttached(format!(
        "what was {} a moment ago",
        device.path().display()
    )))
}

/// Finds that nobody uses it, and keeps it so.
fn claim(device: &Device) -> Result<Claim, Error> {
    let until = Instant::now() + UDEV_DEADLINE;
    loop {
        let holders = holders::of(device);
        if holders.is_empty() {
            match Claim::take(device, KERNEL_DEADLINE) {
                // Somebody was faster; look again who that is.
                Err(kernel::Error::Claimed(_)) if !holders::of(device).is_empty() => continue,
                result => return Ok(result?),
            }
        }
        if !holders.iter().all(Holder::is_udev) || Instant::now() >= until {
            return Err(Error::InUse {
                device: device.path().display().to_string(),
                holders,
            });
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Puts the queue back and removes what /run holds. It is detached by now, so
/// what fails here is worth a warning only.
fn clean_up(device: &Device, runtime: Option<&Runtime>) -> Result<Vec<String>, Error> {
    let saved = runtime
        .and_then(Runtime::load)
        .filter(|state| state.index == device.index())
        .map_or_else(SavedQueue::default, |state| state.saved_queue);
    let mut warnings = Vec::new();
    if let Err(error) = saved.restore(device, KERNEL_DEADLINE) {
        warnings.push(format!("the queue's settings were not put back: {error}"));
    }
    runtime.map_or(Ok(()), Runtime::remove)?;
    Ok(warnings)
}
