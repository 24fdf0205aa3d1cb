//! What has to be in memory when the file system that it came from is not to be had:
//! the text of this process, and whole files that others will need. It must not know
//! what they are needed for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::sys::{Mapping, lock_range};

/// No program and no library is longer; what is, is not what was meant.
const LONGEST: u64 = 64 << 20;

/// Has every page of the program and its libraries in memory, also those that nothing
/// has touched yet. (`mlockall` on fault keeps what was touched; without that it would
/// take the whole stack of every thread, too.)
pub fn keep_own_text() {
    keep(|_| true);
}

fn keep(wanted: impl Fn(&str) -> bool) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for line in maps.lines().filter_map(Line::parse) {
        if line.inode == 0 || !wanted(line.path) {
            continue;
        }
        if let Err(errno) = lock_range(line.start, line.end - line.start) {
            tracing::warn!("{} is not kept in memory: {}", line.path, errno.desc());
        }
    }
}

/// Files that are in memory as long as this is.
#[derive(Debug, Default)]
pub struct Resident {
    files: BTreeMap<(u64, u64), Mapping>,
}

impl Resident {
    /// Reads files that are not in it yet, and follows those that were replaced. One that
    /// is not there is none; the reading waits for its disk.
    pub fn take(&mut self, paths: &BTreeSet<PathBuf>) {
        let mut known = BTreeMap::new();
        for path in paths {
            match self.one(path) {
                Ok(Some((id, mapping))) => drop(known.insert(id, mapping)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::debug!("{}: {error}", path.display()),
            }
        }
        self.files = known;
    }

    fn one(&mut self, path: &Path) -> io::Result<Option<((u64, u64), Mapping)>> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let id = (meta.dev(), meta.ino());
        if let Some(mapping) = self.files.remove(&id) {
            return Ok(Some((id, mapping)));
        }
        let usable = meta.is_file() && (1..=LONGEST).contains(&meta.len());
        let Some(length) = usable.then(|| usize::try_from(meta.len()).ok()).flatten() else {
            return Ok(None);
        };
        Ok(Some((id, Mapping::of(&file, length)?)))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.files.len()
    }
}

/// The files that a process runs from: its program and its libraries.
#[must_use]
pub fn files_of(pid: u32) -> BTreeSet<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let lines = maps.lines().filter_map(Line::parse);
    lines
        .filter(|line| line.inode != 0 && line.path.starts_with('/'))
        .map(|line| PathBuf::from(line.path))
        .collect()
}

/// The processes that run one of these programs.
#[must_use]
pub fn running(programs: &[&str]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        programs.iter().any(|program| Path::new(program) == exe)
    })
    .collect()
}

/// A line of /proc/PID/maps.
struct Line<'a> {
    start: usize,
    end: usize,
    inode: u64,
    path: &'a str,
}

impl<'a> Line<'a> {
    /// `START-END MODE OFFSET DEVICE INODE    PATH`; a path may have blanks in it.
    fn parse(line: &'a str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        let mut rest = rest.splitn(4, ' ').skip(3);
        let (inode, path) = rest.next()?.split_once(' ').unwrap_or_default();
        (start < end).then_some(Self {
            start,
            end,
            inode: inode.parse().unwrap_or(0),
            path: path.trim_start(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_read_as_the_kernel_writes_them() {
        let text = "7f0a1000-7f0a3000 r-xp 00001000 2b:01 4711                   /usr/lib/a b.so";
        let line = Line::parse(text).unwrap();
        assert_eq!((line.start, line.end), (0x7f0a_1000, 0x7f0a_3000));
        assert_eq!((line.inode, line.path), (4711, "/usr/lib/a b.so"));
        let anonymous = Line::parse("7f0a1000-7f0a3000 rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.inode, anonymous.path), (0, ""));
        let heap = "55d0-55e0 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(Line::parse(heap).unwrap().inode, 0);
        for text in ["", "x", "1-2", "2-1 r 0 0 0 x", "g-h r 0 0 0 x"] {
            assert!(Line::parse(text).is_none(), "{text}");
        }
    }

    /// In kB, from /proc/self/smaps, of what is mapped from files whose name has `name`.
    fn of_ours(name: &str, what: &str) -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut sum = 0;
        let mut is_it = false;
        for line in smaps.lines() {
            if let Some(line) = Line::parse(line) {
                is_it = line.inode != 0 && line.path.contains(name);
            } else if let Some(size) = line.strip_prefix(what).filter(|_| is_it) {
                let size = size.trim_start_matches(':').trim().trim_end_matches(" kB");
                sum += size.parse::<u64>().unwrap();
            }
        }
        sum
    }

    #[test]
    fn the_text_of_this_process_is_all_there() {
        // One of several files, as a test may not be allowed to lock more.
        let name = "/libc.so";
        keep(|path| path.contains(name));
        let (size, there) = (of_ours(name, "Size"), of_ours(name, "Rss"));
        assert!(size > 0 && there == size, "{there} of {size} kB");
    }

    #[test]
    fn files_are_in_memory_as_long_as_they_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resident-library");
        let missing = folder.path().join("missing");
        fs::write(&path, vec![7; 300_000]).unwrap();
        let mut resident = Resident::default();
        resident.take(&[path.clone(), missing, folder.path().to_owned()].into());
        assert_eq!(resident.count(), 1);
        assert!(of_ours("resident-library", "Rss") >= 292);
        // Replaced, as an upgrade does.
        fs::remove_file(&path).unwrap();
        fs::write(&path, vec![8; 8192]).unwrap();
        resident.take(&[path].into());
        assert_eq!(of_ours("resident-library", "Size"), 8);
        drop(resident);
        assert_eq!(of_ours("resident-library", "Size"), 0);
    }

    #[test]
    fn the_files_of_a_process_are_its_program_and_its_libraries() {
        let exe = std::env::current_exe().unwrap();
        let files = files_of(std::process::id());
        assert!(files.contains(&exe), "{files:?}");
        assert!(running(&[exe.to_str().unwrap()]).contains(&std::process::id()));
        assert!(running(&["/no/such/program"]).is_empty());
    }
}
