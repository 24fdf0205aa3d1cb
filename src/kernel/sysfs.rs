//! What sysfs shows of nbd devices. Reading it never waits for a server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::Error;

/// The driver's devices, by rising index.
///
/// # Errors
///
/// sysfs cannot be listed.
pub fn devices() -> Result<Vec<Device>, Error> {
    let root = Path::new("/sys/block");
    let mut devices = Vec::new();
    for entry in fs::read_dir(root).map_err(Error::file(root))? {
        let name = entry.map_err(Error::file(root))?.file_name();
        devices.extend(name.to_str().and_then(Device::by_name));
    }
    devices.sort_by_key(Device::index);
    Ok(devices)
}

/// One `/dev/nbdN`. It may come and go at any time; what is gone reads as
/// absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    index: u32,
}

impl Device {
    /// The device of an index, whether it exists or not.
    #[must_use]
    pub fn new(index: u32) -> Self {
        Self { index }
    }

    /// `nbd0` and `/dev/nbd0`, not a partition.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let digits = name
            .strip_prefix("/dev/")
            .unwrap_or(name)
            .strip_prefix("nbd")?;
        let canonical = !digits.starts_with('0') || digits == "0";
        let plain = canonical && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten().map(Self::new)
    }

    /// `nbd0p3`: the disk, and the partition's number.
    #[must_use]
    pub fn by_partition_name(name: &str) -> Option<(Self, u32)> {
        let (disk, number) = name.rsplit_once('p')?;
        let canonical = !number.starts_with('0') && !number.starts_with('+');
        let number = number.parse().ok().filter(|_| canonical)?;
        Some((Self::by_name(disk)?, number))
    }

    /// N.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// `nbdN`
    #[must_use]
    pub fn name(&self) -> String {
        format!("nbd{}", self.index)
    }

    /// `/dev/nbdN`
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/nbd{}", self.index))
    }

    pub(super) fn dir(&self) -> PathBuf {
        PathBuf::from(format!("/sys/block/nbd{}", self.index))
    }

    /// Whether the driver knows the index.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dir().exists()
    }

    /// An attribute, trimmed; `None` where it is absent.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        read(&self.dir().join(name)).ok()
    }

    /// Whether it is configured: the file `pid` is there from CONNECT until the
    /// last holder is gone, link or no link. (The number in it is nobody's.)
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.dir().join("pid").exists()
    }

    /// Whether it is configured with this identifier; an error where that cannot be
    /// told at the moment, which is no verdict.
    ///
    /// # Errors
    ///
    /// sysfs cannot be read.
    pub fn is_configured_as(&self, backend: &str) -> io::Result<bool> {
        let gone = |error: &io::Error| {
            matches!(
                Errno::from_raw(error.raw_os_error().unwrap_or(0)),
                Errno::ENOENT | Errno::ENODEV
            )
        };
        let there = fs::metadata(self.dir().join("pid")).map(drop);
        let found = there.and_then(|()| read(&self.dir().join("backend")));
        match found {
            Err(error) if gone(&error) => Ok(false),
            found => found.map(|text| text == backend),
        }
    }

    /// The backend identifier, as whoever attached it chose.
    #[must_use]
    pub fn backend(&self) -> Option<String> {
        // As it is: blanks around it would make it another's.
        let text = fs::read_to_string(self.dir().join("backend")).ok()?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The size in bytes; 0 when detached.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.attribute("size")
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .map_or(0, |sectors| sectors.saturating_mul(512))
    }

    /// The logical block size in bytes.
    #[must_use]
    pub fn block_size(&self) -> Option<u32> {
        self.attribute("queue/logical_block_size")?.parse().ok()
    }

    /// Whether writes are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.attribute("ro").is_some_and(|ro| ro == "1")
    }

    /// Has udev look at the device anew. The kernel tells of a detach before `pid` and
    /// `backend` are gone, and what udev made of them would stay.
    ///
    /// # Errors
    ///
    /// sysfs cannot be written.
    pub fn trigger_change(&self) -> io::Result<()> {
        fs::write(self.dir().join("uevent"), "change")
    }

    /// Requests that the driver works on, reads and writes.
    #[must_use]
    pub fn in_flight(&self) -> Option<u64> {
        let text = self.attribute("inflight")?;
        text.split_whitespace()
            .map(|number| number.parse::<u64>().ok())
            .sum()
    }

    /// Reads, writes, discards and flushes that were answered, since the machine
    /// began.
    #[must_use]
    pub fn completed(&self) -> Option<u64> {
        completed(&self.attribute("stat")?)
    }

    /// Waits until what has this identifier is configured no more; another
    /// configuration of the same device is not waited for.
    ///
    /// # Errors
    ///
    /// [`Error::Stuck`] when something still holds it after `allowed`.
    pub fn wait_until_free(&self, backend: &str, allowed: Duration) -> Result<(), Error> {
        let until = Instant::now() + allowed;
        while self.is_configured() && self.backend().unwrap_or_default() == backend {
            if Instant::now() >= until {
                return Err(Error::Stuck {
                    what: format!("the disconnect of {}", self.path().display()),
                    allowed,
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Names and numbers (`major:minor`) of the disk and its partitions.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let disk = self.dir();
        let mut nodes: Vec<_> = Node::read(&disk, &self.name()).into_iter().collect();
        let prefix = format!("nbd{}p", self.index);
        let entries = fs::read_dir(&disk).into_iter().flatten().flatten();
        for entry in entries {
            if let Some(name) = entry.file_name().to_str() {
                if name.starts_with(&prefix) {
                    nodes.extend(Node::read(&entry.path(), name));
                }
            }
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes
    }
}

/// A block device of sysfs: a disk or a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `nbd0`, `nbd0p1`
    pub name: String,
    /// `43:0`
    pub number: String,
    pub(super) dir: PathBuf,
}

impl Node {
    fn read(dir: &Path, name: &str) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            number: read(&dir.join("dev")).ok()?,
            dir: dir.to_owned(),
        })
    }
}

/// Documentation/block/stat.rst. Linux 4.18 began to tell of discards, 5.5 of
/// flushes.
fn completed(stat: &str) -> Option<u64> {
    const READS: usize = 0;
    const WRITES: usize = 4;
    const DISCARDS: usize = 11;
    const FLUSHES: usize = 15;
    let fields: Vec<_> = stat.split_whitespace().collect();
    let number = |at: usize| fields.get(at).map_or(Some(0), |text| text.parse().ok());
    fields.get(WRITES)?;
    [READS, WRITES, DISCARDS, FLUSHES]
        .into_iter()
        .map(number)
        .try_fold(0u64, |sum, count| sum.checked_add(count?))
}

/// A file's text, trimmed.
pub(super) fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_disks_of_this_driver_are_devices() {
        let index = |name| Device::by_name(name).map(|device| device.index());
        assert_eq!(index("nbd0"), Some(0));
        assert_eq!(index("/dev/nbd15"), Some(15));
        for name in [
            "nbd",
            "nbd0p1",
            "/dev/nbd0p1",
            "sda",
            "nbd00",
            "nbd+1",
            "nbd-1",
            "/dev/../nbd0",
            "nbd99999999999",
        ] {
            assert_eq!(index(name), None, "{name}");
        }
    }

    #[test]
    fn a_partition_is_a_disks() {
        let found =
            |name| Device::by_partition_name(name).map(|(device, number)| (device.index(), number));
        assert_eq!(found("nbd0p1"), Some((0, 1)));
        assert_eq!(found("nbd12p15"), Some((12, 15)));
        for name in [
            "nbd0", "nbd0p", "nbd0p0", "nbd0p01", "nbd0p+1", "sda1", "nbd0p1p2",
        ] {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn all_kinds_of_requests_count_as_completed() {
        let stat = "1 90 90 90 20 90 90 90 90 90 90 300 90 90 90 4000 90";
        assert_eq!(completed(stat), Some(4321));
        assert_eq!(completed("1 90 90 90 20 90 90 90 90 90 90"), Some(21));
        for bad in ["", "1 2 3", "x 1 1 1 1 1"] {
            assert_eq!(completed(bad), None, "{bad}");
        }
    }
}
