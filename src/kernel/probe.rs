//! Is a fresh device usable?

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::error::Error;
use super::helper;
use super::sysfs::Device;

/// Opens a device that was just attached, which makes the kernel scan its
/// partitions, and reads its first block.
///
/// # Errors
///
/// The read failed; or [`Error::Stuck`] when the server does not answer within
/// `allowed`. The thread that waits for it ends with DISCONNECT.
pub fn wait_readable(device: &Device, allowed: Duration) -> Result<(), Error> {
    let path = device.path();
    let what = format!("the first read of {}", path.display());
    helper::run(what, allowed, move || {
        let file = File::open(&path).map_err(Error::file(&path))?;
        let mut block = [0; 512];
        file.read_exact_at(&mut block, 0)
            .map_err(Error::file(&path))
    })
}
