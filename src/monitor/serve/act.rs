//! Carrying out what the machine wants.

use std::time::Duration;

use super::relayed::Relayed;
use super::work::{Dial, NewRelay};
use super::{Serving, Watched};
use crate::monitor::demands::Demands;
use crate::monitor::hook;
use crate::monitor::machine::{
    Acks, Action, AttemptId, CutReason, Event, HandedOver, LinkId, Moment, PlaceId, Probe, Sample,
    Standing,
};
use crate::relay::message::Order;

/// How often an error is logged at most; `status` has the last one.
const SAY_AGAIN: Duration = Duration::from_secs(2);

impl Serving<'_> {
    /// Something happened: the machine decides, and it is done.
    pub(super) fn happen(&mut self, event: Event) {
        let before = self.machine.standing();
        let error = self.machine.history().last_error.clone();
        let settled = self.taken(&event);
        let now = self.now();
        let actions = self.machine.handle(now, event);
        self.go_blind();
        if let Some(link) = settled.then(|| self.machine.newest()).flatten() {
            self.linked(link);
        }
        // A device that is torn away from its users is not brought back, unless it
        // stays after all.
        if self.detaching.as_ref().is_some_and(|d| d.force) {
            self.owed.extend(actions);
            return;
        }
        for action in actions {
            self.act(action);
        }
        self.tell(before, error.as_deref(), now);
    }

    /// A link that the machine takes for living, on the kernel's word, though its
    /// socket is dead, is another than the one that we see.
    fn go_blind(&mut self) {
        for id in self.machine.unseen().collect::<Vec<_>>() {
            if let Some(watched) = self.links.get_mut(&id) {
                watched.go_blind();
            }
        }
    }

    /// Whether the event is that the kernel took what it was handed.
    fn taken(&mut self, event: &Event) -> bool {
        match event {
            Event::HandedOver(HandedOver::Taken) => true,
            Event::HandedOver(_) => {
                self.handing = None;
                self.state.offered = None;
                false
            }
            Event::Resized(Err(_)) => {
                self.state.has_size(self.device.size());
                self.store();
                false
            }
            _ => false,
        }
    }

    /// A session became a link, in the place of a dead one.
    fn linked(&mut self, link: LinkId) {
        let Some(held) = self.handing.take() else {
            return;
        };
        hook::reached("taken");
        self.stale.remove(&held.link.peer);
        let watched = if let Some(relay) = held.relay {
            let pid = relay.id().pid;
            tracing::info!("{} is carried by a relay, process {pid}", self.path());
            Watched::relay(held.link, Some(held.socket), relay)
        } else {
            tracing::info!("{} is connected to {}", self.path(), held.link.peer);
            Watched::own(held.link, held.socket, held.local)
        };
        self.relayed = Relayed::default();
        self.links.insert(link, watched);
        let alive: Vec<_> = self.machine.links().collect();
        self.links.retain(|id, _| alive.contains(id));
        self.state.links = self.links.values().map(|w| w.link.clone()).collect();
        self.state.offered = None;
        self.store();
        self.keep_descriptors();
        hook::reached("linked");
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Dial {
                attempt,
                place,
                connect,
                handshake,
            } => {
                hook::reached("dial");
                let addresses = self.addresses(place);
                if self.state.by_relay() {
                    self.work.start_relay(NewRelay {
                        attempt,
                        addresses,
                        socket: self.runtime.new_relay_socket(attempt.0),
                        going_down: self.machine.is_going_down(),
                        allowed: connect + handshake,
                        demands: Demands::from(&self.state),
                    });
                    return;
                }
                let Some(address) = addresses.into_iter().next() else {
                    return;
                };
                let from = self.stale.get(&address.to_string()).copied();
                self.work.dial(Dial {
                    attempt,
                    from,
                    address,
                    connect,
                    handshake,
                    demands: Demands::from(&self.state),
                });
            }
            Action::Resolve => self.work.resolve(),
            Action::HandOver(attempt) => self.hand_over(attempt),
            Action::GiveUp if self.cutting => {
                let wait = Err("the driver's timer is being put back".to_owned());
                self.work.mailbox.event(Event::GaveUp(wait));
            }
            Action::GiveUp => {
                hook::reached("give-up");
                tracing::warn!(
                    "{}: no server came back in time; I/O fails from now on, until one does",
                    self.path()
                );
                self.work.give_up(&self.state);
            }
            // Whether a server is silent is for a relay to see.
            Action::Probe { .. } if self.state.by_relay() => {
                self.work.mailbox.event(Event::Probed(Probe::Greeted));
            }
            Action::Probe { allowed } => match self.peer() {
                Some(address) => self.work.probe(address, allowed),
                None => self.work.mailbox.event(Event::Probed(Probe::Unreachable)),
            },
            Action::Resize(size) => {
                tracing::info!("{} grows to {size} bytes", self.path());
                // From now on nothing smaller will do, whoever dies in between.
                self.state.size = size;
                self.store();
                hook::reached("resize-stored");
                if self.state.by_relay() {
                    self.grow_relay(size);
                } else {
                    self.work.resize(&self.state, size);
                }
            }
            Action::Cut(link, reason) => self.cut(link, reason),
            Action::Drop(attempt) => {
                self.offers.remove(&attempt);
            }
        }
    }

    fn addresses(&self, place: PlaceId) -> Vec<crate::session::Address> {
        let mut places = self.places.iter();
        let found = places.find(|(id, _)| *id == place);
        found.map_or_else(Vec::new, |(_, addresses)| addresses.clone())
    }

    /// Where a living link leads.
    fn peer(&self) -> Option<crate::session::Address> {
        let mut links = self.links.iter();
        let (_, watched) = links.find(|(id, _)| self.machine.is_alive(**id))?;
        watched.link.peer.parse().ok()
    }

    fn hand_over(&mut self, attempt: AttemptId) {
        let Some(mut held) = self.offers.remove(&attempt) else {
            let lost = HandedOver::Failed("the session is lost".to_owned());
            self.work.mailbox.event(Event::HandedOver(lost));
            return;
        };
        if self.cutting {
            // Taken now, it would get the time-out that cuts slow links.
            let wait = HandedOver::Failed("the driver's timer is being put back".to_owned());
            self.work.mailbox.event(Event::HandedOver(wait));
            return;
        }
        if !self.is_ours() {
            // The next look at it ends this.
            let gone = HandedOver::Failed("the device is gone".to_owned());
            self.work.mailbox.event(Event::HandedOver(gone));
            return;
        }
        // Before the kernel has it: a successor must know what to look for.
        self.state.offered = Some(held.link.clone());
        self.store();
        hook::reached("offer-stored");
        if let Some(relay) = &mut held.relay {
            // Whoever comes after us finds it as soon as the kernel has it.
            if let Err(error) = relay.install(&self.runtime.relay_socket()) {
                let failed = HandedOver::Failed(format!("the relay's socket: {error}"));
                self.work.mailbox.event(Event::HandedOver(failed));
                return;
            }
            relay.order(&Order::Serve(self.promise()));
        }
        self.work.hand_over(&self.state, held.socket.clone());
        self.handing = Some(held);
        hook::reached("hand-over");
    }

    fn cut(&mut self, link: LinkId, reason: CutReason) {
        // A successor must wait for it to settle, too.
        self.persist();
        hook::reached("cut-stored");
        let Some(watched) = self.links.get_mut(&link) else {
            return;
        };
        let why = match reason {
            CutReason::NoAcks => "the network or the server's machine acknowledges nothing",
            CutReason::NoAnswers => "the server answers nothing, and greets nobody",
            CutReason::Asked => "that was asked for",
        };
        let peer = watched.link.peer.clone();
        if watched.cut() {
            tracing::warn!("the link to {peer} is cut: {why}");
            let local = watched.local;
            self.stale.extend(local.map(|local| (peer, local)));
        } else if let Some(found) = watched.another_look().filter(|_| !self.cutting) {
            tracing::warn!("the link to {peer} is cut by the driver's own timer: {why}");
            // That timer's setting is what io_timeout was.
            self.cutting = true;
            self.state.queue_unset = true;
            self.store();
            self.work.cut_by_timeout(&self.state, found);
        }
        hook::reached("cut");
    }

    /// How everything is that can be seen.
    pub(super) fn sample(&mut self) -> Sample {
        if self.state.by_relay() {
            self.look_after_relay();
            let (in_flight, progress) = self.relays_load();
            return Sample {
                in_flight,
                progress,
                links: Vec::new(),
            };
        }
        let mut progress = self.device.completed().unwrap_or(0);
        let mut links = Vec::new();
        let mut ask = false;
        for (id, watched) in &mut self.links {
            if !self.machine.is_alive(*id) {
                continue;
            }
            ask |= watched.must_be_asked_for();
            if let Some(facts) = watched.facts() {
                // What was sent tells nothing: its kernel takes it for a server that
                // is stuck, too.
                progress = progress.wrapping_add(facts.bytes_received.unwrap_or(0));
                let acks = Acks {
                    since: facts.since_ack,
                    unanswered: facts.unanswered,
                };
                links.push((*id, acks));
            }
        }
        if ask {
            self.ask_for_deaths();
        }
        let in_flight = self.device.in_flight().unwrap_or(0);
        let quiet = in_flight == 0 && !self.cutting && !self.finishing;
        if self.state.queue_unset && quiet && self.machine.standing() == Standing::Connected {
            self.finishing = true;
            self.work.finish(&self.state);
        }
        Sample {
            in_flight,
            progress,
            links,
        }
    }

    /// What changed, for the log.
    fn tell(&mut self, before: Standing, error: Option<&str>, now: Moment) {
        if self.detaching.is_some() {
            return;
        }
        let after = self.machine.standing();
        let history = self.machine.history();
        if before != after {
            let lasted = history.last_outage_ms.unwrap_or(0);
            match after {
                Standing::Connected if self.state.by_relay() => {
                    let path = self.path();
                    tracing::info!("{path}: I/O goes on, {lasted} ms after the relay ended");
                }
                Standing::Reconnecting if self.state.by_relay() => {
                    tracing::warn!("{}: the relay ended; another takes its place", self.path());
                }
                Standing::Connected if before == Standing::Degraded => {
                    tracing::info!("{}: every link lives", self.path());
                }
                Standing::Connected => {
                    tracing::info!("{}: the outage is over, after {lasted} ms", self.path());
                }
                Standing::Degraded => tracing::warn!("{}: a link is dead", self.path()),
                Standing::Reconnecting => {
                    tracing::warn!("{}: the server is gone; I/O waits for it", self.path());
                }
                Standing::Dead => tracing::error!("{}: I/O fails", self.path()),
            }
        }
        if let Some(why) = history.last_error.as_deref() {
            if error != Some(why) && now >= self.said_at {
                tracing::info!("{why}");
                // Two addresses may differ in what they say, at every attempt.
                self.said_at = now + SAY_AGAIN;
            }
        }
        let cannot_tell = self.machine.cannot_tell(now);
        if cannot_tell && !self.said_cannot_tell {
            tracing::warn!("{}: {}", self.path(), super::report::CANNOT_TELL);
        }
        self.said_cannot_tell = cannot_tell;
    }
}
