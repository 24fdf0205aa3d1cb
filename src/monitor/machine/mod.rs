//! What the monitor decides, as a pure function of what happened and the time.
//!
//! It must not know a socket, a clock or a file: events and moments come in,
//! actions and the next moment to look come out, and an hour of outages is a
//! test of a millisecond.

mod event;
mod places;
mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(super) use event::{
    Acks, Action, AttemptId, CutReason, Event, Failure, HandedOver, LinkId, Moment, Offer, PlaceId,
    Policy, Probe, Sample,
};
use places::Places;

use crate::session::{Jitter, Silence};

/// After the kernel dropped a session: it sees a dead link a moment later.
const AFTER_DROPPED: Duration = Duration::from_millis(50);

/// So often in a row, the kernel is right: a link lives that we know nothing of.
const BELIEVED: u32 = 5;

/// After the kernel refused a session or did not come back.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// No command takes that long, but behind one of another device that hangs.
const STUCK: Duration = Duration::from_secs(10);

/// A link that lives no longer was of no use.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// How often a name is resolved anew in an outage.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// How things stand, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Every link lives.
    Connected,
    /// Some do.
    Degraded,
    /// None does, and I/O waits.
    Reconnecting,
    /// None does, and I/O fails.
    Dead,
}

/// What is told of the past.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct History {
    /// Links replaced.
    pub(super) reconnects: u64,
    /// Times without any link.
    pub(super) outages: u64,
    /// In milliseconds.
    pub(super) last_outage_ms: Option<u64>,
    /// In words.
    pub(super) last_error: Option<String>,
}

impl History {
    /// Goes on with what happened after it.
    pub(super) fn absorb(&mut self, newer: &Self) {
        self.reconnects += newer.reconnects;
        self.outages += newer.outages;
        self.last_outage_ms = newer.last_outage_ms.or(self.last_outage_ms);
        if newer.last_error.is_some() {
            self.last_error.clone_from(&newer.last_error);
        }
    }
}

/// One connection.
#[derive(Debug, Clone, Copy)]
struct Link {
    id: LinkId,
    alive: bool,
    /// It cannot be seen how it is; the kernel's answer to a RECONFIGURE tells.
    unseen: bool,
    /// Where it leads, where that is known.
    place: Option<PlaceId>,
    /// It is to die, and has not yet.
    cut: bool,
}

/// A session that waits to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    attempt: AttemptId,
    place: PlaceId,
    offer: Offer,
}

/// How long a session waits before it is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settling {
    /// Whatever died was closed by its server, which is at nothing that it had read.
    Not,
    /// A link was cut, and its server may still be at what it had read; no session
    /// was greeted since.
    Ungreeted,
    /// The first session since was greeted then.
    Since(Moment),
}

/// A command that the kernel works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    HandOver(Waiting),
    GiveUp,
    Resize,
}

/// The state machine of one device.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    policy: Policy,
    links: Vec<Link>,
    next_link: u32,
    places: Places,
    jitter: Jitter,
    silence: Silence,
    /// Since when a link is missing.
    broken_since: Option<Moment>,
    /// Since when none is left.
    out_since: Option<Moment>,
    settling: Settling,
    /// When the last link was made.
    linked_at: Option<Moment>,
    gave_up: bool,
    waiting: Option<Waiting>,
    /// Sessions that are of no use any more.
    useless: Vec<AttemptId>,
    /// How often in a row the kernel held that no link is dead.
    dropped: u32,
    busy: Option<Busy>,
    /// When it got the last such command.
    busy_since: Moment,
    not_before: Moment,
    resolving: bool,
    next_resolve: Moment,
    next_sample: Moment,
    going_down: bool,
    larger: Option<u64>,
    history: History,
}

impl Machine {
    /// For a device with these links, at `now`; an id for each is given by its
    /// place in the list. `unseen` ones are taken for living.
    pub(super) fn new(policy: Policy, links: &[Seen], now: Moment) -> Self {
        let mut jitter = Jitter::new(policy.seed);
        let spread = Duration::from_millis(jitter.below(5_000));
        let silence = Silence::new(policy.silence_timeout, now, spread);
        let mut machine = Self {
            places: Places::new(policy.connect_timeout),
            policy,
            links: Vec::new(),
            next_link: 0,
            jitter,
            silence,
            broken_since: None,
            out_since: None,
            settling: Settling::Not,
            linked_at: None,
            gave_up: false,
            waiting: None,
            useless: Vec::new(),
            dropped: 0,
            busy: None,
            busy_since: now,
            not_before: now,
            resolving: false,
            next_resolve: now,
            next_sample: now,
            going_down: false,
            larger: None,
            history: History::default(),
        };
        for seen in links {
            let id = machine.new_id();
            machine.links.push(Link {
                id,
                alive: *seen != Seen::Dead,
                unseen: *seen == Seen::Unknown,
                place: None,
                cut: false,
            });
        }
        machine.noted_links(now);
        machine
    }

    /// What an earlier monitor knew: its history, that I/O fails already, that a
    /// link was cut, that the export has grown, and how long before `now` there was no link left.
    pub(super) fn inherit(&mut self, now: Moment, inheritance: Inheritance) {
        self.history = inheritance.history;
        self.going_down = inheritance.going_down;
        self.larger = inheritance.larger;
        if self.broken_since.is_some() && inheritance.settles {
            self.settling = Settling::Ungreeted;
        }
        if self.out_since.is_some() {
            // One that nobody saw begin.
            self.history.outages += u64::from(inheritance.out_for.is_none());
            self.gave_up = inheritance.gave_up;
            if let Some(ago) = inheritance.out_for {
                self.out_since = Some(now.saturating_sub(ago));
            }
        }
    }

    fn new_id(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link - 1)
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// What happened to a link that bears outages of its own server itself.
    pub(super) fn remember(&mut self, past: &History) {
        self.history.absorb(past);
    }

    /// Whether the machine goes down.
    pub(super) fn is_going_down(&self) -> bool {
        self.going_down
    }

    /// What a successor has to know.
    pub(super) fn legacy(&self, now: Moment) -> Inheritance {
        Inheritance {
            history: self.history.clone(),
            gave_up: self.gave_up,
            settles: self.settling != Settling::Not,
            going_down: self.going_down,
            out_for: self.out_since.map(|since| now.saturating_sub(since)),
            larger: self.larger,
        }
    }

    /// A size that the export has grown to and the device has not.
    pub(super) fn larger(&self) -> Option<u64> {
        self.larger
    }

    pub(super) fn is_alive(&self, link: LinkId) -> bool {
        self.links.iter().any(|l| l.id == link && l.alive)
    }

    /// The links that lead to these places: two servers of one name may have a cache
    /// each, so while one of its links lives, a device gets no other server.
    pub(super) fn lead(&mut self, places: &[(LinkId, PlaceId)]) {
        for (id, place) in places {
            for link in self.links.iter_mut().filter(|link| link.id == *id) {
                link.place = Some(*place);
            }
        }
    }

    /// The one place where a session may be from, while a link leads there.
    fn only_place(&self) -> Option<PlaceId> {
        let mut living = self.links.iter().filter(|link| link.alive);
        living.find_map(|link| link.place)
    }

    /// Links that live on the kernel's word alone.
    pub(super) fn unseen(&self) -> impl Iterator<Item = LinkId> + '_ {
        let unseen = self.links.iter().filter(|link| link.alive && link.unseen);
        unseen.map(|link| link.id)
    }

    /// A link is dead, and it is one that cannot be seen.
    pub(super) fn lose_unseen(&mut self, now: Moment) {
        for link in self.links.iter_mut().filter(|link| link.unseen) {
            link.alive = false;
        }
        self.noted_links(now);
    }

    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.links.iter().map(|link| link.id)
    }

    /// The link that the last [`HandedOver::Taken`] made.
    pub(super) fn newest(&self) -> Option<LinkId> {
        self.links.iter().map(|link| link.id).max()
    }

    pub(super) fn standing(&self) -> Standing {
        match (self.broken_since, self.out_since, self.gave_up) {
            (_, Some(_), true) => Standing::Dead,
            (_, Some(_), false) => Standing::Reconnecting,
            (Some(_), None, _) => Standing::Degraded,
            (None, None, _) => Standing::Connected,
        }
    }

    /// How long there has been no link.
    pub(super) fn out_for(&self, now: Moment) -> Option<Duration> {
        self.out_since.map(|since| now.saturating_sub(since))
    }

    /// How much longer I/O waits in this outage; `None` outside of one, and where
    /// it waits for ever.
    pub(super) fn patience_left(&self, now: Moment) -> Option<Duration> {
        self.patience_ends().map(|end| end.saturating_sub(now))
    }

    /// Its server lets requests wait, and it cannot be told why.
    pub(super) fn cannot_tell(&self, now: Moment) -> bool {
        self.silence.cannot_tell(now)
    }

    /// How long requests have waited while nothing came from the server.
    pub(super) fn silent_for(&self, now: Moment) -> Option<Duration> {
        self.silence.still_for(now)
    }

    /// How long the kernel has been at a command, where that is no longer usual.
    pub(super) fn stuck_for(&self, now: Moment) -> Option<Duration> {
        let since = now.saturating_sub(self.busy_since);
        (self.busy.is_some() && since >= STUCK).then_some(since)
    }

    /// The kernel gets a command.
    fn occupy(&mut self, now: Moment, busy: Busy) {
        self.busy = Some(busy);
        self.busy_since = now;
    }

    /// When [`Event::Tick`] is due, at the latest.
    pub(super) fn wake(&self) -> Option<Moment> {
        let mut moments = vec![self.next_sample];
        if self.wants_session() {
            moments.extend(self.places.next(self.only_place()));
            if self.policy.resolves && !self.resolving {
                moments.push(self.next_resolve);
            }
        }
        if self.busy.is_none() {
            if self.waiting.is_some() {
                moments.push(self.ready());
            } else {
                moments.extend(self.patience_ends());
            }
        }
        moments.into_iter().min()
    }

    /// Whether a [`Sample`] is due.
    pub(super) fn wants_sample(&self, now: Moment) -> bool {
        now >= self.next_sample
    }
}

/// How a link was when the machine began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It lives.
    Alive,
    /// It does not.
    Dead,
    /// That cannot be seen.
    Unknown,
}

/// What one monitor leaves to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Inheritance {
    /// What was.
    pub(super) history: History,
    /// I/O fails.
    pub(super) gave_up: bool,
    /// A link was cut.
    pub(super) settles: bool,
    /// The machine goes down.
    pub(super) going_down: bool,
    /// How long there has been no link.
    pub(super) out_for: Option<Duration>,
    /// A size that the export has grown to, and the device has not. Older versions left
    /// it to the next reconnect.
    #[serde(default)]
    pub(super) larger: Option<u64>,
}
