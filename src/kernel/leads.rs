//! Which block devices paths lead to. To follow a path into a file system whose
//! server is dead never ends; nothing else in looking for holders asks more than the
//! kernel's own memory.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};

/// For all paths that lead elsewhere than to /dev.
const ELSEWHERE: Duration = Duration::from_secs(2);

/// A path, and where it leads by its text.
pub(super) struct Lead<T> {
    pub(super) path: PathBuf,
    pub(super) place: PathBuf,
    /// What it is asked for.
    pub(super) of: T,
}

/// The leads that end at block devices, with their numbers as sysfs writes them. Only
/// inodes are looked at; nothing is opened. What is elsewhere than in /dev, and does
/// not tell in time, is left out.
pub(super) fn numbered<T>(leads: Vec<Lead<T>>) -> Vec<(String, T)> {
    followed(leads, ELSEWHERE, number)
}

fn followed<T>(
    leads: Vec<Lead<T>>,
    allowed: Duration,
    number: fn(&Path) -> Option<String>,
) -> Vec<(String, T)> {
    // No path at all: a socket, a pipe.
    let paths = leads.into_iter().filter(|lead| lead.place.is_absolute());
    let (near, far): (Vec<_>, Vec<_>) = paths.partition(|lead| lead.place.starts_with("/dev"));
    let near = near.into_iter().map(|lead| (number(&lead.path), lead.of));
    let mut found: Vec<_> = near.collect();
    let paths: Vec<_> = far.iter().map(|lead| lead.path.clone()).collect();
    let numbers = numbers_in_time(paths, allowed, number);
    found.extend(numbers.into_iter().zip(far.into_iter().map(|lead| lead.of)));
    let found = found.into_iter();
    found
        .filter_map(|(number, of)| Some((number?, of)))
        .collect()
}

/// In their order, as many as there are in time. The thread that hangs goes with the
/// process.
fn numbers_in_time(
    paths: Vec<PathBuf>,
    allowed: Duration,
    number: fn(&Path) -> Option<String>,
) -> Vec<Option<String>> {
    let count = paths.len();
    let (sender, receiver) = mpsc::channel();
    let look = move || {
        for path in paths {
            if sender.send(number(&path)).is_err() {
                return;
            }
        }
    };
    if count == 0
        || thread::Builder::new()
            .name("leads".to_owned())
            .spawn(look)
            .is_err()
    {
        return Vec::new();
    }
    let until = Instant::now() + allowed;
    let left = || until.saturating_duration_since(Instant::now());
    let numbers: Vec<_> = std::iter::from_fn(|| receiver.recv_timeout(left()).ok())
        .take(count)
        .collect();
    if numbers.len() < count {
        tracing::warn!(
            "a file system does not answer: whether files of it are the device is not known"
        );
    }
    numbers
}

fn number(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let is_block = meta.file_type().is_block_device();
    is_block.then(|| format!("{}:{}", major(meta.rdev()), minor(meta.rdev())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(place: &str) -> Lead<String> {
        Lead {
            path: place.into(),
            place: place.into(),
            of: place.to_owned(),
        }
    }

    fn hangs(path: &Path) -> Option<String> {
        if path.starts_with("/dead") {
            thread::sleep(Duration::from_secs(60));
        }
        Some("43:0".to_owned())
    }

    #[test]
    fn a_file_system_that_does_not_answer_hides_only_what_is_behind_it() {
        let begun = Instant::now();
        let leads = ["socket:[1]", "/dead/file", "/dev/nbd0", "/dev/nbd0p1"].map(lead);
        let found = followed(leads.into(), Duration::from_millis(100), hangs);
        let found: Vec<_> = found.into_iter().map(|(_, of)| of).collect();
        assert_eq!(found, ["/dev/nbd0", "/dev/nbd0p1"]);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_node_elsewhere_is_found_too() {
        let leads = vec![lead("/tmp/node"), lead("pipe:[7]")];
        let found = followed(leads, Duration::from_secs(30), hangs);
        assert_eq!(found, [("43:0".to_owned(), "/tmp/node".to_owned())]);
    }

    #[test]
    fn what_is_no_block_device_has_no_number() {
        assert_eq!(number(Path::new("/dev/null")), None);
        assert_eq!(number(Path::new("/")), None);
    }
}
