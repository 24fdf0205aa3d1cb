//! The states of a handshake, each named for what it waits for; every
//! transition is in this file and in `replies`.
//!
//! A state holds what is known by then and is consumed by its message. Each
//! has three parts: `frame` finds the end of the next whole message (and is
//! where every length from the wire meets its limit), `handle` takes that
//! message, `eof` says what a hang-up means.

use std::collections::VecDeque;

use super::ask::Ask;
use super::codec::{self, IHAVEOPT, NBDMAGIC, OLDSTYLE, Reader, put_option};
use super::error::{Error, Lack, Refusal, Violation};
use super::export::Export;
use super::handshake::{Event, Wanted};
use super::negotiated::{HeaderStyle, Negotiated};
use super::number::{OptionCode, ReplyType};
use super::option_reply::{OptionReply, option_reply_frame};
use super::replies::ExpectReply;

/// Handshake flags, the same bits in both directions.
const FIXED_NEWSTYLE: u16 = 1 << 0;
const NO_ZEROES: u16 = 1 << 1;

/// What a server owes first, in an error message.
pub const GREETING: &str = "the greeting";
const GREETING_LEN: usize = 18;
/// Zeroes behind the answer to EXPORT_NAME, unless NO_ZEROES was agreed.
const PADDING_LEN: usize = 124;

/// What a message leads to, beside the next state.
pub(super) struct Effects<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) events: &'a mut VecDeque<Event>,
}

/// What follows a message.
pub(super) enum Next {
    State(State),
    Over,
}

/// A handshake between two messages of the server.
#[derive(Debug)]
pub(super) enum State {
    Greeting(ExpectGreeting),
    TlsAck(ExpectTlsAck),
    /// The driver is at it; nothing may arrive in plaintext.
    TlsHandshake(ExpectTlsAck),
    Reply(Box<ExpectReply>),
    ExportName(ExpectExport),
}

impl State {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self::Greeting(ExpectGreeting { wanted })
    }

    /// The length of the next whole message at the head of `input`, or `None`
    /// until it is there.
    pub(super) fn frame(&self, input: &[u8]) -> Result<Option<usize>, Violation> {
        match self {
            Self::Greeting(_) => ExpectGreeting::frame(input),
            Self::TlsAck(_) => option_reply_frame(input),
            Self::TlsHandshake(_) if input.is_empty() => Ok(None),
            Self::TlsHandshake(_) => Err(Violation::PlaintextBehindStartTls(input.len())),
            Self::Reply(state) => state.frame(input),
            Self::ExportName(state) => Ok(whole(input, state.length())),
        }
    }

    pub(super) fn handle(self, message: &[u8], effects: &mut Effects<'_>) -> Result<Next, Error> {
        match self {
            Self::Greeting(state) => state.handle(message, effects),
            Self::TlsAck(state) => state.handle(message, effects),
            // `frame` finds no message in it.
            Self::TlsHandshake(state) => Ok(Next::State(Self::TlsHandshake(state))),
            Self::Reply(state) => state.handle(message, effects),
            Self::ExportName(state) => state.handle(message, effects),
        }
    }

    /// The refusal that a hang-up stands for.
    pub(super) fn eof(self) -> Option<Refusal> {
        match self {
            // "On failure the server MUST terminate the session": it has no
            // other way to say that it does not know the export.
            Self::ExportName(_) => Some(Refusal {
                option: OptionCode::EXPORT_NAME,
                reply: ReplyType::ERR_UNKNOWN,
                message: String::new(),
            }),
            _ => None,
        }
    }

    pub(super) fn tls_established(self, effects: &mut Effects<'_>) -> Self {
        match self {
            Self::TlsHandshake(state) => state.established(effects),
            other => other,
        }
    }

    pub(super) fn ask(self, asks: Vec<Ask>, effects: &mut Effects<'_>) -> Self {
        match self {
            Self::Reply(state) => Self::Reply(Box::new(state.ask(asks, effects))),
            other => other,
        }
    }

    pub(super) fn waits_for(&self) -> &'static str {
        match self {
            Self::Greeting(_) => GREETING,
            Self::TlsAck(_) => "the answer to NBD_OPT_STARTTLS",
            Self::TlsHandshake(_) => "the TLS handshake",
            Self::Reply(state) => state.waits_for(),
            Self::ExportName(_) => "the answer to NBD_OPT_EXPORT_NAME",
        }
    }
}

fn whole(input: &[u8], length: usize) -> Option<usize> {
    (input.len() >= length).then_some(length)
}

/// The server's hello has not come yet ("Newstyle negotiation").
#[derive(Debug)]
pub(super) struct ExpectGreeting {
    wanted: Wanted,
}

impl ExpectGreeting {
    /// Judges the magic as soon as it is there: a server of another protocol
    /// may never send as much as a greeting has.
    fn frame(input: &[u8]) -> Result<Option<usize>, Violation> {
        match codec::magic(input) {
            Some(got) if got != NBDMAGIC => Err(Violation::NotNbd {
                greeting: codec::readable(&got.to_be_bytes()),
            }),
            _ => Ok(whole(input, GREETING_LEN)),
        }
    }

    fn handle(self, message: &[u8], effects: &mut Effects<'_>) -> Result<Next, Error> {
        let mut reader = Reader::new(GREETING, message);
        reader.u64()?;
        match reader.u64()? {
            IHAVEOPT => {}
            OLDSTYLE => return Err(Lack::Oldstyle.into()),
            got => {
                return Err(Violation::BadMagic {
                    what: "the greeting's second half",
                    got,
                }
                .into());
            }
        }
        let flags = reader.u16()?;
        reader.finish()?;
        if flags & FIXED_NEWSTYLE == 0 {
            return Err(Lack::FixedNewstyle.into());
        }
        let no_zeroes = flags & NO_ZEROES != 0;
        let client_flags = u32::from(flags & (FIXED_NEWSTYLE | NO_ZEROES));
        effects.out.extend_from_slice(&client_flags.to_be_bytes());
        let next = ExpectTlsAck {
            asks: self.wanted.asks,
            no_zeroes,
        };
        if self.wanted.tls {
            put_option(effects.out, OptionCode::STARTTLS, &[]);
            return Ok(Next::State(State::TlsAck(next)));
        }
        Ok(Next::State(next.established(effects)))
    }
}

/// STARTTLS was sent, and nothing else may be before its answer: the server
/// would forget it (`NBD_OPT_STARTTLS`).
#[derive(Debug)]
pub(super) struct ExpectTlsAck {
    asks: Vec<Ask>,
    no_zeroes: bool,
}

impl ExpectTlsAck {
    fn handle(self, message: &[u8], effects: &mut Effects<'_>) -> Result<Next, Error> {
        let reply = OptionReply::parse(OptionCode::STARTTLS, message)?;
        match reply.kind {
            ReplyType::ACK => {
                Reader::new("NBD_REP_ACK", reply.data).finish()?;
                effects.events.push_back(Event::StartTls);
                Ok(Next::State(State::TlsHandshake(self)))
            }
            _ => Err(reply.refused_or_wrong(OptionCode::STARTTLS)),
        }
    }

    fn established(self, effects: &mut Effects<'_>) -> State {
        let state = ExpectReply::new(self.no_zeroes);
        State::Reply(Box::new(state.ask(self.asks, effects)))
    }
}

/// EXPORT_NAME was sent (`NBD_OPT_EXPORT_NAME`): size and flags follow without
/// a header, or the server hangs up.
#[derive(Debug)]
pub(super) struct ExpectExport {
    pub(super) no_zeroes: bool,
    pub(super) header_style: HeaderStyle,
}

impl ExpectExport {
    fn length(&self) -> usize {
        let padding = if self.no_zeroes { 0 } else { PADDING_LEN };
        10 + padding
    }

    fn handle(self, message: &[u8], effects: &mut Effects<'_>) -> Result<Next, Error> {
        let mut reader = Reader::new("the answer to NBD_OPT_EXPORT_NAME", message);
        let export = Export::parse(&mut reader)?;
        let negotiated = Negotiated::new(export, self.header_style, Vec::new());
        effects.events.push_back(Event::Ready(negotiated));
        Ok(Next::Over)
    }
}
