//! When a relay dials, how long I/O waits for that, and when the relay ends: decided
//! here, and done elsewhere. It must not know a socket, a thread or a clock: times are
//! since the relay began.
//!
//! - An outage is the time without a connection. A server that greets, and goes without
//!   having been of use, ends none: patience is for those who wait.
//! - A server that was left though it may live gets `settle_time` from the greeting of
//!   the session that is to take its place, and from the moment that it was left.
//! - A drain, which is for a successor's sake, is for when the server is there: it is
//!   called off when that goes away.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::message::{Patience, Standing};
use crate::session::Jitter;

/// The least and the most that a handshake gets.
const HANDSHAKE: Duration = Duration::from_secs(1);
const LONG_HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection that lives no longer was of no use.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// After a server whose export does not fit, and where no attempt could be begun.
const UNFIT: Duration = Duration::from_secs(1);

/// How long the last changes are kept for a server that is away, when the kernel is
/// gone: nobody can be told then.
const LAST_PATIENCE: Duration = Duration::from_secs(60);

/// What does not change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Connections where the server allows several.
    pub(super) connections: usize,
    pub(super) settle_time: Duration,
    pub(super) seed: u64,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Dial, and give the handshake so long.
    Dial { handshake: Duration },
    /// Let the session that waits carry I/O.
    Admit,
    /// Patience is over: I/O fails until a server is there.
    GiveUp,
    /// The kernel is gone, and what it wrote cannot be flushed: end.
    End,
}

/// What a lost connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// An outage begins, and no earlier one goes on.
    pub(super) outage: bool,
    /// The drain is called off.
    pub(super) go_on: bool,
}

/// What a new connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gain {
    /// The outage that it ends.
    pub(super) lasted: Option<Duration>,
    /// It takes the place of one that was lost.
    pub(super) replaces: bool,
}

/// How the connections are, and what is due.
#[derive(Debug)]
pub(super) struct Reconnect {
    terms: Terms,
    patience: Patience,
    jitter: Jitter,
    wanted: usize,
    links: usize,
    /// Connections that were lost and not replaced.
    lost: usize,
    /// Since when one is missing, and since when all are.
    broken_since: Option<Duration>,
    out_since: Option<Duration>,
    /// The outage that the newest session ended, until that was of use: since when it
    /// is, and what servers had done for us by then.
    ended: Option<(Duration, u64)>,
    gave_up: bool,
    dialling: bool,
    next: Duration,
    handshake: Duration,
    /// A server was left in this outage that may still be at what it had.
    settles: bool,
    /// Until then a session waits for that.
    held_until: Option<Duration>,
    linked_at: Duration,
    /// Since when the kernel is gone.
    ending: Option<Duration>,
    draining: bool,
}

impl Reconnect {
    pub(super) fn new(terms: Terms, patience: Patience) -> Self {
        Self {
            terms,
            patience,
            jitter: Jitter::new(terms.seed),
            wanted: 1,
            links: 0,
            lost: 0,
            broken_since: None,
            out_since: None,
            ended: None,
            gave_up: false,
            dialling: false,
            next: Duration::ZERO,
            handshake: HANDSHAKE,
            settles: false,
            held_until: None,
            linked_at: Duration::ZERO,
            ending: None,
            draining: false,
        }
    }

    // ── what happens ──

    /// An attempt was begun, or could not be.
    pub(super) fn dialling(&mut self, now: Duration, begun: bool) {
        self.dialling = begun;
        if !begun {
            self.next = now + UNFIT;
        }
    }

    /// A session is there. `left`: a server was left, and its connection's end not told
    /// yet. Whether the session may carry I/O at once; else it is held until
    /// [`Due::Admit`].
    pub(super) fn greeted(&mut self, now: Duration, left: bool) -> bool {
        self.dialling = false;
        self.settles |= left;
        if self.settles {
            self.held_until = Some(now + self.terms.settle_time);
        }
        !self.settles
    }

    /// An attempt came to nothing; `stalled`: its server was not done in time.
    pub(super) fn failed(&mut self, now: Duration, stalled: bool) {
        self.dialling = false;
        let old = self.broken_since.map_or(Duration::ZERO, |it| now - it);
        self.next = self.next.max(now + self.jitter.pause(old));
        if stalled {
            self.handshake = (self.handshake * 2).min(LONG_HANDSHAKE);
        }
    }

    /// A session carries I/O. `several`: more may be had; `served`: what servers have
    /// done for us, as a count.
    pub(super) fn linked(&mut self, now: Duration, several: bool, served: u64) -> Gain {
        self.links += 1;
        self.wanted = if several { self.terms.connections } else { 1 };
        self.linked_at = now;
        self.handshake = HANDSHAKE;
        self.next = now;
        let gain = Gain {
            lasted: self.out_since.map(|since| now - since),
            replaces: self.lost > 0,
        };
        self.ended = self.out_since.take().map(|since| (since, served));
        self.lost = self.lost.saturating_sub(1);
        self.gave_up = false;
        self.settles = false;
        self.count(now);
        gain
    }

    /// A session's export does not fit.
    pub(super) fn unfit(&mut self, now: Duration) {
        self.next = now + UNFIT;
    }

    /// A connection ended. `left`: its server may live; `served`: as for
    /// [`Self::linked`], by now.
    pub(super) fn lost(&mut self, now: Duration, left: bool, served: u64) -> Loss {
        self.links = self.links.saturating_sub(1);
        self.lost += 1;
        if left {
            self.settles = true;
            let until = now + self.terms.settle_time;
            self.held_until = self.held_until.map(|held| held.max(until));
        }
        let short = now.saturating_sub(self.linked_at) < SHORT_LIFE;
        let pause = short.then(|| self.jitter.pause(Duration::ZERO));
        self.next = now + pause.unwrap_or_default();
        self.count(now);
        let all = self.links == 0 && self.out_since.is_none();
        let go_on = all && self.draining && self.ending.is_none();
        self.draining &= !go_on;
        let mut outage = false;
        if all {
            let useless = self.ended.take().filter(|(_, before)| *before == served);
            outage = useless.is_none();
            self.out_since = Some(useless.map_or(now, |(since, _)| since));
        }
        Loss { outage, go_on }
    }

    /// How long I/O waits from now on.
    pub(super) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// The machine goes down.
    pub(super) fn going_down(&mut self) {
        self.patience.going_down = true;
    }

    /// What is missing is dialled at once.
    pub(super) fn retry(&mut self, now: Duration) {
        self.next = now;
    }

    /// What is there is to be answered and flushed, as another takes our place then.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// No more requests come.
    pub(super) fn kernel_gone(&mut self, now: Duration) {
        self.ending.get_or_insert(now);
    }

    fn count(&mut self, now: Duration) {
        if self.links >= self.wanted {
            self.broken_since = None;
        } else {
            self.broken_since.get_or_insert(now);
        }
    }

    // ── what follows ──

    /// The next thing that is due; ask until there is none.
    pub(super) fn due(&mut self, now: Duration) -> Option<Due> {
        let passed = |moment: &Duration| now >= *moment;
        if self.ends_at().as_ref().is_some_and(passed) {
            return Some(Due::End);
        }
        if self.held_until.take_if(|until| now >= *until).is_some() {
            self.settles = false;
            return Some(Due::Admit);
        }
        if self.fails_at().as_ref().is_some_and(passed) {
            self.gave_up = true;
            return Some(Due::GiveUp);
        }
        if self.wants_session() && passed(&self.next) {
            self.dialling = true;
            let handshake = self.handshake;
            return Some(Due::Dial { handshake });
        }
        None
    }

    /// When something is due, if nothing happens before.
    pub(super) fn wake(&self) -> Option<Duration> {
        let dials = self.wants_session().then_some(self.next);
        let all = [dials, self.held_until, self.fails_at(), self.ends_at()];
        all.into_iter().flatten().min()
    }

    pub(super) fn standing(&self) -> Standing {
        match (self.links, self.gave_up) {
            (0, true) => Standing::Dead,
            (0, false) => Standing::Reconnecting,
            _ if self.links < self.wanted => Standing::Degraded,
            _ => Standing::Connected,
        }
    }

    /// Since when there is no connection.
    pub(super) fn out_since(&self) -> Option<Duration> {
        self.out_since
    }

    /// When I/O is to fail, while it waits.
    pub(super) fn fails_at(&self) -> Option<Duration> {
        let since = self.out_since.filter(|_| !self.gave_up)?;
        let Patience {
            dead_timeout_ms,
            shutdown_timeout_ms: last,
            going_down,
        } = self.patience;
        let hurried = dead_timeout_ms.map_or(last, |timeout| timeout.min(last));
        let millis = if going_down {
            Some(hurried)
        } else {
            dead_timeout_ms
        };
        // What is longer than the clock goes is for ever.
        let end = since.checked_add(Duration::from_millis(millis?))?;
        // A session that settles is waited for.
        Some(self.held_until.map_or(end, |until| end.max(until)))
    }

    fn wants_session(&self) -> bool {
        self.broken_since.is_some() && !self.dialling && self.held_until.is_none()
    }

    fn ends_at(&self) -> Option<Duration> {
        Some(self.ending?.max(self.out_since?) + LAST_PATIENCE)
    }
}
