//! Starting a relay, and waiting until it has a session.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::{SFlag, fstat};

use super::line::Line;
use super::{Heard, MAX_ADDRESSES, Relay, patience};
use crate::config::Settings;
use crate::kernel::{KernelSocket, Process};
use crate::monitor::control;
use crate::monitor::error::Error;
use crate::monitor::machine::Failure;
use crate::relay::message::{Begin, Failed, Offered, Order};

/// What a process takes to begin, beside its session: memory is locked, rights are
/// dropped, and the machine may be busy.
const BESIDE: Duration = Duration::from_secs(5);

/// How often it is looked whether anybody still wants it.
const TICK: Duration = Duration::from_millis(100);

/// What a relay is started with.
pub(in crate::monitor) struct Start<'a> {
    pub(in crate::monitor) settings: &'a Settings,
    /// As [`Address`](crate::session::Address) prints them.
    pub(in crate::monitor) addresses: Vec<String>,
    /// Where it listens until it is [installed](Relay::install): nobody else's.
    pub(in crate::monitor) socket: PathBuf,
    /// The machine goes down.
    pub(in crate::monitor) going_down: bool,
    /// For its first session.
    pub(in crate::monitor) allowed: Duration,
}

/// A relay with a session, which carries nothing yet.
#[derive(Debug)]
pub(in crate::monitor) struct Offering {
    pub(in crate::monitor) relay: Relay,
    /// The kernel's end.
    pub(in crate::monitor) socket: KernelSocket,
    pub(in crate::monitor) offered: Offered,
}

/// Why there is none.
#[derive(Debug)]
pub(in crate::monitor) enum NoRelay {
    /// It has no session, and says why.
    Failed(Failed),
    /// It could not be started, or ended without a word.
    Lost(String),
    /// Nobody wants it any more.
    Stopped,
}

impl Start<'_> {
    /// Starts it, tells `begun`, and waits for its session.
    pub(in crate::monitor) fn run(
        self,
        begun: impl FnOnce(),
        stopped: &dyn Fn() -> bool,
    ) -> Result<Offering, NoRelay> {
        self.run_as(program(), begun, stopped)
    }

    pub(super) fn run_as(
        self,
        program: Command,
        begun: impl FnOnce(),
        stopped: &dyn Fn() -> bool,
    ) -> Result<Offering, NoRelay> {
        let lost =
            |error: &io::Error| NoRelay::Lost(format!("a relay could not be started: {error}"));
        let (socket, theirs) =
            KernelSocket::pair().map_err(|error| NoRelay::Lost(error.to_string()))?;
        let (child, stream) = self.listen(program, theirs).map_err(|error| {
            let _ = fs::remove_file(&self.socket);
            lost(&error)
        })?;
        let found = Process::of(child.id());
        reap(child);
        let process = found.ok_or_else(|| lost(&io::ErrorKind::NotFound.into()))?;
        let line = Line::new(stream).map_err(|error| lost(&error))?;
        let mut relay = Relay::new(line, process, &self.socket, true);
        begun();
        relay.order(&Order::Begin(self.begin()));
        let offered = wait(&mut relay, self.allowed + BESIDE, stopped)?;
        Ok(Offering {
            relay,
            socket,
            offered,
        })
    }

    /// The process, and the first connection to it. Of its sockets no copy is left here:
    /// its end could not be seen.
    fn listen(&self, mut program: Command, theirs: OwnedFd) -> io::Result<(Child, UnixStream)> {
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&self.socket)?;
        program.stdin(OwnedFd::from(listener)).stdout(theirs);
        let mut child = program.spawn()?;
        drop(program);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        match control::connect(&self.socket).and_then(|stream| stream.ok_or_else(refused)) {
            Ok(stream) => Ok((child, stream)),
            Err(error) => {
                let _ = child.kill();
                reap(child);
                Err(error)
            }
        }
    }

    fn begin(&self) -> Begin {
        let settings = self.settings;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Begin {
            name: settings.name.to_string(),
            uri: settings.uri.to_string(),
            addresses: self.addresses.iter().take(MAX_ADDRESSES).cloned().collect(),
            connections: settings.connections.get(),
            identity: settings.identity.clone(),
            patience: patience(settings, self.going_down),
            silence_timeout_ms: millis(settings.silence_timeout),
            settle_time_ms: millis(settings.settle_time),
            connect_timeout_ms: millis(self.allowed),
            log_bytes: 0,
        }
    }
}

/// This program, without what our own service manager told us.
fn program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("nbdctl").arg("relay").current_dir("/");
    for name in [
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
    ] {
        command.env_remove(name);
    }
    command.stderr(log());
    command
}

/// Where a relay says what it cannot log: not where whoever started us waits for our end,
/// which a relay outlives.
fn log() -> Stdio {
    let is_pipe = |mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFIFO;
    match fstat(io::stderr()) {
        Ok(stat) if !is_pipe(stat.st_mode) => Stdio::inherit(),
        _ => Stdio::null(),
    }
}

/// Waits for its end, so that nothing is left of it.
fn reap(mut child: Child) {
    let wait = move || {
        let _ = child.wait();
    };
    if let Err(error) = thread::Builder::new().name("reaper".to_owned()).spawn(wait) {
        tracing::debug!("no thread waits for a relay's end: {error}");
    }
}

/// Waits for a session, or for why there is none.
pub(super) fn wait(
    relay: &mut Relay,
    allowed: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<Offered, NoRelay> {
    let until = Instant::now() + allowed;
    loop {
        match relay.hear_within(TICK) {
            Heard::Nothing => {}
            Heard::News => {
                let Some(report) = relay.report() else {
                    continue;
                };
                if let Some(failed) = &report.failed {
                    return Err(NoRelay::Failed(failed.clone()));
                }
                if let Some(offered) = &report.offered {
                    return Ok(offered.clone());
                }
            }
            Heard::End => {
                return Err(NoRelay::Lost(
                    "a relay ended without a word: see the system's log".to_owned(),
                ));
            }
        }
        if stopped() {
            return Err(NoRelay::Stopped);
        }
        if Instant::now() >= until {
            return Err(NoRelay::Failed(Failed {
                why: format!("a relay had no session within {} s", allowed.as_secs()),
                exit: 6,
                stalled: true,
            }));
        }
    }
}

impl From<NoRelay> for Failure {
    fn from(none: NoRelay) -> Self {
        let (why, stalled) = match none {
            NoRelay::Failed(failed) => (failed.why, failed.stalled),
            NoRelay::Lost(why) => (why, false),
            NoRelay::Stopped => ("nobody wants it any more".to_owned(), false),
        };
        Self { why, stalled }
    }
}

impl From<NoRelay> for Error {
    fn from(none: NoRelay) -> Self {
        match none {
            NoRelay::Failed(failed) => Self::Relayed {
                said: failed.why,
                exit: Some(failed.exit),
            },
            NoRelay::Lost(said) => Self::Relayed {
                said,
                exit: Some(1),
            },
            NoRelay::Stopped => crate::kernel::Error::Interrupted.into(),
        }
    }
}
