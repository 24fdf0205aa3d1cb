//! From a device back to nothing, unless somebody uses it. Where a monitor lives
//! it does that itself, and reconnects meanwhile; else whoever asks does.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::KERNEL_DEADLINE;
use super::control::{Request, ask};
use super::error::Error;
use super::hook;
use super::interrupt::Interrupt;
use super::lookup::{Target, by_name, foreign_owner};
use super::reconcile::{reconcile, reconcile_one, tell_udev};
use super::relay;
use super::runtime::{Runtime, index_lock};
use super::state::State;
use super::status::{DeviceState, not_yet, report_unmonitored};
use super::unit;
use crate::config::BackendIdentifier;
use crate::kernel::holders;
use crate::kernel::{self, Cut, Device, Netlink, SavedQueue, Verdict, cut, release};

/// How long another attach or detach is waited for.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// udev opens a device for a moment after every event; that is not a use.
const UDEV_DEADLINE: Duration = Duration::from_secs(3);

/// What was written goes to the server first.
const RELEASE_DEADLINE: Duration = Duration::from_secs(60);

/// A monitor that writes everything back, and waits for the lock before.
const MONITORS_DEADLINE: Duration = Duration::from_secs(120);

/// A device that was disconnected goes at once, unless it is held.
const GONE: Duration = Duration::from_secs(2);

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
/// See [`enum@Error`].
pub fn detach(target: &Target, force: bool) -> Result<Detached, Error> {
    if !kernel::has_sys_admin() {
        return Err(kernel::Error::NoRight.into());
    }
    let netlink = Netlink::open(KERNEL_DEADLINE)?;
    let (device, identifier) = match target.find() {
        Ok(found) => found,
        Err(error) => {
            // What an earlier one had to leave may be free by now.
            if let Ok(_turn) = index_lock(LOCK_DEADLINE) {
                reconcile();
            }
            if let (Target::Name(name), true) = (target, not_yet(target).is_some()) {
                // It is not to come up behind our back.
                by_monitor(&Runtime::of(name), force)?;
                return Err(Error::NotAttached(format!(
                    "\"{name}\", whose monitor has ended its attempts,"
                )));
            }
            return Err(error);
        }
    };
    match identifier {
        Some(identifier) => ours(device, &identifier, force),
        None if force => foreign(device, &netlink),
        None => Err(Error::Foreign {
            by: foreign_owner(&device),
            device: device.path().display().to_string(),
        }),
    }
}

fn ours(device: Device, identifier: &BackendIdentifier, force: bool) -> Result<Detached, Error> {
    let runtime = Runtime::of(identifier.name());
    let until = Instant::now() + LOCK_DEADLINE;
    loop {
        if let Some(warnings) = by_monitor(&runtime, force)? {
            return Ok(Detached { device, warnings });
        }
        // One that begins or ends holds its lock, and does not listen.
        if !runtime.is_monitored() {
            break;
        }
        if Instant::now() >= until {
            return Err(Error::Mute(identifier.name().clone()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let dead = report_unmonitored(&device, identifier).state == DeviceState::Dead;
    let warnings = take_down(&device, identifier, force, dead)?;
    runtime.tidy();
    // Or systemd would start it again in a second, where its monitor was killed.
    unit::stop(identifier.name());
    unit::forget(identifier.name());
    Ok(Detached { device, warnings })
}

/// Has the monitor do it; `None` where none listens.
fn by_monitor(runtime: &Runtime, force: bool) -> Result<Option<Vec<String>>, Error> {
    by_monitor_within(runtime, force, MONITORS_DEADLINE)
}

fn by_monitor_within(
    runtime: &Runtime,
    force: bool,
    allowed: Duration,
) -> Result<Option<Vec<String>>, Error> {
    let socket = runtime.control_socket();
    match ask(&socket, &Request::Detach { force }, allowed) {
        Ok(None) => Ok(None),
        Ok(Some(answer)) if answer.ok => {
            // Its last act is to let go of the lock.
            let until = Instant::now() + GONE;
            while runtime.is_monitored() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            Ok(Some(answer.warnings))
        }
        Ok(Some(answer)) => Err(Error::Relayed {
            said: answer.error.unwrap_or_default(),
            exit: answer.exit,
        }),
        // It ended, or never began to answer.
        Err(_) if !runtime.is_monitored() => Ok(None),
        // It goes on, and may come to an end yet.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Error::Locked {
            holder: format!("the monitor of \"{}\", which detaches it,", runtime.name()),
            allowed,
        }),
        Err(error) => Err(Error::Runtime {
            path: socket,
            error,
        }),
    }
}

/// Takes down a device of ours; on one whose link is `dead` nothing is written
/// back. What its user should know comes back.
///
/// # Errors
///
/// It is in use, or the kernel is stuck.
pub(super) fn take_down(
    device: &Device,
    identifier: &BackendIdentifier,
    force: bool,
    dead: bool,
) -> Result<Vec<String>, Error> {
    let netlink = Netlink::open(KERNEL_DEADLINE)?;
    let runtime = Runtime::of(identifier.name());
    let _lock = runtime.lock(LOCK_DEADLINE)?;
    // Between the look-up and the lock, another detach and attach may have
    // passed. And until the queue is put back, nobody may take the index.
    let state = runtime.load();
    let known = state.is_some();
    // Before the queue is put back, which removes what is known of it.
    let see_off = || {
        state
            .iter()
            .flat_map(State::relays)
            .for_each(relay::see_off)
    };
    still_the_same(device, identifier)?;
    hook::reached("detach");
    if force {
        let _turn = index_lock(LOCK_DEADLINE)?;
        disconnect(device, identifier, &runtime, &netlink)?;
        gone(device, &identifier.to_string())?;
        see_off();
        put_back(device, &runtime, known);
    } else {
        let _interrupt = Interrupt::hold();
        if let Err(error) = free(device, identifier, dead) {
            // The order to disconnect may stand, where its bearer was left behind.
            let backend = identifier.to_string();
            let _ = netlink.disconnect_on_close(device.index(), &backend, false);
            return Err(error);
        }
        hook::reached("released");
        see_off();
        match index_lock(LOCK_DEADLINE) {
            Ok(_turn) => put_back(device, &runtime, known),
            // It is detached; the next nbdctl puts back what this leaves.
            Err(error) => tracing::warn!("{error}"),
        }
    }
    let mut warnings = Vec::new();
    if !known {
        warnings.push(
            "its queue's earlier settings are not known, as /run/nbdctl has lost them: \
             io_timeout is back to 30 s, max_sectors_kb and read_ahead_kb stay as they are"
                .to_owned(),
        );
    }
    Ok(warnings)
}

/// Another program's, by force: all that is known of it is its index.
fn foreign(device: Device, netlink: &Netlink) -> Result<Detached, Error> {
    let backend = device.backend().unwrap_or_default();
    netlink.disconnect(device.index())?;
    gone(&device, &backend)?;
    Ok(Detached {
        device,
        warnings: Vec::new(),
    })
}

fn still_the_same(device: &Device, identifier: &BackendIdentifier) -> Result<(), Error> {
    let now = by_name(identifier.name())?;
    if now.is_some_and(|(found, now)| found == *device && now == *identifier) {
        return Ok(());
    }
    Err(another(device))
}

fn another(device: &Device) -> Error {
    Error::NotAttached(format!("what was {} a moment ago", device.path().display()))
}

/// Takes down a device that nobody uses; the kernel has the last word on that.
fn free(device: &Device, identifier: &BackendIdentifier, dead: bool) -> Result<(), Error> {
    let backend = identifier.to_string();
    let until = Instant::now() + UDEV_DEADLINE;
    loop {
        let holders = holders::of(device);
        let users = holders.iter().any(|holder| !holder.is_udev());
        if holders.is_empty() {
            match release(device, &backend, dead, RELEASE_DEADLINE)? {
                Verdict::Done => return Ok(()),
                Verdict::Other => return Err(another(device)),
                Verdict::Claimed | Verdict::InUse | Verdict::Failed => {}
            }
        }
        if users || Instant::now() >= until {
            return Err(Error::InUse {
                device: device.path().display().to_string(),
                holders,
            });
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// By force: the links are cut first, and a relay is ended, as the farewell to whoever
/// reads nothing would stop all of generic netlink.
fn disconnect(
    device: &Device,
    identifier: &BackendIdentifier,
    runtime: &Runtime,
    netlink: &Netlink,
) -> Result<(), Error> {
    let state = runtime.load();
    // The tables of another network namespace say nothing of this device.
    let visible = state
        .as_ref()
        .is_some_and(|state| state.network_namespace == kernel::network_namespace());
    state.iter().flat_map(State::relays).for_each(relay::end);
    let links = state.map_or_else(Vec::new, |state| state.links);
    let freeze = || Error::WouldFreeze {
        device: device.path().display().to_string(),
    };
    let waiting = device.in_flight() != Some(0);
    for link in links.iter().filter(|link| link.tcp) {
        let cut = match link.inode {
            Some(inode) if visible => cut(inode),
            _ => Ok(Cut::Unable(1)),
        };
        match cut {
            Ok(Cut::Unable(bytes)) if bytes > 0 && waiting => return Err(freeze()),
            Ok(_) => {}
            Err(error) => tracing::warn!("the connection was not cut: {error}"),
        }
    }
    // All that the command has is an index, and other programs heed no lock of ours.
    still_the_same(device, identifier)?;
    Ok(netlink.disconnect(device.index())?)
}

fn gone(device: &Device, backend: &str) -> Result<(), Error> {
    device
        .wait_until_free(backend, GONE)
        .map_err(|_| Error::Lingers {
            holders: holders::of(device),
            device: device.path().display().to_string(),
        })
}

/// Puts the queue back and removes what /run holds, under the lock that keeps
/// others from taking the index meanwhile.
fn put_back(device: &Device, runtime: &Runtime, known: bool) {
    if known {
        return reconcile_one(runtime);
    }
    if !device.is_configured() {
        if let Err(error) = SavedQueue::default().restore(device, KERNEL_DEADLINE) {
            tracing::warn!("{}: {error}", device.path().display());
        }
        tell_udev(device);
    }
    if let Err(error) = runtime.clear() {
        tracing::warn!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_monitor_that_takes_long_is_told_from_one_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::in_folder(folder.path());
        let _lock = runtime.monitor_lock().unwrap().unwrap();
        let _silent = UnixListener::bind(runtime.control_socket()).unwrap();
        let error = by_monitor_within(&runtime, false, Duration::from_secs(1)).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("the monitor of \"x\""), "{said}");
        assert!(said.contains("within 1 s: try again"), "{said}");
    }
}
