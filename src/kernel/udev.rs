//! Waiting for udev, which names a device when it hears of it. Only files are looked
//! at; a machine without udev, or without our rule, is not waited for.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Where the rule that makes our names is installed.
const RULES: [&str; 4] = [
    "/etc/udev/rules.d/59-nbdctl.rules",
    "/run/udev/rules.d/59-nbdctl.rules",
    "/usr/lib/udev/rules.d/59-nbdctl.rules",
    "/usr/local/lib/udev/rules.d/59-nbdctl.rules",
];

/// It exists while udev has something to do.
const QUEUE: &str = "/run/udev/queue";

/// Waits until udev has made a link in /dev/disk/by-id, and has done all else that
/// it was about, so that partitions have their names, too; false when it did not in
/// time.
#[must_use]
pub fn wait_for_names(by_id: &str, allowed: Duration) -> bool {
    let running = Path::new("/run/udev/control").exists();
    if !running || !RULES.iter().any(|rule| Path::new(rule).exists()) {
        return true;
    }
    let link = Path::new("/dev/disk/by-id").join(by_id);
    let until = Instant::now() + allowed;
    loop {
        // The link alone: to look at the device could wait for the server.
        if link.is_symlink() && !Path::new(QUEUE).exists() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
