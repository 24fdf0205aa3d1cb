//! Bringing up a device whose server may be away: as often as it takes, with an
//! answer for whoever asks meanwhile. Until a device is there, no I/O waits, and
//! nothing but the wish of whoever started this ends it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::begin::seed;
use super::mail::{Inbox, Mail, Mailbox};
use crate::config::{BackendIdentifier, Settings};
use crate::kernel::{self, Netlink};
use crate::monitor::LOCK_DEADLINE;
use crate::monitor::bring_up::{BroughtUp, bring_up};
use crate::monitor::control::{Answer, Request};
use crate::monitor::detach::take_down;
use crate::monitor::error::Error;
use crate::monitor::interrupt::Interrupt;
use crate::monitor::lookup::by_name;
use crate::monitor::runtime::{Lock, Runtime};
use crate::monitor::service::Service;

/// Between two attempts. A thousand clients of one server that boots do not come
/// all at once: up to as much again is added.
const PAUSE: Duration = Duration::from_millis(500);

/// So often an error is logged that stays the same.
const SAY_AGAIN: Duration = Duration::from_secs(60);

pub(super) struct Insisting<'a> {
    pub(super) settings: &'a Settings,
    pub(super) runtime: &'a Runtime,
    pub(super) netlink: &'a Netlink,
    pub(super) mailbox: &'a Mailbox,
    pub(super) inbox: &'a mut Inbox,
    pub(super) interrupt: &'a Interrupt,
    pub(super) service: &'a mut Service,
    pub(super) exit_of: fn(&Error) -> u8,
}

/// What is known while there is no device.
struct Waiting {
    /// An attempt is under way.
    attempting: bool,
    next: Instant,
    /// Whoever started this wants no more of it.
    stopped: Arc<AtomicBool>,
    /// Who asked for that.
    replies: Vec<SyncSender<Answer>>,
    said: Option<(String, Instant)>,
    pause: Duration,
}

impl Insisting<'_> {
    /// Comes back with a device, or when it is to end. The lock is the folder's,
    /// which others may have between two attempts.
    pub(super) fn run(mut self, turn: Lock) -> Result<(BroughtUp, Lock), Error> {
        drop(turn);
        let mut waiting = Waiting {
            attempting: false,
            next: Instant::now(),
            stopped: Arc::default(),
            replies: Vec::new(),
            said: None,
            pause: PAUSE + Duration::from_millis(seed() % 500),
        };
        self.service
            .status(&format!("connecting to {}", self.settings.uri));
        loop {
            if self.interrupt.came() {
                waiting.stopped.store(true, Ordering::Relaxed);
            }
            let stopped = waiting.stopped.load(Ordering::Relaxed);
            if !waiting.attempting {
                if stopped {
                    return Err(waiting.end());
                }
                if Instant::now() >= waiting.next {
                    self.attempt(&mut waiting)?;
                }
            }
            self.wait(&waiting);
            self.service.live();
            self.inbox.hush();
            while let Some(mail) = self.inbox.next() {
                match mail {
                    Mail::Control(request, reply) => self.answer(&request, reply, &mut waiting),
                    Mail::BroughtUp(result) => match *result {
                        Ok((brought, turn)) if !waiting.stopped.load(Ordering::Relaxed) => {
                            return Ok((brought, turn));
                        }
                        result => self.failed(result, &mut waiting)?,
                    },
                    _ => {}
                }
            }
        }
    }

    /// One attempt, in a thread of its own: it may take as long as a server that
    /// says nothing.
    fn attempt(&self, waiting: &mut Waiting) -> Result<(), Error> {
        let (settings, runtime) = (self.settings.clone(), self.runtime.clone());
        let netlink = self.netlink.clone();
        let (mailbox, stopped) = (self.mailbox.clone(), Arc::clone(&waiting.stopped));
        let job = move || {
            let stopped = || stopped.load(Ordering::Relaxed);
            let result = runtime.lock(LOCK_DEADLINE).and_then(|turn| {
                let brought = bring_up(&settings, &netlink, &runtime, &stopped)?;
                Ok((brought, turn))
            });
            mailbox.send(Mail::BroughtUp(Box::new(result)));
        };
        let thread = thread::Builder::new().name("attempt".to_owned());
        thread.spawn(job).map_err(Error::Starting)?;
        waiting.attempting = true;
        Ok(())
    }

    /// An attempt that brought nothing, or something that nobody wants any more.
    fn failed(
        &mut self,
        result: Result<(BroughtUp, Lock), Error>,
        waiting: &mut Waiting,
    ) -> Result<(), Error> {
        waiting.attempting = false;
        waiting.next = Instant::now() + waiting.pause;
        match result {
            Ok((brought, turn)) => {
                drop(turn);
                let state = &brought.state;
                let identifier = BackendIdentifier::new(&state.settings.name, &state.settings.uri);
                let device = kernel::Device::new(state.index);
                take_down(&device, &identifier, false, false).map(drop)
            }
            Err(_) if waiting.stopped.load(Ordering::Relaxed) => Ok(()),
            // Half-made, and in use already: a successor is to take it over.
            Err(error) if by_name(&self.settings.name)?.is_some() => Err(error),
            Err(error) => {
                let said = error.to_string();
                let again = waiting
                    .said
                    .as_ref()
                    .is_some_and(|(last, at)| *last == said && at.elapsed() < SAY_AGAIN);
                if !again {
                    tracing::warn!("{said}; it is tried again and again");
                    waiting.said = Some((said, Instant::now()));
                }
                self.say(waiting);
                Ok(())
            }
        }
    }

    fn say(&mut self, waiting: &Waiting) {
        if let Some((said, _)) = &waiting.said {
            self.service
                .status(&format!("not attached yet, tried again and again: {said}"));
        }
    }

    fn wait(&mut self, waiting: &Waiting) {
        let mut timeout = Duration::from_secs(1);
        if !waiting.attempting {
            timeout = timeout.min(waiting.next.saturating_duration_since(Instant::now()));
        }
        if let Some(sign) = self.service.due() {
            timeout = timeout.min(sign);
        }
        self.say(waiting);
        let mut fds = vec![PollFd::new(self.inbox.bell().as_fd(), PollFlags::POLLIN)];
        if let Some(signals) = self.interrupt.as_fd() {
            fds.push(PollFd::new(signals, PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(timeout + Duration::from_micros(999));
        let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX));
    }

    fn answer(&self, request: &Request, reply: SyncSender<Answer>, waiting: &mut Waiting) {
        let answer = match request {
            Request::Status {} => {
                let why = waiting.said.as_ref().map_or("", |(said, _)| said);
                let error = Error::NotYet {
                    name: self.settings.name.clone(),
                    why: why.to_owned(),
                };
                Answer {
                    why: Some(why.to_owned()),
                    ..Answer::failed(error.to_string(), (self.exit_of)(&error))
                }
            }
            Request::Reconnect { .. } => {
                waiting.next = Instant::now();
                Answer::done()
            }
            Request::Detach { .. }
            | Request::ShuttingDown { .. }
            | Request::GoesOn {}
            | Request::Leave {} => {
                waiting.stopped.store(true, Ordering::Relaxed);
                waiting.replies.push(reply);
                return;
            }
        };
        let _ = reply.try_send(answer);
    }
}

impl Waiting {
    /// It ends as it was asked to, with nothing left.
    fn end(self) -> Error {
        if self.replies.is_empty() {
            return kernel::Error::Interrupted.into();
        }
        for reply in self.replies {
            let _ = reply.try_send(Answer::done());
        }
        Error::Unwanted
    }
}
