//! An engine on a bench: a kernel that asks step by step, and a server that answers
//! what it is told to.

use super::super::{Action, BufferId, Engine, Limits, LogLimits, Offer, SessionId, Step};
use super::{device, request};
use crate::proto::HeaderStyle;
use crate::proto::transmission::{
    Command, CommandFlags, ErrorCode, ReplyHeader, Request, SimpleReply, Terms,
};

pub(super) const NONE: CommandFlags = CommandFlags::NONE;
pub(super) const FUA: CommandFlags = CommandFlags::FUA;

/// An engine on compact sessions, and what it wants.
pub(super) struct Bench {
    pub(super) engine: Engine,
    cookies: u64,
}

/// A request that was sent.
pub(super) type Sent = (SessionId, Request);

pub(super) fn offer() -> Offer {
    let device = device();
    Offer {
        terms: Terms {
            style: HeaderStyle::Compact,
            ..device.terms
        },
        ..device
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let log = LogLimits {
            bytes: 64,
            entries: 16,
        };
        Self {
            engine: Engine::new(device(), Limits { log, depth: 8 }),
            cookies: 0,
        }
    }

    pub(super) fn up(&mut self) -> SessionId {
        self.engine.session_up(offer()).unwrap()
    }

    /// The kernel asks; its cookie.
    pub(super) fn ask(
        &mut self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
    ) -> u64 {
        self.cookies += 1;
        let asked = Request {
            cookie: self.cookies,
            ..request(command, flags, offset, length)
        };
        let carries = matches!(command, Command::READ | Command::WRITE);
        let buffer = carries.then(|| BufferId(u32::try_from(self.cookies).unwrap()));
        assert!(self.engine.has_room(&asked));
        self.engine.kernel_request(asked, buffer);
        self.cookies
    }

    pub(super) fn write(&mut self, offset: u64) -> u64 {
        self.ask(Command::WRITE, NONE, offset, 8)
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.engine.poll_action()).collect()
    }

    /// What is sent now; nothing else may be wanted.
    pub(super) fn sent(&mut self) -> Vec<Sent> {
        let sent = |action| match action {
            Action::Send {
                session, request, ..
            } => (session, request),
            other => panic!("{other:?}"),
        };
        self.actions().into_iter().map(sent).collect()
    }

    pub(super) fn one(&mut self) -> Sent {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent[0]
    }

    pub(super) fn reply(&mut self, (session, request): Sent, error: u32) -> Step {
        let header = ReplyHeader::Simple(SimpleReply {
            error: ErrorCode(error),
            cookie: request.cookie,
        });
        match self.engine.reply(session, &header) {
            Step::Data(_, ending) => self.engine.reply_end(session, ending),
            other => other,
        }
    }

    /// A good reply, and what follows from it.
    pub(super) fn good(&mut self, sent: Sent) -> Vec<Action> {
        assert!(matches!(self.reply(sent, 0), Step::Header));
        self.actions()
    }

    /// The kernel writes, and it is answered.
    pub(super) fn written(&mut self, offset: u64, flags: CommandFlags) {
        let cookie = self.ask(Command::WRITE, flags, offset, 8);
        let sent = self.one();
        assert!(self.good(sent).contains(&answer(cookie)));
    }
}

pub(super) fn answer(cookie: u64) -> Action {
    Action::Answer {
        cookie,
        error: ErrorCode(0),
        data: None,
    }
}

pub(super) fn failure(cookie: u64, error: ErrorCode) -> Action {
    Action::Answer {
        cookie,
        error,
        data: None,
    }
}

pub(super) fn shape((_, request): &Sent) -> (Command, u64, u64) {
    (request.command, request.offset, request.length)
}
