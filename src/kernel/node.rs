//! Opening a device by its node, and making sure that it is that device's.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use nix::libc::{O_CLOEXEC, O_NOFOLLOW};
use nix::sys::stat::{major, minor};

use super::error::Error;
use super::sysfs::Device;

/// Opens `/dev/nbdN` for reading, with these flags of open(2) beside.
///
/// What is there may be left over, or somebody's: a plain file, or the node of
/// another disk. Only the node with the number that sysfs shows will do.
pub(super) fn open(device: &Device, flags: i32) -> Result<File, Error> {
    let path = device.path();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags | O_NOFOLLOW | O_CLOEXEC)
        .open(&path)
        .map_err(Error::file(&path))?;
    let meta = file.metadata().map_err(Error::file(&path))?;
    let number = format!("{}:{}", major(meta.rdev()), minor(meta.rdev()));
    let is_its = meta.file_type().is_block_device() && device.attribute("dev") == Some(number);
    if is_its {
        Ok(file)
    } else {
        let error = io::Error::other(
            "this is not the device's node: remove it, and let udev or devtmpfs make it anew",
        );
        Err(Error::File { path, error })
    }
}
