//! Whether process 1's root is on a device, or the one that it had until it went back to
//! an initramfs: on the disk itself, a partition of it, what is stacked on those, or laid
//! over what is mounted from it. It must not know what
//! follows from that.

use std::fs;
use std::path::Path;

use super::sysfs::Device;

/// Stacks are no deeper: LUKS on LVM on a partition is three.
const DEEPEST: u32 = 8;

/// Where process 1 has what was the root, once it is back in an initramfs to end the
/// machine there (systemd-shutdown, bootup(7)).
const OLD_ROOT: &str = "/oldroot";

/// Whether `/` of process 1 leads to the device, as things are now, or what was `/` and is
/// about to be unmounted. All of it is read from /proc and sysfs.
#[must_use]
pub fn carries_root(device: &Device) -> bool {
    carries(Path::new("/"), &device.name())
}

fn carries(base: &Path, device: &str) -> bool {
    let text = fs::read_to_string(base.join("proc/1/mountinfo")).unwrap_or_default();
    let mounts: Vec<_> = text.lines().filter_map(Mount::parse).collect();
    ["/", OLD_ROOT].iter().any(|point| {
        // The last is on top of the others.
        let Some(root) = mounts.iter().rfind(|mount| mount.point == *point) else {
            return false;
        };
        match root.kind {
            // Its lower layers are mounted somewhere, or were.
            "overlay" => mounts.iter().any(|mount| mount.leads_to(base, device)),
            _ => root.leads_to(base, device),
        }
    })
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount<'a> {
    numbers: &'a str,
    point: &'a str,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let numbers = before.next()?;
        let point = before.nth(1)?;
        let mut after = after.split(' ');
        Some(Self {
            numbers,
            point,
            kind: after.next()?,
            source: after.next()?,
        })
    }

    fn leads_to(&self, base: &Path, device: &str) -> bool {
        let node = base.join("sys/dev/block").join(self.numbers);
        let node = fs::canonicalize(node).ok().or_else(|| {
            // btrfs has a number of its own.
            let source = self.source.strip_prefix("/dev/")?;
            let node = fs::canonicalize(base.join("dev").join(source)).ok()?;
            let class = base.join("sys/class/block").join(node.file_name()?);
            fs::canonicalize(class).ok()
        });
        node.is_some_and(|node| is_on(&node, device, DEEPEST))
    }
}

/// Whether a block device, by its folder in sysfs, is the disk, a partition of it, or on
/// top of that.
fn is_on(node: &Path, device: &str, deep: u32) -> bool {
    let named = |path: Option<&Path>| path.and_then(Path::file_name) == Some(device.as_ref());
    if named(Some(node)) || (node.join("partition").exists() && named(node.parent())) {
        return true;
    }
    let slaves = fs::read_dir(node.join("slaves"));
    let mut below = slaves.into_iter().flatten().flatten();
    deep > 0
        && below.any(|slave| {
            fs::canonicalize(slave.path()).is_ok_and(|node| is_on(&node, device, deep - 1))
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(mountinfo: &str) -> tempfile::TempDir {
        let base = tempfile::TempDir::new().unwrap();
        let at = |path: &str| base.path().join(path);
        for folder in [
            "proc/1",
            "dev/mapper",
            "sys/dev/block",
            "sys/class/block",
            "sys/devices/nbd0/nbd0p2",
            "sys/devices/nbd1",
            "sys/devices/dm-0/slaves",
            "sys/devices/dm-1/slaves",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("proc/1/mountinfo"), mountinfo).unwrap();
        fs::write(at("sys/devices/nbd0/nbd0p2/partition"), "2\n").unwrap();
        fs::write(at("dev/dm-1"), "").unwrap();
        symlink("../dm-1", at("dev/mapper/root")).unwrap();
        symlink("../../devices/dm-1", at("sys/class/block/dm-1")).unwrap();
        symlink("../../nbd0/nbd0p2", at("sys/devices/dm-0/slaves/nbd0p2")).unwrap();
        symlink("../../dm-0", at("sys/devices/dm-1/slaves/dm-0")).unwrap();
        for (numbers, node) in [
            ("43:0", "nbd0"),
            ("43:2", "nbd0/nbd0p2"),
            ("43:16", "nbd1"),
            ("254:1", "dm-1"),
        ] {
            let link = at(&format!("sys/dev/block/{numbers}"));
            symlink(format!("../../devices/{node}"), link).unwrap();
        }
        base
    }

    fn on_nbd0(lines: &[&str]) -> bool {
        carries(tree(&lines.join("\n")).path(), "nbd0")
    }

    #[test]
    fn a_root_is_found_on_a_disk_a_partition_and_what_is_stacked() {
        assert!(on_nbd0(&["1 0 43:0 / / rw - ext4 /dev/nbd0 rw"]));
        assert!(on_nbd0(&["1 0 43:2 / / rw - ext4 /dev/nbd0p2 rw"]));
        assert!(on_nbd0(&["1 0 254:1 / / rw - ext4 /dev/mapper/root rw"]));
        assert!(on_nbd0(&["1 0 0:31 /@ / rw - btrfs /dev/mapper/root rw"]));
        assert!(on_nbd0(&[
            "1 0 0:40 / / rw shared:1 - overlay overlay rw,lowerdir=/run/lower",
            "2 1 43:0 / /run/lower ro - ext4 /dev/nbd0 ro",
        ]));
    }

    #[test]
    fn a_root_that_was_is_one_until_it_is_unmounted() {
        let initramfs = "1 0 0:25 /initramfs / rw - tmpfs tmpfs rw";
        assert!(on_nbd0(&[
            initramfs,
            "2 1 43:0 / /oldroot ro - ext4 /dev/nbd0 ro"
        ]));
        assert!(!on_nbd0(&[initramfs]));
    }

    #[test]
    fn what_is_mounted_elsewhere_is_no_root() {
        assert!(!on_nbd0(&[
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
            "2 1 43:0 / /srv rw - ext4 /dev/nbd0 rw",
        ]));
        assert!(!on_nbd0(&["1 0 43:16 / / rw - ext4 /dev/nbd1 rw"]));
        // What is under it is covered.
        assert!(!on_nbd0(&[
            "1 0 43:0 / / rw - ext4 /dev/nbd0 rw",
            "2 1 0:33 / / rw - tmpfs tmpfs rw",
        ]));
        assert!(!on_nbd0(&["", "nonsense", "1 2"]));
    }
}
