//! What each event does to the machine.

use std::time::Duration;

use super::event::{Action, AttemptId, CutReason, Event, Failure, HandedOver, LinkId, Moment};
use super::event::{Offer, Sample};
use super::{
    AFTER_DROPPED, AFTER_REFUSAL, BELIEVED, Busy, Link, Machine, RESOLVE_EVERY, SHORT_LIFE,
    Settling, Waiting,
};
use crate::session::Suspicion;

impl Machine {
    /// Takes an event, and says what is to be done.
    pub(in crate::monitor) fn handle(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Died(link) => self.died(now, link),
            Event::DiedAtWork(link) => {
                if self.is_alive(link) {
                    self.settle_anew(now);
                }
                self.died(now, link);
            }
            Event::DiedUnseen => self.lose_unseen(now),
            Event::Places(ids) => {
                self.places.are(&ids);
                if self
                    .waiting
                    .is_some_and(|waiting| !ids.contains(&waiting.place))
                {
                    self.forget_waiting();
                }
            }
            Event::Resolved => {
                self.resolving = false;
                self.next_resolve = now + RESOLVE_EVERY;
            }
            Event::Connected(attempt) => self.places.connected(attempt),
            Event::Offered(attempt, offer) => actions.extend(self.offered(now, attempt, offer)),
            Event::Offers(offer) => self.larger = offer.larger(),
            Event::Failed(attempt, failure) => self.failed(attempt, failure),
            Event::OfferDied(attempt) => {
                if self
                    .waiting
                    .is_some_and(|waiting| waiting.attempt == attempt)
                {
                    self.forget_waiting();
                }
            }
            Event::HandedOver(result) => self.handed_over(now, result),
            Event::GaveUp(result) => self.given_up(now, result),
            Event::Probed(found) => {
                if self.silence.probed(now, found) {
                    actions.extend(self.cut_all(now, CutReason::NoAnswers));
                }
            }
            Event::Resized(result) => self.resized(now, result),
            Event::Sampled(sample) => actions.extend(self.sampled(now, &sample)),
            Event::Retry { cut } => {
                self.places.hurry(now);
                self.not_before = now;
                self.next_resolve = now;
                if cut {
                    actions.extend(self.cut_all(now, CutReason::Asked));
                }
            }
            Event::ShuttingDown => self.going_down = true,
            Event::GoesOn => self.going_down = false,
        }
        self.proceed(now, &mut actions);
        actions.extend(self.useless.drain(..).map(Action::Drop));
        actions
    }

    /// What is due by now.
    fn proceed(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.broken_since.is_none() {
            return;
        }
        if self.wants_session() {
            if self.policy.resolves && !self.resolving && now >= self.next_resolve {
                self.resolving = true;
                actions.push(Action::Resolve);
            }
            let old = self
                .broken_since
                .map_or(Duration::ZERO, |since| now - since);
            let only = self.only_place();
            actions.extend(self.places.due(now, old, only, &mut self.jitter));
        }
        if self.busy.is_some() {
            return;
        }
        let only = self.only_place();
        let elsewhere = |waiting: Waiting| only.is_some_and(|only| only != waiting.place);
        if self.waiting.is_some_and(elsewhere) {
            // A link lives after all, and leads to another server.
            self.forget_waiting();
        }
        if let Some(waiting) = self.waiting {
            if now >= self.ready() {
                self.waiting = None;
                self.occupy(now, Busy::HandOver(waiting));
                actions.push(Action::HandOver(waiting.attempt));
            }
        } else if self.patience_ends().is_some_and(|end| now >= end) {
            self.occupy(now, Busy::GiveUp);
            actions.push(Action::GiveUp);
        }
    }

    pub(super) fn wants_session(&self) -> bool {
        self.broken_since.is_some()
            && self.waiting.is_none()
            && !matches!(self.busy, Some(Busy::HandOver(..)))
    }

    /// When a session may be handed over.
    pub(super) fn ready(&self) -> Moment {
        match self.settling {
            Settling::Not => self.not_before,
            Settling::Ungreeted => Moment::MAX,
            Settling::Since(greeted) => self.not_before.max(greeted + self.policy.settle_time),
        }
    }

    /// When I/O is to fail; `None` while it does already, or nothing is lost. A
    /// session that is there is waited for.
    pub(super) fn patience_ends(&self) -> Option<Moment> {
        let since = self.out_since.filter(|_| !self.gave_up)?;
        let mut patience = self.policy.dead_timeout;
        if self.going_down {
            let last = self.policy.shutdown_timeout;
            patience = Some(patience.map_or(last, |timeout| timeout.min(last)));
        }
        Some((since + patience?).max(self.not_before))
    }

    fn died(&mut self, now: Moment, link: LinkId) {
        for known in self.links.iter_mut().filter(|known| known.id == link) {
            known.alive = false;
            known.unseen = false;
        }
        self.noted_links(now);
    }

    /// Begins and ends outages, by the links as they are.
    pub(super) fn noted_links(&mut self, now: Moment) {
        let missing = self.links.iter().any(|link| !link.alive);
        let none_left = self.links.iter().all(|link| !link.alive);
        match (missing, self.broken_since) {
            (true, None) => {
                self.broken_since = Some(now);
                self.silence.forget();
                self.places.forget();
                // At once, but for a server that hangs up on what it has just
                // greeted.
                let short = self.linked_at.is_some_and(|at| now - at < SHORT_LIFE);
                let pause = if short {
                    self.jitter.pause(Duration::ZERO)
                } else {
                    Duration::ZERO
                };
                self.places.hurry(now + pause);
                self.next_resolve = now;
            }
            (false, Some(_)) => {
                self.broken_since = None;
                self.settling = Settling::Not;
                self.forget_waiting();
                self.places.forget();
            }
            _ => {}
        }
        match (none_left, self.out_since) {
            (true, None) => {
                self.out_since = Some(now);
                self.history.outages += 1;
            }
            (false, Some(since)) => {
                self.out_since = None;
                self.gave_up = false;
                let lasted = now.saturating_sub(since).as_millis();
                self.history.last_outage_ms = Some(u64::try_from(lasted).unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }

    fn offered(&mut self, now: Moment, attempt: AttemptId, offer: Offer) -> Option<Action> {
        let place = self.places.ended(attempt, false);
        let Some(place) = place.filter(|_| self.wants_session()) else {
            return Some(Action::Drop(attempt));
        };
        if self.settling == Settling::Ungreeted {
            self.settling = Settling::Since(now);
        }
        self.waiting = Some(Waiting {
            attempt,
            place,
            offer,
        });
        // What else is under way would only be dropped.
        self.places.forget();
        None
    }

    /// The session that waits is not to be used; the next settles anew.
    fn forget_waiting(&mut self) {
        self.useless
            .extend(self.waiting.take().map(|waiting| waiting.attempt));
        if self.settling != Settling::Not {
            self.settling = Settling::Ungreeted;
        }
    }

    /// A server may still be at what it had read. What was greeted before, and what
    /// is about to be, says nothing of that.
    fn settle_anew(&mut self, now: Moment) {
        self.settling = Settling::Ungreeted;
        self.forget_waiting();
        self.places.forget();
        self.places.hurry(now);
    }

    fn failed(&mut self, attempt: AttemptId, failure: Failure) {
        if self.places.ended(attempt, failure.stalled).is_some() {
            self.history.last_error = Some(failure.why);
        }
    }

    fn handed_over(&mut self, now: Moment, result: HandedOver) {
        let Some(Busy::HandOver(taken)) = self.busy.take() else {
            return;
        };
        match result {
            HandedOver::Taken => {
                let id = self.new_id();
                if let Some(link) = self.links.iter_mut().find(|link| !link.alive) {
                    *link = Link {
                        id,
                        alive: true,
                        unseen: false,
                        place: Some(taken.place),
                        cut: false,
                    };
                }
                self.dropped = 0;
                self.linked_at = Some(now);
                self.history.reconnects += 1;
                self.larger = taken.offer.larger();
                let spread = Duration::from_millis(self.jitter.below(5_000));
                let alone = self.links.len() == 1;
                self.silence.linked(now, spread, alone);
                self.noted_links(now);
                // The next link that is missing, if one is, without a pause.
                self.places.hurry(now);
            }
            HandedOver::Dropped => {
                self.dropped += 1;
                if self.dropped >= BELIEVED {
                    self.dropped = 0;
                    for link in self.links.iter_mut().filter(|link| !link.alive) {
                        link.unseen = true;
                    }
                }
                self.unseen_live(now);
                self.places.hurry(now + AFTER_DROPPED * self.dropped);
            }
            HandedOver::Failed(why) => {
                self.not_before = now + AFTER_REFUSAL;
                self.history.last_error = Some(why);
            }
        }
    }

    fn given_up(&mut self, now: Moment, result: Result<bool, String>) {
        if self.busy != Some(Busy::GiveUp) {
            return;
        }
        self.busy = None;
        match result {
            Ok(true) => self.gave_up = true,
            // A link lives that was not seen to.
            Ok(false) => {
                self.unseen_live(now);
                self.not_before = now + AFTER_REFUSAL;
            }
            Err(why) => {
                self.not_before = now + AFTER_REFUSAL;
                self.history.last_error = Some(why);
            }
        }
    }

    /// The kernel holds that no link is dead: one that was only taken to be is not.
    pub(super) fn unseen_live(&mut self, now: Moment) {
        for link in self.links.iter_mut().filter(|link| link.unseen) {
            link.alive = true;
        }
        self.noted_links(now);
    }

    fn resized(&mut self, now: Moment, result: Result<u64, String>) {
        if self.busy != Some(Busy::Resize) {
            return;
        }
        self.busy = None;
        match result {
            Ok(size) if self.larger == Some(size) => self.larger = None,
            Ok(_) => {}
            Err(why) => {
                self.history.last_error = Some(why);
                self.not_before = now + AFTER_REFUSAL;
            }
        }
    }

    fn sampled(&mut self, now: Moment, sample: &Sample) -> Vec<Action> {
        self.next_sample = now + self.silence.interval();
        let living = self.living();
        let suspicions = self.silence.sampled(now, sample, &living);
        let mut actions = Vec::new();
        for suspicion in suspicions {
            match suspicion {
                Suspicion::Probe { allowed } => actions.push(Action::Probe { allowed }),
                Suspicion::Cut(link, reason) => actions.extend(self.cut(now, &[link], reason)),
            }
        }
        let quiet = sample.in_flight == 0 && self.busy.is_none() && now >= self.not_before;
        if let (true, true, None, Some(size)) = (
            self.policy.resize_live,
            quiet,
            self.broken_since,
            self.larger,
        ) {
            self.occupy(now, Busy::Resize);
            actions.push(Action::Resize(size));
        }
        actions
    }

    fn living(&self) -> Vec<LinkId> {
        let living = self.links.iter().filter(|link| link.alive);
        living.map(|link| link.id).collect()
    }

    fn cut_all(&mut self, now: Moment, reason: CutReason) -> Vec<Action> {
        let living = self.living();
        self.cut(now, &living, reason)
    }

    /// Has links cut; again, where they live on.
    fn cut(&mut self, now: Moment, links: &[LinkId], reason: CutReason) -> Vec<Action> {
        let cut = self
            .links
            .iter_mut()
            .filter(|link| links.contains(&link.id));
        let mut anew = false;
        for link in cut {
            anew |= !link.cut;
            link.cut = true;
        }
        if anew {
            self.settle_anew(now);
        }
        links
            .iter()
            .map(|link| Action::Cut(*link, reason))
            .collect()
    }
}
