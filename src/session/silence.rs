//! Telling a server that is gone from one that is slow.
//!
//! On the wire the two look alike but for this: a machine that lives and can be
//! reached acknowledges what it gets, however slow its server is; and a server
//! that works greets a second client, however long an answer takes it, unless it
//! serves one client at a time. So a link is dead when nothing that asks for an
//! acknowledgement gets one; and when requests wait, nothing at all moves, and a
//! server that is known to greet others greets nobody.

use std::time::Duration;

/// A point in time: since whatever the clock's owner calls its beginning.
type Moment = Duration;

/// What a second session found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The server greets others.
    Greeted,
    /// It took the connection and says nothing.
    Silent,
    /// There was no connection.
    Unreachable,
}

/// How things are, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample<L> {
    /// Requests that the driver works on.
    pub in_flight: u64,
    /// It changes with every byte and every answer.
    pub progress: u64,
    /// TCP links.
    pub links: Vec<(L, Acks)>,
}

/// What TCP knows of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acks {
    /// Since the last acknowledgement of any kind.
    pub since: Duration,
    /// How often in a row something was sent that asks for one.
    pub unanswered: u32,
}

/// Why a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutReason {
    /// The network does not acknowledge.
    NoAcks,
    /// The server answers nothing, and greets nobody.
    NoAnswers,
    /// A user wants it.
    Asked,
}

impl<L> Default for Sample<L> {
    fn default() -> Self {
        Self {
            in_flight: 0,
            progress: 0,
            links: Vec::new(),
        }
    }
}

/// A machine that lives acknowledges each; one may be under way.
const UNANSWERED: u32 = 2;

/// How long a healthy server has to greet a second client.
const GREETING: Duration = Duration::from_secs(2);

/// How long after a link was made a healthy server is asked, at least.
const LEARN_AFTER: Duration = Duration::from_secs(2);

/// How long after one that serves a single client, it seems, it is asked again; from
/// then on in steps that double, as each leaves a connection in its backlog. What
/// took too long to greet may have been busy.
const LEARN_AGAIN: Duration = Duration::from_secs(600);

/// What a sample asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspicion<L> {
    /// See whether the server greets a second client.
    Probe {
        /// How long it may take.
        allowed: Duration,
    },
    /// The link is dead.
    Cut(L, CutReason),
}

/// What is known of a server's silence. It is told what is seen, and when.
#[derive(Debug, Clone)]
pub struct Silence {
    timeout: Duration,
    /// Whether the server greets a second client; `None` until it was seen.
    greets_others: Option<bool>,
    progress: u64,
    /// Since when requests wait and nothing moves.
    still_since: Option<Moment>,
    probing: bool,
    next_probe: Moment,
    /// How long until a server that greets nobody else is asked again.
    again: Duration,
    /// Nothing moves, and the last probe could not tell why.
    inconclusive: bool,
}

impl Silence {
    /// For a server that may be silent so long, from `now` on; the first probe is
    /// later by `spread`.
    #[must_use]
    pub fn new(timeout: Duration, now: Duration, spread: Duration) -> Self {
        Self {
            timeout,
            greets_others: None,
            progress: 0,
            still_since: None,
            probing: false,
            next_probe: now + LEARN_AFTER + spread,
            again: LEARN_AGAIN,
            inconclusive: false,
        }
    }

    /// A link was made: perhaps another server's, which is asked anew, unless its
    /// other links are an answer.
    pub fn linked(&mut self, now: Moment, spread: Duration, alone: bool) {
        self.forget();
        if alone {
            self.greets_others = None;
            self.again = LEARN_AGAIN;
        }
        self.next_probe = now + LEARN_AFTER + spread;
    }

    /// When to look again, while all is well or not.
    #[must_use]
    pub fn interval(&self) -> Duration {
        (self.timeout / 8).clamp(Duration::from_millis(250), Duration::from_secs(5))
    }

    /// A link is gone or new: what stood still is no more.
    pub fn forget(&mut self) {
        self.still_since = None;
        self.inconclusive = false;
    }

    /// What is seen now; what is to be done.
    pub fn sampled<L: Copy + PartialEq>(
        &mut self,
        now: Moment,
        sample: &Sample<L>,
        living: &[L],
    ) -> Vec<Suspicion<L>> {
        let mut suspicions = Vec::new();
        for (link, acks) in &sample.links {
            if living.contains(link) && self.unreachable(*acks) {
                suspicions.push(Suspicion::Cut(*link, CutReason::NoAcks));
            }
        }
        let moves = sample.progress != self.progress || sample.in_flight == 0;
        self.progress = sample.progress;
        if moves {
            self.forget();
        } else {
            self.still_since.get_or_insert(now);
        }
        if suspicions.is_empty() && !living.is_empty() && self.wants_probe(now) {
            self.probing = true;
            let allowed = if self.still(now) {
                self.timeout
            } else {
                GREETING
            };
            suspicions.push(Suspicion::Probe { allowed });
        }
        suspicions
    }

    fn unreachable(&self, acks: Acks) -> bool {
        acks.since >= self.timeout && acks.unanswered >= UNANSWERED
    }

    fn still(&self, now: Moment) -> bool {
        self.still_since
            .is_some_and(|since| now.saturating_sub(since) >= self.timeout)
    }

    fn wants_probe(&self, now: Moment) -> bool {
        if self.probing || now < self.next_probe {
            return false;
        }
        // To learn it while all is well; to judge by it, when nothing moves.
        match self.greets_others {
            None => true,
            Some(true) => self.still(now),
            Some(false) => self.still_since.is_none(),
        }
    }

    /// What a probe found; the links to be cut for it are all that live.
    pub fn probed(&mut self, now: Moment, found: Probe) -> bool {
        self.probing = false;
        let still = self.still(now);
        self.next_probe = now + self.timeout;
        self.inconclusive = false;
        match (found, self.greets_others) {
            (Probe::Greeted, _) => {
                self.greets_others = Some(true);
                false
            }
            (Probe::Silent, Some(true)) => still,
            // Asked while nothing moved, it says nothing; while all is well, that
            // it serves one client at a time.
            (Probe::Silent, _) => {
                if still {
                    self.inconclusive = true;
                } else if self.still_since.is_none() {
                    self.greets_others = Some(false);
                    self.next_probe = now + self.again;
                    self.again *= 2;
                }
                false
            }
            (Probe::Unreachable, _) => false,
        }
    }

    /// How long requests have waited while nothing moved.
    #[must_use]
    pub fn still_for(&self, now: Duration) -> Option<Duration> {
        self.still_since.map(|since| now.saturating_sub(since))
    }

    /// It greets nobody else, and nothing moves: whether it is stuck or slow
    /// cannot be told.
    #[must_use]
    pub fn cannot_tell(&self, now: Moment) -> bool {
        self.still(now) && (self.inconclusive || self.greets_others == Some(false))
    }
}
