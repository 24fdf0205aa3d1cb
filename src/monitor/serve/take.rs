//! What each message means.

use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use super::mail::Mail;
use super::{Detaching, End, Serving};
use crate::kernel::Seen;
use crate::monitor::control::{Answer, Request};
use crate::monitor::detach;
use crate::monitor::error::Error;
use crate::monitor::hook;
use crate::monitor::machine::{Event, HandedOver, Standing};
use crate::monitor::relay;
use crate::relay::message::Order;

/// After a half-made device could not be finished.
const FINISH_AGAIN: Duration = Duration::from_secs(5);

/// How often the kernel is asked about links that cannot be seen: it takes a
/// command of the kind that reconnects, too.
const ASK_AGAIN: Duration = Duration::from_secs(10);

impl Serving<'_> {
    pub(super) fn take(&mut self, mail: Mail) -> Option<End> {
        match mail {
            Mail::Event(event) => self.happen(event),
            Mail::Session(attempt, held, offer) => {
                hook::reached("offered");
                self.offers.insert(attempt, *held);
                self.happen(Event::Offered(attempt, offer));
            }
            Mail::Resolved(found) => self.resolved(found),
            Mail::LinkDead(index) => {
                if index.is_none_or(|index| index == self.device.index()) {
                    self.asked_at = self.now();
                    self.ask_for_deaths();
                }
            }
            // Ours are under way to that end.
            Mail::Disconnected if self.detaching.is_none() => return Some(End::Gone),
            Mail::Disconnected => {
                let gone = HandedOver::Failed("the device is gone".to_owned());
                self.happen(Event::HandedOver(gone));
            }
            Mail::TimedCut(done) => {
                self.cutting = false;
                if !done {
                    tracing::warn!("the silent link could not be cut; it is tried again");
                }
                self.ask_for_deaths();
            }
            Mail::Control(request, reply) => self.request(request, reply),
            Mail::Detached(result) => return self.detached(result),
            Mail::Resident(files) => self.resident(*files),
            Mail::Standby(started) => self.stands_by(started),
            // Only of a device that is yet to be made.
            Mail::BroughtUp(_) => {}
            Mail::Finished(Ok(())) => {
                self.finishing = false;
                self.state.usable = true;
                self.state.queue_unset = false;
                self.store();
            }
            Mail::Finished(Err(error)) => {
                tracing::warn!("{} is not usable yet: {error}", self.path());
                self.finishing = false;
                self.finish_at = self.now() + FINISH_AGAIN;
            }
        }
        None
    }

    fn resolved(&mut self, found: Result<Vec<crate::session::Address>, String>) {
        self.relays_look_up_ended();
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                self.state.addresses = addresses.iter().map(ToString::to_string).collect();
                self.set_places(addresses);
                let ids = self.places.iter().map(|(id, _)| *id).collect();
                self.happen(Event::Places(ids));
                self.order_relay(&relay::addresses(&self.state.addresses));
                self.store();
            }
            Ok(_) => {}
            Err(why) => tracing::info!("{why}; the addresses that are known are tried"),
        }
        self.happen(Event::Resolved);
    }

    /// Looks at the links whose end nothing tells unasked.
    pub(super) fn ask_for_deaths(&mut self) {
        let mut blind = false;
        let asked: Vec<_> = self.links.keys().copied().collect();
        for id in asked {
            if !self.machine.is_alive(id) {
                continue;
            }
            let Some(watched) = self.links.get_mut(&id) else {
                continue;
            };
            match watched.look() {
                Seen::Dead if self.state.by_relay() => self.link_died(id),
                Seen::Dead if watched.left_at_work() => self.happen(Event::DiedAtWork(id)),
                Seen::Dead => self.happen(Event::Died(id)),
                Seen::Unknown => blind = true,
                Seen::Alive(_) => {}
            }
        }
        let now = self.now();
        if blind && now >= self.asked_at && self.machine.standing() == Standing::Connected {
            self.asked_at = now + ASK_AGAIN;
            self.work.look_for_dead_link(&self.state);
        }
    }

    fn request(&mut self, request: Request, reply: SyncSender<Answer>) {
        let answer = match request {
            Request::Status {} => {
                self.asking.push((reply, Instant::now()));
                self.order_relay(&Order::Tell {});
                return;
            }
            Request::Reconnect { cut } => {
                tracing::info!("asked to reconnect");
                self.order_relay(&Order::Retry { cut });
                // The link to a relay is no connection to a server.
                let cut = cut && !self.state.by_relay();
                self.happen(Event::Retry { cut });
                Answer::done()
            }
            Request::ShuttingDown { ending, begun } => {
                if !self.machine.is_going_down() {
                    tracing::info!("the machine goes down");
                }
                self.order_relay(&Order::GoingDown {});
                self.happen(Event::ShuttingDown);
                self.root_goes_down(ending, begun);
                Answer::done()
            }
            Request::GoesOn {} => {
                self.happen(Event::GoesOn);
                self.tell_relay_patience();
                self.root_goes_on();
                Answer::done()
            }
            Request::Leave {} => {
                tracing::info!("another monitor takes {} over", self.path());
                self.leaving = true;
                Answer::done()
            }
            Request::Detach { force } => return self.detach(force, reply),
        };
        // Whoever asked may have gone.
        let _ = reply.try_send(answer);
    }

    fn detach(&mut self, force: bool, reply: SyncSender<Answer>) {
        if let Some(detaching) = &mut self.detaching {
            if detaching.force == force {
                detaching.replies.push(reply);
            } else {
                let busy = format!("{} is being detached already: wait for it", self.path());
                let _ = reply.try_send(Answer::failed(busy, 1));
            }
            return;
        }
        self.detaching = Some(Detaching {
            replies: vec![reply],
            force,
        });
        let dead = !self.is_linked();
        if !force {
            // A farewell is to arrive, and not to be overtaken by a reset.
            for watched in self.links.values() {
                watched.reset_on_close(false);
            }
        }
        if force {
            // So that the farewell waits for no buffer.
            for watched in self.links.values_mut() {
                if watched.fd().is_some() {
                    watched.cut();
                }
            }
        }
        let (device, identifier) = (self.device.clone(), self.identifier.clone());
        let mailbox = self.work.mailbox.clone();
        let job = move || {
            let result = detach::take_down(&device, &identifier, force, dead);
            mailbox.send(Mail::Detached(result));
        };
        if let Err(error) = thread::Builder::new().name("detach".to_owned()).spawn(job) {
            self.detached(Err(Error::Starting(error)));
        }
    }

    fn detached(&mut self, result: Result<Vec<String>, Error>) -> Option<End> {
        let detaching = self.detaching.take()?;
        let failed = |error: &Error| Answer::failed(error.to_string(), (self.exit_of)(error));
        // Whoever asked second finds nothing any more.
        let (first, others) = match &result {
            Ok(warnings) => (
                Answer {
                    warnings: warnings.clone(),
                    ..Answer::done()
                },
                failed(&Error::NotAttached(self.path())),
            ),
            Err(error) => (failed(error), failed(error)),
        };
        let answers = std::iter::once(first).chain(std::iter::repeat(others));
        for (reply, answer) in detaching.replies.iter().zip(answers) {
            let _ = reply.try_send(answer);
        }
        if result.is_ok() {
            return Some(End::Detached);
        }
        self.refused = result.as_ref().err().map(ToString::to_string);
        let lingers = matches!(result, Err(Error::Lingers { .. }));
        if lingers || self.is_gone() {
            return Some(End::Gone);
        }
        for watched in self.links.values() {
            watched.reset_on_close(true);
        }
        // What was cut for it is to be made good.
        for action in std::mem::take(&mut self.owed) {
            self.act(action);
        }
        None
    }
}
