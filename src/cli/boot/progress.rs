//! Telling at the console how a boot's exports get on.

use std::thread;
use std::time::{Duration, Instant};

use super::super::{Exit, note};
use crate::config::Name;
use crate::monitor::{Booting, booting, ordered_by};

/// So often what keeps the same is told again.
const SAY_AGAIN: Duration = Duration::from_secs(20);

/// Until then everything may yet come up by itself, the network for one.
const SAY_FIRST: Duration = Duration::from_secs(5);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(200);

/// What keeps one from being used; `None` where nothing does.
fn obstacle(name: &Name) -> Option<String> {
    let who = ordered_by(name).unwrap_or_else(|| format!("\"{name}\""));
    match booting(name) {
        Booting::Usable => None,
        Booting::Trying(why) if why.is_empty() => {
            Some(format!("{who}: connecting, without an answer yet"))
        }
        Booting::Trying(why) => {
            // Early in a boot that is the network's fault rather than the server's.
            let hint = if why.contains("unreachable") {
                ": is the network up? ip= says how"
            } else {
                ""
            };
            Some(format!("{who}: {why}{hint}; it is tried again and again"))
        }
        Booting::NoMonitor => Some(format!(
            "{who}: its monitor does not run: journalctl or dmesg may tell why"
        )),
    }
}

/// Tells once; success where there is nothing to tell.
pub(super) fn report(names: &[Name], quiet: bool) -> Exit {
    let obstacles: Vec<_> = names.iter().filter_map(obstacle).collect();
    for obstacle in obstacles.iter().filter(|_| !quiet) {
        note(obstacle);
    }
    if obstacles.is_empty() {
        Exit::Done
    } else {
        Exit::TimedOut
    }
}

/// Tells what changes, until there is nothing more to tell, or it has been long enough.
pub(super) fn wait(names: &[Name], timeout: Option<Duration>) -> Exit {
    let begun = Instant::now();
    let mut told: Vec<(Option<String>, Instant)> = vec![(None, begun); names.len()];
    loop {
        let mut waits = false;
        for (name, (said, at)) in names.iter().zip(&mut told) {
            let Some(now) = obstacle(name) else { continue };
            waits = true;
            let due = match said {
                Some(before) if *before == now => at.elapsed() >= SAY_AGAIN,
                Some(_) => true,
                None => begun.elapsed() >= SAY_FIRST,
            };
            if due {
                note(&now);
                (*said, *at) = (Some(now), Instant::now());
            }
        }
        if !waits {
            return Exit::Done;
        }
        if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            note("given up, as device_timeout says; what is there is not waited for any more");
            return Exit::TimedOut;
        }
        thread::sleep(LOOK);
    }
}
