//! What is to be seen to where `/` is on the device. While its server is away, nothing
//! can be opened or executed: so all that a reconnect and the end of the machine need is
//! in memory before. And the last to hold on to a root that is lost ends the machine.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::unistd::sync;

use super::Serving;
use super::mail::Mail;
use super::standby::StandsBy;
use super::way::Ways;
use crate::kernel::{self, Ending, Resident, RootChange, files_of, running};
use crate::monitor::control::{Request, ask};
use crate::monitor::error::Error;
use crate::monitor::machine::Moment;
use crate::monitor::runtime::{Lock, Runtime};

/// How often it is looked where process 1 is.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked what the end of the machine needs: a program may have been
/// replaced.
const KEEP_AGAIN: Duration = Duration::from_secs(60);

/// How much longer than `shutdown_timeout` a machine may take to end whose root is lost.
/// What waited for that has got errors by then, and most of it ends by itself.
const LAST_RESORT: Duration = Duration::from_secs(25);

/// What hears that the machine is to end, and what process 1 executes then.
const PROGRAMS: &[&str] = &[
    "/usr/lib/systemd/systemd-shutdown",
    "/usr/lib/systemd/systemd-executor",
    "/usr/lib/systemd/systemd-logind",
    "/usr/bin/systemctl",
    "/usr/bin/dbus-daemon",
    "/usr/bin/dbus-broker",
    "/usr/bin/dbus-broker-launch",
    "/usr/sbin/nbdctl",
];

/// Which libraries there are is read by whatever is executed.
const LOADER: &str = "/etc/ld.so.cache";

/// What a monitor takes to end that is asked to.
const ENDING: Duration = Duration::from_secs(20);

pub(super) struct Root {
    /// `None` where it cannot be told.
    change: Option<RootChange>,
    /// What is kept in memory; with a thread while that is at it.
    resident: Option<Resident>,
    keep_at: Moment,
    /// `/` is on the device, as was seen last; and when it is looked at again. An export
    /// that only the command line names is a root's by its name, and may be lost without
    /// the machine.
    carries: bool,
    look_at: Moment,
    /// Since when the machine goes down, and how it is to end.
    pub(super) down: Option<(Moment, Option<Ending>)>,
    pub(super) stands_by: StandsBy,
    pub(super) ways: Ways,
}

impl Root {
    /// Of a device; `goes_down`: a shutdown began before this monitor, which may be known to
    /// end so.
    pub(super) fn new(goes_down: bool, ending: Option<Ending>) -> Self {
        Self {
            change: RootChange::watch(),
            resident: Some(Resident::default()),
            keep_at: Moment::ZERO,
            carries: false,
            look_at: Moment::ZERO,
            down: goes_down.then_some((Moment::ZERO, ending)),
            stands_by: StandsBy::default(),
            ways: Ways::default(),
        }
    }
}

impl Serving<'_> {
    /// The root of process 1 is being changed, and paths lead nowhere.
    pub(super) fn is_astray(&self) -> bool {
        let change = self.root.as_ref().and_then(|root| root.change.as_ref());
        change.is_some_and(RootChange::is_under_way)
    }

    /// The machine goes down; `begun`: that process 1 is at it is known, though not how.
    /// Where neither is, it is somebody's word, on which no machine is ended.
    pub(super) fn root_goes_down(&mut self, ending: Option<Ending>, begun: bool) {
        let now = self.now();
        if let Some(root) = self.root.as_mut().filter(|_| begun || ending.is_some()) {
            let (since, told) = root.down.unwrap_or((now, None));
            let ending = ending.or(told);
            root.down = Some((since, ending));
            self.state.ending = ending;
            self.store();
        }
    }

    /// It does not, after all.
    pub(super) fn root_goes_on(&mut self) {
        if let Some(root) = &mut self.root {
            root.down = None;
        }
    }

    pub(super) fn see_to_root(&mut self) {
        self.follow_root();
        self.look_for_root();
        self.keep_what_ends_need();
        self.keep_standby();
        self.keep_ways();
        self.end_machine();
    }

    fn follow_root(&mut self) {
        let Some(root) = &mut self.root else { return };
        match root.change.as_mut().map(RootChange::follow) {
            Some(Ok(true)) => {
                // Of the root that was: it may be about to be unmounted.
                root.resident = root.resident.take().map(|_| Resident::default());
                root.keep_at = Moment::ZERO;
                root.look_at = Moment::ZERO;
                tracing::info!("the root was changed, and is followed");
                self.stored = None;
                self.persist();
            }
            Some(Err(error)) => tracing::debug!("the root of process 1: {error}"),
            Some(Ok(false)) | None => {}
        }
    }

    /// Nothing of the root itself is read for it.
    fn look_for_root(&mut self) {
        let now = self.now();
        if let Some(root) = self.root.as_mut().filter(|root| now >= root.look_at) {
            root.look_at = now + KEEP_AGAIN;
            root.carries = kernel::carries_root(&self.device);
        }
    }

    /// In a thread: whoever reads a file of the root may wait for its server.
    fn keep_what_ends_need(&mut self) {
        let now = self.now();
        let living = self.is_linked();
        let Some(root) = &mut self.root else { return };
        if now < root.keep_at || !living || root.down.is_some() {
            return;
        }
        let Some(mut resident) = root.resident.take() else {
            return;
        };
        root.keep_at = now + KEEP_AGAIN;
        let mailbox = self.work.mailbox.clone();
        let job = move || {
            if !is_in_memory() {
                resident.take(&needed());
            }
            mailbox.send(Mail::Resident(Box::new(resident)));
        };
        let builder = thread::Builder::new().name("resident".to_owned());
        if let Err(error) = builder.spawn(job) {
            tracing::warn!("what power-off needs is not kept in memory: {error}");
        }
    }

    pub(super) fn resident(&mut self, files: Resident) {
        if let Some(root) = &mut self.root {
            tracing::debug!("{} files are kept in memory", files.count());
            root.resident = Some(files);
        }
    }

    /// Nobody else can, where the root is lost, and what was to end the machine hangs.
    fn end_machine(&mut self) {
        let now = self.now();
        let allowed = self.state.settings.shutdown_timeout + LAST_RESORT;
        let out_for = self.machine.out_for(now);
        let Some((down, root)) = self.root.as_mut().and_then(|root| Some((root.down?, root)))
        else {
            return;
        };
        let (since, told) = down;
        if !root.carries || !is_lost(now, since, out_for, allowed) {
            return;
        }
        let ending = Ending::under_way().or(told).unwrap_or(Ending::PowerOff);
        tracing::error!("the root's server is gone: the machine is {ending} by its monitor");
        write_back();
        let errno = ending.carry_out();
        tracing::error!("the machine is not {ending}: {}", errno.desc());
        // It is tried again, but not without a pause.
        root.down = Some((now, told));
    }
}

/// What other file systems have in memory is written to their disks, which may live, as
/// far as that takes no longer: it begins with all of them at once.
fn write_back() {
    const ALLOWED: Duration = Duration::from_secs(5);
    let (done, wait) = mpsc::channel();
    let job = move || {
        sync();
        let _ = done.send(());
    };
    let builder = thread::Builder::new().name("write-back".to_owned());
    if builder.spawn(job).is_ok() {
        let _ = wait.recv_timeout(ALLOWED);
    }
}

/// Whether the machine has gone down for as long as that without its root.
fn is_lost(now: Moment, down: Moment, out_for: Option<Duration>, allowed: Duration) -> bool {
    let down_for = now.saturating_sub(down);
    out_for.is_some_and(|out| out.min(down_for) >= allowed)
}

/// This process's root is an initramfs, or what one left.
fn is_in_memory() -> bool {
    /// linux/magic.h
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    statfs("/").is_ok_and(|root| [RAMFS_MAGIC, TMPFS_MAGIC].contains(&root.filesystem_type()))
}

fn needed() -> BTreeSet<std::path::PathBuf> {
    let mut files: BTreeSet<_> = PROGRAMS.iter().map(Into::into).collect();
    files.insert(LOADER.into());
    // Their libraries are those of process 1, of themselves where they run, and of this
    // program where it runs from the root.
    for pid in std::iter::once(1).chain(running(PROGRAMS)) {
        files.extend(files_of(pid));
    }
    files.retain(|path| !path.starts_with("/dev"));
    files
}

/// Has the monitor of a root end that nobody manages: it comes from an initramfs where
/// there are no units. Its lock, or `None` where it does not let go.
pub(super) fn relieve(runtime: &Runtime) -> Result<Option<Lock>, Error> {
    let socket = runtime.control_socket();
    if let Err(error) = ask(&socket, &Request::Leave {}, ENDING) {
        tracing::warn!("{}: {error}", socket.display());
        return Ok(None);
    }
    let until = Instant::now() + ENDING;
    while Instant::now() < until {
        if let Some(lock) = runtime.monitor_lock()? {
            return Ok(Some(lock));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_ended_when_it_goes_down_and_its_root_is_lost_for_long() {
        let s = Duration::from_secs;
        let lost = |now, down, out: Option<u64>| is_lost(s(now), s(down), out.map(s), s(30));
        // The server was away for an hour before.
        assert!(!lost(1029, 1000, Some(3600)));
        assert!(lost(1030, 1000, Some(3600)));
        // It went while the machine did.
        assert!(!lost(1039, 1000, Some(29)));
        assert!(lost(1040, 1000, Some(30)));
        // It is there, or is back.
        assert!(!lost(2000, 1000, None));
        assert!(!lost(2000, 1000, Some(1)));
    }

    #[test]
    fn what_process_1_runs_from_is_needed_and_no_device_is() {
        let needed = needed();
        assert!(needed.contains(std::path::Path::new(PROGRAMS[0])));
        assert!(needed.contains(std::path::Path::new(LOADER)));
        assert!(!needed.iter().any(|path| path.starts_with("/dev")));
    }
}
