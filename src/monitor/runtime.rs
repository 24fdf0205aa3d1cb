//! What is kept in /run about an attached export: in `/run/nbdctl/NAME/` state.json,
//! the sockets that its monitor and its relay listen on, and the locks. Those for a moment are
//! on the folders themselves, so that nothing is left of them; the monitor's is on
//! a file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::Error;
use super::state::State;
use crate::config::Name;

const ROOT: &str = "/run/nbdctl";

/// Locked by the monitor as long as it lives.
const MONITOR_LOCK: &str = "monitor.lock";

/// The relay's, and those that may become its.
const RELAY_SOCKET: &str = "relay.sock";
const NEW_RELAY: &str = "relay.sock.";

/// More than once in a row, others do not come between by chance.
const ATTEMPTS: u32 = 16;

/// No state of ours is longer: sixteen connections, two strings of 16 KiB.
const MAX_STATE: u64 = 256 * 1024;

/// Where the lock for choosing an index is.
pub(super) fn index_lock(allowed: Duration) -> Result<Lock, Error> {
    Lock::take(
        PathBuf::from(ROOT),
        "another attach or detach, which holds /run/nbdctl,",
        allowed,
    )
}

/// The folder of a NAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runtime {
    name: Name,
    folder: PathBuf,
}

impl Runtime {
    pub(super) fn of(name: &Name) -> Self {
        Self {
            folder: Path::new(ROOT).join(name.as_str()),
            name: name.clone(),
        }
    }

    /// That of "x", somewhere else.
    #[cfg(test)]
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            name: "x".parse().unwrap(),
            folder: folder.to_owned(),
        }
    }

    pub(super) fn name(&self) -> Name {
        self.name.clone()
    }

    /// Those of every NAME that has one.
    pub(super) fn all() -> Vec<Self> {
        let folders = fs::read_dir(ROOT).into_iter().flatten().flatten();
        folders
            // What attach wrote for units is beside them.
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
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

    /// The lock of the one monitor of a NAME; `None` while another has it.
    pub(super) fn monitor_lock(&self) -> Result<Option<Lock>, Error> {
        let path = self.folder.join(MONITOR_LOCK);
        let attempt = || make_folder(&self.folder).and_then(|()| Lock::attempt_file(&path));
        let mut lock = attempt();
        // Whoever let go of it last may just have removed the folder; again and
        // again only where something else is wrong.
        for _ in 0..ATTEMPTS {
            match lock {
                Err(error) if error.kind() == io::ErrorKind::NotFound => lock = attempt(),
                lock => return lock.map_err(runtime(&path)),
            }
        }
        lock.map_err(runtime(&path))
    }

    /// Whether a monitor lives.
    pub(super) fn is_monitored(&self) -> bool {
        let Ok(file) = File::open(self.folder.join(MONITOR_LOCK)) else {
            return false;
        };
        matches!(
            Flock::lock(file, FlockArg::LockSharedNonblock),
            Err((_, Errno::EWOULDBLOCK))
        )
    }

    /// Lets go of the monitor's lock; nothing of it is left.
    pub(super) fn leave(&self, lock: Lock) {
        if self.holds(&lock) {
            for name in ["control.sock", MONITOR_LOCK] {
                let _ = fs::remove_file(self.folder.join(name));
            }
        }
        drop(lock);
    }

    /// Whether this lock is still the one that everyone finds.
    pub(super) fn holds(&self, lock: &Lock) -> bool {
        lock.is_at(&self.folder.join(MONITOR_LOCK))
    }

    /// Where the monitor listens.
    pub(super) fn control_socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// Where the relay listens that carries the device's I/O.
    pub(super) fn relay_socket(&self) -> PathBuf {
        self.folder.join(RELAY_SOCKET)
    }

    /// Where one listens that may become it.
    pub(super) fn new_relay_socket(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{NEW_RELAY}{number}"))
    }

    /// One attach or detach of a NAME at a time, and one monitor that begins.
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
        self.read().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            None
        })
    }

    /// `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::State`] for one that cannot be used.
    pub(super) fn read(&self) -> Result<Option<State>, Error> {
        let path = self.file();
        let unusable = |why: String| Error::State {
            path: path.clone(),
            why,
        };
        let size = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // It is root's.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            meta => meta.map_err(runtime(&path))?.len(),
        };
        if size > MAX_STATE {
            return Err(unusable(format!("it has {size} bytes")));
        }
        let bytes = fs::read(&path).map_err(runtime(&path))?;
        State::parse(&bytes).map(Some).map_err(unusable)
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
        let mut all = vec!["state.json", "state.json.new"];
        // Left by one that was killed; who begins now waits for it.
        let left = self.folder.join(MONITOR_LOCK).exists();
        let ours = left.then(|| self.monitor_lock().ok().flatten()).flatten();
        if ours.is_some() {
            all.extend(["control.sock", MONITOR_LOCK]);
        }
        let known = all.into_iter().map(|name| self.folder.join(name));
        for path in known.chain(self.relay_sockets()) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(runtime(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Those of a relay that is gone, and of attempts whose monitor was killed.
    fn relay_sockets(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_one = |name: &str| name == RELAY_SOCKET || name.starts_with(NEW_RELAY);
        entries
            .filter(|entry| entry.file_name().to_str().is_some_and(is_one))
            .map(|entry| entry.path())
            .collect()
    }
}

/// Nobody else may open it: whoever can open a folder can lock it.
/// For root alone, whoever is first to need it.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn runtime(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Runtime { path, error }
}

/// A lock on a folder, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    inode: u64,
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
        make_folder(folder)?;
        match File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Self::attempt_open(file?, folder),
        }
    }

    fn attempt_file(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        Self::attempt_open(file, path)
    }

    fn attempt_open(file: File, path: &Path) -> io::Result<Option<Self>> {
        let inode = file.metadata()?.ino();
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        let lock = Self { inode, _lock: lock };
        Ok(lock.is_at(path).then_some(lock))
    }

    /// Whether what is locked is still what everyone finds there.
    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| meta.ino() == self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::state::tests::state;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::in_folder(folder.path());
        runtime.store(&state()).unwrap();
        assert_eq!(runtime.load(), Some(state()));
    }

    #[test]
    fn a_torn_state_is_told_and_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::in_folder(folder.path());
        assert!(matches!(runtime.read(), Ok(None)));
        for text in [vec![b'{'], vec![b' '; 300 * 1024]] {
            fs::write(runtime.file(), text).unwrap();
            assert_eq!(runtime.load(), None);
            let said = runtime.read().unwrap_err().to_string();
            assert!(said.contains("cannot be used"), "{said}");
        }
    }

    #[test]
    fn nothing_of_a_device_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::in_folder(folder.path());
        runtime.store(&state()).unwrap();
        for path in [runtime.relay_socket(), runtime.new_relay_socket(7)] {
            fs::write(path, "").unwrap();
        }
        runtime.clear().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_monitors_lock_is_seen_by_others() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::in_folder(folder.path());
        assert!(!runtime.is_monitored());
        let lock = runtime.monitor_lock().unwrap().unwrap();
        assert!(runtime.is_monitored());
        assert!(runtime.monitor_lock().unwrap().is_none());
        assert!(runtime.holds(&lock));
        fs::remove_file(folder.path().join(MONITOR_LOCK)).unwrap();
        assert!(!runtime.holds(&lock));
        drop(lock);
        assert!(!runtime.is_monitored());
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
