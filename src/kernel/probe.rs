//! Is a fresh device usable?

use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::child;
use super::error::Error;
use super::node;
use super::sysfs::Device;

/// The job's name for [`super::on_device`].
pub(super) const JOB: &str = "probe";

/// Has a child open a device that was just attached, which makes the kernel scan
/// its partitions, and read its first block.
///
/// # Errors
///
/// The read failed; [`Error::Stuck`] when the server does not answer within
/// `allowed`, and whatever `pointless` gives before that. The child ends with
/// DISCONNECT.
pub fn wait_until_readable(
    device: &Device,
    allowed: Duration,
    pointless: impl FnMut() -> Option<Error>,
) -> Result<(), Error> {
    let what = format!("the first read of {}", device.path().display());
    child::run(JOB, device, None, &what, allowed, pointless).map(drop)
}

/// The same in this process.
pub(super) fn here(device: &Device) -> Result<(), Error> {
    let file = node::open(device, 0)?;
    let mut block = [0; 512];
    file.read_exact_at(&mut block, 0)
        .map_err(Error::file(device.path()))
}
