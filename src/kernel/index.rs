//! Which `/dev/nbdN` the next device becomes.
//!
//! `io_timeout` must be written before CONNECT, so the index must be known
//! before CONNECT, so it is chosen here and not by the kernel. Callers hold a
//! lock of their own from the choice until CONNECT has taken it.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::sysfs::{Device, devices, read};

/// The indices to try, best first: the free ones that exist, then the first that
/// does not. Each device is looked at only when its turn comes.
///
/// # Errors
///
/// sysfs cannot be listed, or the driver has no minor left and may have no free
/// device.
pub fn free_indices() -> Result<impl Iterator<Item = u32>, Error> {
    let all = devices()?;
    let last = last_index();
    let missing = (0..=last).find(|index| all.iter().all(|d| d.index() != *index));
    let existing = all.into_iter().filter(is_free).map(|device| device.index());
    Ok(existing.chain(missing))
}

/// Nothing attached, nothing in flight, nothing on top.
fn is_free(device: &Device) -> bool {
    !device.is_configured()
        && device.size() == 0
        && device.in_flight() == Some(0)
        && is_empty(&device.dir().join("holders"))
}

fn is_empty(folder: &PathBuf) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// The driver's minors are 20 bits, shared by each device's partitions
/// (`nbd_genl_connect`).
fn last_index() -> u32 {
    let max_part: u32 = read(Path::new("/sys/module/nbd/parameters/max_part"))
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(16);
    let shift = 32 - max_part.leading_zeros();
    ((1u32 << 20) - 1) >> shift.min(20)
}
