//! A process beside the monitor of a root, in memory as that is: when the monitor ends
//! that nobody told to, and its server is away, nothing can be executed that would be its
//! successor. So this one goes on in its place. It must not know what a monitor does.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::control::{Request, ask};
use super::interrupt::Interrupt;
use super::runtime::Runtime;
use crate::config::Name;
use crate::kernel::{self, RootChange};

/// What a successor may take that somebody executes. (The unit waits for two seconds.)
const SUCCESSOR: Duration = Duration::from_secs(10);

/// How often it is looked for one.
const LOOK: Duration = Duration::from_millis(100);

/// What one takes to answer.
const ANSWER: Duration = Duration::from_secs(2);

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
    kernel::leave_no_core();
    // What is said to a monitor is not said to this; and what comes is forgotten below.
    let interrupt = Interrupt::hold();
    // Without, it would be of no use where the root is another one by then.
    let Some(mut root) = RootChange::watch() else {
        return false;
    };
    let mut word = [0];
    match io::stdin().read(&mut word) {
        Ok(0) => {}
        // It was dismissed; or nobody knows.
        _ => return false,
    }
    if let Err(error) = root.follow() {
        tracing::warn!("the root of process 1: {error}");
    }
    let needed = nobody_follows(&Runtime::of(name));
    while interrupt.came() {}
    if needed {
        tracing::warn!("the monitor is gone, and nobody takes its place: so does this process");
    }
    needed
}

/// Who has the lock is about to be a monitor, or about to end; who answers is one.
fn nobody_follows(runtime: &Runtime) -> bool {
    let until = Instant::now() + SUCCESSOR;
    let socket = runtime.control_socket();
    loop {
        let answer = ask(&socket, &Request::Status {}, ANSWER).ok().flatten();
        if answer.is_some_and(|answer| answer.status.is_some()) {
            return false;
        }
        if Instant::now() >= until && !runtime.is_monitored() {
            return true;
        }
        thread::sleep(LOOK);
    }
}
