//! What a load's operations did: counts of all, the long ones with their times.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// Shorter ones are only counted.
const LONG: Duration = Duration::from_millis(50);
/// So many operations after a mark are kept however short.
const AFTER_MARK: u32 = 64;
/// Of everything that is listed; what comes later is only counted.
const MOST: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Read,
    Write,
    Flush,
    /// A read that is begun because all others are stuck.
    Probe,
}

/// An operation that ended.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub kind: Kind,
    pub block: u64,
    pub begun: Instant,
    pub ended: Instant,
    pub good: bool,
}

/// An operation that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub kind: Kind,
    pub block: u64,
    pub begun: Instant,
    keep: bool,
}

/// An operation that the device refused.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: Kind,
    pub block: u64,
    pub errno: Option<i32>,
    pub message: String,
    /// Both since the load began.
    pub begun: Duration,
    pub ended: Duration,
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begun, ended) = (self.begun.as_secs_f64(), self.ended.as_secs_f64());
        let (kind, block, message) = (self.kind, self.block, &self.message);
        write!(
            to,
            "{kind:?} of block {block}, {begun:.3} to {ended:.3} s: {message}"
        )
    }
}

/// A block that holds what it must not.
#[derive(Clone, Debug)]
pub struct Wrong {
    pub block: u64,
    /// Versions that it may have had: the last acknowledged, the last begun.
    pub expected: (u64, u64),
    pub got: super::stamp::Content,
    /// Since the load began; nothing for what verification found.
    pub at: Option<Duration>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acked, begun) = self.expected;
        let at = self.at.map_or_else(
            || "at the end".to_owned(),
            |at| format!("{:.3} s", at.as_secs_f64()),
        );
        write!(
            to,
            "block {} ({at}): {}, not {acked} to {begun}",
            self.block, self.got
        )
    }
}

/// All operations so far, the refused ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    pub probes: u64,
    /// Reads that met a write of the same block half done, which is no fault,
    /// and were repeated without one.
    pub overlaps: u64,
    pub errors: u64,
    pub wrong: u64,
}

impl Counts {
    pub fn all(&self) -> u64 {
        self.reads + self.writes + self.flushes + self.probes
    }
}

/// How long I/O took to go on, counted from when it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// To the first success after it among operations begun since the outage did.
    pub fresh: Option<Duration>,
    /// To the last end of those begun before the outage and unfinished at it;
    /// `Duration::MAX` while one is unfinished, nothing if there were none.
    pub in_flight: Option<Duration>,
    /// The same of all that were begun before it was over.
    pub waiting: Option<Duration>,
}

#[derive(Clone)]
pub struct Journal {
    pub start: Instant,
    pub counts: Counts,
    pub long: Vec<Operation>,
    pub errors: Vec<Failure>,
    pub wrong: Vec<Wrong>,
    pub pending: BTreeMap<u64, Pending>,
    next: u64,
    keep: u32,
}

impl Journal {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            counts: Counts::default(),
            long: Vec::new(),
            errors: Vec::new(),
            wrong: Vec::new(),
            pending: BTreeMap::new(),
            next: 0,
            keep: 0,
        }
    }

    pub fn mark(&mut self) -> Instant {
        self.keep = AFTER_MARK;
        Instant::now()
    }

    pub fn begin(&mut self, kind: Kind, block: u64) -> u64 {
        let keep = self.keep > 0;
        self.keep = self.keep.saturating_sub(1);
        self.next += 1;
        let begun = Instant::now();
        let operation = Pending {
            kind,
            block,
            begun,
            keep,
        };
        self.pending.insert(self.next, operation);
        self.next
    }

    pub fn end(&mut self, id: u64, result: &io::Result<()>) {
        let Pending {
            kind,
            block,
            begun,
            keep,
        } = self.pending.remove(&id).unwrap();
        let ended = Instant::now();
        let counts = &mut self.counts;
        *match kind {
            Kind::Read => &mut counts.reads,
            Kind::Write => &mut counts.writes,
            Kind::Flush => &mut counts.flushes,
            Kind::Probe => &mut counts.probes,
        } += 1;
        if (keep || ended - begun > LONG) && self.long.len() < MOST {
            self.long.push(Operation {
                kind,
                block,
                begun,
                ended,
                good: result.is_ok(),
            });
        }
        let Err(error) = result else { return };
        self.counts.errors += 1;
        if self.errors.len() < MOST {
            self.errors.push(Failure {
                kind,
                block,
                errno: error.raw_os_error(),
                message: error.to_string(),
                begun: begun - self.start,
                ended: ended - self.start,
            });
        }
    }

    pub fn wrong(&mut self, wrong: Wrong) {
        self.counts.wrong += 1;
        if self.wrong.len() < MOST {
            self.wrong.push(wrong);
        }
    }

    /// How operations went on that an outage, from `down` to `back`, held up.
    pub fn resumed_after(&self, down: Instant, back: Instant) -> Resumed {
        let fresh = self
            .long
            .iter()
            .filter(|one| one.good && one.begun >= down && one.ended >= back);
        Resumed {
            fresh: fresh.map(|one| one.ended - back).min(),
            in_flight: self.last_end(down, down, back),
            waiting: self.last_end(back, back, back),
        }
    }

    /// When, after `back`, the last ended of those begun before, and unfinished at, `at`.
    fn last_end(&self, begun: Instant, at: Instant, back: Instant) -> Option<Duration> {
        if self.pending.values().any(|one| one.begun < begun) {
            return Some(Duration::MAX);
        }
        let ended = self
            .long
            .iter()
            .filter(|one| one.begun < begun && one.ended >= at);
        ended
            .map(|one| one.ended.saturating_duration_since(back))
            .max()
    }
}
