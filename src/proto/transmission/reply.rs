//! Reply headers of the three styles ("Simple reply message", "Structured
//! reply chunk message", "Extended reply chunk message", "Error values"). It
//! must not know which request they answer.

use std::fmt;

use super::super::HeaderStyle;
use super::super::codec::Reader;
use super::error::Fault;
use super::header::Writer;

/// `NBD_SIMPLE_REPLY_MAGIC`.
const SIMPLE_MAGIC: u32 = 0x6744_6698;
/// `NBD_STRUCTURED_REPLY_MAGIC`.
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
/// `NBD_EXTENDED_REPLY_MAGIC`.
const EXTENDED_MAGIC: u32 = 0x6e8a_278c;

const SIMPLE_LEN: usize = 16;
const STRUCTURED_LEN: usize = 20;
const EXTENDED_LEN: usize = 32;

/// The bit that makes a chunk type an error ("Structured reply types").
const ERROR_BIT: u16 = 1 << 15;

open_number! {
    /// What a chunk carries ("Structured reply types").
    ChunkType(u16), "NBD_REPLY_TYPE_" {
        /// Nothing: the end.
        NONE = 0,
        /// Data and where they belong.
        OFFSET_DATA = 1,
        /// Zeroes and where they belong.
        OFFSET_HOLE = 2,
        /// The extents of a context, in the structured style.
        BLOCK_STATUS = 5,
        /// The extents of a context, in the extended style.
        BLOCK_STATUS_EXT = 6,
        /// An error.
        ERROR = ERROR_BIT + 1,
        /// An error and where it happened.
        ERROR_OFFSET = ERROR_BIT + 2,
    }
}

impl ChunkType {
    /// Whether this makes its reply a failure; so do unknown types with
    /// bit 15 set.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.0 & ERROR_BIT != 0
    }
}

open_number! {
    /// The flags of a chunk; unknown ones are ignored ("Structured and
    /// extended header reply flags").
    ChunkFlags(u16), "NBD_REPLY_FLAG_" {
        /// No flag: more chunks follow.
        NONE = 0,
        /// The reply's last chunk.
        DONE = 1 << 0,
    }
}

impl ChunkFlags {
    /// Whether this chunk is its reply's last.
    #[must_use]
    pub fn is_done(self) -> bool {
        self.0 & Self::DONE.0 != 0
    }
}

open_number! {
    /// An error value, with Linux' numbers ("Error values"); 0 is success.
    ErrorCode(u32), "NBD_" {
        /// Operation not permitted.
        EPERM = 1,
        /// Input/output error.
        EIO = 5,
        /// Cannot allocate memory.
        ENOMEM = 12,
        /// Invalid argument.
        EINVAL = 22,
        /// No space left on device.
        ENOSPC = 28,
        /// Value too large.
        EOVERFLOW = 75,
        /// Operation not supported.
        ENOTSUP = 95,
        /// Server is in the process of being shut down.
        ESHUTDOWN = 108,
    }
}

impl ErrorCode {
    /// Whether something failed.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.0 != 0
    }

    /// What the number means: "an unexpected error value as if it had been
    /// `NBD_EINVAL`". Success stays success.
    #[must_use]
    pub fn effective(self) -> Self {
        match self {
            Self(0)
            | Self::EPERM
            | Self::EIO
            | Self::ENOMEM
            | Self::EINVAL
            | Self::ENOSPC
            | Self::EOVERFLOW
            | Self::ENOTSUP
            | Self::ESHUTDOWN => self,
            _ => Self::EINVAL,
        }
    }
}

/// A simple reply: 16 bytes, and the data of a READ behind them when it has
/// no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimpleReply {
    /// 0 for success.
    pub error: ErrorCode,
    /// The request's.
    pub cookie: u64,
}

impl SimpleReply {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SIMPLE_LEN] {
        Writer::new()
            .put(&SIMPLE_MAGIC.to_be_bytes())
            .put(&self.error.0.to_be_bytes())
            .put(&self.cookie.to_be_bytes())
            .finish()
    }

    /// The reverse of [`Self::encode`].
    ///
    /// # Errors
    ///
    /// Another magic number.
    pub fn parse(bytes: &[u8; SIMPLE_LEN]) -> Result<Self, Fault> {
        let mut reader = reader("a simple reply", bytes, SIMPLE_MAGIC)?;
        Ok(Self {
            error: ErrorCode(reader.u32()?),
            cookie: reader.u64()?,
        })
    }
}

/// The header of a structured reply chunk, 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StructuredChunk {
    /// Whether it is the last.
    pub flags: ChunkFlags,
    /// What it carries.
    pub kind: ChunkType,
    /// The request's.
    pub cookie: u64,
    /// Bytes of payload that follow.
    pub length: u32,
}

impl StructuredChunk {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; STRUCTURED_LEN] {
        Writer::new()
            .put(&STRUCTURED_MAGIC.to_be_bytes())
            .put(&self.flags.0.to_be_bytes())
            .put(&self.kind.0.to_be_bytes())
            .put(&self.cookie.to_be_bytes())
            .put(&self.length.to_be_bytes())
            .finish()
    }

    /// The reverse of [`Self::encode`].
    ///
    /// # Errors
    ///
    /// Another magic number.
    pub fn parse(bytes: &[u8; STRUCTURED_LEN]) -> Result<Self, Fault> {
        let mut reader = reader("a structured reply", bytes, STRUCTURED_MAGIC)?;
        Ok(Self {
            flags: ChunkFlags(reader.u16()?),
            kind: ChunkType(reader.u16()?),
            cookie: reader.u64()?,
            length: reader.u32()?,
        })
    }
}

/// The header of an extended reply chunk, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedChunk {
    /// Whether it is the last.
    pub flags: ChunkFlags,
    /// What it carries.
    pub kind: ChunkType,
    /// The request's.
    pub cookie: u64,
    /// The request's, whatever the payload says.
    pub offset: u64,
    /// Bytes of payload that follow.
    pub length: u64,
}

impl ExtendedChunk {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; EXTENDED_LEN] {
        Writer::new()
            .put(&EXTENDED_MAGIC.to_be_bytes())
            .put(&self.flags.0.to_be_bytes())
            .put(&self.kind.0.to_be_bytes())
            .put(&self.cookie.to_be_bytes())
            .put(&self.offset.to_be_bytes())
            .put(&self.length.to_be_bytes())
            .finish()
    }

    /// The reverse of [`Self::encode`].
    ///
    /// # Errors
    ///
    /// Another magic number.
    pub fn parse(bytes: &[u8; EXTENDED_LEN]) -> Result<Self, Fault> {
        let mut reader = reader("an extended reply", bytes, EXTENDED_MAGIC)?;
        Ok(Self {
            flags: ChunkFlags(reader.u16()?),
            kind: ChunkType(reader.u16()?),
            cookie: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u64()?,
        })
    }
}

fn reader<'a>(what: &'static str, bytes: &'a [u8], magic: u32) -> Result<Reader<'a>, Fault> {
    let mut reader = Reader::new(what, bytes);
    let got = reader.u32()?;
    if got == magic {
        Ok(reader)
    } else {
        Err(Fault::BadMagic(got))
    }
}

/// A reply header of any style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyHeader {
    /// A whole reply.
    Simple(SimpleReply),
    /// A chunk of the structured style.
    Structured(StructuredChunk),
    /// A chunk of the extended style.
    Extended(ExtendedChunk),
}

impl ReplyHeader {
    /// A header of as many bytes as [`header_len`] asks for.
    ///
    /// # Errors
    ///
    /// What is no reply header of this style, or not all of it.
    pub fn parse(style: HeaderStyle, bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new("a reply's header", bytes);
        match header_len(style, bytes)? {
            SIMPLE_LEN => SimpleReply::parse(array(&mut reader)?).map(Self::Simple),
            STRUCTURED_LEN => StructuredChunk::parse(array(&mut reader)?).map(Self::Structured),
            _ => ExtendedChunk::parse(array(&mut reader)?).map(Self::Extended),
        }
    }

    /// The request that it answers.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        match self {
            Self::Simple(reply) => reply.cookie,
            Self::Structured(chunk) => chunk.cookie,
            Self::Extended(chunk) => chunk.cookie,
        }
    }

    /// The fault that this is when its reply is over already.
    #[must_use]
    pub fn after_done(&self) -> Fault {
        let cookie = self.cookie();
        let (flags, kind) = match self {
            Self::Simple(_) => (ChunkFlags::DONE, ChunkType::NONE),
            Self::Structured(chunk) => (chunk.flags, chunk.kind),
            Self::Extended(chunk) => (chunk.flags, chunk.kind),
        };
        if flags.is_done() {
            Fault::RepeatedDone { cookie }
        } else {
            Fault::AfterDone { cookie, kind }
        }
    }
}

fn array<'a, const N: usize>(reader: &mut Reader<'a>) -> Result<&'a [u8; N], Fault> {
    let bytes = reader.bytes(N)?;
    bytes
        .first_chunk()
        .ok_or(Fault::Malformed(super::super::Violation::Truncated {
            what: "a reply's header",
        }))
}

/// How many bytes the next header has, from what has arrived of it. Nothing
/// behind the header is ever counted: where a structured session has not shown
/// the magic number yet, it is the 16 bytes that every header has; ask again
/// with those.
///
/// # Errors
///
/// A magic number that does not belong to the style.
pub fn header_len(style: HeaderStyle, arrived: &[u8]) -> Result<usize, Fault> {
    let Some(magic) = arrived.first_chunk::<4>() else {
        return Ok(match style {
            HeaderStyle::Compact | HeaderStyle::Structured => SIMPLE_LEN,
            HeaderStyle::Extended => EXTENDED_LEN,
        });
    };
    let wrong = |got| Fault::WrongStyle { got, agreed: style };
    match (u32::from_be_bytes(*magic), style) {
        (SIMPLE_MAGIC, HeaderStyle::Compact | HeaderStyle::Structured) => Ok(SIMPLE_LEN),
        (STRUCTURED_MAGIC, HeaderStyle::Structured) => Ok(STRUCTURED_LEN),
        (EXTENDED_MAGIC, HeaderStyle::Extended) => Ok(EXTENDED_LEN),
        (SIMPLE_MAGIC, _) => Err(wrong("a simple reply")),
        (STRUCTURED_MAGIC, _) => Err(wrong("a structured reply")),
        (EXTENDED_MAGIC, _) => Err(wrong("an extended reply")),
        (other, _) => Err(Fault::BadMagic(other)),
    }
}
