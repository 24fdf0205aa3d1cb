//! Monitors of a root that has become what is to be unmounted: process 1 went back to an
//! initramfs to end the machine there. What runs from the root, or keeps files of it in
//! memory, would keep it mounted, or is killed for that: so each is replaced by one that
//! runs from where this program does. It must not know what comes after.

use std::thread;
use std::time::{Duration, Instant};

use super::booting::start_detached;
use super::error::Error;
use super::lookup::attached;
use super::runtime::Runtime;
use super::status::report;

/// The one that there is may be about to do something, which it ends before.
const ALLOWED: Duration = Duration::from_secs(25);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Replaces the monitors of all that is attached for a root, and returns once the others
/// are there.
///
/// # Errors
///
/// [`Error::Stays`] where one is not replaced; the others are all the same.
pub fn take_over() -> Result<(), Error> {
    let mut result = Ok(());
    for (device, identifier) in attached()? {
        let name = identifier.name();
        let state = Runtime::of(name).load();
        if !state.is_some_and(|state| state.settings.root) {
            continue;
        }
        let monitor = || report(&device, &identifier).monitor_pid;
        let before = monitor();
        let started = start_detached(name).map_err(Error::Starting);
        let replaced = started.and_then(|mut child| {
            let until = Instant::now() + ALLOWED;
            loop {
                if monitor().is_some_and(|now| Some(now) != before) {
                    return Ok(());
                }
                let ended = !matches!(child.try_wait(), Ok(None));
                if ended || Instant::now() >= until {
                    return Err(Error::Stays(name.clone()));
                }
                thread::sleep(LOOK);
            }
        });
        result = result.and(replaced);
    }
    result
}
