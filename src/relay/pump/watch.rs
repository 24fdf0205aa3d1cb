//! Looks at the connections: whether their servers are gone without a word. It must
//! not know what becomes of one that is cut.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dial::Dialler;
use super::{News, Pump, spawn};
use crate::relay::SessionId;
use crate::session::{
    Acks, CutReason, Jitter, Probe, Sample, Session, Silence, SocketAddr, Suspicion,
};

pub(super) struct Watch {
    pump: Arc<Pump>,
    dialler: Arc<Dialler>,
    timeout: Duration,
    silence: Silence,
    jitter: Jitter,
    began: Instant,
    next: Instant,
    peer: String,
    local: Option<SocketAddr>,
    /// Our end of a connection that was cut.
    stale: Option<SocketAddr>,
}

impl Watch {
    pub(super) fn new(pump: Arc<Pump>, dialler: Arc<Dialler>, timeout: Duration) -> Self {
        let mut jitter = Jitter::new(u64::from(std::process::id()));
        let spread = Duration::from_millis(jitter.below(5_000));
        let silence = Silence::new(timeout, Duration::ZERO, spread);
        let began = Instant::now();
        Self {
            pump,
            dialler,
            timeout,
            next: began + silence.interval(),
            silence,
            jitter,
            began,
            peer: String::new(),
            local: None,
            stale: None,
        }
    }

    /// Before a session carries anything.
    pub(super) fn prepare(&self, session: &Session) {
        (self.pump.wires.prepare)(session.as_fd(), self.timeout);
    }

    /// There is a connection, and so many in all.
    pub(super) fn linked(&mut self, peer: &str, local: Option<SocketAddr>, links: usize) {
        peer.clone_into(&mut self.peer);
        self.local = local;
        self.stale = None;
        let now = self.began.elapsed();
        let spread = Duration::from_millis(self.jitter.below(5_000));
        self.silence.linked(now, spread, links <= 1);
    }

    /// One is gone.
    pub(super) fn lost(&mut self) {
        self.silence.forget();
    }

    /// The local address to dial from, where a connection was cut: its server may not
    /// know that yet, and learns it by that.
    pub(super) fn stale(&self) -> Option<SocketAddr> {
        self.stale
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Looks, when it is time.
    pub(super) fn look(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + self.silence.interval();
        let core = self.pump.core();
        let (links, figures) = (core.links.clone(), core.engine.figures());
        drop(core);
        // A FLUSH of our own is owed as well, and the kernel may wait for it.
        let owed = figures.asked.max(figures.outstanding);
        let facts = |link: &super::Link| {
            let facts = (self.pump.wires.facts)(link.socket())?;
            Some(Acks {
                since: facts.since_ack,
                unanswered: facts.unanswered,
            })
        };
        let sample: Sample<SessionId> = Sample {
            in_flight: u64::try_from(owed).unwrap_or(u64::MAX),
            progress: links
                .iter()
                .map(|link| link.bytes().1)
                .fold(0, u64::wrapping_add),
            links: links
                .iter()
                .filter_map(|link| Some((link.id, facts(link)?)))
                .collect(),
        };
        let living: Vec<_> = links.iter().map(|link| link.id).collect();
        for suspicion in self.silence.sampled(now - self.began, &sample, &living) {
            match suspicion {
                Suspicion::Probe { allowed } => self.probe(allowed),
                Suspicion::Cut(id, reason) => {
                    if let Some(link) = links.iter().find(|link| link.id == id) {
                        self.stale = self.local;
                        link.cut(why(reason), self.pump.wires.reset);
                    }
                }
            }
        }
    }

    fn probe(&self, allowed: Duration) {
        let (pump, dialler) = (Arc::clone(&self.pump), Arc::clone(&self.dialler));
        let peer = self.peer.clone();
        let started = spawn("probe", move || {
            pump.news(News::Probed(dialler.probe(&peer, allowed)));
        });
        if !started {
            self.pump.news(News::Probed(Probe::Unreachable));
        }
    }

    pub(super) fn probed(&mut self, found: Probe) {
        if self.silence.probed(self.began.elapsed(), found) {
            self.cut_all(why(CutReason::NoAnswers));
        }
    }

    /// Cuts what lives.
    pub(super) fn cut_all(&mut self, why: &str) {
        let links = self.pump.core().links.clone();
        for link in links {
            self.stale = self.local;
            link.cut(why, self.pump.wires.reset);
        }
    }
}

fn why(reason: CutReason) -> &'static str {
    match reason {
        CutReason::NoAcks => "the network or the server's machine acknowledges nothing",
        CutReason::NoAnswers => "the server answers nothing, and greets nobody",
        CutReason::Asked => "that was asked for",
    }
}
