//! The states of a handshake, each named for what it waits for; every
//! transition is in this file.
//!
//! A state holds what is known by then and is consumed by its message. Each
//! has three parts: `frame` finds the end of the next whole message (and is
//! where every length from the wire meets its limit), `handle` takes that
//! message, `eof` says what a hang-up means. Options to come (TLS, header
//! styles, contexts) are states between the greeting and [`ExpectGoReply`].

use super::codec::{
    self, IHAVEOPT, NBDMAGIC, OLDSTYLE, REPLY_MAGIC, Reader, info_request, put_option,
};
use super::error::{Error, Lack, Refusal, Violation};
use super::export::{BlockSizes, Export};
use super::handshake::{HeaderStyle, Negotiated, Wanted};
use super::number::{InfoType, OptionCode, ReplyType};

/// Handshake flags, the same bits in both directions.
const FIXED_NEWSTYLE: u16 = 1 << 0;
const NO_ZEROES: u16 = 1 << 1;

const GREETING_LEN: usize = 18;
const REPLY_HEADER_LEN: usize = 20;
/// Zeroes behind the answer to EXPORT_NAME, unless NO_ZEROES was agreed.
const PADDING_LEN: usize = 124;

/// The longest option reply that can be needed: two strings and some numbers,
/// doubled for kinds of information that do not exist yet.
const MAX_REPLY: u32 = 16 * 1024;
/// Pieces of information about one export: four kinds exist. A server that
/// sends more for ever would be waited for until the deadline.
const MAX_INFOS: u32 = 64;

/// What follows a message.
pub(super) enum Next {
    State(State),
    Ready(Negotiated),
}

/// A handshake between two messages of the server.
#[derive(Debug)]
pub(super) enum State {
    Greeting(ExpectGreeting),
    GoReply(ExpectGoReply),
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
            Self::GoReply(_) => option_reply_frame(input),
            Self::ExportName(state) => Ok(whole(input, state.length())),
        }
    }

    pub(super) fn handle(self, message: &[u8], out: &mut Vec<u8>) -> Result<Next, Error> {
        match self {
            Self::Greeting(state) => state.handle(message, out),
            Self::GoReply(state) => state.handle(message, out),
            Self::ExportName(state) => state.handle(message),
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
            Self::Greeting(_) | Self::GoReply(_) => None,
        }
    }

    pub(super) fn waits_for(&self) -> &'static str {
        match self {
            Self::Greeting(_) => "the greeting",
            Self::GoReply(_) => "the answer to NBD_OPT_GO",
            Self::ExportName(_) => "the answer to NBD_OPT_EXPORT_NAME",
        }
    }
}

fn whole(input: &[u8], length: usize) -> Option<usize> {
    (input.len() >= length).then_some(length)
}

/// The first eight bytes, as soon as they are there.
fn magic(input: &[u8]) -> Option<u64> {
    input.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
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
        match magic(input) {
            Some(got) if got != NBDMAGIC => Err(Violation::NotNbd {
                greeting: codec::readable(&got.to_be_bytes()),
            }),
            _ => Ok(whole(input, GREETING_LEN)),
        }
    }

    fn handle(self, message: &[u8], out: &mut Vec<u8>) -> Result<Next, Error> {
        let mut reader = Reader::new("the greeting", message);
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
        out.extend_from_slice(&client_flags.to_be_bytes());
        // Asking for the block sizes is the promise to honour them.
        let data = info_request(self.wanted.export(), &[InfoType::BLOCK_SIZE]);
        put_option(out, OptionCode::GO, &data);
        Ok(Next::State(State::GoReply(ExpectGoReply {
            wanted: self.wanted,
            no_zeroes,
            export: None,
            block_sizes: None,
            infos: 0,
        })))
    }
}

/// The head of an option reply, checked against the option that was asked.
struct OptionReply<'a> {
    kind: ReplyType,
    data: &'a [u8],
}

fn option_reply_frame(input: &[u8]) -> Result<Option<usize>, Violation> {
    if let Some(got) = magic(input).filter(|got| *got != REPLY_MAGIC) {
        return Err(Violation::BadMagic {
            what: "an option reply",
            got,
        });
    }
    let Some(header) = input.get(..REPLY_HEADER_LEN) else {
        return Ok(None);
    };
    let mut reader = Reader::new("an option reply", header);
    reader.bytes(REPLY_HEADER_LEN - 4)?;
    let claimed = reader.u32()?;
    if claimed > MAX_REPLY {
        return Err(Violation::TooLong {
            what: "an option reply",
            claimed,
            limit: MAX_REPLY,
        });
    }
    // MAX_REPLY fits a usize on every platform that Linux runs on.
    let length = REPLY_HEADER_LEN + usize::try_from(claimed).unwrap_or(usize::MAX);
    Ok(whole(input, length))
}

impl<'a> OptionReply<'a> {
    /// `message` is what `option_reply_frame` found.
    fn parse(asked: OptionCode, message: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new("an option reply", message);
        reader.u64()?;
        let option = OptionCode(reader.u32()?);
        let kind = ReplyType(reader.u32()?);
        reader.u32()?;
        if option != asked {
            return Err(Violation::WrongOption { got: option, asked }.into());
        }
        Ok(Self {
            kind,
            data: reader.rest(),
        })
    }

    fn refusal(&self, option: OptionCode) -> Refusal {
        Refusal {
            option,
            reply: self.kind,
            message: codec::readable(self.data),
        }
    }
}

/// GO was sent (`NBD_OPT_GO`); information about the export arrives, then an
/// acknowledgement or a refusal.
#[derive(Debug)]
pub(super) struct ExpectGoReply {
    wanted: Wanted,
    no_zeroes: bool,
    export: Option<Export>,
    block_sizes: Option<BlockSizes>,
    infos: u32,
}

impl ExpectGoReply {
    fn handle(mut self, message: &[u8], out: &mut Vec<u8>) -> Result<Next, Error> {
        let reply = OptionReply::parse(OptionCode::GO, message)?;
        match reply.kind {
            ReplyType::ACK => self.acknowledged(reply.data),
            ReplyType::INFO => {
                self.learn(reply.data)?;
                Ok(Next::State(State::GoReply(self)))
            }
            ReplyType::ERR_UNSUP => Ok(Next::State(State::ExportName(self.fall_back(out)))),
            kind if kind.is_error() => Err(reply.refusal(OptionCode::GO).into()),
            got => Err(Violation::WrongReply {
                asked: OptionCode::GO,
                got,
            }
            .into()),
        }
    }

    fn learn(&mut self, data: &[u8]) -> Result<(), Violation> {
        self.infos += 1;
        if self.infos > MAX_INFOS {
            return Err(Violation::TooManyInfos { limit: MAX_INFOS });
        }
        let mut reader = Reader::new("NBD_REP_INFO", data);
        match InfoType(reader.u16()?) {
            InfoType::EXPORT => {
                self.export = Some(Export::parse(&mut reader)?);
                reader.finish()
            }
            InfoType::BLOCK_SIZE => {
                self.block_sizes = Some(BlockSizes::parse(reader)?);
                Ok(())
            }
            // "The client MUST ignore information types it does not know."
            _ => Ok(()),
        }
    }

    fn acknowledged(self, data: &[u8]) -> Result<Next, Error> {
        Reader::new("NBD_REP_ACK", data).finish()?;
        let mut export = self.export.ok_or(Violation::NoExportInfo)?;
        if let Some(sizes) = self.block_sizes {
            export.block_sizes = sizes;
        }
        Ok(Next::Ready(Negotiated::new(export, HeaderStyle::Compact)))
    }

    /// Asks a server from before `NBD_OPT_GO` the old way.
    fn fall_back(self, out: &mut Vec<u8>) -> ExpectExport {
        put_option(
            out,
            OptionCode::EXPORT_NAME,
            self.wanted.export().as_bytes(),
        );
        ExpectExport {
            no_zeroes: self.no_zeroes,
        }
    }
}

/// EXPORT_NAME was sent (`NBD_OPT_EXPORT_NAME`): size and flags follow without
/// a header, or the server hangs up.
#[derive(Debug)]
pub(super) struct ExpectExport {
    no_zeroes: bool,
}

impl ExpectExport {
    fn length(&self) -> usize {
        let padding = if self.no_zeroes { 0 } else { PADDING_LEN };
        10 + padding
    }

    fn handle(self, message: &[u8]) -> Result<Next, Error> {
        let mut reader = Reader::new("the answer to NBD_OPT_EXPORT_NAME", message);
        let export = Export::parse(&mut reader)?;
        Ok(Next::Ready(Negotiated::new(export, HeaderStyle::Compact)))
    }
}
