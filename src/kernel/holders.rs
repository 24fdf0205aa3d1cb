//! Who uses a device: mounts of every mount namespace, swap, what is stacked on
//! it, and processes that have it open.
//!
//! All of it is read from /proc and sysfs, so that it works on a dead device.
//! What a process of another PID namespace does is seen from the initial one
//! only.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::leads::{self, Lead};
use super::sysfs::{Device, Node, read};

/// One use of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// A mount.
    Mount {
        /// The disk or partition.
        node: String,
        /// The mount point, as seen in its namespace.
        point: String,
        /// A process in that namespace, where it is not ours.
        elsewhere: Option<Process>,
    },
    /// Swap.
    Swap {
        /// The disk or partition.
        node: String,
    },
    /// A device built on it.
    Stacked {
        /// The disk or partition.
        node: String,
        /// `dm-0 (vg-root)`, `md0`, `loop3`
        on_top: String,
    },
    /// A process has it open.
    Open {
        /// The disk or partition.
        node: String,
        /// Who.
        process: Process,
    },
}

/// A process, for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command's name.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name.escape_debug(), self.pid)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount {
                node,
                point,
                elsewhere,
            } => {
                write!(f, "/dev/{node} is mounted on {}", point.escape_debug())?;
                match elsewhere {
                    Some(process) => write!(f, " in the mount namespace of {process}"),
                    None => Ok(()),
                }
            }
            Self::Swap { node } => write!(f, "/dev/{node} is swapped on"),
            Self::Stacked { node, on_top } => write!(f, "/dev/{node} is part of {on_top}"),
            Self::Open { node, process } => write!(f, "/dev/{node} is open in {process}"),
        }
    }
}

impl Holder {
    /// Whether it is udev, which opens devices for a moment after every event.
    #[must_use]
    pub fn is_udev(&self) -> bool {
        matches!(self, Self::Open { process, .. }
            if matches!(process.name.as_str(), "systemd-udevd" | "(udev-worker)" | "udevd"))
    }
}

/// Everything that uses a device or a partition of it.
#[must_use]
pub fn of(device: &Device) -> Vec<Holder> {
    of_others(device, 0)
}

/// The same but what one process has open.
#[must_use]
pub(super) fn of_others(device: &Device, except: u32) -> Vec<Holder> {
    let nodes = device.nodes();
    let mut holders = stacked(&nodes);
    let mut leads = loops();
    leads.extend(swaps());
    let mut seen_namespaces = HashSet::new();
    for process in processes() {
        holders.extend(mounts(&nodes, &process, &mut seen_namespaces));
        if process.pid != except {
            leads.extend(opens(&process));
        }
    }
    holders.extend(users(&nodes, leads));
    holders.sort();
    holders.dedup();
    without_copies(holders)
}

/// A mount here shows in the namespace of every service that has one of its own, and
/// goes there when it goes here. One that does not is told of when it is all that is
/// left.
fn without_copies(mut holders: Vec<Holder>) -> Vec<Holder> {
    let here: HashSet<_> = holders
        .iter()
        .filter_map(|holder| match holder {
            Holder::Mount {
                node,
                point,
                elsewhere: None,
            } => Some((node.clone(), point.clone())),
            _ => None,
        })
        .collect();
    holders.retain(|holder| match holder {
        Holder::Mount {
            node,
            point,
            elsewhere: Some(_),
        } => !here.contains(&(node.clone(), point.clone())),
        _ => true,
    });
    holders
}

/// What sysfs lists as holders.
fn stacked(nodes: &[Node]) -> Vec<Holder> {
    let mut found = Vec::new();
    for node in nodes {
        for holder in names(&node.dir.join("holders")) {
            let dm = read(&Path::new("/sys/block").join(&holder).join("dm/name"));
            found.push(Holder::Stacked {
                node: node.name.clone(),
                on_top: dm.map_or_else(|_| holder.clone(), |name| format!("{holder} ({name})")),
            });
        }
    }
    found
}

/// What a path may be in use as.
enum Use {
    Loop(String),
    Swap,
    Open(Entry),
}

/// Loop devices, which sysfs does not list as holders.
fn loops() -> Vec<Lead<Use>> {
    let blocks = names(Path::new("/sys/block")).into_iter();
    blocks
        .filter(|block| block.starts_with("loop"))
        .filter_map(|block| {
            let folder = Path::new("/sys/block").join(&block);
            let path = PathBuf::from(read(&folder.join("loop/backing_file")).ok()?);
            Some(lead(path.clone(), path, Use::Loop(block)))
        })
        .collect()
}

fn swaps() -> Vec<Lead<Use>> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(|path| PathBuf::from(unescape(path)))
        .map(|path| lead(path.clone(), path, Use::Swap))
        .collect()
}

fn opens(entry: &Entry) -> Vec<Lead<Use>> {
    let fds = fs::read_dir(entry.dir.join("fd")).into_iter().flatten();
    fds.flatten()
        .filter_map(|fd| {
            let place = fs::read_link(fd.path()).ok()?;
            Some(lead(fd.path(), place, Use::Open(entry.clone())))
        })
        .collect()
}

fn lead(path: PathBuf, place: PathBuf, of: Use) -> Lead<Use> {
    Lead { path, place, of }
}

/// Those of the leads that end at one of the nodes.
fn users(nodes: &[Node], leads: Vec<Lead<Use>>) -> Vec<Holder> {
    let numbered = leads::numbered(leads).into_iter();
    numbered
        .filter_map(|(number, of)| {
            let node = nodes.iter().find(|node| node.number == number)?;
            let node = node.name.clone();
            Some(match of {
                Use::Loop(on_top) => Holder::Stacked { node, on_top },
                Use::Swap => Holder::Swap { node },
                Use::Open(entry) => Holder::Open {
                    node,
                    process: entry.process(),
                },
            })
        })
        .collect()
}

/// A process of /proc.
#[derive(Clone)]
struct Entry {
    pid: u32,
    dir: PathBuf,
}

impl Entry {
    fn process(&self) -> Process {
        Process {
            pid: self.pid,
            name: read(&self.dir.join("comm")).unwrap_or_else(|_| "?".to_owned()),
        }
    }
}

/// This process first: a mount that it sees needs no other to name it.
fn processes() -> Vec<Entry> {
    let own = std::process::id();
    let mut pids: Vec<u32> = names(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    pids.sort_by_key(|pid| (*pid != own, *pid));
    pids.into_iter()
        .map(|pid| Entry {
            pid,
            dir: PathBuf::from(format!("/proc/{pid}")),
        })
        .collect()
}

/// The mounts of the process's namespace, unless that was looked at before.
fn mounts(nodes: &[Node], entry: &Entry, seen: &mut HashSet<PathBuf>) -> Vec<Holder> {
    let Ok(namespace) = fs::read_link(entry.dir.join("ns/mnt")) else {
        return Vec::new();
    };
    if !seen.insert(namespace) {
        return Vec::new();
    }
    let own = entry.pid == std::process::id();
    let text = fs::read_to_string(entry.dir.join("mountinfo")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            // "36 35 98:0 /root /point …" (proc_pid_mountinfo(5))
            let mut fields = line.split(' ').skip(2);
            let (number, point) = (fields.next()?, fields.nth(1)?);
            let node = nodes
                .iter()
                .find(|node| node.number == number || mount_source(line) == Some(&node.name))?;
            Some(Holder::Mount {
                node: node.name.clone(),
                point: unescape(point),
                elsewhere: (!own).then(|| entry.process()),
            })
        })
        .collect()
}

/// The device's name behind the " - " of a line of mountinfo. A file system with
/// a device number of its own (btrfs) can be told by nothing else.
fn mount_source(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(" - ")?;
    rest.split(' ').nth(1)?.strip_prefix("/dev/")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| OsStr::to_str(&entry.file_name()).map(str::to_owned))
        .collect()
}

/// The kernel writes a blank as `\040`, and the like.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_read_as_they_are() {
        assert_eq!(unescape(r"/mnt/a\040b\134c"), r"/mnt/a b\c");
        assert_eq!(unescape(r"/mnt/a\9"), r"/mnt/a\9");
    }

    #[test]
    fn a_mount_is_told_of_once_however_many_namespaces_copy_it() {
        let mount = |point: &str, elsewhere: bool| Holder::Mount {
            node: "nbd0".to_owned(),
            point: point.to_owned(),
            elsewhere: elsewhere.then(|| Process {
                pid: 7,
                name: "udevd".to_owned(),
            }),
        };
        let all = vec![mount("/a", false), mount("/a", true), mount("/b", true)];
        let told = [mount("/a", false), mount("/b", true)];
        assert_eq!(without_copies(all), told);
    }

    #[test]
    fn the_source_of_a_mount_is_found_behind_optional_fields() {
        let line = "36 35 0:44 / /m rw,relatime shared:1 master:2 - btrfs /dev/nbd0p1 rw";
        assert_eq!(mount_source(line), Some("nbd0p1"));
    }
}
