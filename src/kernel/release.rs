//! Taking down a device that nobody uses, and no other.
//!
//! Looking who uses it and disconnecting it are two steps, and somebody may come
//! between; some users no process shows. So the kernel decides: while we hold the
//! exclusive claim (as mount and swapon take it), nobody mounts it, swaps on it
//! or builds on it; what was written is written back; then the driver is told to
//! disconnect when the last user closes it (`nbd_release`), and we close it. If
//! it is still there, there was another user, and the order is taken back.

use std::time::Duration;

use nix::libc::{EBUSY, O_EXCL};

use super::child::{self, Verdict};
use super::error::Error;
use super::holders;
use super::netlink::Netlink;
use super::node;
use super::sysfs::Device;

/// The jobs' names for [`super::on_device`].
pub(super) const JOB: &str = "release";
pub(super) const DEAD_JOB: &str = "release-dead";

/// What a command may take.
const COMMAND: Duration = Duration::from_secs(10);

/// After the last close the device is gone; the driver's threads may take a bit.
const GONE: Duration = Duration::from_millis(500);

/// Has a child release the device that has this identifier; it is disconnected then,
/// in use, or another. On a dead link nothing is written back: who had something to write still has it open.
///
/// # Errors
///
/// What was written cannot be written back; [`Error::Stuck`] when that, or the
/// open, takes longer than `allowed`, as on a link that is dead after all.
pub fn release(
    device: &Device,
    backend: &str,
    link_is_dead: bool,
    allowed: Duration,
) -> Result<Verdict, Error> {
    let what = format!(
        "writing back what {} holds (if its server is gone, use --force)",
        device.path().display()
    );
    let job = if link_is_dead { DEAD_JOB } else { JOB };
    child::run(job, device, Some(backend), &what, allowed, || None)
}

/// The same in this process.
pub(super) fn here(device: &Device, backend: &str, link_is_dead: bool) -> Result<Verdict, Error> {
    let claim = match node::open(device, O_EXCL) {
        Err(Error::File { error, .. }) if error.raw_os_error() == Some(EBUSY) => {
            return Ok(Verdict::Claimed);
        }
        claim => claim?,
    };
    // Who has it open keeps its configuration: what it is now it stays.
    if !device.is_configured_as(backend).unwrap_or(false) {
        return Ok(Verdict::Other);
    }
    if !holders::of_others(device, std::process::id()).is_empty() {
        return Ok(Verdict::InUse);
    }
    if !link_is_dead {
        claim.sync_all().map_err(Error::file(device.path()))?;
    }
    let netlink = Netlink::open(COMMAND)?;
    netlink.disconnect_on_close(device.index(), backend, true)?;
    drop(claim);
    if device.wait_until_free(backend, GONE).is_ok() {
        return Ok(Verdict::Done);
    }
    netlink.disconnect_on_close(device.index(), backend, false)?;
    Ok(Verdict::InUse)
}
