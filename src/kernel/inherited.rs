//! The descriptors that a service manager kept for this process
//! (sd_listen_fds(3)), by name. It must not know what any of them is for.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes them; later calls find none. To be called before anything else of this
/// process opens a descriptor that it might take for one of them.
#[must_use]
pub fn inherited_descriptors() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let found = sd_notify::listen_fds_with_names().into_iter().flatten();
    found
        .map(|(number, name)| {
            // SAFETY: LISTEN_PID says that the descriptors from 3 on are for this
            // process, and they are taken once.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            (name, descriptor)
        })
        .collect()
}
