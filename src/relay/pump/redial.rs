//! The main thread of a relay that serves: what [`Reconnect`] decides is done here. It
//! must not know what is sent on a connection.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::message::{Begin, Failed, Order};
use super::super::reconnect::{Due, Reconnect, Terms};
use super::begin::offered;
use super::dial::Dialler;
use super::report::{Board, Times};
use super::watch::Watch;
use super::{News, Pump, farewell, spawn};
use crate::session::Session;

/// A connection is made within this, or tried again.
const CONNECT: Duration = Duration::from_secs(1);

/// The longest sleep.
const HOUR: Duration = Duration::from_secs(3600);

/// The relay's connections.
pub(super) struct Redial {
    pump: Arc<Pump>,
    board: Arc<Board>,
    dialler: Arc<Dialler>,
    news: Receiver<News>,
    watch: Watch,
    reconnect: Reconnect,
    began: Instant,
    /// A session that waits until a server had time to end what it was at.
    held: Option<Session>,
    /// What the end is an error for.
    trouble: Option<String>,
}

impl Redial {
    pub(super) fn new(
        pump: Arc<Pump>,
        board: Arc<Board>,
        dialler: Dialler,
        begin: &Begin,
        news: Receiver<News>,
    ) -> Self {
        let dialler = Arc::new(dialler);
        let silence = Duration::from_millis(begin.silence_timeout_ms);
        let terms = Terms {
            connections: usize::try_from(begin.connections).unwrap_or(1).clamp(1, 16),
            settle_time: Duration::from_millis(begin.settle_time_ms),
            seed: u64::from(std::process::id()),
        };
        Self {
            watch: Watch::new(Arc::clone(&pump), Arc::clone(&dialler), silence),
            pump,
            board,
            dialler,
            news,
            reconnect: Reconnect::new(terms, begin.patience),
            began: Instant::now(),
            held: None,
            trouble: None,
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets a session carry I/O.
    ///
    /// # Errors
    ///
    /// Its export does not fit; it is closed.
    pub(super) fn admit(&mut self, session: Session) -> Result<(), String> {
        let offers = offered(&session);
        // Before anything is asked of it.
        let (shares, served) = {
            let core = self.pump.core();
            (core.engine.may_share(), core.engine.figures().served)
        };
        let several = session.export().can_multi_conn() && shares;
        let (peer, local) = (session.peer().to_owned(), session.local_address());
        self.watch.prepare(&session);
        self.pump
            .admit(session)
            .map_err(|unfit| format!("{peer} is not used: {unfit}"))?;
        let gain = self.reconnect.linked(self.now(), several, served);
        let links = self.pump.core().links.len();
        self.watch.linked(&peer, local, links);
        self.board.change(|report| {
            report.offered = Some(offers);
            report.reconnects += u64::from(gain.replaces);
            if let Some(lasted) = gain.lasted {
                report.last_outage_ms = u64::try_from(lasted.as_millis()).ok();
            }
        });
        match gain.lasted.map(|lasted| lasted.as_millis()) {
            Some(lasted) => tracing::info!("connected to {peer} after {lasted} ms"),
            None => tracing::debug!("connected to {peer}"),
        }
        self.stand();
        Ok(())
    }

    /// Until the kernel has disconnected, and all that it wrote is flushed.
    ///
    /// # Errors
    ///
    /// It is not, and cannot be; or the kernel sent nonsense.
    pub(super) fn run(mut self) -> Result<(), String> {
        loop {
            if let Some(lost) = self.proceed() {
                return Err(lost);
            }
            let news = match self.news.recv_timeout(self.wait()) {
                Ok(news) => news,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Err("no news can come".to_owned()),
            };
            if matches!(news, News::Finished) {
                farewell(&self.pump);
                return self.trouble.map_or(Ok(()), Err);
            }
            self.take(news);
        }
    }

    /// How long nothing is due.
    fn wait(&self) -> Duration {
        let now = self.now();
        let due = self.reconnect.wake().unwrap_or(now + HOUR);
        let look = self.watch.next().saturating_duration_since(Instant::now());
        due.saturating_sub(now).min(look).min(HOUR)
    }

    fn take(&mut self, news: News) {
        match news {
            News::Dialled(result) => match *result {
                Ok(session) => self.greeted(session),
                Err(Failed { why, stalled, .. }) => {
                    self.reconnect.failed(self.now(), stalled);
                    self.say(why);
                }
            },
            News::Lost { peer, why, cut } => self.lost(&peer, &why, cut),
            News::Probed(found) => self.watch.probed(found),
            News::KernelGone(why) => {
                self.reconnect.kernel_gone(self.now());
                self.trouble = why;
            }
            News::Order(order) => self.obey(order),
            News::Finished | News::Unwatched => {}
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Patience(patience) => self.reconnect.set_patience(patience),
            Order::GoingDown {} => self.reconnect.going_down(),
            Order::Retry { cut } => {
                self.reconnect.retry(self.now());
                if cut {
                    self.watch.cut_all("that was asked for");
                }
            }
            Order::Addresses(addresses) => self.dialler.set(&addresses),
            Order::Grow { size } => self.pump.with_engine(|engine| engine.grow(size)),
            Order::Drain {} => {
                self.reconnect.drain();
                self.pump.drain();
            }
            // The first two came before, and the last is the control's.
            Order::Begin(_) | Order::Serve(_) | Order::Tell {} => {}
        }
        self.stand();
    }

    fn greeted(&mut self, session: Session) {
        let left = self.pump.has_cut_links();
        if self.reconnect.greeted(self.now(), left) {
            self.try_admit(session);
        } else {
            self.held = Some(session);
        }
    }

    fn try_admit(&mut self, session: Session) {
        if let Err(why) = self.admit(session) {
            self.reconnect.unfit(self.now());
            self.say(why);
        }
    }

    fn lost(&mut self, peer: &str, why: &str, cut: bool) {
        tracing::warn!("the connection to {peer} is lost: {why}");
        self.watch.lost();
        let served = self.pump.core().engine.figures().served;
        let loss = self.reconnect.lost(self.now(), cut, served);
        if loss.outage {
            self.board.change(|report| report.outages += 1);
        }
        if loss.go_on {
            // Whoever waits for our end would wait for the server, and the kernel with
            // him, beyond its patience.
            tracing::info!("its server went away while it was to end: it goes on");
            self.pump.go_on();
        }
        self.say(format!("{peer}: {why}"));
        self.stand();
    }

    /// The last error, told once.
    fn say(&self, why: String) {
        self.board.change(|report| {
            if report.last_error.as_ref() != Some(&why) {
                tracing::info!("{why}");
                report.last_error = Some(why);
            }
        });
    }

    /// What is told of how it stands.
    fn stand(&self) {
        let moment = |since: Duration| self.began.checked_add(since);
        self.board.times(Times {
            out_since: self.reconnect.out_since().and_then(moment),
            fails_at: self.reconnect.fails_at().and_then(moment),
        });
        let standing = self.reconnect.standing();
        self.board.change(|report| report.standing = standing);
    }

    /// Does what is due; the end, where that has come.
    fn proceed(&mut self) -> Option<String> {
        while let Some(due) = self.reconnect.due(self.now()) {
            match due {
                Due::Dial { handshake } => self.dial(handshake),
                Due::Admit => {
                    if let Some(session) = self.held.take() {
                        self.try_admit(session);
                    }
                }
                Due::GiveUp => {
                    tracing::error!("no server came back in time: I/O fails until one does");
                    self.pump.with_engine(super::super::Engine::give_up);
                    self.stand();
                }
                Due::End => {
                    let bytes = self.pump.core().engine.figures().logged_bytes;
                    return Some(format!(
                        "no server came back: {bytes} bytes that were written and not flushed \
                         are lost"
                    ));
                }
            }
        }
        self.watch.look(Instant::now());
        None
    }

    fn dial(&mut self, handshake: Duration) {
        let (pump, dialler) = (Arc::clone(&self.pump), Arc::clone(&self.dialler));
        let from = self.watch.stale();
        let beside = self.pump.living_peer();
        let begun = spawn("dial", move || {
            let session = dialler.attempt(CONNECT, handshake, from, beside.as_deref());
            pump.news(News::Dialled(Box::new(session)));
        });
        self.reconnect.dialling(self.now(), begun);
    }
}
