//! A device whose I/O a relay carries: what it tells, what it is told, and whether it
//! is stuck. It must not know how one is started.

use std::time::{Duration, Instant};

use super::Serving;
use crate::monitor::control::Answer;
use crate::monitor::hook;
use crate::monitor::machine::{Event, History, LinkId, Offer, Standing};
use crate::monitor::relay::{self, Heard, Relay};
use crate::relay::message::{Order, Promise, Report, Standing as Told};

/// How often the server's name is resolved anew while it is away.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// How long a relay may take to let requests through to what the device is to have.
const GROWING: Duration = Duration::from_secs(5);

/// How long one of another version may take to end, with its server there.
const DRAINING: Duration = Duration::from_secs(30);

/// How long whoever asks how things are waits for the relay's word on it.
pub(super) const TOLD: Duration = Duration::from_millis(200);

/// An end of patience that is told again is another when it differs by more: what is
/// told takes its time.
const ANOTHER: Duration = Duration::from_secs(2);

/// What is known of the relay beside its last report.
#[derive(Debug, Default)]
pub(super) struct Relayed {
    /// Since when its server is away.
    out_since: Option<Instant>,
    /// When its patience ends.
    fails_at: Option<Instant>,
    /// When the server's name is to be resolved next.
    next_resolve: Option<Instant>,
    resolving: bool,
    /// Since when it has been ending, for another version.
    draining: Option<Instant>,
    /// A size that it is to let through, and until when.
    growing: Option<(u64, Instant)>,
    /// Changes with every look.
    looks: u64,
}

/// An outage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outage {
    /// How long it has been.
    pub(super) out_for: Duration,
    /// How much longer I/O waits; `None` for ever, or no more.
    pub(super) left: Option<Duration>,
}

impl Serving<'_> {
    /// The relay that lives, with its link.
    pub(super) fn relay(&mut self) -> Option<(LinkId, &mut Relay)> {
        let machine = &self.machine;
        let mut alive = self.links.iter_mut();
        alive.find_map(|(id, watched)| {
            let relay = watched.its_relay()?;
            machine.is_alive(*id).then_some((*id, relay))
        })
    }

    /// What the relay that lives said last.
    pub(super) fn relay_report(&self) -> Option<&Report> {
        let alive = self.links.iter();
        let mut alive = alive.filter(|(id, _)| self.machine.is_alive(**id));
        alive.find_map(|(_, watched)| watched.as_relay()?.report())
    }

    /// How the device is: as its links are, and where one leads to a relay, as that one's
    /// are.
    pub(super) fn standing(&self) -> Standing {
        let own = self.machine.standing();
        match self.relay_report().map(|report| report.standing) {
            Some(Told::Degraded) if own == Standing::Connected => Standing::Degraded,
            Some(Told::Reconnecting) if own == Standing::Connected => Standing::Reconnecting,
            Some(Told::Dead) if own == Standing::Connected => Standing::Dead,
            _ => own,
        }
    }

    /// The outage that there is, or that the relay tells of.
    pub(super) fn outage(&self) -> Option<Outage> {
        let now = self.now();
        if let Some(out_for) = self.machine.out_for(now) {
            let left = self.machine.patience_left(now);
            return Some(Outage { out_for, left });
        }
        self.relay_report()?;
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        Some(Outage {
            out_for: self.relayed.out_since?.elapsed(),
            left: self.relayed.fails_at.map(left),
        })
    }

    /// What was, that of the relay included: what it tells is newer than what we know.
    pub(super) fn history(&self) -> History {
        let mut history = self.machine.history().clone();
        if let Some(report) = self.relay_report() {
            history.absorb(&relay::past(report));
        }
        history
    }

    /// Hears what the relay has said; its link where that was its end.
    pub(super) fn hear_relay(&mut self) -> Option<LinkId> {
        let machine = &self.machine;
        let mut alive = self
            .links
            .iter_mut()
            .filter(|(id, _)| machine.is_alive(**id));
        let (id, heard, before) = alive.find_map(|(id, watched)| {
            let before = watched.as_relay()?.report().map(|report| report.standing);
            Some((*id, watched.hear(), before))
        })?;
        match heard {
            Heard::Nothing => None,
            Heard::News => {
                self.take_report(before);
                None
            }
            Heard::End => Some(id),
        }
    }

    /// What a relay knew goes into the history before it is forgotten.
    pub(super) fn relay_died(&mut self, link: LinkId) {
        let Some(relay) = self.links.get_mut(&link).and_then(|it| it.its_relay()) else {
            return;
        };
        relay.kill();
        if let Some(report) = relay.report() {
            let past = relay::past(report);
            self.machine.remember(&past);
        }
        if self.relayed.growing.is_some() {
            let gone = Err("the relay ended".to_owned());
            self.work.mailbox.event(Event::Resized(gone));
        }
        self.relayed = Relayed::default();
    }

    /// A new report; `before` is how the relay's connections were by the one before.
    fn take_report(&mut self, before: Option<Told>) {
        let Some((_, relay)) = self.relay() else {
            return;
        };
        let heard_at = relay.heard_at();
        let Some(report) = relay.report().cloned() else {
            return;
        };
        self.note_outage(&report, heard_at);
        self.tell_relays_standing(before, &report);
        let peer = report.connections.iter().rev().find(|it| it.alive);
        let link = self.state.links.first_mut();
        if let (Some(link), Some(connection)) = (link, peer) {
            if link.peer != connection.peer {
                link.peer.clone_from(&connection.peer);
                let address = link.peer.clone();
                for watched in self.links.values_mut() {
                    watched.link.peer.clone_from(&address);
                }
                self.store();
            }
        }
        if let Some(offered) = &report.offered {
            let block = u64::from(self.state.block_size.max(1));
            let offer = Offer {
                size: offered.size - offered.size % block,
                device_size: self.state.size,
            };
            if self.machine.larger() != offer.larger() {
                self.happen(Event::Offers(offer));
            }
        }
        let size = report.device_size.unwrap_or(0);
        if let Some((wanted, _)) = self.relayed.growing.take_if(|(wanted, _)| size >= *wanted) {
            self.work.resize(&self.state, wanted);
        }
        self.replace_old_relay(report.standing);
    }

    fn note_outage(&mut self, report: &Report, heard_at: Instant) {
        let relayed = &mut self.relayed;
        if !matches!(report.standing, Told::Reconnecting | Told::Dead) {
            relayed.out_since = None;
            relayed.fails_at = None;
            return;
        }
        let ago = Duration::from_millis(report.out_for_ms.unwrap_or(0));
        let since = heard_at.checked_sub(ago).unwrap_or(heard_at);
        // The first word on it stands, so that what is told of it does not waver.
        relayed.out_since.get_or_insert(since);
        let left = report.patience_left_ms.map(Duration::from_millis);
        let fails_at = left.and_then(|left| heard_at.checked_add(left));
        let same = match (relayed.fails_at, fails_at) {
            (Some(before), Some(now)) => {
                let later = now.saturating_duration_since(before);
                later.max(before.saturating_duration_since(now)) < ANOTHER
            }
            (before, now) => before.is_none() && now.is_none(),
        };
        if !same {
            relayed.fails_at = fails_at;
        }
    }

    /// What changed, for the log.
    fn tell_relays_standing(&self, before: Option<Told>, report: &Report) {
        if before == Some(report.standing) || self.detaching.is_some() {
            return;
        }
        let path = self.path();
        match report.standing {
            Told::Connected if matches!(before, Some(Told::Reconnecting | Told::Dead)) => {
                let lasted = report.last_outage_ms.unwrap_or(0);
                tracing::info!("{path}: the outage is over, after {lasted} ms");
            }
            Told::Connecting | Told::Connected => {}
            Told::Degraded => tracing::warn!("{path}: a connection of its relay is dead"),
            Told::Reconnecting => {
                tracing::warn!("{path}: the server is gone; I/O waits for it in the relay");
            }
            Told::Dead => tracing::error!("{path}: I/O fails"),
        }
    }

    /// A relay that was started by another nbdctl makes room for one of ours, when its
    /// server is there to take what it holds.
    fn replace_old_relay(&mut self, standing: Told) {
        let well = standing == Told::Connected;
        if matches!(standing, Told::Reconnecting | Told::Dead) {
            // It goes on without its server, and is told again when that is back.
            self.relayed.draining = None;
        }
        if self.relayed.draining.is_some() || !well || self.detaching.is_some() {
            return;
        }
        let Some((_, relay)) = self.relay() else {
            return;
        };
        if relay.is_current() {
            return;
        }
        tracing::info!("the relay is of another nbdctl: another takes its place");
        relay.order(&Order::Drain {});
        self.relayed.draining = Some(Instant::now());
    }

    /// Looks after the relay, as often as the machine looks at its links.
    pub(super) fn look_after_relay(&mut self) {
        let timeout = self.state.settings.silence_timeout;
        let draining = self.relayed.draining;
        let connected = self.relay_report().map(|it| it.standing) == Some(Told::Connected);
        let Some((id, relay)) = self.relay() else {
            return;
        };
        let late = connected && draining.is_some_and(|since| since.elapsed() >= DRAINING);
        let stuck = relay.is_stuck(timeout);
        if stuck || late {
            let seconds = if stuck { timeout } else { DRAINING }.as_secs();
            let what = if stuck { "say how it is" } else { "end" };
            tracing::error!("the relay did not {what} in {seconds} s: it is killed");
            hook::reached("relay-killed");
            self.link_died(id);
            return;
        }
        if self
            .relayed
            .growing
            .is_some_and(|(_, until)| Instant::now() >= until)
        {
            self.relayed.growing = None;
            let late = Err("the relay did not make room in time".to_owned());
            self.work.mailbox.event(Event::Resized(late));
        }
        self.resolve_for_relay();
    }

    /// While its server is away the relay is told where the server's name leads by now:
    /// it resolves none itself.
    fn resolve_for_relay(&mut self) {
        let away = self.standing() != Standing::Connected;
        let resolves = crate::session::addresses_now(&self.state.settings.uri).is_none();
        let due = |next: Instant| Instant::now() >= next;
        if !away || !resolves {
            self.relayed.next_resolve = None;
        } else if !self.relayed.resolving && self.relayed.next_resolve.is_none_or(due) {
            self.relayed.resolving = true;
            self.relayed.next_resolve = Some(Instant::now() + RESOLVE_EVERY);
            self.work.resolve();
        }
    }

    /// The resolver came to an end.
    pub(super) fn relays_look_up_ended(&mut self) {
        self.relayed.resolving = false;
    }

    /// Tells how things are, when the relay has said how they are by now.
    pub(super) fn answer_who_asks(&mut self) {
        let heard_at = self.relay().map(|(_, relay)| relay.heard_at());
        let due = |since: &Instant| {
            heard_at.is_none_or(|heard_at| heard_at >= *since) || since.elapsed() >= TOLD
        };
        let all = std::mem::take(&mut self.asking);
        let (now, later): (Vec<_>, _) = all.into_iter().partition(|(_, since)| due(since));
        self.asking = later;
        for (reply, _) in now {
            let answer = Answer {
                status: Some(Box::new(self.report())),
                ..Answer::done()
            };
            // Whoever asked may have gone.
            let _ = reply.try_send(answer);
        }
    }

    /// Gives an order to the relay, if one lives.
    pub(super) fn order_relay(&mut self, order: &Order) {
        if let Some((_, relay)) = self.relay() {
            relay.order(order);
        }
    }

    /// How long I/O waits, by the settings that count now.
    pub(super) fn tell_relay_patience(&mut self) {
        let going_down = self.machine.is_going_down();
        let patience = relay::patience(&self.state.settings, going_down);
        self.order_relay(&Order::Patience(patience));
    }

    /// The device is to grow: its relay lets the new requests through first.
    pub(super) fn grow_relay(&mut self, size: u64) {
        let well = self.relay_report().map(|it| it.standing) == Some(Told::Connected);
        if !well {
            let away = Err("the server is away".to_owned());
            self.work.mailbox.event(Event::Resized(away));
            return;
        }
        self.relayed.growing = Some((size, Instant::now() + GROWING));
        self.order_relay(&Order::Grow { size });
    }

    /// What the driver's requests would wait for, were the device's size changed now: a
    /// relay answers them all as long as its server is there. What is in flight says
    /// nothing of silence, which is the relay's to judge.
    pub(super) fn relays_load(&mut self) -> (u64, u64) {
        let connected = self.relay_report().map(|it| it.standing) == Some(Told::Connected);
        self.relayed.looks = self.relayed.looks.wrapping_add(1);
        (u64::from(!connected), self.relayed.looks)
    }

    /// What the kernel was told, for a relay that is to carry it.
    pub(super) fn promise(&self) -> Promise {
        Promise {
            size: self.state.size,
            flags: self.state.flags,
            block_size: self.state.block_size,
            max_request: self.state.max_sectors_kb.saturating_mul(1024),
        }
    }
}
