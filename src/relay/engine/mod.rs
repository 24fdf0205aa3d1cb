//! The relay's state as one value: events in, actions out. It must not know a
//! socket, a thread or the time.
//!
//! - here: requests of the kernel
//! - `send`: how they are sent, and how they end
//! - `recover`: sessions that come and go, what is said again, what waits for it
//! - `answers`: replies of servers
//!
//! While a server is there and nothing is said again, a request costs a place in
//! three tables that were made in advance, and looks at no other request. What is
//! held back, and what could overlap what, is looked at in recovery only.

mod answers;
mod recover;
mod send;

use std::collections::VecDeque;

use crate::proto::TransmissionFlags;
use crate::proto::transmission::{Command, ErrorCode, Request};

use super::BufferId;
use super::action::Action;
use super::asked::{Asked, Table};
use super::log::{Log, LogLimits, Mark};
use super::offer::{Offer, changes};
use super::plan::Plan;
use super::sessions::Sessions;
use super::translate::{MAX_SLOTS, Outstanding};

/// Pieces of a replay that are under way at a time: enough to keep a server busy,
/// and few enough that fresh requests are not behind many. Tests must reach it.
const REPLAY_WINDOW: usize = if cfg!(test) { 4 } else { 64 };

/// How much the relay may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the log.
    pub log: LogLimits,
    /// Requests of the kernel without an answer: 1 to 32,768.
    pub depth: usize,
}

impl Default for Limits {
    /// The driver has at most 128 requests on one socket.
    fn default() -> Self {
        Self {
            log: LogLimits::default(),
            depth: 128,
        }
    }
}

/// Figures for whoever asks how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Requests of the kernel without an answer.
    pub asked: usize,
    /// Those of them that wait to be sent.
    pub held: usize,
    /// Requests to servers without an answer, those of the replay and FLUSHes of our
    /// own included.
    pub outstanding: usize,
    /// How often servers were of use: requests that were answered as they should be,
    /// and replays that came to their end. It wraps.
    pub served: u64,
    /// Changes in the log.
    pub logged: usize,
    /// Bytes of data that the log holds.
    pub logged_bytes: u64,
    /// Whether a replay is under way.
    pub replaying: bool,
}

/// Whose answer a request to a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// A request of the kernel, by its index.
    Asked(usize),
    /// A piece of the replay, by its index.
    Piece(usize),
    /// A FLUSH: the kernel's request, if it is for one; what it covers; its number.
    Flush(Option<usize>, Mark, u64),
}

/// The relay of one device.
#[derive(Debug)]
pub struct Engine {
    device: Offer,
    log: Log,
    plan: Plan,
    /// Pieces that are sent and not answered.
    pieces: usize,
    outstanding: Outstanding<Owner>,
    sessions: Sessions,
    asked: Table,
    arrivals: u64,
    /// What waits to be sent, by arrival.
    held: VecDeque<usize>,
    /// Changes that a session took along, until they are answered.
    lost: Vec<usize>,
    flushes: u64,
    served: u64,
    /// The latest FLUSH of our own, while it is under way.
    own_flush: Option<u64>,
    /// The kernel waits for room in the log.
    pressed: bool,
    closing: bool,
    finished: bool,
    gave_up: bool,
    actions: VecDeque<Action>,
}

impl Engine {
    /// For a device that was made of `device`, before its first session.
    #[must_use]
    pub fn new(device: Offer, limits: Limits) -> Self {
        let depth = limits.depth.clamp(1, MAX_SLOTS / 2);
        Self {
            device,
            log: Log::new(limits.log),
            plan: Plan::new(limits.log.entries),
            pieces: 0,
            // Each of the kernel's once, the pieces, and FLUSHes of our own.
            outstanding: Outstanding::new(depth + REPLAY_WINDOW + super::sessions::MAX_SESSIONS),
            sessions: Sessions::new(),
            asked: Table::new(depth),
            arrivals: 0,
            held: VecDeque::with_capacity(depth),
            lost: Vec::with_capacity(depth),
            flushes: 0,
            served: 0,
            own_flush: None,
            pressed: false,
            closing: false,
            finished: false,
            gave_up: false,
            actions: VecDeque::with_capacity(depth),
        }
    }

    /// Whether the kernel's next request can be taken: ask before its data are read.
    /// Where not, take no other request first, and ask again after each event;
    /// room is being made.
    pub fn has_room(&mut self, request: &Request) -> bool {
        // After the patience a change is refused, and so needs no room in the log, which
        // nothing empties then.
        if self.gave_up || !changes(request.command) {
            return self.asked.has_room();
        }
        let room = self.log.has_room(request.payload_len());
        self.pressed = !room;
        if !room {
            self.advance();
        }
        room && self.asked.has_room()
    }

    /// A request of the kernel, for which there is room. A WRITE comes with its data
    /// in a buffer, a READ with one for as many bytes. It is answered exactly once.
    /// DISC has no answer: [`Action::Finish`] comes when all else is done.
    pub fn kernel_request(&mut self, request: Request, buffer: Option<BufferId>) {
        if request.command == Command::DISC {
            self.wind_down();
            return;
        }
        if let Err(code) = self.acceptable(&request, buffer) {
            self.answer(&request, buffer, code);
            return;
        }
        let log_it = changes(request.command);
        let seq = log_it.then(|| self.log.append(request, buffer));
        let arrival = self.arrivals;
        self.arrivals += 1;
        let asked = Asked {
            request,
            buffer,
            seq,
            arrival,
            sent: false,
            delayed: false,
            progress: request.offset,
            until: request.offset,
            left_out: 0,
            blocker: None,
        };
        let Some(index) = self.asked.insert(asked) else {
            return;
        };
        if !self.is_calm() || !self.send_asked(index) {
            self.hold(index);
            self.advance();
        } else if self.log.wants_flush() {
            self.advance();
        }
    }

    fn acceptable(&self, request: &Request, buffer: Option<BufferId>) -> Result<(), ErrorCode> {
        self.device.check(request)?;
        let carries = matches!(request.command, Command::READ | Command::WRITE);
        if carries != buffer.is_some() || !self.asked.has_room() {
            return Err(ErrorCode::EINVAL);
        }
        if self.gave_up {
            return Err(ErrorCode::EIO);
        }
        Ok(())
    }

    /// The device has grown to so many bytes: requests up to there are sent.
    pub fn grow(&mut self, size: u64) {
        self.device.size = self.device.size.max(size);
    }

    /// How many bytes the device has.
    #[must_use]
    pub fn device_size(&self) -> u64 {
        self.device.size
    }

    /// No more requests will come: the log is emptied, and [`Action::Finish`] comes
    /// when every request is answered.
    pub fn wind_down(&mut self) {
        self.closing = true;
        self.advance();
    }

    /// More requests will come after all: [`Self::wind_down`] is called off, where
    /// [`Action::Finish`] was not said yet; whether that is so.
    pub fn go_on(&mut self) -> bool {
        self.closing &= self.finished;
        !self.finished
    }

    /// Whether a device made as this one may be served over several connections.
    #[must_use]
    pub fn may_share(&self) -> bool {
        self.device.has(TransmissionFlags::CAN_MULTI_CONN)
    }

    /// The patience is over: what waits fails, and so does what comes, until a
    /// session is there. What was answered stays in the log. Does nothing while
    /// there is a session.
    pub fn give_up(&mut self) {
        if self.sessions.len() > 0 {
            return;
        }
        self.gave_up = true;
        self.held.clear();
        self.lost.clear();
        let all: Vec<usize> = self.asked.iter().map(|(index, _)| index).collect();
        for index in all {
            self.fail_asked(index, ErrorCode::EIO);
        }
    }

    /// The next thing to do; ask until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How it is.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            asked: self.asked.len(),
            held: self.held.len(),
            outstanding: self.outstanding.len(),
            served: self.served,
            logged: self.log.entries().len(),
            logged_bytes: self.log.bytes(),
            replaying: !self.plan.is_done(),
        }
    }

    /// Whether a request can be sent as soon as it comes.
    fn is_calm(&self) -> bool {
        self.held.is_empty() && self.lost.is_empty() && self.plan.is_done()
    }

    fn can_flush(&self) -> bool {
        self.device.has(TransmissionFlags::SEND_FLUSH)
    }
}
