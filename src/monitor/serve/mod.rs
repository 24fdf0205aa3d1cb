//! The monitor's loop: it carries events to the machine and its actions out, and
//! decides nothing itself. It waits in poll(2) and nowhere else; what may take
//! time is a thread's (`work`).

mod act;
mod begin;
mod deaths;
mod end;
mod files;
mod insist;
mod listen;
mod mail;
mod orders;
mod places;
mod relayed;
mod report;
mod root;
mod standby;
mod take;
mod watched;
mod way;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use begin::serve;
pub use orders::{Orders, Served, Start};
pub(super) use watched::Watched;

use super::control::Answer;
use super::error::Error;
use super::interrupt::Interrupt;
use super::launch::Announcement;
use super::machine::{
    Action, AttemptId, Event, Inheritance, LinkId, Machine, Moment, PlaceId, Standing,
};
use super::relay::Relay;
use super::runtime::{Lock, Runtime};
use super::service::Service;
use super::state::State;
use crate::config::BackendIdentifier;
use crate::kernel::{Device, Seen};
use crate::session::{Address, SocketAddr};
use end::End;
use listen::Listening;
use mail::Inbox;
use relayed::Relayed;
use root::Root;
use work::{Held, Work};

/// Who is told when the device is usable.
pub type Announce<'a> = Box<dyn FnMut(Announcement) + 'a>;

/// A device that is being served.
struct Serving<'a> {
    runtime: Runtime,
    lock: Lock,
    device: Device,
    identifier: BackendIdentifier,
    state: State,
    stored: Option<Inheritance>,
    machine: Machine,
    began: Instant,
    links: BTreeMap<LinkId, Watched>,
    relayed: Relayed,
    /// Who asked how things are, and since when: the relay is asked first.
    asking: Vec<(SyncSender<Answer>, Instant)>,
    offers: HashMap<AttemptId, Held>,
    /// What the kernel is asked to take.
    handing: Option<Held>,
    /// Each with one address; a relay dials all of one.
    places: Vec<(PlaceId, Vec<Address>)>,
    next_place: u32,
    /// Local addresses of links that were cut, by the address that they led to.
    stale: HashMap<String, SocketAddr>,
    inbox: Inbox,
    work: Work,
    listening: Option<Listening>,
    interrupt: Interrupt,
    announce: Option<Announce<'a>>,
    /// When whoever waits for the announcement is told that there is no server.
    announce_by: Moment,
    finishing: bool,
    /// When it is tried again, after it failed.
    finish_at: Moment,
    /// The driver's timer is at it.
    cutting: bool,
    detaching: Option<Detaching>,
    /// What the machine wants and a detach by force keeps back.
    owed: Vec<Action>,
    /// When the kernel may be asked about links that cannot be seen.
    asked_at: Moment,
    /// When the state is written again, after that failed.
    store_at: Moment,
    /// When an error may be logged again.
    said_at: Moment,
    leaving: bool,
    /// Why the last detach was refused.
    refused: Option<String>,
    said_cannot_tell: bool,
    /// The status that goes with an error.
    exit_of: fn(&Error) -> u8,
    service: Service,
    /// A duplicate of the socket through which the kernel got the device.
    owner: Option<OwnedFd>,
    /// Where `/` is on it.
    root: Option<Root>,
    /// What the configuration has by now, where that is another URI.
    configured_uri: Option<String>,
}

/// A detach that is under way.
struct Detaching {
    replies: Vec<SyncSender<Answer>>,
    /// Nothing is reconnected any more.
    force: bool,
}

impl Serving<'_> {
    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    fn run(mut self) -> Result<Served, Error> {
        self.keep_descriptors();
        self.see_to_usability();
        let end = loop {
            if let Some(end) = self.step() {
                break end;
            }
        };
        let served = match end {
            End::Left => Served::Left,
            End::Detached | End::Gone => Served::Ended,
        };
        self.end(end).map(|()| served)
    }

    /// One round; `Some` at the end.
    fn step(&mut self) -> Option<End> {
        self.wait();
        self.inbox.hush();
        self.see_to_root();
        self.look_for_deaths();
        while let Some(mail) = self.inbox.next() {
            if let Some(end) = self.take(mail) {
                return Some(end);
            }
        }
        self.answer_who_asks();
        self.see_to_usability();
        if self.interrupt.came() {
            self.leaving = true;
        }
        // A detach that has begun comes to its end first.
        if self.leaving && self.detaching.is_none() {
            return Some(End::Left);
        }
        if self.machine.wants_sample(self.now()) {
            if self.is_gone() {
                return Some(End::Gone);
            }
            self.keep_files();
            let sample = self.sample();
            self.happen(Event::Sampled(sample));
        }
        self.happen(Event::Tick);
        self.persist();
        self.report_to_service();
        None
    }

    /// Waits for anything at all.
    fn wait(&self) {
        if self.detaching.as_ref().is_some_and(|d| d.force) || self.is_leaving_us() {
            return self.wait_for_mail();
        }
        let now = self.now();
        let wake = self.machine.wake().unwrap_or(now + Duration::from_secs(60));
        let mut timeout = wake.saturating_sub(now);
        if let Some(sign) = self.service.due() {
            timeout = timeout.min(sign);
        }
        if !self.asking.is_empty() {
            timeout = timeout.min(relayed::TOLD);
        }
        if self.root.is_some() {
            timeout = timeout.min(root::LOOK);
        }
        let bell = self.inbox.bell();
        let mut fds = vec![PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
        if let Some(signals) = self.interrupt.as_fd() {
            fds.push(PollFd::new(signals, PollFlags::POLLIN));
        }
        for (id, watched) in &self.links {
            if self.machine.is_alive(*id) {
                // Hanging up is told unasked.
                fds.extend(watched.fd().map(|fd| PollFd::new(fd, PollFlags::empty())));
                fds.extend(watched.as_relay().map(news_of));
            }
        }
        for held in self.offers.values() {
            fds.push(PollFd::new(held.socket.as_fd(), PollFlags::POLLIN));
            fds.extend(held.relay.as_ref().map(news_of));
        }
        // Rounded up, or the last millisecond would be spent in a circle.
        let timeout = PollTimeout::try_from(timeout + Duration::from_micros(999));
        let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX));
    }

    /// While the device goes, its links and clocks have nothing to say.
    fn wait_for_mail(&self) {
        let mut fds = [PollFd::new(self.inbox.bell().as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(200u8));
    }

    /// A detach has come so far that the device is ours no more.
    fn is_leaving_us(&self) -> bool {
        self.detaching.is_some() && !self.is_ours()
    }

    /// The same, where its links are gone: they go a moment before sysfs shows it.
    fn is_about_to_leave_us(&self) -> bool {
        self.detaching.is_some()
            && (0..20).any(|_| {
                thread::sleep(Duration::from_millis(5));
                !self.is_ours()
            })
    }

    /// Links of our own that hung up, and offers that did, or say what nobody
    /// asked for.
    fn look_for_deaths(&mut self) {
        if self.is_leaving_us() {
            return;
        }
        let hung_up = self.hear_relay();
        let machine = &self.machine;
        let dead: Vec<_> = self
            .links
            .iter_mut()
            .filter(|(id, watched)| machine.is_alive(**id) && !watched.must_be_asked_for())
            .filter_map(|(id, watched)| {
                let dead = hung_up == Some(*id) || watched.look() == Seen::Dead;
                dead.then_some(*id)
            })
            .collect();
        if !dead.is_empty() && self.is_about_to_leave_us() {
            return;
        }
        for id in dead {
            self.link_died(id);
        }
        let offers = self.offers.iter_mut();
        let dead: Vec<_> = offers
            .filter_map(|(attempt, held)| held.is_lost().then_some(*attempt))
            .collect();
        for attempt in dead {
            self.happen(Event::OfferDied(attempt));
            // Also one that nobody waits for: it would wake us without end.
            self.offers.remove(&attempt);
        }
    }

    fn link_died(&mut self, id: LinkId) {
        let mut at_work = false;
        if let Some(watched) = self.links.get_mut(&id) {
            at_work = watched.left_at_work();
            // Whatever it died of, it is to send nothing more of what it holds.
            watched.cut();
        }
        self.relay_died(id);
        self.happen(if at_work {
            Event::DiedAtWork(id)
        } else {
            Event::Died(id)
        });
        self.keep_descriptors();
    }

    /// Whether the device is still the one that we serve, as far as can be told.
    fn is_ours(&self) -> bool {
        self.device
            .is_configured_as(&self.state.backend_identifier)
            .unwrap_or(true)
    }

    /// Whether somebody else has taken it down.
    fn is_gone(&self) -> bool {
        self.detaching.is_none() && !self.is_ours() && !self.is_astray()
    }

    /// Finishes what an earlier monitor left half-made, and tells whoever waits.
    fn see_to_usability(&mut self) {
        let linked = self.is_linked();
        let due = self.now() >= self.finish_at && self.detaching.is_none();
        if self.state.usable {
            // Also where its server is away: it is there, and its I/O waits.
            self.service.ready();
        }
        if linked && !self.state.usable && !self.finishing && due {
            self.finishing = true;
            self.work.finish(&self.state);
        }
        let said = if linked && self.state.usable {
            Announcement::Usable {
                index: self.device.index(),
                warnings: Vec::new(),
            }
        } else if self.announce.is_some() && self.now() >= self.announce_by {
            Announcement::Away {
                state: self.device_state().as_str().to_owned(),
                why: self.history().last_error.unwrap_or_default(),
            }
        } else {
            return;
        };
        if let Some(mut announce) = self.announce.take() {
            self.interrupt.watch_reader(false);
            announce(said);
        }
    }

    /// Its I/O is served, by one link at least.
    fn is_linked(&self) -> bool {
        matches!(self.standing(), Standing::Connected | Standing::Degraded)
    }

    fn path(&self) -> String {
        self.device.path().display().to_string()
    }
}

fn news_of(relay: &Relay) -> PollFd<'_> {
    PollFd::new(relay.fd(), PollFlags::POLLIN)
}
