//! What the service manager that started this monitor is told (sd_notify(3)), and
//! the descriptors that it keeps for a successor (file descriptor store). Without
//! such a manager all of it is nothing.
//!
//! It must not know what state means what: it passes on sentences. A thread says
//! them, which may be stuck: the manager itself may wait for a disk of ours.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::kernel;

/// How often the sentence may change. Addresses may differ in what they say.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// What may wait to be said; more than any change of state makes.
const QUEUE: usize = 64;

/// What a start takes beside its server: locks, the kernel, udev.
const BESIDE: Duration = Duration::from_secs(80);

/// How long the last of it may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A service manager, or none.
#[derive(Debug)]
pub struct Service {
    listens: bool,
    /// From the first word on: a thread takes the signals that its maker does not
    /// hold, and they are held only once serving begins.
    herald: Option<Herald>,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
    fed_at: Instant,
    is_ready: bool,
    said: String,
    said_at: Option<Instant>,
    /// A sentence was held back.
    owes: bool,
    /// What is in its store, by name.
    kept: BTreeSet<String>,
    inherited: Vec<(String, OwnedFd)>,
}

impl Service {
    /// The one that the environment tells of. To be called first of all in the
    /// process (see [`kernel::inherited_descriptors`]).
    #[must_use]
    pub fn from_environment() -> Self {
        let inherited = kernel::inherited_descriptors();
        Self {
            listens: std::env::var_os("NOTIFY_SOCKET").is_some(),
            // Twice in the time after which it would take us for stuck.
            watchdog: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            kept: inherited.iter().map(|(name, _)| name.clone()).collect(),
            inherited,
            ..Self::none()
        }
    }

    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self {
            listens: false,
            herald: None,
            watchdog: None,
            fed_at: Instant::now(),
            is_ready: false,
            said: String::new(),
            said_at: None,
            owes: false,
            kept: BTreeSet::new(),
            inherited: Vec::new(),
        }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.listens
    }

    /// What waits for this service goes on.
    pub(super) fn ready(&mut self) {
        if !self.is_ready {
            self.is_ready = self.notify(&[NotifyState::Ready], &[]);
        }
    }

    /// How things are, in a sentence; sent when it changed.
    pub(super) fn status(&mut self, sentence: &str) {
        let soon = self.said_at.is_some_and(|at| at.elapsed() < SAY_AGAIN);
        self.owes = self.listens && self.said != sentence && soon;
        if self.said == sentence || soon {
            return;
        }
        // A line is a setting of its own.
        let line = sentence.replace('\n', " ");
        if self.notify(&[NotifyState::Status(&line)], &[]) {
            sentence.clone_into(&mut self.said);
            self.said_at = Some(Instant::now());
        }
    }

    /// The last sentence; it is waited for, but not for long.
    pub(super) fn last_words(&mut self, sentence: &str) {
        self.said_at = None;
        self.status(sentence);
        self.listens = false;
        if let Some(herald) = self.herald.take() {
            herald.finish();
        }
    }

    /// When [`Service::live`] or [`Service::status`] is to be called again at the
    /// latest; `None` where nobody looks.
    pub(super) fn due(&self) -> Option<Duration> {
        let sentence = self.said_at.filter(|_| self.owes);
        let sentence = sentence.map(|at| SAY_AGAIN.saturating_sub(at.elapsed()));
        self.next_sign().into_iter().chain(sentence).min()
    }

    /// The manager gives a start so much more time than it takes by itself.
    pub(super) fn allow(&mut self, time: Duration) {
        let micros = u32::try_from((time + BESIDE).as_micros()).unwrap_or(u32::MAX);
        self.notify(&[NotifyState::ExtendTimeoutUsec(micros)], &[]);
    }

    /// Lets go of what an earlier process had kept and nobody took.
    pub(super) fn close_others(&mut self) {
        self.inherited.clear();
    }

    fn next_sign(&self) -> Option<Duration> {
        let every = self.watchdog?;
        Some(every.saturating_sub(self.fed_at.elapsed()))
    }

    /// Gives a sign of life when one is due.
    pub(super) fn live(&mut self) {
        if self.next_sign().is_some_and(|due| due.is_zero()) {
            self.fed_at = Instant::now();
            self.notify(&[NotifyState::Watchdog], &[]);
        }
    }

    /// Takes what an earlier process had kept under a name.
    pub(super) fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.inherited.iter().position(|(kept, _)| kept == name)?;
        Some(self.inherited.swap_remove(at).1)
    }

    /// Has exactly these kept, for a successor. It does not end what hangs up: a
    /// successor is to see that.
    pub(super) fn keep(&mut self, wanted: &[(String, BorrowedFd<'_>)]) {
        let gone: Vec<_> = self
            .kept
            .iter()
            .filter(|kept| !wanted.iter().any(|(name, _)| name == *kept))
            .cloned()
            .collect();
        for name in gone {
            let remove = [NotifyState::FdStoreRemove, NotifyState::FdName(&name)];
            if self.notify(&remove, &[]) {
                self.kept.remove(&name);
            }
        }
        for (name, descriptor) in wanted {
            if self.kept.contains(name) {
                continue;
            }
            let store = [
                NotifyState::FdStore,
                NotifyState::FdName(name),
                NotifyState::Custom("FDPOLL=0"),
            ];
            if self.notify(&store, &[*descriptor]) {
                self.kept.insert(name.clone());
            }
        }
    }

    /// Whether it will be said.
    fn notify(&mut self, said: &[NotifyState<'_>], descriptors: &[BorrowedFd<'_>]) -> bool {
        if self.herald.is_none() && self.listens {
            self.herald = Herald::new();
        }
        let Some(herald) = &self.herald else {
            return false;
        };
        let lines: Vec<_> = said.iter().map(ToString::to_string).collect();
        let descriptors = descriptors.iter().map(BorrowedFd::try_clone_to_owned);
        let Ok(descriptors) = descriptors.collect() else {
            return false;
        };
        herald.say(Message {
            text: lines.join("\n"),
            descriptors,
        })
    }
}

/// One datagram.
struct Message {
    text: String,
    descriptors: Vec<OwnedFd>,
}

/// The thread that says it.
#[derive(Debug)]
struct Herald {
    queue: SyncSender<Message>,
    /// Hung up when it has said everything.
    ended: Receiver<()>,
}

impl Herald {
    fn new() -> Option<Self> {
        let (queue, messages) = mpsc::sync_channel::<Message>(QUEUE);
        let (end, ended) = mpsc::sync_channel(0);
        let work = move || {
            let _end: SyncSender<()> = end;
            for message in messages {
                let said = [NotifyState::Custom(&message.text)];
                let descriptors: Vec<_> = message.descriptors.iter().map(AsFd::as_fd).collect();
                let sent = if descriptors.is_empty() {
                    sd_notify::notify(&said)
                } else {
                    sd_notify::notify_with_fds(&said, &descriptors)
                };
                if let Err(error) = sent {
                    tracing::debug!("the service manager: {error}");
                }
            }
        };
        let thread = thread::Builder::new().name("notify".to_owned());
        thread.spawn(work).ok()?;
        Some(Self { queue, ended })
    }

    fn say(&self, message: Message) -> bool {
        self.queue.try_send(message).is_ok()
    }

    fn finish(self) {
        drop(self.queue);
        let ended = self.ended.recv_timeout(LAST_WORDS);
        if ended == Err(RecvTimeoutError::Timeout) {
            tracing::debug!("the service manager takes nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_that_is_held_back_is_due_later() {
        let mut service = Service {
            listens: true,
            ..Service::none()
        };
        service.said_at = Some(Instant::now());
        assert_eq!(service.due(), None);
        service.status("another");
        let due = service.due().unwrap();
        assert!(due > Duration::ZERO && due <= SAY_AGAIN, "{due:?}");
        service.said_at = Instant::now().checked_sub(SAY_AGAIN);
        assert_eq!(service.due(), Some(Duration::ZERO));
    }
}
