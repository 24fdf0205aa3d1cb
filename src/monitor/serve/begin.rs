//! How a monitor begins: it finds its device, or makes it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::deaths::listen_to_deaths;
use super::insist::Insisting;
use super::listen::{Listening, listen};
use super::mail::{Inbox, Mailbox, post_office};
use super::orders::{Orders, Served, Start};
use super::relayed::Relayed;
use super::report::{NETLINK, kept_as};
use super::root::{Root, relieve};
use super::work::Work;
use super::{Announce, Serving, Watched};
use crate::config::{BackendIdentifier, Resize, Settings};
use crate::kernel::{self, Device, Netlink};
use crate::monitor::adopt::{Adopted, adopt};
use crate::monitor::bring_up::{BroughtUp, bring_up};
use crate::monitor::error::Error;
use crate::monitor::interrupt::Interrupt;
use crate::monitor::launch::Announcement;
use crate::monitor::lookup::by_name;
use crate::monitor::machine::{Event, Inheritance, Machine, Moment, Policy, Seen};
use crate::monitor::runtime::{Lock, Runtime};
use crate::monitor::state::{Link, State};
use crate::monitor::{KERNEL_DEADLINE, LOCK_DEADLINE, uptime};
use crate::session::addresses_now;

/// Serves the device of a NAME until it is detached, or until a signal ends the
/// monitor and leaves the device.
///
/// # Errors
///
/// The device could not be made or taken over, and nothing is left of it that was
/// not there before.
pub fn serve(mut orders: Orders<'_>) -> Result<Served, Error> {
    if !kernel::has_sys_admin() {
        return Err(kernel::Error::NoRight.into());
    }
    kernel::protect_process();
    let mut interrupt = Interrupt::hold();
    interrupt.watch_reader(orders.start == Start::ForAttach);
    let runtime = Runtime::of(orders.name);
    let mut is_of_root = orders.settings.is_some_and(|settings| settings.root);
    is_of_root |= runtime.load().is_some_and(|state| state.settings.root);
    if is_of_root {
        kernel::keep_own_text();
        kernel::leave_no_core();
    }
    let mut lock = take_lock(&runtime)?;
    let relieves = matches!(orders.start, Start::Once | Start::Insist { .. });
    if lock.is_none() && is_of_root && relieves {
        // Before the one that there is leaves: what it knows must be of use to us.
        runtime.read()?;
        lock = relieve(&runtime)?;
    }
    let Some(lock) = lock else {
        if orders.start != Start::ForAttach {
            return Err(Error::Monitored(orders.name.clone()));
        }
        (orders.announce)(Announcement::Served);
        return Ok(Served::Ended);
    };
    let beginning = Beginning {
        orders,
        runtime,
        interrupt,
    };
    let insists = matches!(beginning.orders.start, Start::Insist { .. });
    match beginning.begin(lock) {
        Ok(serving) => serving.run(),
        // Nothing is left.
        Err(Error::Unwanted) => Ok(Served::Ended),
        Err(Error::Kernel(kernel::Error::Interrupted)) if insists => Ok(Served::Left),
        Err(error) => Err(error),
    }
}

/// Whoever only looks whether there is a monitor has the lock for a moment, too.
fn take_lock(runtime: &Runtime) -> Result<Option<Lock>, Error> {
    for _ in 0..20 {
        if let Some(lock) = runtime.monitor_lock()? {
            return Ok(Some(lock));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

struct Beginning<'a> {
    orders: Orders<'a>,
    runtime: Runtime,
    interrupt: Interrupt,
}

/// What the loop needs beside a device.
type Around = (Netlink, Mailbox, Inbox, Listening);

/// What the device has.
struct Found {
    state: State,
    links: Vec<(Watched, Seen)>,
    warnings: Vec<String>,
    one_is_dead: bool,
    adopted: bool,
}

impl<'a> Beginning<'a> {
    fn begin(mut self, lock: Lock) -> Result<Serving<'a>, Error> {
        if let (
            Start::Insist {
                ready_at_once: true,
            },
            Some(_),
        ) = (self.orders.start, self.orders.settings)
        {
            self.orders.service.ready();
        }
        if let Some(settings) = self.orders.settings {
            self.orders.service.allow(settings.connect_timeout * 2);
        }
        let turn = self.runtime.lock(LOCK_DEADLINE);
        // What can fail comes before there is a device to be left behind.
        let path = self.runtime.control_socket();
        let found = turn.and_then(|turn| {
            let place = |error: io::Error| Error::Runtime {
                path: path.clone(),
                error,
            };
            let netlink = Netlink::open(KERNEL_DEADLINE)?;
            let (mailbox, mut inbox) = post_office().map_err(place)?;
            let listening = listen(&path, &mailbox).map_err(place)?;
            let (found, turn) = self.find(&netlink, &mailbox, &mut inbox, turn)?;
            Ok((found, (netlink, mailbox, inbox, listening), turn))
        });
        let (found, around, _turn) = match found {
            Ok(found) => found,
            Err(error) => {
                self.orders.service.last_words(&error.to_string());
                self.runtime.leave(lock);
                self.runtime.tidy();
                return Err(error);
            }
        };
        let mut serving = self.serving(found, around, lock);
        let places = serving.places.iter().map(|(id, _)| *id).collect();
        serving.happen(Event::Places(places));
        serving.tell_relay_patience();
        serving.stored = None;
        serving.persist();
        Ok(serving)
    }

    fn find(
        &mut self,
        netlink: &Netlink,
        mailbox: &Mailbox,
        inbox: &mut Inbox,
        turn: Lock,
    ) -> Result<(Found, Lock), Error> {
        if let Some((device, identifier)) = by_name(self.orders.name)? {
            // Before its links are looked at, or what dies between is missed.
            listen_to_deaths(mailbox);
            let kept = |link: &Link| self.orders.service.take(&kept_as(link)?);
            let Adopted {
                mut state,
                links,
                one_is_dead,
            } = adopt(&device, &identifier, &self.runtime, netlink, kept)?;
            tracing::info!("{} is taken over", device.path().display());
            if let Start::Insist { .. } = self.orders.start {
                self.take_over(&mut state, netlink)?;
            }
            let found = Found {
                state,
                links,
                warnings: Vec::new(),
                one_is_dead,
                adopted: true,
            };
            return Ok((found, turn));
        }
        let Some(settings) = self.orders.settings else {
            return Err(match self.orders.misconfigured.take() {
                Some(problems) => Error::Misconfigured(problems),
                None => Error::NoSettings(self.orders.name.clone()),
            });
        };
        let (brought, turn) = if let Start::Insist { .. } = self.orders.start {
            let insisting = Insisting {
                settings,
                runtime: &self.runtime,
                netlink,
                mailbox,
                inbox,
                interrupt: &self.interrupt,
                service: &mut self.orders.service,
                exit_of: self.orders.exit_of,
            };
            insisting.run(turn)?
        } else {
            let stopped = || self.interrupt.came();
            let brought = bring_up(settings, netlink, &self.runtime, &stopped)?;
            (brought, turn)
        };
        listen_to_deaths(mailbox);
        let BroughtUp {
            state,
            links,
            warnings,
        } = brought;
        let found = Found {
            state,
            links: links
                .watched()
                .map(|watched| (watched, Seen::Alive))
                .collect(),
            warnings,
            one_is_dead: false,
            adopted: false,
        };
        Ok((found, turn))
    }

    /// What is configured by now, of what may change under a device. The kernel's own
    /// patience goes with it: it must outlast ours.
    fn take_over(&self, state: &mut State, netlink: &Netlink) -> Result<(), Error> {
        let Some(settings) = self.orders.settings else {
            return Ok(());
        };
        let before = state.kernel_patience();
        state.settings.take_over(settings);
        let now = state.kernel_patience();
        if now != before && !state.inheritance.gave_up {
            netlink.set_patience(state.index, &state.backend_identifier, now)?;
        }
        Ok(())
    }

    fn serving(self, found: Found, around: Around, lock: Lock) -> Serving<'a> {
        let state = found.state;
        let device = Device::new(state.index);
        let (netlink, mailbox, inbox, listening) = around;
        let mut service = self.orders.service;
        // The one that the kernel knows; a new one from the next CONNECT on.
        let owner = service.take(NETLINK).filter(|_| found.adopted);
        let owner = owner.or_else(|| netlink.descriptor().ok());
        // Of links that are no more: they are to be closed for good.
        service.close_others();
        let configured = self.orders.settings.map(|settings| &settings.uri);
        let configured_uri = configured
            .filter(|uri| **uri != state.settings.uri)
            .map(ToString::to_string);
        let seen: Vec<_> = found.links.iter().map(|(_, seen)| *seen).collect();
        let mut machine = Machine::new(policy(&state.settings), &seen, Moment::ZERO);
        if found.one_is_dead {
            machine.lose_unseen(Moment::ZERO);
        }
        machine.inherit(Moment::ZERO, aged(&state));
        let goes_down = machine.is_going_down();
        let ids: Vec<_> = machine.links().collect();
        let links: BTreeMap<_, _> = ids
            .into_iter()
            .zip(found.links.into_iter().map(|(watched, _)| watched))
            .collect();
        let work = Work {
            mailbox,
            netlink: Arc::new(netlink.for_ever()),
            settings: Arc::new(state.settings.clone()),
        };
        let mut serving = Serving {
            root: state
                .settings
                .root
                .then(|| Root::new(goes_down, state.ending)),
            identifier: BackendIdentifier::new(&state.settings.name, &state.settings.uri),
            announce_by: state.settings.connect_timeout,
            runtime: self.runtime,
            lock,
            device,
            stored: None,
            machine,
            began: Instant::now(),
            links,
            offers: HashMap::new(),
            handing: None,
            relayed: Relayed::default(),
            asking: Vec::new(),
            places: Vec::new(),
            next_place: 0,
            stale: HashMap::new(),
            inbox,
            work,
            listening: Some(listening),
            interrupt: self.interrupt,
            announce: Some(with_warnings(self.orders.announce, found.warnings)),
            service,
            owner,
            configured_uri,
            finishing: false,
            finish_at: Moment::ZERO,
            asked_at: Moment::ZERO,
            owed: Vec::new(),
            said_at: Moment::ZERO,
            store_at: Moment::ZERO,
            cutting: false,
            detaching: None,
            leaving: false,
            refused: None,
            said_cannot_tell: false,
            exit_of: self.orders.exit_of,
            state,
        };
        serving.know_addresses();
        serving
    }
}

/// What bringing the device up had to say goes with the announcement.
fn with_warnings(mut announce: Announce<'_>, warnings: Vec<String>) -> Announce<'_> {
    Box::new(move |said| {
        announce(match said {
            Announcement::Usable { index, .. } => Announcement::Usable {
                index,
                warnings: warnings.clone(),
            },
            other => other,
        });
    })
}

fn policy(settings: &Settings) -> Policy {
    Policy {
        dead_timeout: settings.dead_timeout.duration(),
        shutdown_timeout: settings.shutdown_timeout,
        silence_timeout: settings.silence_timeout,
        settle_time: settings.settle_time,
        connect_timeout: settings.connect_timeout,
        resize_live: settings.resize == Resize::Live,
        // The resolver's files and libraries are on the root.
        resolves: addresses_now(&settings.uri).is_none() && !settings.root,
        seed: seed(),
    }
}

/// Differs from monitor to monitor and from machine to machine.
pub(super) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The outage went on while nobody watched; and the device may have grown, to which its
/// monitor did not live to say a word.
fn aged(state: &State) -> Inheritance {
    let since = Duration::from_millis(uptime().saturating_sub(state.written_at));
    Inheritance {
        out_for: state.inheritance.out_for.map(|out| out + since),
        larger: state.inheritance.larger.filter(|size| *size > state.size),
        ..state.inheritance.clone()
    }
}
