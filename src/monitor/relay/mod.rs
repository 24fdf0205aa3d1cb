//! The monitor's side of a relay: starting one, what is said to it, and how it is.
//! What the two say is [`crate::relay::message`].
//!
//! To the state machine a relay is a link: what it does about its servers is its own
//! affair, and it is dead when its process is, or when it is stuck and was killed for
//! that.

mod line;
mod start;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(super) use start::Start;

use super::control;
use super::machine::History;
use crate::config::Settings;
use crate::kernel::geometry::{BlockSizes, Export, TransmissionFlags};
use crate::kernel::{Process, ProcessId};
use crate::relay::message::{Offered, Order, Patience, Report};
use line::Line;

/// How often a relay that says nothing is asked how it is.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How long a relay may take to end when its device is gone: what it holds by then
/// nobody waits for, and it is not to reach the server after what is written next.
const ENDING: Duration = Duration::from_secs(5);

/// A relay that hangs up on us again within this has no use for us.
const HANGS_UP_AGAIN: Duration = Duration::from_secs(2);

/// A relay that lives, or lived a moment ago.
#[derive(Debug)]
pub(super) struct Relay {
    line: Line,
    process: Process,
    report: Option<Report>,
    heard_at: Instant,
    /// Since when it owes a report.
    asked_at: Option<Instant>,
    /// When it last hung up on us.
    hung_up_at: Option<Instant>,
    /// Its control socket.
    socket: PathBuf,
    /// That is to go with this, and the process, too; they go on without, if not.
    ends_with_us: bool,
}

/// What a look at a relay found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// A report.
    News,
    /// It is gone, or takes nobody, or says what makes no sense.
    End,
}

impl Relay {
    /// The one behind a control socket, that an earlier monitor started and kept; it is
    /// killed where it takes nobody.
    pub(super) fn adopt(socket: &Path, id: ProcessId) -> Option<Self> {
        let process = Process::find(id)?;
        match control::connect(socket).and_then(|stream| stream.map(Line::new).transpose()) {
            Ok(Some(line)) => Some(Self::new(line, process, socket, false)),
            Ok(None) | Err(_) => {
                tracing::warn!(
                    "the relay, process {}, takes no orders: it is ended",
                    id.pid
                );
                process.kill();
                None
            }
        }
    }

    /// With its control socket: if it is ours and nobody [keeps](Self::keep) it, both go.
    fn new(line: Line, process: Process, socket: &Path, ends_with_us: bool) -> Self {
        Self {
            line,
            process,
            report: None,
            heard_at: Instant::now(),
            asked_at: None,
            hung_up_at: None,
            socket: socket.to_owned(),
            ends_with_us,
        }
    }

    pub(super) fn id(&self) -> ProcessId {
        self.process.id()
    }

    /// The last that it said.
    pub(super) fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// When that was.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Takes what it has said.
    pub(super) fn hear(&mut self) -> Heard {
        match self.line.last() {
            Ok(None) => Heard::Nothing,
            Ok(Some(report)) => {
                self.report = Some(report);
                self.heard_at = Instant::now();
                self.asked_at = None;
                Heard::News
            }
            Err(error) => {
                let hung_up = error.kind() != io::ErrorKind::InvalidData;
                if !hung_up {
                    tracing::warn!("the relay: {error}");
                }
                if hung_up && self.comes_back() {
                    Heard::Nothing
                } else {
                    Heard::End
                }
            }
        }
    }

    /// A relay hangs up on whoever does not read: a monitor that stood still. It lives,
    /// and has what servers may have lost, so it is not to die for that.
    fn comes_back(&mut self) -> bool {
        let now = Instant::now();
        let again = self
            .hung_up_at
            .replace(now)
            .is_some_and(|last| now.saturating_duration_since(last) < HANGS_UP_AGAIN);
        if again || self.process.has_ended() {
            return false;
        }
        let stream = control::connect(&self.socket);
        let Ok(Some(line)) = stream.and_then(|stream| stream.map(Line::new).transpose()) else {
            return false;
        };
        tracing::info!("the relay hung up, and is connected to anew");
        self.line = line;
        self.asked_at = None;
        true
    }

    /// The same, and waits for it.
    pub(super) fn hear_within(&mut self, allowed: Duration) -> Heard {
        let timeout = PollTimeout::try_from(allowed).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, timeout);
        self.hear()
    }

    /// Gives an order; a relay that does not take it shows that by its silence.
    pub(super) fn order(&mut self, order: &Order) {
        if let Err(error) = self.line.send(order) {
            tracing::debug!("the relay takes no order: {error}");
        }
    }

    /// Whether it has said nothing for `timeout` though it was asked; asks it, where it
    /// is time to.
    pub(super) fn is_stuck(&mut self, timeout: Duration) -> bool {
        let now = Instant::now();
        match self.asked_at {
            Some(asked) => now.saturating_duration_since(asked) >= timeout,
            None => {
                let quiet = now.saturating_duration_since(self.heard_at);
                if quiet >= ASK_AGAIN.min(timeout / 4) {
                    self.asked_at = Some(now);
                    self.order(&Order::Tell {});
                }
                false
            }
        }
    }

    /// Whether it is as this nbdctl would start it, as far as is known.
    pub(super) fn is_current(&self) -> bool {
        let told = self.report.as_ref();
        told.is_none_or(|report| report.version == env!("CARGO_PKG_VERSION"))
            && self.process.runs_our_program()
    }

    /// It is found at this path from now on, by whoever comes after us.
    pub(super) fn install(&mut self, path: &Path) -> io::Result<()> {
        if self.ends_with_us {
            std::fs::rename(&self.socket, path)?;
            path.clone_into(&mut self.socket);
        }
        Ok(())
    }

    /// It is to live on without us.
    pub(super) fn keep(&mut self) {
        self.ends_with_us = false;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    pub(super) fn kill(&self) {
        self.process.kill();
    }

    /// To be polled for reports, and for its end.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.ends_with_us {
            let _ = std::fs::remove_file(&self.socket);
            self.process.kill();
        }
    }
}

/// Asks a relay whose monitor is gone how it is.
pub(super) fn ask(socket: &Path, allowed: Duration) -> Option<Report> {
    let until = Instant::now() + allowed;
    let mut line = Line::new(control::connect(socket).ok()??).ok()?;
    loop {
        if let Some(report) = line.last().ok()? {
            return Some(report);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut fds = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX));
    }
}

/// Sees to it that the relay of a device that is gone is gone, too.
pub(super) fn see_off(relay: ProcessId) {
    let ends = |process: Process| process.ends_within(ENDING);
    if !Process::find(relay).is_none_or(ends) {
        let pid = relay.pid;
        tracing::warn!("the relay, process {pid}, did not end: it is killed");
        end(relay);
    }
}

/// Ends a relay, whatever it holds.
pub(super) fn end(relay: ProcessId) {
    if let Some(process) = Process::find(relay) {
        process.kill();
        let _ = process.ends_within(ENDING);
    }
}

/// More addresses than this no server has.
const MAX_ADDRESSES: usize = 8;

/// Where the server is by now.
pub(super) fn addresses(known: &[String]) -> Order {
    Order::Addresses(known.iter().take(MAX_ADDRESSES).cloned().collect())
}

/// How long I/O waits for a server.
pub(super) fn patience(settings: &Settings, going_down: bool) -> Patience {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Patience {
        dead_timeout_ms: settings.dead_timeout.duration().map(millis),
        shutdown_timeout_ms: millis(settings.shutdown_timeout),
        going_down,
    }
}

/// What a relay tells of its past.
pub(super) fn past(report: &Report) -> History {
    History {
        reconnects: report.reconnects,
        outages: report.outages,
        last_outage_ms: report.last_outage_ms,
        last_error: report.last_error.clone(),
    }
}

/// What a relay was offered, as servers offer it.
pub(super) fn export(offered: &Offered) -> Export {
    Export {
        size: offered.size,
        flags: TransmissionFlags(offered.flags),
        block_sizes: BlockSizes {
            minimum: offered.minimum,
            preferred: offered.preferred,
            maximum_payload: offered.maximum_payload,
        },
        told_block_sizes: true,
        canonical_name: None,
        description: None,
    }
}

#[cfg(test)]
mod tests;
