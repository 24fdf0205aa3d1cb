//! The exclusive claim on a device, as mount and swapon take it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::libc::{EBUSY, O_CLOEXEC, O_EXCL};

use super::error::Error;
use super::helper;
use super::sysfs::Device;

/// While it is held nobody mounts the device or a partition of it, swaps on it,
/// or builds on it: what detach checked stays true until it is done.
#[derive(Debug)]
pub struct Claim {
    file: Option<File>,
}

impl Claim {
    /// Claims a device with a live link. On a dead one the open may wait, and
    /// ends with `allowed`.
    ///
    /// # Errors
    ///
    /// [`Error::Claimed`] when something else has claimed it or a partition.
    pub fn take(device: &Device, allowed: Duration) -> Result<Self, Error> {
        let device = device.clone();
        let what = format!("the open of {}", device.path().display());
        helper::run(what, allowed, move || {
            let path = device.path();
            let result = OpenOptions::new()
                .read(true)
                .custom_flags(O_EXCL | O_CLOEXEC)
                .open(&path);
            match result {
                Ok(file) => Ok(Self { file: Some(file) }),
                Err(error) if error.raw_os_error() == Some(EBUSY) => {
                    Err(Error::Claimed(device.index()))
                }
                // Nothing can be claimed through a node that is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { file: None }),
                Err(error) => Err(Error::file(path)(error)),
            }
        })
    }

    /// Gives it up, in a helper thread: the last close of a device that was
    /// disconnected does the rest of the kernel's work.
    ///
    /// # Errors
    ///
    /// [`Error::Stuck`].
    pub fn release(self, allowed: Duration) -> Result<(), Error> {
        helper::run("the close of the device", allowed, move || {
            drop(self.file);
            Ok(())
        })
    }
}
