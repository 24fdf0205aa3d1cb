//! A process beside the monitor of a root, in memory as that is: when the monitor ends
//! that nobody told to, and its server is away, nothing can be executed that would be its
//! successor. So this one goes on in its place. It must not know what a monitor does.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::runtime::Runtime;
use crate::config::Name;
use crate::kernel::{self, RootChange};

/// What a successor may take that somebody executes. (The unit waits for two seconds.)
const SUCCESSOR: Duration = Duration::from_secs(10);

/// How often it is looked for one, and how many times in a row it is to be seen: what has
/// ended lets go of its lock a moment after it hung up.
const LOOK: Duration = Duration::from_millis(100);
const SEEN: u32 = 10;

/// What it finds in its environment that was said to its monitor.
const SAID: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// One that stands by. Where this is dropped it goes on as the monitor.
#[derive(Debug)]
pub(super) struct Standby {
    child: Child,
    line: ChildStdin,
}

impl Standby {
    /// Starts it. That waits for the disk where the root's server is away.
    pub(super) fn start(name: &Name) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("@nbdctl")
            .args(["monitor", name.as_str(), "--standby"])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for variable in SAID {
            command.env_remove(variable);
        }
        let mut child = command.spawn()?;
        let line = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, line })
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// It is needed no more, and ends.
    pub(super) fn dismiss(mut self) {
        let _ = self.line.write_all(&[0]);
        for _ in 0..100 {
            if !self.is_alive() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Waits until the monitor at the other end of standard input has ended; true where
/// somebody has to go on in its place.
#[must_use]
pub fn stand_by(name: &Name) -> bool {
    kernel::protect_process();
    kernel::keep_own_text();
    let mut root = RootChange::watch();
    let mut word = [0];
    match io::stdin().read(&mut word) {
        Ok(0) => {}
        // It was dismissed; or nobody knows.
        _ => return false,
    }
    if let Some(Err(error)) = root.as_mut().map(RootChange::follow) {
        tracing::warn!("the root of process 1: {error}");
    }
    let runtime = Runtime::of(name);
    let until = Instant::now() + SUCCESSOR;
    let mut seen = 0;
    while Instant::now() < until || seen > 0 {
        seen = if runtime.is_monitored() { seen + 1 } else { 0 };
        if seen >= SEEN {
            return false;
        }
        thread::sleep(LOOK);
    }
    tracing::warn!("the monitor is gone, and nobody takes its place: so does this process");
    true
}
