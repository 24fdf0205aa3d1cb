//! Random runs: a kernel that asks for anything, connections and servers that die
//! at any moment and are found dead at any later one, disks that forget.
//!
//! A run is one seed. `NBDCTL_RELAY_RUNS` and `NBDCTL_RELAY_SEED` make it longer,
//! or begin elsewhere.

use std::collections::BTreeMap;

use crate::proto::HeaderStyle;
use crate::proto::transmission::{Command, CommandFlags, Request};

use super::super::{BufferId, Engine, SessionId, changes};
use super::Dice;
use super::checker::{Checker, Time, Value};
use super::mood::BLOCKS;
use super::mood::{Mood, mood, offer};
use super::server::{BLOCK, Badness, Disk, blocks, serve};

/// A connection: what is on its way to the server, and back.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: SessionId,
    pub(super) style: HeaderStyle,
    /// The server still listens.
    pub(super) served: bool,
    /// The relay was told to close it.
    pub(super) closed: bool,
    pub(super) requests: Vec<(Request, Vec<u8>)>,
    pub(super) replies: Vec<Vec<Vec<u8>>>,
}

/// A request of the kernel that has no answer.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) id: u64,
    pub(super) request: Request,
    pub(super) invoked: Time,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) mood: Mood,
    pub(super) engine: Engine,
    pub(super) disk: Disk,
    pub(super) links: Vec<Link>,
    pub(super) buffers: BTreeMap<u32, Vec<u8>>,
    pub(super) ops: BTreeMap<u64, Op>,
    pub(super) next: Option<Op>,
    pub(super) next_id: u64,
    pub(super) now: Time,
    pub(super) checker: Checker,
    /// A server may have refused something.
    pub(super) may_fail: bool,
    pub(super) finished: bool,
}

/// What an operation writes to a block: no other, and nowhere else.
fn written(op: u64, block: usize) -> u64 {
    op * 256 + block as u64
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mood = mood(&mut dice);
        let engine = Engine::new(offer(&mood, HeaderStyle::Compact), mood.limits);
        Self {
            engine,
            disk: Disk::new(BLOCKS, mood.trim_zeroes, !mood.flushes),
            links: Vec::new(),
            buffers: BTreeMap::new(),
            ops: BTreeMap::new(),
            next: None,
            next_id: 1,
            now: 1,
            checker: Checker::new(BLOCKS),
            may_fail: mood.badness.errors > 0,
            finished: false,
            dice,
            mood,
        }
    }

    fn chance(&mut self, of_1000: u64) -> bool {
        self.dice.below(1000) < of_1000
    }

    fn step(&mut self) {
        self.now += 1;
        match self.dice.below(100) {
            0..35 => self.ask(),
            35..60 => self.serve_one(),
            60..85 => self.deliver(),
            85..90 => self.connect(),
            90..93 => self.notice(),
            _ => self.fate(),
        }
        self.act();
        self.check_memory();
    }

    /// The kernel asks for something.
    fn ask(&mut self) {
        if self.next.is_none() {
            self.next = self.invent();
        }
        let Some(op) = self.next.take() else {
            return;
        };
        if !self.engine.has_room(&op.request) {
            self.next = Some(op);
            return;
        }
        let request = Request {
            cookie: self.now,
            ..op.request
        };
        let op = Op {
            request,
            invoked: self.now,
            ..op
        };
        let length = usize::try_from(request.length).unwrap();
        let data = match request.command {
            Command::WRITE => {
                let values = blocks(&request).map(|block| written(op.id, block).to_be_bytes());
                Some(values.flatten().collect())
            }
            Command::READ => Some(vec![0xee; length]),
            _ => None,
        };
        let buffer = data.map(|data| {
            let free = (0..).find(|index| !self.buffers.contains_key(index));
            let index = free.unwrap();
            self.buffers.insert(index, data);
            BufferId(index)
        });
        if changes(request.command) {
            for block in blocks(&request) {
                let value = match request.command {
                    Command::WRITE => Value::Is(written(op.id, block)),
                    Command::TRIM if !self.mood.trim_zeroes => Value::Anything,
                    _ => Value::Is(0),
                };
                self.checker.write(block, op.id, value, op.invoked);
            }
        }
        self.ops.insert(request.cookie, op);
        self.engine.kernel_request(request, buffer);
    }

    fn invent(&mut self) -> Option<Op> {
        let commands = [
            Command::READ,
            Command::READ,
            Command::WRITE,
            Command::WRITE,
            Command::WRITE,
            Command::WRITE_ZEROES,
            Command::TRIM,
            Command::FLUSH,
        ];
        let command = commands[self.dice.pick(commands.len())];
        if command == Command::FLUSH && !self.mood.flushes {
            return None;
        }
        let start = self.dice.pick(BLOCKS);
        let count = 1 + self.dice.pick((BLOCKS - start).min(5));
        let fua = self.mood.flushes && command != Command::READ && self.dice.below(5) == 0;
        let (offset, length) = if command == Command::FLUSH {
            (0, 0)
        } else {
            (start as u64 * BLOCK, count as u64 * BLOCK)
        };
        let request = Request {
            command,
            flags: if fua && command != Command::FLUSH {
                CommandFlags::FUA
            } else {
                CommandFlags::NONE
            },
            cookie: 0,
            offset,
            length,
        };
        let meets = |other: &Op| {
            let (a, b) = (blocks(&request), blocks(&other.request));
            a.start < b.end && b.start < a.end
        };
        if !self.mood.overlaps && self.ops.values().any(meets) {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        Some(Op {
            id,
            request,
            invoked: 0,
        })
    }

    /// A server does a request, whichever.
    fn serve_one(&mut self) {
        let busy = |link: &&mut Link| link.served && !link.requests.is_empty();
        let mut busy: Vec<&mut Link> = self.links.iter_mut().filter(busy).collect();
        if busy.is_empty() {
            return;
        }
        let which = self.dice.pick(busy.len());
        let link = &mut busy[which];
        let (request, data) = link.requests.remove(self.dice.pick(link.requests.len()));
        let reply = serve(
            &mut self.disk,
            &mut self.dice,
            link.style,
            (&request, &data),
            self.mood.badness,
        );
        link.replies.push(reply);
    }

    fn connect(&mut self) {
        if self.links.iter().filter(|link| !link.closed).count() >= self.mood.connections {
            return;
        }
        let style = [
            HeaderStyle::Compact,
            HeaderStyle::Structured,
            HeaderStyle::Extended,
        ][self.dice.pick(3)];
        let offer = offer(&self.mood, style);
        if let Ok(session) = self.engine.session_up(offer) {
            self.links.push(Link {
                session,
                style,
                served: true,
                closed: false,
                requests: Vec::new(),
                replies: Vec::new(),
            });
        }
    }

    /// The relay finds that a connection is dead.
    fn notice(&mut self) {
        let dead = |(index, link): (usize, &Link)| (!link.served).then_some(index);
        let dead: Vec<usize> = self.links.iter().enumerate().filter_map(dead).collect();
        if !dead.is_empty() {
            let link = self.links.remove(dead[self.dice.pick(dead.len())]);
            self.engine.session_down(link.session);
        }
    }

    /// Something dies, or nothing.
    fn fate(&mut self) {
        if !self.chance(self.mood.deaths) {
            return;
        }
        match self.dice.below(3) {
            0 if !self.links.is_empty() => {
                let which = self.dice.pick(self.links.len());
                self.end_link(which);
            }
            death => {
                for which in 0..self.links.len() {
                    self.end_link(which);
                }
                if death == 1 {
                    self.disk.lose_power(&mut self.dice);
                    self.check_disk();
                }
            }
        }
    }

    /// A connection dies: some of what was on its way is still done, and some of the
    /// replies still arrive.
    pub(super) fn end_link(&mut self, which: usize) {
        let link = &mut self.links[which];
        if !link.served {
            return;
        }
        link.served = false;
        let mut requests = std::mem::take(&mut link.requests);
        self.dice.shuffle(&mut requests);
        for (request, data) in requests {
            if self.dice.below(2) == 0 {
                let asked = (&request, &data[..]);
                let badness = self.mood.badness;
                let reply = serve(&mut self.disk, &mut self.dice, link.style, asked, badness);
                link.replies.push(reply);
            }
        }
        let dice = &mut self.dice;
        link.replies.retain(|_| dice.below(2) == 0);
    }

    /// No more deaths: what is asked is taken, all ends well, and the log empties.
    fn end(&mut self) {
        self.mood.deaths = 0;
        self.mood.badness = Badness { errors: 0, lies: 0 };
        for round in 0.. {
            assert!(round < 100_000, "it is stuck: {:#?}", self.engine);
            self.now += 1;
            match self.dice.below(4) {
                0 => self.connect(),
                1 => self.notice(),
                2 => self.serve_one(),
                _ => self.deliver(),
            }
            if self.next.is_some() {
                self.ask();
            } else {
                self.engine.wind_down();
            }
            self.act();
            if self.finished {
                break;
            }
        }
        assert!(self.ops.is_empty() && self.buffers.is_empty(), "{self:#?}");
        assert_eq!(self.engine.figures().logged, 0);
        self.now += 1;
        self.checker.flushed(self.now);
        self.check_disk();
        for block in 0..BLOCKS {
            let seen = self.disk.read(block);
            self.checker.read(block, seen, self.now, self.now);
        }
    }
}

fn run(seed: u64, steps: u64) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.end();
}

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| value.parse().unwrap())
}

#[test]
fn whatever_dies_nothing_is_lost_and_nothing_old_comes_back() {
    let first = number("NBDCTL_RELAY_SEED", 0);
    for seed in first..first + number("NBDCTL_RELAY_RUNS", 150) {
        let result = std::panic::catch_unwind(|| run(seed, 1500));
        assert!(result.is_ok(), "NBDCTL_RELAY_SEED={seed}");
    }
}
