//! A process that is to be watched, and ended: the very one that was meant, never one
//! that has its number by now. It must not know what the process does.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::sys;

/// What tells a process from every other since the machine was booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number, which another may have when it has ended.
    pub pid: u32,
    /// When it began, in ticks of the kernel's clock.
    pub started: u64,
}

/// A process that has not been forgotten by the kernel while this is held.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    handle: OwnedFd,
}

impl Process {
    /// The process that has this number now; a child of ours that was not waited for
    /// keeps it. `None` where there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let handle = sys::pidfd_open(pid).ok()?;
        // Of the one that the handle is of, unless that has ended and was waited for.
        let started = started(pid)?;
        let id = ProcessId { pid, started };
        Some(Self { id, handle })
    }

    /// The one that was meant, unless it has ended.
    #[must_use]
    pub fn find(id: ProcessId) -> Option<Self> {
        let found = Self::of(id.pid)?;
        (found.id == id && !found.has_ended()).then_some(found)
    }

    /// What it can be found by.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Whether it has.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits for its end.
    #[must_use]
    pub fn ends_within(&self, allowed: Duration) -> bool {
        let timeout = PollTimeout::try_from(allowed).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, timeout).is_ok_and(|count| count > 0)
    }

    /// Ends it, whatever it is at.
    pub fn kill(&self) {
        if let Err(errno) = sys::pidfd_kill(&self.handle) {
            // It has ended by itself.
            let gone = errno == nix::errno::Errno::ESRCH;
            if !gone {
                tracing::warn!("process {} was not killed: {}", self.id.pid, errno.desc());
            }
        }
    }

    /// Whether it runs the same file as this process; true where that cannot be told.
    #[must_use]
    pub fn runs_our_program(&self) -> bool {
        let file = |path: String| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        let theirs = file(format!("/proc/{}/exe", self.id.pid));
        match (theirs, file("/proc/self/exe".to_owned())) {
            (Ok(theirs), Ok(ours)) => theirs == ours || self.has_ended(),
            _ => true,
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// The 22nd field of /proc/PID/stat; the second, a name in brackets, may have anything
/// in it.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_found_until_it_ends_and_killed_by_nothing_but_its_handle() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(!process.has_ended());
        assert!(!process.runs_our_program());
        let found = Process::find(process.id()).unwrap();
        let another = ProcessId {
            started: process.id().started + 1,
            ..process.id()
        };
        assert!(Process::find(another).is_none());
        found.kill();
        assert!(process.ends_within(Duration::from_secs(10)));
        // Not waited for yet: the kernel still knows it.
        assert!(Process::find(process.id()).is_none());
        child.wait().unwrap();
        assert!(Process::find(process.id()).is_none());
        process.kill();
    }

    #[test]
    fn this_process_runs_its_own_program() {
        let us = Process::of(std::process::id()).unwrap();
        assert!(us.runs_our_program());
        assert!(Process::of(u32::MAX).is_none());
    }
}
