//! Cleaning up after those who could not: a process that was killed in the
//! middle, holders that outlived a detach, a relay that outlived its device.

use super::runtime::Runtime;
use super::state::State;
use super::{KERNEL_DEADLINE, relay};
use crate::kernel::Device;

/// Puts back the queue of every device that a state in /run tells of and that is
/// configured no more, and removes that state. Whoever calls it holds the lock
/// for choosing an index; a NAME that somebody works on is left alone.
pub(super) fn reconcile() {
    for runtime in Runtime::all() {
        if let Some(_lock) = runtime.try_lock() {
            reconcile_one(&runtime);
            runtime.tidy();
        }
    }
}

/// The same for a NAME that the caller has locked.
pub(super) fn reconcile_one(runtime: &Runtime) {
    let Some(state) = runtime.load().filter(|state| !is_live(state)) else {
        return;
    };
    state.relays().for_each(relay::see_off);
    let device = Device::new(state.index);
    // Whatever is configured there is another's, and set as that wanted.
    if !device.is_configured() && device.exists() {
        if let Err(error) = state.saved_queue.restore(&device, KERNEL_DEADLINE) {
            tracing::warn!("the queue's settings were not put back: {error}");
        }
        tell_udev(&device);
    }
    if let Err(error) = runtime.clear() {
        tracing::warn!("{error}");
    }
}

/// Has udev take back the names of a device that is detached.
pub(super) fn tell_udev(device: &Device) {
    if let Err(error) = device.trigger_change() {
        let path = device.path();
        tracing::warn!("{}: udev was not told: {error}", path.display());
    }
}

fn is_live(state: &State) -> bool {
    let device = Device::new(state.index);
    // What cannot be told lives.
    device
        .is_configured_as(&state.backend_identifier)
        .unwrap_or(true)
}

/// The indices that a state in /run tells of, but our own. What is not reconciled
/// of them belongs to somebody who is at it, and whose queue is not as it was.
pub(super) fn claimed(own: &Runtime) -> Vec<u32> {
    let states = Runtime::all().into_iter();
    states
        .filter(|runtime| runtime != own)
        .filter_map(|runtime| runtime.load().map(|state| state.index))
        .collect()
}
