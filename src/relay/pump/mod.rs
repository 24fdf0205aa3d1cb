//! The pump: the engine's decisions carried out on sockets. It must not know netlink,
//! sysfs or a file, and decides nothing that the engine can.
//!
//! - `begin`: from the first order to a device that is served, and to the end
//! - `intake`: the kernel's requests; a thread
//! - `replies`, `link`: a connection to a server; two threads each, of which one reads
//!   and the other waits where the socket is full
//! - `batch`: what the engine wants, done; by whoever told it something
//! - `buffers`, `input`: memory
//! - `redial`, `dial`, `watch`: connections that are missing or silent, and patience;
//!   the main thread
//! - `control`: the monitor's orders, and reports; a thread
//!
//! The engine is behind one lock, which nobody holds while he waits for a socket. In a
//! request's way are two threads: the one that read it sends it on, the one that reads
//! its reply answers it.

mod batch;
mod begin;
mod buffers;
mod control;
mod dial;
mod input;
mod intake;
mod link;
mod redial;
mod replies;
mod report;
mod trouble;
mod watch;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use begin::{Relaying, run};

use super::message::{Failed, Order};
use super::offer::{Offer, Unfit};
use super::{Engine, LogLimits, SessionId};
use crate::session::{Probe, Session};
use batch::Batch;
use buffers::Buffers;
use link::Link;
use trouble::Troubles;

/// What the system knows of a TCP connection, and does to one, where there is no safe
/// call for it here.
#[derive(Debug, Clone, Copy)]
pub struct Wires {
    /// Has an idle peer asked for a sign of life, four times in this time; and what was
    /// not sent be dropped when the socket is closed.
    pub prepare: fn(BorrowedFd<'_>, Duration),
    /// How the peer acknowledges; `None` for what is not TCP.
    pub facts: fn(BorrowedFd<'_>) -> Option<Facts>,
    /// Ends a connection so that the peer drops what it has not read.
    pub reset: fn(BorrowedFd<'_>),
    /// Has what is written before a close be sent after all.
    pub linger: fn(BorrowedFd<'_>),
}

/// How a peer acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Since the last acknowledgement of any kind.
    pub since_ack: Duration,
    /// How often in a row something was sent that asks for one.
    pub unanswered: u32,
    /// The smoothed round trip, in microseconds.
    pub rtt_us: u32,
}

/// What reaches the main thread.
#[derive(Debug)]
enum News {
    /// A session that was asked for, or why there is none.
    Dialled(Box<Result<Session, Failed>>),
    /// A connection ended.
    Lost {
        peer: String,
        why: String,
        cut: bool,
    },
    /// What a second connection found.
    Probed(Probe),
    /// The kernel sends no more; why, where that is an error.
    KernelGone(Option<String>),
    /// Everything is answered and flushed.
    Finished,
    /// Of the monitor's.
    Order(Order),
    /// The first monitor is gone.
    Unwatched,
}

/// What is behind the lock.
struct Core {
    engine: Engine,
    links: Vec<Arc<Link>>,
    troubles: Troubles,
}

impl Core {
    fn link(&self, session: SessionId) -> Option<&Arc<Link>> {
        self.links.iter().find(|link| link.id == session)
    }
}

/// What all threads share.
struct Pump {
    core: Mutex<Core>,
    /// There may be room for the request that the intake has.
    room: Condvar,
    intake_waits: AtomicBool,
    /// No more requests are taken; set with the lock held.
    draining: AtomicBool,
    buffers: Buffers,
    /// Our end of the pair.
    kernel: OwnedFd,
    /// One answers the kernel at a time.
    answering: Mutex<()>,
    news: Mutex<Sender<News>>,
    wires: Wires,
    settle_time: Duration,
}

impl Pump {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self, news: News) {
        let sender = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a main thread the process is ending.
        let _ = sender.send(news);
    }

    /// There may be room now.
    fn tell_intake(&self) {
        if self.intake_waits.load(Ordering::SeqCst) {
            // With the lock, so that it either waits or has not looked yet.
            let _core = self.core();
            self.room.notify_one();
        }
    }

    /// Something is done to the engine, and what follows from it.
    fn with_engine<T>(&self, what: impl FnOnce(&mut Engine) -> T) -> T {
        let mut batch = Batch::new();
        let mut core = self.core();
        let result = what(&mut core.engine);
        batch.collect(&mut core, self);
        drop(core);
        batch.carry(self);
        result
    }

    /// Lets a session carry I/O.
    fn admit(self: &Arc<Self>, session: Session) -> Result<(), Unfit> {
        let peer = session.peer().to_owned();
        let (negotiated, socket) = session.into_parts();
        let mut batch = Batch::new();
        let mut core = self.core();
        let id = core.engine.session_up(Offer::of(&negotiated))?;
        let link = Arc::new(Link::new(id, peer, negotiated.header_style(), socket));
        core.links.push(Arc::clone(&link));
        batch.collect(&mut core, self);
        drop(core);
        let (pump, read) = (Arc::clone(self), Arc::clone(&link));
        let reading = spawn("replies", move || replies::run(&pump, &read));
        let (pump, written) = (Arc::clone(self), Arc::clone(&link));
        let writing = spawn("requests", move || written.write(&pump.buffers));
        batch.carry(self);
        match (reading, writing) {
            (true, true) => {}
            // Its reader sees the end.
            (true, false) => link.hang_up("there is no thread to be had"),
            (false, _) => self.lost(&link, "there is no thread to be had"),
        }
        Ok(())
    }

    /// No more requests are taken: what is there is answered and flushed.
    fn drain(&self) {
        self.with_engine(|engine| {
            self.draining.store(true, Ordering::Release);
            engine.wind_down();
        });
    }

    /// Where a connection leads that lives.
    fn living_peer(&self) -> Option<String> {
        let core = self.core();
        let mut living = core.links.iter().filter(|link| !link.was_cut());
        living.next().map(|link| link.peer.clone())
    }

    /// Whether a connection was left whose end was not told yet.
    fn has_cut_links(&self) -> bool {
        self.core().links.iter().any(|link| link.was_cut())
    }

    /// Requests are taken again, where it has not ended yet.
    fn go_on(&self) {
        self.with_engine(|engine| {
            if engine.go_on() {
                self.draining.store(false, Ordering::Release);
                self.room.notify_all();
            }
        });
    }

    /// A link has ended, and its reader touches no buffer any more.
    fn lost(&self, link: &Arc<Link>, why: &str) {
        let why = link.reason().unwrap_or_else(|| why.to_owned());
        link.die(&self.buffers);
        let cut = link.was_cut();
        if cut {
            // The others take its requests only when its server had time to end what it
            // was at.
            let mut core = self.core();
            core.engine.suspend(link.id);
            let alone = core.links.len() == 1;
            drop(core);
            if !alone {
                thread::sleep(self.settle_time);
            }
        }
        let mut batch = Batch::new();
        let mut core = self.core();
        core.links.retain(|other| other.id != link.id);
        core.engine.session_down(link.id);
        batch.collect(&mut core, self);
        drop(core);
        batch.carry(self);
        self.news(News::Lost {
            peer: link.peer.clone(),
            why,
            cut,
        });
    }
}

/// Starts a thread; whether there is one.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> bool {
    let builder = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 << 10);
    match builder.spawn(run) {
        Ok(_) => true,
        Err(error) => {
            tracing::error!("no thread for {name}: {error}");
            false
        }
    }
}

/// Takes leave of the servers: nothing is owed any more.
fn farewell(pump: &Pump) {
    let links = pump.core().links.clone();
    for link in links {
        link.leave(&pump.buffers, pump.wires.linger);
    }
}

/// How many buffers there can be: what the log holds, READs, and what is refused.
fn buffer_count(log: LogLimits, depth: usize) -> usize {
    log.entries + 2 * depth + 16
}
