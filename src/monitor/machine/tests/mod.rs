//! The machine under a virtual clock, with a server and a kernel that are a few
//! lines each.

mod carried;
mod outages;
mod places;
mod settling;
mod shutdown;
mod silence;

use std::collections::BTreeMap;

use super::*;

/// How the server takes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Up,
    /// Nothing listens.
    Refuses,
    /// It takes the connection and says nothing.
    Stalls,
    /// Packets are lost.
    Lost,
    /// It serves something else now.
    Weaker,
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    machine: Machine,
    now: Moment,
    server: Server,
    /// When a handshake with it is done.
    latency: Duration,
    queue: BTreeMap<(Moment, u64), Event>,
    counter: u64,
    /// The kernel's own view: link by link, whether it lives.
    kernel: Vec<bool>,
    /// It does not come back from a command.
    kernel_hangs: bool,
    /// A link lives on when it is cut.
    cuts_nothing: bool,
    log: Vec<(Moment, Action)>,
    size: u64,
    greets_others: bool,
    sample: Sample,
}

fn policy() -> Policy {
    Policy {
        dead_timeout: Some(600 * SECOND),
        shutdown_timeout: 5 * SECOND,
        silence_timeout: 30 * SECOND,
        settle_time: 5 * SECOND,
        connect_timeout: 10 * SECOND,
        resize_live: false,
        resolves: false,
        seed: 1,
    }
}

impl World {
    fn new(policy: Policy, connections: usize) -> Self {
        let machine = Machine::new(policy, &vec![Seen::Alive; connections], Moment::ZERO);
        let mut world = Self {
            machine,
            now: Moment::ZERO,
            server: Server::Up,
            latency: 3 * MS,
            queue: BTreeMap::new(),
            counter: 0,
            kernel: vec![true; connections],
            kernel_hangs: false,
            cuts_nothing: false,
            log: Vec::new(),
            size: 1 << 20,
            greets_others: true,
            sample: Sample::default(),
        };
        world.event(Event::Places(vec![PlaceId(0)]));
        world
    }

    /// With one connection, and I/O that may wait as long.
    fn patient_for(dead_timeout: Option<Duration>) -> Self {
        let policy = Policy {
            dead_timeout,
            ..policy()
        };
        Self::new(policy, 1)
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.counter += 1;
        self.queue.insert((self.now + after, self.counter), event);
    }

    fn event(&mut self, event: Event) {
        for action in self.machine.handle(self.now, event) {
            self.log.push((self.now, action.clone()));
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial {
                attempt,
                connect,
                handshake,
                ..
            } => self.dial(attempt, connect, handshake),
            Action::HandOver(_) | Action::GiveUp | Action::Resize(_) if self.kernel_hangs => {}
            Action::HandOver(_) => {
                let dead = self.kernel.iter().position(|alive| !alive);
                let result = match dead {
                    Some(slot) => {
                        self.kernel[slot] = true;
                        HandedOver::Taken
                    }
                    None => HandedOver::Dropped,
                };
                self.later(MS, Event::HandedOver(result));
            }
            Action::GiveUp => self.later(300 * MS, Event::GaveUp(Ok(true))),
            Action::Probe { allowed } => {
                let (after, found) = match (self.server, self.greets_others) {
                    (Server::Up, true) => (self.latency, Probe::Greeted),
                    (Server::Up, false) | (Server::Stalls, _) => (allowed, Probe::Silent),
                    _ => (allowed.min(SECOND), Probe::Unreachable),
                };
                self.later(after, Event::Probed(found));
            }
            Action::Resize(size) => self.later(MS, Event::Resized(Ok(size))),
            Action::Cut(..) if self.cuts_nothing => {}
            Action::Cut(link, _) => {
                self.kernel.iter_mut().for_each(|alive| *alive = false);
                self.later(Duration::ZERO, Event::Died(link));
            }
            Action::Resolve => self.later(MS, Event::Resolved),
            Action::Drop(_) => {}
        }
    }

    fn dial(&mut self, attempt: AttemptId, connect: Duration, handshake: Duration) {
        let failed = |why: &str, stalled| {
            let why = why.to_owned();
            Event::Failed(attempt, Failure { why, stalled })
        };
        match self.server {
            Server::Up if self.latency <= handshake => {
                self.later(MS, Event::Connected(attempt));
                let offer = Offer {
                    size: self.size,
                    device_size: 1 << 20,
                };
                self.later(MS + self.latency, Event::Offered(attempt, offer));
            }
            Server::Up | Server::Stalls => {
                self.later(MS, Event::Connected(attempt));
                self.later(MS + handshake, failed("no greeting", true));
            }
            Server::Refuses => self.later(MS, failed("refused", false)),
            Server::Lost => self.later(connect, failed("no answer", false)),
            Server::Weaker => {
                self.later(MS, Event::Connected(attempt));
                self.later(2 * MS, failed("it is smaller now", false));
            }
        }
    }

    /// Lets time pass.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let queued = self.queue.keys().next().map(|(at, _)| *at);
            let wake = self.machine.wake();
            let next = [queued, wake].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if queued.is_some_and(|at| at <= self.now) {
                let (_, event) = self.queue.pop_first().unwrap();
                self.event(event);
            } else if self.machine.wants_sample(self.now) {
                let sample = self.sample.clone();
                self.event(Event::Sampled(sample));
            } else {
                self.event(Event::Tick);
            }
        }
        self.now = end;
    }

    fn die(&mut self, server: Server) {
        self.server = server;
        self.kernel.iter_mut().for_each(|alive| *alive = false);
        for link in self.machine.links().collect::<Vec<_>>() {
            self.event(Event::Died(link));
        }
    }

    fn die_one(&mut self, link: LinkId, how: fn(LinkId) -> Event) {
        self.kernel[usize::try_from(link.0).unwrap()] = false;
        self.event(how(link));
    }

    fn count(&self, which: fn(&Action) -> bool) -> usize {
        self.log.iter().filter(|(_, action)| which(action)).count()
    }

    fn dials(&self) -> Vec<Moment> {
        let dials = self.log.iter();
        dials
            .filter(|(_, action)| matches!(action, Action::Dial { .. }))
            .map(|(at, _)| *at)
            .collect()
    }

    fn is(&self, standing: Standing) -> bool {
        self.machine.standing() == standing
    }
}

fn gives_up(action: &Action) -> bool {
    matches!(action, Action::GiveUp)
}

fn hands_over(action: &Action) -> bool {
    matches!(action, Action::HandOver(_))
}

fn cuts(action: &Action) -> bool {
    matches!(action, Action::Cut(..))
}
