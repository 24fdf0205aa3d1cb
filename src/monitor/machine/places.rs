//! The addresses to dial in an outage: which is due, and how much time it gets.

use std::time::Duration;

use super::event::{Action, AttemptId, Moment, PlaceId};
use crate::session::Jitter;

/// A connection is made within this, or tried again.
const CONNECT: Duration = Duration::from_secs(1);

/// How many connections to one address may be under way: where packets are
/// lost, the next is the one that finds them lost no more.
const UNDER_WAY: usize = 4;

/// A server that took a connection and is silent is given another after this: what
/// took the first may be a proxy whose server was away.
const STALLED: Duration = Duration::from_secs(2);

/// A handshake gets as much in the end, and more where the first attach would: the
/// end of patience may come so much too early for a server that is back.
const LONGEST: Duration = Duration::from_secs(10);

/// More addresses than this no server has.
pub(super) const MAX_PLACES: usize = 8;

#[derive(Debug, Clone)]
struct Attempt {
    id: AttemptId,
    begun: Moment,
    connected: bool,
}

#[derive(Debug, Clone)]
struct Place {
    id: PlaceId,
    next: Moment,
    handshake: Duration,
    under_way: Vec<Attempt>,
}

/// Every address, and the attempts that are under way.
#[derive(Debug, Clone)]
pub(super) struct Places {
    places: Vec<Place>,
    counter: u32,
    longest: Duration,
}

impl Places {
    /// One handshake may take as long as the first attach, after it took the first
    /// second in vain: what was attached so must be able to come back.
    pub(super) fn new(first_attach: Duration) -> Self {
        Self {
            places: Vec::new(),
            counter: 0,
            longest: first_attach.max(LONGEST),
        }
    }

    /// What the resolver says now. Attempts at an address that is no more are
    /// forgotten: what was found there may be a disk that is no longer served.
    pub(super) fn are(&mut self, ids: &[PlaceId]) {
        self.places.retain(|place| ids.contains(&place.id));
        for id in ids.iter().take(MAX_PLACES) {
            if !self.places.iter().any(|place| place.id == *id) {
                self.places.push(Place {
                    id: *id,
                    next: Moment::ZERO,
                    handshake: CONNECT,
                    under_way: Vec::new(),
                });
            }
        }
    }

    /// At once, as a link died or a user wants it.
    pub(super) fn hurry(&mut self, now: Moment) {
        for place in &mut self.places {
            place.next = now;
        }
    }

    /// Whatever is under way is of no use any more.
    pub(super) fn forget(&mut self) {
        for place in &mut self.places {
            place.under_way.clear();
            place.handshake = CONNECT;
        }
    }

    pub(super) fn connected(&mut self, attempt: AttemptId) {
        let all = self.places.iter_mut().flat_map(|p| &mut p.under_way);
        all.filter(|a| a.id == attempt)
            .for_each(|a| a.connected = true);
    }

    /// An attempt ended; where it led, if it was one of these. One that stalled gets
    /// longer the next time: the way there may simply be long.
    pub(super) fn ended(&mut self, attempt: AttemptId, stalled: bool) -> Option<PlaceId> {
        let longest = self.longest;
        for place in &mut self.places {
            let before = place.under_way.len();
            place.under_way.retain(|a| a.id != attempt);
            if place.under_way.len() < before {
                if stalled {
                    place.handshake = (place.handshake * 2).min(longest);
                }
                return Some(place.id);
            }
        }
        None
    }

    /// The attempts that are due, at one place only where that is given; the outage
    /// is `old`.
    pub(super) fn due(
        &mut self,
        now: Moment,
        old: Duration,
        only: Option<PlaceId>,
        jitter: &mut Jitter,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for place in &mut self.places {
            if only.is_some_and(|only| only != place.id) {
                continue;
            }
            if place.due().is_none_or(|due| due > now) {
                continue;
            }
            self.counter = self.counter.wrapping_add(1);
            let id = AttemptId(self.counter);
            place.under_way.push(Attempt {
                id,
                begun: now,
                connected: false,
            });
            place.next = now + jitter.pause(old);
            actions.push(Action::Dial {
                attempt: id,
                place: place.id,
                connect: CONNECT,
                handshake: place.handshake,
            });
        }
        actions
    }

    /// When one is, there or anywhere.
    pub(super) fn next(&self, only: Option<PlaceId>) -> Option<Moment> {
        let asked = self
            .places
            .iter()
            .filter(|place| only.is_none_or(|only| only == place.id));
        asked.filter_map(Place::due).min()
    }
}

impl Place {
    /// When another attempt may begin; a server that took a connection and is slow
    /// to greet is not given one at each turn.
    fn due(&self) -> Option<Moment> {
        let stalled = self.under_way.iter().filter(|a| a.connected);
        let after = stalled.map(|attempt| attempt.begun + STALLED).max();
        (self.under_way.len() < UNDER_WAY).then(|| self.next.max(after.unwrap_or_default()))
    }
}
