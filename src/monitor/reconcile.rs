//! Cleaning up after those who could not: a process that was killed in the
//! middle, and holders that outlived a detach.

use super::attach::KERNEL_DEADLINE;
use super::runtime::{Runtime, State};
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
    let device = Device::new(state.index);
    // Whatever is configured there is another's, and set as that wanted.
    if !device.is_configured() && device.exists() {
        if let Err(error) = state.saved_queue.restore(&device, KERNEL_DEADLINE) {
            tracing::warn!("the queue's settings were not put back: {error}");
        }
    }
    if let Err(error) = runtime.clear() {
        tracing::warn!("{error}");
    }
}

fn is_live(state: &State) -> bool {
    let device = Device::new(state.index);
    device.is_configured() && device.backend().as_ref() == Some(&state.backend_identifier)
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
