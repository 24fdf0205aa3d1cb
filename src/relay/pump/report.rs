//! How the relay is, for whoever is connected: kept here, and told by the control's
//! thread. It must not know a socket but the one that wakes that thread.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::super::message::{Connection, Holdings, Report};
use super::Pump;

/// What is told of a relay.
pub(super) struct Board {
    report: Mutex<Report>,
    times: Mutex<Times>,
    pump: OnceLock<Arc<Pump>>,
    wake: UnixStream,
    woken: UnixStream,
    /// Who is connected.
    readers: AtomicUsize,
}

/// What is told as it is by then.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// Since when there is no connection.
    pub(super) out_since: Option<Instant>,
    /// When I/O is to fail, while it waits.
    pub(super) fails_at: Option<Instant>,
}

impl Board {
    pub(super) fn new() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self {
            report: Mutex::new(Report {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                ..Report::default()
            }),
            times: Mutex::default(),
            pump: OnceLock::new(),
            wake,
            woken,
            readers: AtomicUsize::new(0),
        })
    }

    /// There is something to ask for figures.
    pub(super) fn has(&self, pump: &Arc<Pump>) {
        let _ = self.pump.set(Arc::clone(pump));
    }

    /// For what is told next.
    pub(super) fn times(&self, times: Times) {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner) = times;
    }

    /// Something is different: it is told at once.
    pub(super) fn change(&self, what: impl FnOnce(&mut Report)) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        what(&mut report);
        drop(report);
        // Full, it wakes as well.
        let _ = (&self.wake).write(&[0]);
    }

    /// Readable when something has changed.
    pub(super) fn woken(&self) -> &UnixStream {
        &self.woken
    }

    pub(super) fn readers(&self, count: usize) {
        self.readers.store(count, Ordering::Release);
    }

    /// Waits until nobody is connected, but not for long.
    pub(super) fn linger(&self, allowed: Duration) {
        let until = Instant::now() + allowed;
        while self.readers.load(Ordering::Acquire) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it is now.
    pub(super) fn report(&self) -> Report {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = report.clone();
        let times = *self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = |time: Duration| u64::try_from(time.as_millis()).ok();
        report.out_for_ms = times.out_since.and_then(|since| millis(since.elapsed()));
        let left = |end: Instant| millis(end.saturating_duration_since(Instant::now()));
        report.patience_left_ms = times.fails_at.and_then(left);
        let Some(pump) = self.pump.get() else {
            return report;
        };
        let core = pump.core();
        let figures = core.engine.figures();
        let links = core.links.clone();
        report.device_size = Some(core.engine.device_size());
        drop(core);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        report.figures = Holdings {
            in_flight: count(figures.asked),
            held: count(figures.held),
            logged: count(figures.logged),
            logged_bytes: figures.logged_bytes,
            replaying: figures.replaying,
            buffers: pump.buffers.total(),
        };
        report.connections = links
            .iter()
            .map(|link| {
                let (bytes_sent, bytes_received) = link.bytes();
                Connection {
                    peer: link.peer.clone(),
                    alive: true,
                    rtt_us: (pump.wires.facts)(link.socket()).map(|facts| facts.rtt_us),
                    bytes_sent,
                    bytes_received,
                }
            })
            .collect();
        report
    }
}
