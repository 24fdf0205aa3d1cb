//! A process that began in an initramfs goes where process 1 goes. Whoever changes the
//! root of process 1 leaves every other process behind: in a folder that is empty by
//! then, without /run, /sys and /proc.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{chdir, chroot, fchdir};

/// The roots of this process and of process 1, from when they were the same.
#[derive(Debug)]
pub struct RootChange {
    /// It is moved, or unmounted, and stays what it was.
    proc: OwnedFd,
    /// What is at /run and at /sys.
    mounts: [Option<u64>; 2],
    /// This process's root: device and inode.
    root: (u64, u64),
}

impl RootChange {
    /// Takes note of it. `None` where this process has a root of its own already: that
    /// is where somebody put it.
    #[must_use]
    pub fn watch() -> Option<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open("/proc", flags, Mode::empty()).ok()?;
        let mut change = Self {
            proc,
            mounts: mounts(),
            root: (0, 0),
        };
        change.root = change.root_of("thread-self").ok()?;
        (!change.is_elsewhere().ok()?).then_some(change)
    }

    /// Whether paths lead nowhere: the root is being changed. What is missing says
    /// nothing then.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        mounts() != self.mounts || self.is_elsewhere().unwrap_or(true)
    }

    /// Goes where process 1 went; true where it did, or was taken along: who was where that
    /// was before pivot_root(2) is where it is after it. No path that is used for it is on a
    /// disk, nor are those of /run, /sys and /proc behind it: what they are mounted on
    /// is in memory.
    ///
    /// # Errors
    ///
    /// It is not to be had.
    pub fn follow(&mut self) -> io::Result<bool> {
        if !self.is_elsewhere()? {
            let root = self.root_of("thread-self")?;
            if root == self.root {
                return Ok(false);
            }
            self.root = root;
            self.mounts = mounts();
            return Ok(true);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(self.proc.as_fd(), "1/root", flags, Mode::empty())?;
        fchdir(&root)?;
        chroot(".")?;
        chdir("/")?;
        self.mounts = mounts();
        self.root = self.root_of("thread-self")?;
        Ok(true)
    }

    fn is_elsewhere(&self) -> nix::Result<bool> {
        Ok(self.root_of("1")? != self.root_of("thread-self")?)
    }

    fn root_of(&self, process: &str) -> nix::Result<(u64, u64)> {
        let path = format!("{process}/root/.");
        let stat = fstatat(self.proc.as_fd(), path.as_str(), AtFlags::empty())?;
        Ok((stat.st_dev, stat.st_ino))
    }
}

fn mounts() -> [Option<u64>; 2] {
    ["/run", "/sys"].map(|path| fs::metadata(path).ok().map(|meta| meta.dev()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_beside_process_1_has_nowhere_to_go() {
        // Whether the link can be read is a matter of rights; root may.
        let Some(mut change) = RootChange::watch() else {
            assert!(fs::read_link("/proc/1/root").is_err());
            return;
        };
        assert!(!change.is_under_way());
        assert!(!change.follow().unwrap());
        // Taken along, once.
        change.root.1 += 1;
        assert!(change.follow().unwrap() && !change.follow().unwrap());
        change.mounts[0] = None;
        assert!(change.is_under_way());
    }
}
