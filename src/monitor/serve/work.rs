//! What takes time, each in a thread of its own that ends with a message. Every
//! one has a deadline; the loop waits for none.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::mail::{Mail, Mailbox};
use crate::config::Settings;
use crate::kernel::{
    self, Device, FoundLink, KernelSocket, Netlink, Reconfigure, Seen, Taken, give_up,
    wait_until_readable,
};
use crate::monitor::bring_up::queue_settings;
use crate::monitor::demands::Demands;
use crate::monitor::hook;
use crate::monitor::links::{check_identity, failure, prepare};
use crate::monitor::machine::{AttemptId, Event, Failure, HandedOver, Offer, Probe};
use crate::monitor::relay::{self, Heard, Relay, Start};
use crate::monitor::state::{Link, State};
use crate::monitor::{KERNEL_DEADLINE, adopt};
use crate::session::{Address, Deadline, SocketAddr, resolve};

/// What a resolver may take; the addresses that were known are dialled meanwhile.
const RESOLVER: Duration = Duration::from_secs(10);

/// A session that waits to become a link.
pub(super) struct Held {
    pub(super) socket: KernelSocket,
    pub(super) link: Link,
    pub(super) local: Option<SocketAddr>,
    /// Who has it, where the socket leads to a relay.
    pub(super) relay: Option<Relay>,
}

impl Held {
    /// An idle session has nothing to say but its end; a relay has, on its other socket.
    pub(super) fn is_lost(&mut self) -> bool {
        if self.relay.as_mut().map(Relay::hear) == Some(Heard::End) {
            return true;
        }
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }
}

/// Starts threads.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) mailbox: Mailbox,
    pub(super) netlink: Arc<Netlink>,
    pub(super) settings: Arc<Settings>,
}

/// Whoever waits for a message gets one, also where no thread could be started or
/// one died.
struct Promise {
    mailbox: Mailbox,
    otherwise: Option<Mail>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(mail) = self.otherwise.take() {
            self.mailbox.send(mail);
        }
    }
}

/// One attempt.
pub(super) struct Dial {
    pub(super) attempt: AttemptId,
    pub(super) address: Address,
    /// The local address of a link that was cut on the way there.
    pub(super) from: Option<SocketAddr>,
    pub(super) connect: Duration,
    pub(super) handshake: Duration,
    pub(super) demands: Demands,
}

/// One relay.
pub(super) struct NewRelay {
    pub(super) attempt: AttemptId,
    pub(super) addresses: Vec<Address>,
    /// Where it listens at first.
    pub(super) socket: PathBuf,
    pub(super) going_down: bool,
    /// For its session.
    pub(super) allowed: Duration,
    pub(super) demands: Demands,
}

impl Work {
    /// Runs a job; where that comes to nothing, `otherwise` is told.
    fn start(&self, name: &str, job: impl FnOnce(Self) -> Mail + Send + 'static, otherwise: Mail) {
        let work = self.clone();
        let mut promise = Promise {
            mailbox: self.mailbox.clone(),
            otherwise: Some(otherwise),
        };
        let builder = thread::Builder::new().name(name.to_owned());
        let started = builder.spawn(move || {
            let mail = job(work);
            promise.otherwise = None;
            promise.mailbox.send(mail);
        });
        if let Err(error) = started {
            tracing::warn!("no thread for \"{name}\": {error}");
        }
    }

    pub(super) fn dial(&self, dial: Dial) {
        let attempt = dial.attempt;
        let failed = move |failure| Mail::Event(Event::Failed(attempt, failure));
        self.start(
            "dial",
            move |work| match work.negotiate(&dial) {
                Ok((held, offer)) => Mail::Session(attempt, Box::new(held), offer),
                Err(failure) => failed(failure),
            },
            failed(no_thread()),
        );
    }

    fn negotiate(&self, dial: &Dial) -> Result<(Held, Offer), Failure> {
        let uri = &self.settings.uri;
        let refused = |why: String| Failure {
            why,
            stalled: false,
        };
        let dialled = dial
            .address
            .dial(uri, Deadline::after(dial.connect), dial.from)
            .map_err(|error| refused(error.to_string()))?;
        self.mailbox.event(Event::Connected(dial.attempt));
        let session = dialled.negotiate(uri, Deadline::after(dial.handshake));
        let mut session = session.map_err(|error| failure(&error.into()))?;
        let offer = dial.demands.check(session.export()).map_err(refused)?;
        // Its first read may take long, too.
        session = check_identity(session, &self.settings, dial.handshake)
            .map_err(|error| failure(&error))?;
        let peer = session.peer().to_owned();
        let local = session.local_address();
        let compact = session
            .into_compact()
            .map_err(|_| refused("the session cannot be the kernel's".to_owned()))?;
        let socket = KernelSocket::from(compact);
        prepare(&socket, &self.settings);
        let link = Link {
            peer,
            tcp: dial.address.is_tcp(),
            inode: socket.inode(),
            relay: None,
        };
        Ok((
            Held {
                socket,
                link,
                local,
                relay: None,
            },
            offer,
        ))
    }

    pub(super) fn start_relay(&self, new: NewRelay) {
        let attempt = new.attempt;
        let failed = move |failure| Mail::Event(Event::Failed(attempt, failure));
        self.start(
            "relay",
            move |work| match work.wait_for_relay(new) {
                Ok((held, offer)) => Mail::Session(attempt, Box::new(held), offer),
                Err(failure) => failed(failure),
            },
            failed(no_thread()),
        );
    }

    fn wait_for_relay(&self, new: NewRelay) -> Result<(Held, Offer), Failure> {
        let addresses: Vec<_> = new.addresses.iter().map(ToString::to_string).collect();
        let peer = addresses.first().cloned().unwrap_or_default();
        let starting = Start {
            settings: &self.settings,
            addresses,
            socket: new.socket,
            going_down: new.going_down,
            allowed: new.allowed,
        };
        // To the machine it is connected: no other is started meanwhile.
        let begun = || self.mailbox.event(Event::Connected(new.attempt));
        let offering = starting.run(begun, &|| false)?;
        let export = relay::export(&offering.offered);
        let offer = new.demands.check(&export).map_err(|why| Failure {
            why,
            stalled: false,
        })?;
        let link = Link {
            peer,
            tcp: false,
            inode: offering.socket.inode(),
            relay: Some(offering.relay.id()),
        };
        let held = Held {
            socket: offering.socket,
            link,
            local: None,
            relay: Some(offering.relay),
        };
        Ok((held, offer))
    }

    pub(super) fn resolve(&self) {
        self.start(
            "resolve",
            |work| {
                let found = resolve(&work.settings.uri, RESOLVER);
                Mail::Resolved(found.map_err(|error| error.to_string()))
            },
            Mail::Resolved(Err("no thread".to_owned())),
        );
    }

    /// Whether the server greets a second client, at the address of the link.
    pub(super) fn probe(&self, address: Address, allowed: Duration) {
        self.start(
            "probe",
            move |work| {
                let deadline = Deadline::after(allowed);
                let found = match address.dial(&work.settings.uri, deadline, None) {
                    Err(_) => Probe::Unreachable,
                    Ok(dialled) => match dialled.is_greeted(deadline) {
                        Ok(true) => Probe::Greeted,
                        Ok(false) => Probe::Silent,
                        // It hangs up on a second client, or greets in no way we know.
                        Err(_) => Probe::Unreachable,
                    },
                };
                Mail::Event(Event::Probed(found))
            },
            Mail::Event(Event::Probed(Probe::Unreachable)),
        );
    }

    pub(super) fn hand_over(&self, state: &State, socket: KernelSocket) {
        let request = Reconfigure {
            index: state.index,
            backend_identifier: state.backend_identifier.clone(),
            dead_conn_timeout: state.kernel_patience(),
            socket,
        };
        self.start(
            "hand-over",
            move |work| {
                let result = match work.netlink.reconfigure(request) {
                    Ok(Taken::Yes) => HandedOver::Taken,
                    Ok(Taken::No) => HandedOver::Dropped,
                    Err(error) if error.is_disconnected() => return Mail::Disconnected,
                    Err(error) => HandedOver::Failed(error.to_string()),
                };
                Mail::Event(Event::HandedOver(result))
            },
            Mail::Event(Event::HandedOver(HandedOver::Failed(
                "no thread".to_owned(),
            ))),
        );
    }

    pub(super) fn give_up(&self, state: &State) {
        let (index, backend) = (state.index, state.backend_identifier.clone());
        let patience = state.kernel_patience();
        self.start(
            "give-up",
            move |work| {
                let between = || hook::reached("gave-up-half");
                let result = give_up(&work.netlink, index, &backend, patience, between);
                Mail::Event(Event::GaveUp(result.map_err(|error| error.to_string())))
            },
            Mail::Event(Event::GaveUp(Err("no thread".to_owned()))),
        );
    }

    pub(super) fn resize(&self, state: &State, size: u64) {
        let (index, backend) = (state.index, state.backend_identifier.clone());
        self.start(
            "resize",
            move |work| {
                let result = work.netlink.resize(index, &backend, size);
                hook::reached("resized");
                let result = result.map(|()| size).map_err(|error| error.to_string());
                Mail::Event(Event::Resized(result))
            },
            Mail::Event(Event::Resized(Err("no thread".to_owned()))),
        );
    }

    /// Asks the kernel for a dead link that cannot be seen.
    pub(super) fn look_for_dead_link(&self, state: &State) {
        let state = state.clone();
        self.start(
            "look",
            move |work| {
                let dead = adopt::has_dead_link(&state, &work.netlink);
                let event = match dead {
                    Ok(true) => Event::DiedUnseen,
                    _ => Event::Tick,
                };
                Mail::Event(event)
            },
            Mail::Event(Event::Tick),
        );
    }

    /// Has the driver's own timer cut a link that nothing else can.
    pub(super) fn cut_by_timeout(&self, state: &State, mut link: FoundLink) {
        let (index, backend) = (state.index, state.backend_identifier.clone());
        let patience = state.kernel_patience();
        self.start(
            "cut",
            move |work| {
                let is_dead = || link.look() == Seen::Dead;
                let mut cut = work.netlink.cut_by_timeout(index, &backend, is_dead);
                if matches!(cut, Ok(true)) {
                    // That timer leaves the old socket with what it has to send; a
                    // dead one in its place has it closed, and so reset.
                    cut = kernel::has_dead_link(&work.netlink, index, &backend, patience);
                }
                if let Err(error) = &cut {
                    tracing::warn!("{error}");
                }
                Mail::TimedCut(cut.unwrap_or(false))
            },
            Mail::TimedCut(false),
        );
    }

    /// Completes a device that whoever attached it left half-made.
    pub(super) fn finish(&self, state: &State) {
        let device = Device::new(state.index);
        let (sockets, max_sectors_kb) = (state.links.len(), state.max_sectors_kb);
        let backend = state.queue_unset.then(|| state.backend_identifier.clone());
        self.start(
            "finish",
            move |work| {
                let queue = queue_settings(&work.settings, sockets, max_sectors_kb);
                let allowed = work.settings.connect_timeout;
                hook::reached("finish");
                // To end the driver's timer may have failed before; an io_timeout of ours
                // would have it cut slow links.
                let ended = backend.map_or(Ok(()), |backend| {
                    work.netlink.end_timeout(device.index(), &backend)
                });
                let done = ended
                    .and_then(|()| queue.finish(&device, KERNEL_DEADLINE))
                    .and_then(|()| wait_until_readable(&device, allowed, || None));
                Mail::Finished(done)
            },
            Mail::Finished(Err(kernel::Error::Interrupted)),
        );
    }
}

fn no_thread() -> Failure {
    Failure {
        why: "there is no thread to be had".to_owned(),
        stalled: false,
    }
}
