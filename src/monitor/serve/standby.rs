//! Sees to it that a process stands by that goes on where a root's monitor ends that nobody
//! told to.

use std::io;
use std::thread;
use std::time::Duration;

use super::Serving;
use super::mail::Mail;
use crate::monitor::machine::Moment;
use crate::monitor::standby::Standby;

/// How often it is looked whether it lives; and tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The one that there is.
#[derive(Debug, Default)]
pub(super) struct StandsBy {
    one: Option<Standby>,
    /// A thread is at it.
    starting: bool,
    look_at: Moment,
}

impl Serving<'_> {
    /// In a thread: what is executed is read from the root, and may wait for its server.
    pub(super) fn keep_standby(&mut self) {
        let now = self.now();
        let living = self.is_linked();
        let Some(root) = &mut self.root else { return };
        let stands_by = &mut root.stands_by;
        if now < stands_by.look_at || !living || stands_by.starting || root.down.is_some() {
            return;
        }
        stands_by.look_at = now + LOOK_AGAIN;
        if stands_by.one.as_mut().is_some_and(Standby::is_alive) {
            return;
        }
        stands_by.one = None;
        let name = self.identifier.name().clone();
        let mailbox = self.work.mailbox.clone();
        let job = move || mailbox.send(Mail::Standby(Standby::start(&name)));
        let builder = thread::Builder::new().name("standby".to_owned());
        match builder.spawn(job) {
            Ok(_) => stands_by.starting = true,
            Err(error) => tracing::warn!("nobody stands by: {error}"),
        }
    }

    pub(super) fn stands_by(&mut self, started: io::Result<Standby>) {
        if let Err(error) = &started {
            tracing::warn!("nobody stands by: {error}");
        }
        if let Some(root) = &mut self.root {
            root.stands_by.starting = false;
            root.stands_by.one = started.ok();
        }
    }

    /// Nobody is to go on.
    pub(super) fn dismiss_standby(&mut self) {
        let stands_by = self.root.as_mut().map(|root| &mut root.stands_by);
        if let Some(one) = stands_by.and_then(|stands_by| stands_by.one.take()) {
            one.dismiss();
        }
    }
}
