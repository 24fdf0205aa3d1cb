//! The unit of an export under systemd, `nbdctl@NAME.service`: starting it for an
//! attach, and whether it is being stopped for good. systemctl(1) is how systemd is
//! asked, each time with a deadline: it may wait for a disk of ours itself.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::LOCK_DEADLINE;
use super::error::Error;
use super::interrupt::Interrupt;
use super::lookup::by_name;
use super::runtime::{Runtime, make_folder};
use crate::config::{Kind, Name, Places, Settings, find, to_toml, unit_name};
use crate::kernel;

/// Where systemd looks for units that are installed.
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// systemd answers in milliseconds.
const ANSWER: Duration = Duration::from_secs(20);

/// How often it is asked how a start gets on.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Whether exports are units here.
pub(super) fn is_used() -> bool {
    let installed = |folder: &&str| Path::new(folder).join("nbdctl@.service").exists();
    sd_notify::booted().unwrap_or(false) && FOLDERS.iter().any(installed)
}

/// Starts the unit of an export, and waits until there is a usable device of its
/// NAME; whose that is, is for the caller to see. `kept` is what an attached device
/// has, which only wants a monitor.
///
/// # Errors
///
/// [`Error::Relayed`], as the monitor put it; [`Error::NotYet`] where it goes on
/// trying; [`Error::Configured`], [`Error::Misconfigured`].
pub(super) fn start(
    settings: &Settings,
    kept: Option<&Settings>,
    allowed: Duration,
) -> Result<(), Error> {
    let interrupt = Interrupt::hold();
    let runtime = Runtime::of(&settings.name);
    let is_ours = {
        let _lock = runtime.lock(LOCK_DEADLINE)?;
        configure(settings, kept, &runtime)
    };
    let unit = unit_name(&settings.name);
    let starting = Starting {
        unit: &unit,
        settings,
        runtime: &runtime,
        is_ours: *is_ours.as_ref().unwrap_or(&false),
    };
    let started = is_ours.and_then(|_| starting.run(allowed, &interrupt));
    if started.is_err() {
        if starting.is_ours {
            // Nobody would know of it any more.
            let _ = systemctl(&["stop", &unit]);
            let _ = systemctl(&["reset-failed", &unit]);
            forget(&settings.name);
        }
        if !runtime.is_monitored() {
            runtime.tidy();
        }
    }
    started
}

/// Sees to it that the unit finds its settings; true where that took a file in /run
/// for an export that nobody else is at.
fn configure(
    settings: &Settings,
    kept: Option<&Settings>,
    runtime: &Runtime,
) -> Result<bool, Error> {
    let places = Places::default();
    let ad_hoc = places.run.join(format!("{}.toml", settings.name));
    let configured = |path| Error::Configured {
        name: settings.name.clone(),
        path,
    };
    let found = find(&places, &settings.name);
    match (found, kept) {
        // The monitor takes what is attached over, whatever is written.
        (Ok(Some(export)), Some(_)) if export.kind != Kind::Run => Ok(false),
        (Ok(Some(export)), None) if export.kind != Kind::Run => {
            if export.settings == *settings {
                Ok(false)
            } else {
                Err(configured(export.source.path))
            }
        }
        (Err(_), Some(_)) => Ok(false),
        (_, Some(kept)) => store(&ad_hoc, &to_toml(kept)).map(|()| false),
        (Err(problems), None) if !ad_hoc.exists() => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Err(Error::Misconfigured(problems.join("\n")))
        }
        (Ok(Some(export)), None) if runtime.is_monitored() => {
            // Another attach is at it.
            if export.settings == *settings {
                Ok(false)
            } else {
                Err(configured(ad_hoc))
            }
        }
        // One that is there is of an attach that was killed.
        (_, None) => store(&ad_hoc, &to_toml(settings)).map(|()| true),
    }
}

/// What attach wrote for an export that is no more.
pub(super) fn forget(name: &Name) {
    let path = Places::default().run.join(format!("{name}.toml"));
    let _ = fs::remove_file(path);
}

/// The same for one that never came to be.
pub fn forget_attempt(name: &Name) {
    if matches!(by_name(name), Ok(None)) {
        forget(name);
    }
}

/// Has systemd see that a device is no more: it could be about to start its monitor
/// again.
pub(super) fn stop(name: &Name) {
    if is_used() {
        let _ = systemctl(&["stop", "--no-block", &unit_name(name)]);
    }
}

struct Starting<'a> {
    unit: &'a str,
    settings: &'a Settings,
    runtime: &'a Runtime,
    /// It is configured by this attach, and ends with it.
    is_ours: bool,
}

impl Starting<'_> {
    fn run(&self, allowed: Duration, interrupt: &Interrupt) -> Result<(), Error> {
        let until = Instant::now() + allowed;
        // What failed before is not to be taken for how this goes.
        let _ = systemctl(&["reset-failed", self.unit]);
        let answer = systemctl(&["start", "--no-block", self.unit]).map_err(Error::Starting)?;
        if !answer.ok {
            return Err(Error::Starting(io::Error::other(answer.said())));
        }
        let mut asked = Instant::now();
        loop {
            if interrupt.came() {
                return Err(kernel::Error::Interrupted.into());
            }
            if by_name(&self.settings.name)?.is_some() {
                let usable = self.runtime.load().is_some_and(|state| state.usable);
                if usable && self.runtime.is_monitored() {
                    return Ok(());
                }
            }
            let now = Instant::now();
            if now >= asked + ASK_AGAIN || now >= until {
                asked = now;
                let how = How::of(self.unit)?;
                if how.has_failed() {
                    return Err(Error::Relayed {
                        said: how.words(self.unit),
                        exit: how.exit,
                    });
                }
                if now >= until {
                    return Err(self.late(how, allowed));
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn late(&self, how: How, allowed: Duration) -> Error {
        if self.is_ours {
            let seconds = allowed.as_secs();
            return Error::Relayed {
                said: format!("given up after {seconds} s: {}", how.words(self.unit)),
                exit: Some(6),
            };
        }
        Error::NotYet {
            name: self.settings.name.clone(),
            why: how.status,
        }
    }
}

/// How a unit is.
#[derive(Debug, Default, PartialEq, Eq)]
struct How {
    failed: bool,
    /// Something is to happen yet.
    queued: bool,
    /// Of the monitor, when it ended.
    exit: Option<u8>,
    /// What the monitor said last.
    status: String,
}

impl How {
    fn of(unit: &str) -> Result<Self, Error> {
        let properties = "ActiveState,SubState,Job,ExecMainStatus,StatusText";
        let answer = systemctl(&["show", "--property", properties, unit]);
        Ok(Self::parse(&answer.map_err(Error::Starting)?.stdout))
    }

    fn parse(text: &str) -> Self {
        let mut how = Self::default();
        for line in text.lines() {
            match line.split_once('=') {
                // It is not to be started again and again for an attach.
                Some(("ActiveState", "failed") | ("SubState", "auto-restart")) => how.failed = true,
                Some(("Job", job)) => how.queued = job.parse().is_ok_and(|job: u32| job > 0),
                Some(("ExecMainStatus", status)) => how.exit = status.parse().ok(),
                Some(("StatusText", words)) => words.clone_into(&mut how.status),
                _ => {}
            }
        }
        how
    }

    fn has_failed(&self) -> bool {
        self.failed && !self.queued
    }

    fn words(&self, unit: &str) -> String {
        if self.status.is_empty() {
            format!("{unit} failed: systemctl status {unit} tells more")
        } else {
            self.status.clone()
        }
    }
}

/// Whether systemd stops the unit of a NAME for good, and not to start it again.
///
/// # Errors
///
/// systemd does not answer.
pub fn is_being_stopped(name: &Name) -> io::Result<bool> {
    let answer = systemctl(&["list-jobs", "--no-legend", "--plain"])?;
    if !answer.ok {
        return Err(io::Error::other(answer.said()));
    }
    Ok(has_stop_job(&answer.stdout, &unit_name(name)))
}

/// Whether systemd takes the machine down; not where it does not say.
#[must_use]
pub fn machine_is_stopping() -> bool {
    systemctl(&["is-system-running"]).is_ok_and(|answer| answer.stdout.trim() == "stopping")
}

/// Lines of a number, a unit, a type and a state.
fn has_stop_job(jobs: &str, unit: &str) -> bool {
    jobs.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(unit) && words.next() == Some("stop")
    })
}

struct Answer {
    ok: bool,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn said(&self) -> String {
        format!("systemctl: {}", self.stderr.trim())
    }
}

fn systemctl(arguments: &[&str]) -> io::Result<Answer> {
    let mut child = Command::new("systemctl")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Both are read while it runs, or it could wait for us.
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let out = thread::spawn(move || text_of(stdout));
    let err = thread::spawn(move || text_of(stderr));
    let until = Instant::now() + ANSWER;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("systemd did not answer within {} s", ANSWER.as_secs()),
            ));
        }
        thread::sleep(Duration::from_millis(2));
    };
    Ok(Answer {
        ok: status.success(),
        stdout: out.join().unwrap_or_default(),
        stderr: err.join().unwrap_or_default(),
    })
}

fn text_of(pipe: Option<impl Read>) -> String {
    /// A line for each job of the machine.
    const MAX: u64 = 4 << 20;
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whole or not at all, and for root alone: a URI may hold a user's name.
pub(super) fn store(path: &Path, text: &str) -> Result<(), Error> {
    let new = PathBuf::from(format!("{}.new", path.display()));
    let write = || {
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let mut options = fs::File::options();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(|error| Error::Runtime {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_stop_job_is_told_from_a_restart() {
        let jobs = "12 nbdctl@x.service restart running\n13 nbdctl@xx.service stop waiting\n";
        assert!(!has_stop_job(jobs, "nbdctl@x.service"));
        assert!(has_stop_job(jobs, "nbdctl@xx.service"));
        assert!(!has_stop_job("", "nbdctl@x.service"));
        assert!(!has_stop_job("No jobs running.\n", "nbdctl@x.service"));
    }

    /// What an initramfs finds is written before there is a monitor that makes the folder.
    #[test]
    fn what_is_stored_is_roots_alone() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("nbdctl");
        let file = folder.join("x.toml");
        store(&file, "").unwrap();
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    }

    #[test]
    fn a_failed_start_is_told_in_the_monitors_words() {
        let how =
            How::parse("ActiveState=failed\nExecMainStatus=3\nStatusText=no export \"a=b\"\n");
        assert_eq!(how.words("u"), "no export \"a=b\"");
        assert_eq!((how.has_failed(), how.exit), (true, Some(3)));
        // A start that waits for its turn; what failed is an earlier one.
        assert!(!How::parse("ActiveState=failed\nJob=17\n").has_failed());
        assert!(How::parse("ActiveState=failed\nJob=\n").has_failed());
        let silent = How::parse("ActiveState=failed\nExecMainStatus=0\nStatusText=\n");
        assert!(silent.words("u").contains("systemctl status u"));
        assert!(How::parse("ActiveState=activating\nSubState=auto-restart\n").failed);
        assert!(!How::parse("ActiveState=activating\nSubState=start\n").failed);
    }
}
