//! What the threads around the loop tell it, and the bell that wakes it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use super::work::Held;
use crate::kernel;
use crate::monitor::bring_up::BroughtUp;
use crate::monitor::control::{Answer, Request};
use crate::monitor::error::Error;
use crate::monitor::machine::{AttemptId, Event, Offer};
use crate::monitor::runtime::Lock;
use crate::monitor::standby::Standby;
use crate::session::Address;

/// One message.
pub(super) enum Mail {
    /// For the machine.
    Event(Event),
    /// A session that meets the demands.
    Session(AttemptId, Box<Held>, Offer),
    /// What a name resolves to.
    Resolved(Result<Vec<Address>, String>),
    /// The kernel told of a dead link of a device, or lost count.
    LinkDead(Option<u32>),
    /// The kernel holds that the device was disconnected.
    Disconnected,
    /// The driver's timer cut a link, or had nothing to cut.
    TimedCut(bool),
    /// A request, and whoever waits for the answer.
    Control(Request, SyncSender<Answer>),
    /// A detach came to its end.
    Detached(Result<Vec<String>, Error>),
    /// A device came up, or did not.
    BroughtUp(Box<Result<(BroughtUp, Lock), Error>>),
    /// Files are in memory that the end of the machine needs.
    Resident(Box<kernel::Resident>),
    /// A process stands by, or cannot.
    Standby(io::Result<Standby>),
    /// A half-made device is finished, or not.
    Finished(Result<(), kernel::Error>),
}

/// Where messages are put.
#[derive(Clone)]
pub(super) struct Mailbox {
    sender: Sender<Mail>,
    bell: Arc<UnixStream>,
}

/// Where they are taken from.
pub(super) struct Inbox {
    receiver: Receiver<Mail>,
    bell: UnixStream,
}

pub(super) fn post_office() -> io::Result<(Mailbox, Inbox)> {
    let (rung, heard) = UnixStream::pair()?;
    rung.set_nonblocking(true)?;
    heard.set_nonblocking(true)?;
    let (sender, receiver) = mpsc::channel();
    let mailbox = Mailbox {
        sender,
        bell: Arc::new(rung),
    };
    Ok((
        mailbox,
        Inbox {
            receiver,
            bell: heard,
        },
    ))
}

impl Mailbox {
    pub(super) fn send(&self, mail: Mail) {
        // Where nobody takes it any more, nobody needs it.
        let _ = self.sender.send(mail);
        // A bell that is full has been rung.
        let _ = (&*self.bell).write(&[1]);
    }

    pub(super) fn event(&self, event: Event) {
        self.send(Mail::Event(event));
    }
}

impl Inbox {
    /// Readable when there is something.
    pub(super) fn bell(&self) -> &UnixStream {
        &self.bell
    }

    pub(super) fn hush(&mut self) {
        let mut rings = [0; 64];
        while matches!(self.bell.read(&mut rings), Ok(count) if count > 0) {}
    }

    pub(super) fn next(&self) -> Option<Mail> {
        self.receiver.try_recv().ok()
    }
}
