//! Connections that are missing, and the patience with that: the main thread of a
//! relay that serves. It must not know what is sent on them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::super::message::{Begin, Failed, Order, Patience, Standing};
use super::begin::offered;
use super::dial::Dialler;
use super::report::{Board, Times};
use super::watch::Watch;
use super::{News, Pump, farewell, spawn};
use crate::session::{Jitter, Session};

/// A connection is made within this, or tried again.
const CONNECT: Duration = Duration::from_secs(1);

/// The least and the most that a handshake gets.
const HANDSHAKE: Duration = Duration::from_secs(1);
const LONG_HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection that lives no longer was of no use.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// After a server whose export does not fit.
const UNFIT: Duration = Duration::from_secs(1);

/// How long the last changes are kept for a server that is away, when the kernel is
/// gone: nobody can be told then.
const LAST_PATIENCE: Duration = Duration::from_secs(60);

/// The relay's connections.
pub(super) struct Redial {
    pump: Arc<Pump>,
    board: Arc<Board>,
    dialler: Arc<Dialler>,
    news: Receiver<News>,
    watch: Watch,
    jitter: Jitter,
    connections: usize,
    wanted: usize,
    patience: Patience,
    settle_time: Duration,
    /// Since when one is missing, and since when all are.
    broken_since: Option<Instant>,
    out_since: Option<Instant>,
    /// The outage that the newest session ended, until that was of use: since when it
    /// is, and what servers had done for us by then.
    ended: Option<(Instant, u64)>,
    /// Connections that were lost and not replaced.
    lost: usize,
    gave_up: bool,
    dialling: bool,
    next: Instant,
    handshake: Duration,
    /// A connection was cut in this outage: its server may still be at what it had.
    settles: bool,
    /// Until then a session waits for that.
    held: Option<(Session, Instant)>,
    linked_at: Instant,
    /// Since when the kernel is gone.
    ending: Option<Instant>,
    /// What is there is to be answered and flushed, as another takes our place then.
    draining: bool,
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
        let now = Instant::now();
        let dialler = Arc::new(dialler);
        let silence = Duration::from_millis(begin.silence_timeout_ms);
        let seed = u64::from(std::process::id());
        Self {
            watch: Watch::new(Arc::clone(&pump), Arc::clone(&dialler), silence),
            pump,
            board,
            dialler,
            news,
            jitter: Jitter::new(seed),
            connections: usize::try_from(begin.connections).unwrap_or(1).clamp(1, 16),
            wanted: 1,
            patience: begin.patience,
            settle_time: Duration::from_millis(begin.settle_time_ms),
            broken_since: None,
            out_since: None,
            ended: None,
            lost: 0,
            gave_up: false,
            dialling: false,
            next: now,
            handshake: HANDSHAKE,
            settles: false,
            held: None,
            linked_at: now,
            ending: None,
            draining: false,
            trouble: None,
        }
    }

    /// Lets a session carry I/O.
    ///
    /// # Errors
    ///
    /// Its export does not fit; it is closed.
    pub(super) fn admit(&mut self, session: Session) -> Result<(), String> {
        let offers = offered(&session);
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
        let now = Instant::now();
        self.wanted = if several { self.connections } else { 1 };
        self.linked_at = now;
        self.handshake = HANDSHAKE;
        self.watch.linked(&peer, local, self.links());
        self.ended = self.out_since.map(|since| (since, served));
        let lasted = self.out_since.take().map(|since| now - since);
        let replaces = self.lost > 0;
        self.lost = self.lost.saturating_sub(1);
        self.gave_up = false;
        self.settles = false;
        self.board.change(|report| {
            report.offered = Some(offers);
            if replaces {
                report.reconnects += 1;
            }
            if let Some(lasted) = lasted {
                report.last_outage_ms = u64::try_from(lasted.as_millis()).ok();
            }
        });
        if let Some(lasted) = lasted {
            tracing::info!("connected to {peer} after {} ms", lasted.as_millis());
        } else {
            tracing::debug!("connected to {peer}");
        }
        self.stand(now);
        Ok(())
    }

    /// Until the kernel has disconnected, and all that it wrote is flushed.
    ///
    /// # Errors
    ///
    /// It is not, and cannot be; or the kernel sent nonsense.
    pub(super) fn run(mut self) -> Result<(), String> {
        loop {
            let now = Instant::now();
            if let Some(lost) = self.proceed(now) {
                return Err(lost);
            }
            let wait = self.wake(now).saturating_duration_since(now);
            let news = match self.news.recv_timeout(wait) {
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

    fn take(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Dialled(result) => {
                self.dialling = false;
                match *result {
                    Ok(session) if self.settles || self.pump.has_cut_links() => {
                        self.held = Some((session, now + self.settle_time));
                    }
                    Ok(session) => self.try_admit(session, now),
                    Err(failed) => self.failed(failed, now),
                }
            }
            News::Lost { peer, why, cut } => self.lost(&peer, why, cut, now),
            News::Probed(found) => self.watch.probed(found),
            News::KernelGone(why) => {
                self.ending.get_or_insert(now);
                self.trouble = why;
            }
            News::Order(order) => self.obey(order, now),
            News::Finished | News::Unwatched => {}
        }
    }

    fn obey(&mut self, order: Order, now: Instant) {
        match order {
            Order::Patience(patience) => {
                self.patience = patience;
                self.stand(now);
            }
            Order::GoingDown {} => {
                self.patience.going_down = true;
                self.stand(now);
            }
            Order::Retry { cut } => {
                self.next = now;
                if cut {
                    self.watch.cut_all("that was asked for");
                }
            }
            Order::Addresses(addresses) => self.dialler.set(&addresses),
            Order::Grow { size } => {
                self.pump.with_engine(|engine| engine.grow(size));
                self.stand(now);
            }
            Order::Drain {} => {
                self.draining = true;
                self.pump.drain();
            }
            // The first two came before, and the last is the control's.
            Order::Begin(_) | Order::Serve(_) | Order::Tell {} => {}
        }
    }

    fn links(&self) -> usize {
        self.pump.core().links.len()
    }

    fn try_admit(&mut self, session: Session, now: Instant) {
        match self.admit(session) {
            Ok(()) => self.next = now,
            Err(why) => {
                self.next = now + UNFIT;
                self.say(why);
            }
        }
    }

    fn failed(&mut self, failed: Failed, now: Instant) {
        let old = self
            .broken_since
            .map_or(Duration::ZERO, |since| now - since);
        self.next = self.next.max(now + self.jitter.pause(old));
        if failed.stalled {
            self.handshake = (self.handshake * 2).min(LONG_HANDSHAKE);
        }
        self.say(failed.why);
    }

    fn lost(&mut self, peer: &str, why: String, cut: bool, now: Instant) {
        tracing::warn!("the connection to {peer} is lost: {why}");
        self.settles |= cut;
        let pause = if now - self.linked_at < SHORT_LIFE {
            self.jitter.pause(Duration::ZERO)
        } else {
            Duration::ZERO
        };
        self.next = now + pause;
        self.watch.lost();
        self.lost += 1;
        self.broken_since.get_or_insert(now);
        if self.links() == 0 && self.out_since.is_none() {
            self.begin_outage(now);
        }
        self.say(format!("{peer}: {why}"));
        self.stand(now);
    }

    fn begin_outage(&mut self, now: Instant) {
        let served = self.pump.core().engine.figures().served;
        // A server that came, and went without a thing done, ended nothing.
        match self.ended.take().filter(|(_, before)| *before == served) {
            Some((since, _)) => self.out_since = Some(since),
            None => {
                self.out_since = Some(now);
                self.board.change(|report| report.outages += 1);
            }
        }
        if self.draining && self.ending.is_none() {
            // Whoever waits for our end would wait for the server, and the kernel with
            // him, beyond its patience.
            tracing::info!("its server went away while it was to end: it goes on");
            self.draining = false;
            self.pump.go_on();
        }
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

    /// How it stands, and what is told of it.
    fn stand(&mut self, now: Instant) {
        let links = self.links();
        if links >= self.wanted {
            self.broken_since = None;
        } else {
            self.broken_since.get_or_insert(now);
        }
        let standing = match (links, self.gave_up) {
            (0, true) => Standing::Dead,
            (0, false) => Standing::Reconnecting,
            _ if links < self.wanted => Standing::Degraded,
            _ => Standing::Connected,
        };
        self.board.times(Times {
            out_since: self.out_since,
            fails_at: self.patience_ends(),
        });
        self.board.change(|report| report.standing = standing);
    }

    /// When I/O is to fail, while it waits.
    fn patience_ends(&self) -> Option<Instant> {
        let since = self.out_since.filter(|_| !self.gave_up)?;
        let mut patience = self.patience.dead_timeout_ms;
        if self.patience.going_down {
            let last = self.patience.shutdown_timeout_ms;
            patience = Some(patience.map_or(last, |timeout| timeout.min(last)));
        }
        // One that settles is waited for.
        let held = self.held.as_ref().map(|(_, until)| *until);
        // What is longer than the clock goes is for ever.
        let end = since.checked_add(Duration::from_millis(patience?))?;
        Some(held.map_or(end, |until| end.max(until)))
    }

    /// When there is something to do.
    fn wake(&self, now: Instant) -> Instant {
        let mut moments = vec![now + Duration::from_secs(3600), self.watch.next()];
        if self.wants_session() {
            moments.push(self.next);
        }
        moments.extend(self.held.as_ref().map(|(_, until)| *until));
        moments.extend(self.patience_ends());
        moments.extend(self.gives_up_all());
        moments.into_iter().min().unwrap_or(now)
    }

    fn wants_session(&self) -> bool {
        self.broken_since.is_some() && !self.dialling && self.held.is_none()
    }

    /// When the kernel is gone, and what it wrote cannot be flushed.
    fn gives_up_all(&self) -> Option<Instant> {
        let since = self.ending?.max(self.out_since?);
        Some(since + LAST_PATIENCE)
    }

    /// Does what is due; the end, where that has come.
    fn proceed(&mut self, now: Instant) -> Option<String> {
        if self.gives_up_all().is_some_and(|end| now >= end) {
            let bytes = self.pump.core().engine.figures().logged_bytes;
            return Some(format!(
                "no server came back: {bytes} bytes that were written and not flushed are lost"
            ));
        }
        if let Some((session, _)) = self.held.take_if(|(_, until)| now >= *until) {
            self.settles = false;
            self.try_admit(session, now);
        }
        if self.wants_session() && now >= self.next {
            self.dial();
        }
        if self.patience_ends().is_some_and(|end| now >= end) {
            tracing::error!("no server came back in time: I/O fails until one does");
            self.gave_up = true;
            self.pump.with_engine(super::super::Engine::give_up);
            self.stand(now);
        }
        self.watch.look(now);
        None
    }

    fn dial(&mut self) {
        let (pump, dialler) = (Arc::clone(&self.pump), Arc::clone(&self.dialler));
        let (handshake, from) = (self.handshake, self.watch.stale());
        self.dialling = spawn("dial", move || {
            let session = dialler.attempt(CONNECT, handshake, from);
            pump.news(News::Dialled(Box::new(session)));
        });
        if !self.dialling {
            self.next = Instant::now() + UNFIT;
        }
    }
}
