//! Where what is logged goes: to standard error for those who look at it; from a
//! monitor to the journal where it is, else to the kernel's log, which every
//! machine has, the initramfs included.
//!
//! A monitor must not wait for its log: who writes it may wait for the very device
//! whose outage is being told. What cannot be had at once is lost.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixDatagram;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where the journal takes messages (systemd's native protocol).
const JOURNAL: &str = "/run/systemd/journal/socket";

pub(super) fn set_up(verbose: bool, monitor: bool) {
    let level = match (verbose, monitor) {
        (true, _) => LevelFilter::DEBUG,
        (false, true) => LevelFilter::INFO,
        (false, false) => LevelFilter::WARN,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .with_ansi(false);
    let system = monitor.then(System::open).flatten();
    match system.filter(|_| !io::stderr().is_terminal()) {
        Some(system) => log.with_level(false).with_writer(system).init(),
        None => log.with_writer(io::stderr).init(),
    }
}

/// The system's log.
enum System {
    Journal(UnixDatagram),
    Kernel(File),
}

impl System {
    fn open() -> Option<Self> {
        let journal = || {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            socket.connect(JOURNAL).ok()?;
            Some(Self::Journal(socket))
        };
        let kernel = || File::options().append(true).open("/dev/kmsg").ok();
        journal().or_else(|| kernel().map(Self::Kernel))
    }

    /// One message, whole or not at all.
    fn send(&self, priority: u8, text: &str) {
        /// The kernel cuts what is longer than about a kilobyte.
        const MAX: usize = 900;
        // A line each: the protocol's simple form has no other place for a message.
        let text: String = text.trim().replace('\n', " ");
        let sent = match self {
            Self::Journal(socket) => socket.send(
                format!("SYSLOG_IDENTIFIER=nbdctl\nPRIORITY={priority}\nMESSAGE={text}\n")
                    .as_bytes(),
            ),
            Self::Kernel(file) => {
                let pid = std::process::id();
                let line = format!("<{priority}>nbdctl[{pid}]: {text}");
                let mut file = file;
                file.write(line.as_bytes().get(..MAX).unwrap_or(line.as_bytes()))
            }
        };
        // Nobody could be told.
        let _ = sent;
    }
}

impl<'a> MakeWriter<'a> for System {
    type Writer = Message<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        self.message(Level::INFO)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        self.message(*meta.level())
    }
}

impl System {
    fn message(&self, level: Level) -> Message<'_> {
        // syslog(3)'s: error, warning, notice, debug.
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 5,
            _ => 7,
        };
        Message {
            system: self,
            priority,
            text: Vec::new(),
        }
    }
}

/// A message that is sent when it is complete.
struct Message<'a> {
    system: &'a System,
    priority: u8,
    text: Vec<u8>,
}

impl Write for Message<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        self.system.send(self.priority, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_reads_nothing_holds_nobody_up() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let system = System::Journal(ours);
        let mut first = system.message(Level::WARN);
        first.write_all(b"two\nlines\n").unwrap();
        drop(first);
        for _ in 0..10_000 {
            system.send(5, "more than any queue has");
        }
        let mut buffer = [0; 256];
        let count = theirs.recv(&mut buffer).unwrap();
        assert_eq!(
            std::str::from_utf8(&buffer[..count]).unwrap(),
            "SYSLOG_IDENTIFIER=nbdctl\nPRIORITY=4\nMESSAGE=two lines\n"
        );
    }
}
