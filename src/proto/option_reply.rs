//! One option reply, whole ("Option reply types").

use super::codec::{self, REPLY_MAGIC, Reader};
use super::error::{Error, Refusal, Violation};
use super::number::{OptionCode, ReplyType};

const REPLY_HEADER_LEN: usize = 20;

/// The longest option reply that can be needed: two strings and some numbers,
/// doubled for kinds of information that do not exist yet.
const MAX_REPLY: u32 = 16 * 1024;

/// The length of the reply at the head of `input`, or `None` until it is there.
pub(super) fn option_reply_frame(input: &[u8]) -> Result<Option<usize>, Violation> {
    if let Some(got) = codec::magic(input).filter(|got| *got != REPLY_MAGIC) {
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
    Ok((input.len() >= length).then_some(length))
}

/// A reply to the option that was asked.
pub(super) struct OptionReply<'a> {
    pub(super) kind: ReplyType,
    pub(super) data: &'a [u8],
}

impl<'a> OptionReply<'a> {
    /// `message` is what `option_reply_frame` found.
    pub(super) fn parse(asked: OptionCode, message: &'a [u8]) -> Result<Self, Violation> {
        let mut reader = Reader::new("an option reply", message);
        reader.u64()?;
        let option = OptionCode(reader.u32()?);
        let kind = ReplyType(reader.u32()?);
        reader.u32()?;
        if option != asked {
            return Err(Violation::WrongOption { got: option, asked });
        }
        Ok(Self {
            kind,
            data: reader.rest(),
        })
    }

    pub(super) fn refusal(&self, option: OptionCode) -> Refusal {
        Refusal {
            option,
            reply: self.kind,
            message: codec::readable(self.data),
        }
    }

    /// What it is where it is no answer that the option may have.
    pub(super) fn refused_or_wrong(&self, asked: OptionCode) -> Error {
        if self.kind.is_error() {
            self.refusal(asked).into()
        } else {
            self.wrong(asked).into()
        }
    }

    pub(super) fn wrong(&self, asked: OptionCode) -> Violation {
        Violation::WrongReply {
            asked,
            got: self.kind,
        }
    }
}
