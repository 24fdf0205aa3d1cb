//! What keeps a process alive, and off the disk, on whose I/O a device waits.
//!
//! The machine may need the device to free memory, and the process to bring the
//! device back: it must not be killed for memory, not be swapped out, and not
//! start I/O itself when it allocates.

use std::ffi::CString;
use std::fs;

use nix::errno::Errno;
use nix::sys::prctl::set_dumpable;

use super::sys;

/// Protects this process, as far as it may. Call it before there are threads:
/// the mark of a process that I/O depends on is each thread's own, and inherited.
/// A child inherits it too, and the score; not the lock of its memory.
pub fn protect_process() {
    let tell = |what: &str, result: Result<(), Errno>| {
        if let Err(errno) = result {
            tracing::debug!("{what}: {}", errno.desc());
        }
    };
    tell("PR_SET_IO_FLUSHER", sys::set_io_flusher());
    tell("mlockall", sys::lock_memory());
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-1000") {
        tracing::debug!("oom_score_adj: {error}");
    }
}

/// Has the kernel write no core of this process, whatever it dies of: a program that takes
/// cores would be executed for that, and the process not end before.
pub fn leave_no_core() {
    if let Err(errno) = set_dumpable(false) {
        tracing::debug!("PR_SET_DUMPABLE: {}", errno.desc());
    }
}

/// Names the calling thread, which is the process where it is the first; the
/// kernel keeps 15 bytes.
pub fn set_process_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        sys::set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_threads_own_and_cut() {
        // A thread of its own: the name is its.
        std::thread::spawn(|| {
            set_process_name("nbdctl: a name that is too long");
            let name = fs::read_to_string("/proc/thread-self/comm").unwrap();
            assert_eq!(name, "nbdctl: a name \n");
            set_process_name("no\0name");
        })
        .join()
        .unwrap();
    }
}
