//! What units run: `nbdctl unit-stop`, `nbdctl shutting-down`, `nbdctl keep-network`.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::args::UnitStopArgs;
use super::{Exit, fail, note};
use crate::config::Name;
use crate::monitor::{self, Detached, Error, Service, Target};

/// What was mounted by hand is unmounted in any order when the machine goes down: how
/// long a device waits for that. (The unit's TimeoutStopSec is longer.)
const UNMOUNTING: Duration = Duration::from_secs(30);

/// systemd runs this whenever the unit ends, also for a restart: only where it is
/// to stop for good is the device taken down.
pub(super) fn stop(args: &UnitStopArgs) -> Exit {
    match monitor::is_being_stopped(&args.name) {
        Ok(true) => {}
        Ok(false) => return Exit::Done,
        Err(error) => {
            note(&format!(
                "{error}; whether \"{}\" is to stop for good cannot be told, and it stays attached",
                args.name
            ));
            return Exit::Failed;
        }
    }
    let ends = monitor::machine_is_stopping();
    if ends {
        // Perhaps nobody has told it yet.
        let _ = tell_all();
    }
    let until = Instant::now() + UNMOUNTING;
    loop {
        let detached = monitor::detach(&Target::Name(args.name.clone()), false);
        let in_use = matches!(&detached, Err(error) if Exit::of(error) == Exit::KernelRefused);
        if !(ends && in_use && Instant::now() < until) {
            return outcome(detached);
        }
        thread::sleep(Duration::from_millis(500));
    }
}

fn outcome(detached: Result<Detached, Error>) -> Exit {
    match detached {
        Ok(detached) => {
            for warning in &detached.warnings {
                note(&format!("{}: {warning}", detached.device.path().display()));
            }
            Exit::Done
        }
        Err(Error::NotAttached(_)) => Exit::Done,
        Err(error) => fail(&error),
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct ShuttingDownArgs {
    /// Not now, but when a signal says so
    #[arg(long)]
    when_told: bool,
}

/// Every monitor is to let I/O fail soon: what unmounts is not to wait for servers
/// that will not come back in time.
pub(super) fn shutting_down(args: &ShuttingDownArgs) -> Exit {
    if args.when_told {
        // Before anything else is opened.
        monitor::wait_for_shutdown(Service::from_environment());
        return told(&monitor::shutdown_has_begun());
    }
    tell_all()
}

/// Those who manage networks begin whatever is told here.
pub(super) fn keep_network() -> Exit {
    let Err(failed) = monitor::keep_network() else {
        return Exit::Done;
    };
    for what in failed {
        note(&format!("the root's network may be taken away; {what}"));
    }
    Exit::Failed
}

fn tell_all() -> Exit {
    told(&monitor::shutting_down())
}

fn told(failed: &[(Name, io::Error)]) -> Exit {
    for (name, error) in failed {
        note(&format!("the monitor of \"{name}\": {error}"));
    }
    if failed.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    }
}
