//! What is kept in /run about an attached export: `/run/nbdctl/NAME/state.json`,
//! and the locks, which are on the folders themselves so that nothing is left
//! of them.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::config::Name;
use crate::kernel::SavedQueue;

const ROOT: &str = "/run/nbdctl";

/// The form of state.json; a file of another is not used.
const VERSION: u32 = 1;

/// No state of ours is longer: sixteen connections, two strings of 16 KiB.
const MAX_STATE: u64 = 256 * 1024;

/// What a later process must know of a device that it finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) version: u32,
    pub(super) uri: String,
    pub(super) index: u32,
    pub(super) backend_identifier: String,
    pub(super) dead_timeout: u64,
    pub(super) block_size: u32,
    pub(super) max_sectors_kb: u32,
    /// It was announced: its queue is set, and it could be read.
    pub(super) usable: bool,
    /// What detach puts back.
    pub(super) saved_queue: SavedQueue,
    pub(super) links: Vec<Link>,
    /// The network namespace of the links: their inodes mean something in its
    /// tables only.
    pub(super) network_namespace: Option<u64>,
    /// Seconds since 1970.
    pub(super) since: u64,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) peer: String,
    /// Or a Unix socket.
    pub(super) tcp: bool,
    /// The socket's inode.
    pub(super) inode: Option<u64>,
}

impl State {
    pub(super) const VERSION: u32 = VERSION;
}

/// Where the lock for choosing an index is.
pub(super) fn index_lock(allowed: Duration) -> Result<Lock, Error> {
    Lock::take(
        PathBuf::from(ROOT),
        "another attach or detach, which holds /run/nbdctl,",
        allowed,
    )
}

/// The folder of a NAME.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Runtime {
    folder: PathBuf,
}

impl Runtime {
    pub(super) fn of(name: &Name) -> Self {
        Self {
            folder: Path::new(ROOT).join(name.as_str()),
        }
    }

    /// Those of every NAME that has one.
    pub(super) fn all() -> Vec<Self> {
        let folders = fs::read_dir(ROOT).into_iter().flatten().flatten();
        folders
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(|name| Self::of(&name))
            .collect()
    }

    /// The lock if nobody has it.
    pub(super) fn try_lock(&self) -> Option<Lock> {
        self.folder
            .exists()
            .then(|| Lock::attempt(&self.folder).ok().flatten())
            .flatten()
    }

    /// Removes the folder where nothing is in it, as a lock makes it. The lock
    /// stays good for its holder, and nobody else gets it (`Lock::take` looks).
    pub(super) fn tidy(&self) {
        let _ = fs::remove_dir(&self.folder);
    }

    /// One attach, detach or monitor of a NAME at a time.
    pub(super) fn lock(&self, allowed: Duration) -> Result<Lock, Error> {
        let what = format!("another nbdctl, which holds {},", self.folder.display());
        Lock::take(self.folder.clone(), &what, allowed)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    /// `None` where there is none, and where it is torn or another version's:
    /// the device is told from sysfs then, and loses only what this adds.
    pub(super) fn load(&self) -> Option<State> {
        let path = self.file();
        let size = fs::metadata(&path).ok()?.len();
        if size > MAX_STATE {
            tracing::warn!("{} has {size} bytes and is not used", path.display());
            return None;
        }
        let state: State = match serde_json::from_slice(&fs::read(&path).ok()?) {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!("{} cannot be used: {error}", path.display());
                return None;
            }
        };
        (state.version == VERSION).then_some(state)
    }

    /// Whole or not at all: /run is memory, so a rename is all it takes.
    pub(super) fn store(&self, state: &State) -> Result<(), Error> {
        let path = self.file();
        let temporary = self.folder.join("state.json.new");
        serde_json::to_vec_pretty(state)
            .map_err(io::Error::from)
            .and_then(|json| fs::write(&temporary, json))
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(runtime(&path))
    }

    /// Removes what is in the folder; [`Runtime::tidy`] removes that.
    pub(super) fn clear(&self) -> Result<(), Error> {
        for path in [self.file(), self.folder.join("state.json.new")] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(runtime(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn runtime(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Runtime { path, error }
}

/// A lock on a folder, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _lock: Flock<File>,
}

impl Lock {
    /// Makes the folder where it is missing, and waits for whoever holds it.
    fn take(folder: PathBuf, holder: &str, allowed: Duration) -> Result<Self, Error> {
        let until = Instant::now() + allowed;
        loop {
            if let Some(lock) = Self::attempt(&folder).map_err(runtime(&folder))? {
                return Ok(lock);
            }
            if Instant::now() >= until {
                return Err(Error::Locked {
                    holder: holder.to_owned(),
                    allowed,
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `None` while another has it, or has just removed the folder.
    fn attempt(folder: &Path) -> io::Result<Option<Self>> {
        // Nobody else may open it: whoever can open a folder can lock it.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let file = match File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let inode = file.metadata()?.ino();
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        let same = fs::metadata(folder).is_ok_and(|meta| meta.ino() == inode);
        Ok(same.then_some(Self { _lock: lock }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            version: VERSION,
            uri: "nbd://h/x".to_owned(),
            index: 3,
            backend_identifier: "nbdctl1:h-x:0".to_owned(),
            dead_timeout: 600,
            block_size: 512,
            max_sectors_kb: 1280,
            usable: true,
            saved_queue: SavedQueue::default(),
            links: Vec::new(),
            network_namespace: None,
            since: 1,
        }
    }

    fn runtime_in(folder: &Path) -> Runtime {
        Runtime {
            folder: folder.to_owned(),
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime_in(folder.path());
        runtime.store(&state()).unwrap();
        assert_eq!(runtime.load(), Some(state()));
    }

    #[test]
    fn a_torn_or_foreign_state_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime_in(folder.path());
        let whole = serde_json::to_vec(&state()).unwrap();
        for length in 0..whole.len() {
            fs::write(runtime.file(), &whole[..length]).unwrap();
            assert_eq!(runtime.load(), None, "cut at {length}");
        }
        let mut foreign = state();
        foreign.version = 2;
        runtime.store(&foreign).unwrap();
        assert_eq!(runtime.load(), None);
        fs::write(runtime.file(), vec![b' '; 300 * 1024]).unwrap();
        assert_eq!(runtime.load(), None);
    }

    #[test]
    fn a_lock_is_one_processs_and_outlives_the_folders_removal() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("x");
        let short = Duration::from_millis(60);
        let first = Lock::take(folder.clone(), "us", short).unwrap();
        let refused = Lock::take(folder.clone(), "us", short).unwrap_err();
        assert!(matches!(refused, Error::Locked { .. }));
        fs::remove_dir(&folder).unwrap();
        // The next one makes the folder anew and locks that.
        let second = Lock::take(folder.clone(), "us", short).unwrap();
        drop(first);
        assert!(Lock::take(folder, "us", short).is_err());
        drop(second);
    }
}
