//! Starting a monitor of one's own, and waiting until its device is usable.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::detach::detach;
use super::error::Error;
use super::interrupt::Interrupt;
use super::lookup::Target;
use crate::config::Settings;
use crate::kernel;

/// What a monitor tells on standard output to whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Announcement {
    /// The device can be used.
    Usable {
        /// N of /dev/nbdN.
        index: u32,
        /// What its user should know.
        warnings: Vec<String>,
    },
    /// Its server is away; the monitor goes on trying.
    Away {
        /// The word for how the device is.
        state: String,
        /// The last error.
        why: String,
    },
    /// Another monitor serves this NAME.
    Served,
}

/// A monitor that was told to end, and what it took, takes no longer than this.
const ENDING: Duration = Duration::from_secs(30);

/// Starts `nbdctl monitor NAME` in the background, and waits for what it
/// announces.
///
/// # Errors
///
/// [`Error::Relayed`], as the monitor put it; [`Error::Locked`] past `allowed`.
pub(super) fn launch(settings: &Settings, allowed: Duration) -> Result<Announcement, Error> {
    let interrupt = Interrupt::hold();
    let mut child = Command::new("/proc/self/exe")
        .arg0(process_title(settings))
        .args(["monitor", settings.name.as_str(), "--for-attach"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(starting)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended already has said why.
        let _ = serde_json::to_writer(&mut stdin, settings);
        let _ = stdin.flush();
    }
    let Some(mut stdout) = child.stdout.take() else {
        return Err(starting(io::ErrorKind::BrokenPipe.into()));
    };
    let said = listen(&mut child, &mut stdout, allowed, &interrupt);
    match said {
        // It was up before it was told to end, and stays: nobody wants it.
        Err(Error::Kernel(kernel::Error::Interrupted)) => {
            let _ = detach(&Target::Name(settings.name.clone()), false);
            Err(kernel::Error::Interrupted.into())
        }
        Ok(line) if !line.is_empty() => {
            serde_json::from_str(&line).map_err(|error| starting(error.into()))
        }
        Ok(_) => Err(failed(&mut child)),
        Err(error) => Err(error),
    }
}

/// How a monitor is called in lists of processes. From one with an `@` systemd keeps its
/// hands when it ends what is left over, in an initramfs and at the very end.
#[must_use]
pub fn process_title(settings: &Settings) -> &'static str {
    if settings.root { "@nbdctl" } else { "nbdctl" }
}

fn starting(error: io::Error) -> Error {
    Error::Starting(error)
}

/// One line, or nothing where it ended without one.
fn listen(
    child: &mut Child,
    stdout: &mut ChildStdout,
    allowed: Duration,
    interrupt: &Interrupt,
) -> Result<String, Error> {
    /// An index and a few sentences.
    const MAX: usize = 64 * 1024;
    let mut until = Instant::now() + allowed;
    let mut told = false;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < MAX {
        if interrupt.came() && !told {
            // It gives back what it took, and says so by ending.
            told = true;
            until = Instant::now() + ENDING;
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        if Instant::now() >= until {
            return Err(if told {
                kernel::Error::Interrupted.into()
            } else {
                Error::Locked {
                    holder: "the monitor".to_owned(),
                    allowed,
                }
            });
        }
        if !readable(stdout) {
            continue;
        }
        let mut buffer = [0; 4096];
        match stdout.read(&mut buffer).map_err(starting)? {
            0 => return Ok(String::new()),
            count => line.extend(buffer.get(..count).unwrap_or_default()),
        }
    }
    if told {
        return Err(kernel::Error::Interrupted.into());
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Within a moment short enough to look for signals between.
fn readable(stdout: &ChildStdout) -> bool {
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(50u8)).is_ok_and(|count| count > 0)
}

/// What a monitor said that ended before its device was usable.
fn failed(child: &mut Child) -> Error {
    /// A line or two.
    const MAX: u64 = 64 * 1024;
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX).read_to_string(&mut said);
    }
    let status = child.wait().ok().and_then(|status| status.code());
    let line = said.trim().trim_start_matches("nbdctl: ");
    Error::Relayed {
        said: if line.is_empty() {
            "its monitor ended without a word: the system's log may say more".to_owned()
        } else {
            line.to_owned()
        },
        exit: status.and_then(|code| u8::try_from(code).ok()),
    }
}
