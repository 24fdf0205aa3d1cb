//! `attach` as its user sees it: find the device, or have a monitor bring it up.

use std::thread;
use std::time::{Duration, Instant};

use super::LOCK_DEADLINE;
use super::control::{Request, ask};
use super::error::Error;
use super::launch::{Announcement, launch};
use super::lookup::{Target, by_name};
use super::runtime::Runtime;
use super::state::State;
use super::status::{DeviceState, Report, not_yet};
use super::unit;
use crate::config::{BackendIdentifier, Settings};
use crate::kernel::{self, Device, holders};

/// How long a monitor that is there may take to say how things are.
const ANSWER: Duration = Duration::from_secs(5);

/// An attached device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The device.
    pub device: Device,
    /// What its user should know, a sentence each.
    pub warnings: Vec<String>,
}

/// Attaches an export, or finds that it is; its monitor is there afterwards.
///
/// # Errors
///
/// See [`enum@Error`]; nothing is left behind that was not there before.
pub fn attach(settings: &Settings) -> Result<Attached, Error> {
    if !kernel::has_sys_admin() {
        return Err(kernel::Error::NoRight.into());
    }
    let runtime = Runtime::of(&settings.name);
    let begun = Instant::now();
    let until = begun + LOCK_DEADLINE + settings.connect_timeout * 3;
    loop {
        if let Some(attached) = attempt(settings, &runtime)? {
            return Ok(attached);
        }
        // Its unit goes on trying, and says what it meets.
        if begun.elapsed() >= settings.connect_timeout {
            if let Some(error) = not_yet(&Target::Name(settings.name.clone())) {
                return Err(error);
            }
        }
        // Its monitor begins or ends at this moment.
        if Instant::now() >= until {
            return Err(Error::Locked {
                holder: format!("the monitor of \"{}\"", settings.name),
                allowed: LOCK_DEADLINE,
            });
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn attempt(settings: &Settings, runtime: &Runtime) -> Result<Option<Attached>, Error> {
    let lock = runtime.lock(LOCK_DEADLINE)?;
    let Some((device, found)) = by_name(&settings.name)? else {
        let monitored = runtime.is_monitored();
        if !monitored {
            // The lock made the folder; what a state in it tells of is no more, or
            // for the monitor to see to.
            runtime.tidy();
        }
        drop(lock);
        return if monitored {
            Ok(None)
        } else {
            start(settings, None, Vec::new())
        };
    };
    as_asked(settings, &device, &found)?;
    let state = runtime.load();
    let mut warnings = differences(settings, state.as_ref());
    let monitored = runtime.is_monitored();
    drop(lock);
    if monitored {
        let connected = wait_until_connected(settings, runtime)?;
        return Ok(connected.then_some(Attached { device, warnings }));
    }
    if let Some(state) = &state {
        return start(settings, Some(&state.settings), warnings);
    }
    warnings.push(
        "nothing reconnects it when its server goes away: detach it when you can, and attach \
         it again"
            .to_owned(),
    );
    Ok(Some(Attached { device, warnings }))
}

/// Has a monitor started; `kept` is what an attached device has.
fn start(
    settings: &Settings,
    kept: Option<&Settings>,
    mut warnings: Vec<String>,
) -> Result<Option<Attached>, Error> {
    if unit::is_used() {
        unit::start(settings, kept, settings.connect_timeout * 2)?;
        // Another attach may have been faster: it is looked at as what was there.
        return Ok(None);
    }
    // A lock, a session, the first read, and then some.
    let allowed = LOCK_DEADLINE + settings.connect_timeout * 3;
    match launch(settings, allowed)? {
        Announcement::Served => Ok(None),
        Announcement::Away { state, why } => Err(Error::Away {
            name: settings.name.clone(),
            state,
            why,
        }),
        Announcement::Usable {
            index,
            warnings: more,
        } => {
            warnings.extend(more);
            Ok(Some(Attached {
                device: Device::new(index),
                warnings,
            }))
        }
    }
}

/// Idempotence: what is attached as asked is a success.
fn as_asked(settings: &Settings, device: &Device, found: &BackendIdentifier) -> Result<(), Error> {
    let path = device.path().display().to_string();
    let differs = |difference| {
        Err(Error::Differs {
            device: path.clone(),
            difference,
        })
    };
    if !found.is_of(&settings.uri) {
        return Err(Error::NameTaken {
            name: settings.name.clone(),
            device: path,
        });
    }
    if device.size() == 0 {
        return Err(Error::Leaving {
            holders: holders::of(device),
            device: path,
        });
    }
    if settings.read_only && !device.is_read_only() {
        return differs("for writing");
    }
    if settings.device.is_some_and(|index| index != device.index()) {
        return differs("which is not the one asked for");
    }
    Ok(())
}

/// What was asked and stays as it is.
fn differences(settings: &Settings, state: Option<&State>) -> Vec<String> {
    let Some(state) = state else {
        return vec!["what it was attached with is not known: /run/nbdctl has lost it".to_owned()];
    };
    let kept = &state.settings;
    let mut warnings = Vec::new();
    let mut keeps = |what: String| {
        warnings.push(format!("it is attached already, and keeps {what}"));
    };
    if kept.connections != settings.connections {
        keeps(format!("its connections ({})", kept.connections));
    }
    if kept.path != settings.path {
        keeps(format!("its path ({})", kept.path));
    }
    if kept.dead_timeout != settings.dead_timeout {
        keeps(format!("its dead timeout ({} s)", kept.dead_timeout));
    }
    if settings.block_size.is_some() && kept.block_size != settings.block_size {
        keeps(format!("its block size ({})", state.block_size));
    }
    let alike = Settings {
        connections: settings.connections,
        path: settings.path,
        dead_timeout: settings.dead_timeout,
        block_size: settings.block_size,
        device: settings.device,
        read_only: settings.read_only,
        ..kept.clone()
    };
    if alike != *settings {
        keeps("the other settings that it was attached with".to_owned());
    }
    warnings
}

/// The device is there and its monitor lives; its server may be away. False where
/// the monitor has ended meanwhile.
fn wait_until_connected(settings: &Settings, runtime: &Runtime) -> Result<bool, Error> {
    let until = Instant::now() + settings.connect_timeout;
    loop {
        let asked = ask(&runtime.control_socket(), &Request::Status {}, ANSWER);
        let report = asked.ok().flatten().and_then(|answer| answer.status);
        match report {
            Some(report) if report.state == DeviceState::Connected => return Ok(true),
            Some(report) if report.state == DeviceState::Degraded => return Ok(true),
            None if !runtime.is_monitored() => return Ok(false),
            report if Instant::now() >= until => {
                return Err(away(settings, report.map(|report| *report)));
            }
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn away(settings: &Settings, report: Option<Report>) -> Error {
    let name = settings.name.clone();
    match report {
        Some(report) => Error::Away {
            name,
            state: report.state.as_str().to_owned(),
            why: report.last_error.unwrap_or_default(),
        },
        None => Error::Mute(name),
    }
}
