//! Request headers ("Request message", "Request types", "Command flags").
//! It must not know what a reply looks like.

use std::fmt;

use super::super::HeaderStyle;
use super::super::TransmissionFlags;
use super::super::Violation;
use super::super::codec::Reader;
use super::error::RequestError;
use super::header::{HeaderBytes, Writer};

/// `NBD_REQUEST_MAGIC`.
const COMPACT_MAGIC: u32 = 0x2560_9513;
/// `NBD_EXTENDED_REQUEST_MAGIC`.
const EXTENDED_MAGIC: u32 = 0x21e4_1c71;

/// Bytes of a compact request header, which the structured style has too.
pub const COMPACT_REQUEST_LEN: usize = 28;
/// Bytes of an extended request header.
pub const EXTENDED_REQUEST_LEN: usize = 32;

open_number! {
    /// What a request asks for ("Request types").
    Command(u16), "NBD_CMD_" {
        /// Read data.
        READ = 0,
        /// Write data.
        WRITE = 1,
        /// End the session; has no reply.
        DISC = 2,
        /// Make answered writes durable.
        FLUSH = 3,
        /// Discard data.
        TRIM = 4,
        /// Make ready for access.
        CACHE = 5,
        /// Write zeroes.
        WRITE_ZEROES = 6,
        /// Ask for the extents of metadata contexts.
        BLOCK_STATUS = 7,
        /// Of the `RESIZE` extension, which no request of ours may use.
        RESIZE = 8,
    }
}

open_number! {
    /// How a command is to be done ("Command flags").
    CommandFlags(u16), "NBD_CMD_FLAG_" {
        /// No flag.
        NONE = 0,
        /// Answer when it is durable.
        FUA = 1 << 0,
        /// `WRITE_ZEROES`: make no hole.
        NO_HOLE = 1 << 1,
        /// `READ`: at most one content chunk.
        DF = 1 << 2,
        /// `BLOCK_STATUS`: one extent per context.
        REQ_ONE = 1 << 3,
        /// `WRITE_ZEROES`: quickly or not at all.
        FAST_ZERO = 1 << 4,
        /// The length is that of a payload behind the header.
        PAYLOAD_LEN = 1 << 5,
    }
}

impl CommandFlags {
    /// Whether every bit of `other` is set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and `other`'s.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags but for `other`'s.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What both sides agreed on for the whole of transmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The style of every header.
    pub style: HeaderStyle,
    /// The export's maximum payload; `u32::MAX` means no limit.
    pub max_payload: u32,
}

/// A request header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// How.
    pub flags: CommandFlags,
    /// Comes back in every reply.
    pub cookie: u64,
    /// Where, in bytes from the start of the export.
    pub offset: u64,
    /// The field as it is on the wire: the effect length, or the payload's
    /// with `PAYLOAD_LEN` and with a compact `WRITE`.
    pub length: u64,
}

impl Request {
    /// The same request with `PAYLOAD_LEN` as the style wants it for a
    /// `WRITE`: set in the extended style, clear in the others.
    #[must_use]
    pub fn for_style(mut self, style: HeaderStyle) -> Self {
        if self.command == Command::WRITE {
            self.flags = match style {
                HeaderStyle::Extended => self.flags.with(CommandFlags::PAYLOAD_LEN),
                HeaderStyle::Compact | HeaderStyle::Structured => {
                    self.flags.without(CommandFlags::PAYLOAD_LEN)
                }
            };
        }
        self
    }

    /// Bytes of payload that follow the header.
    #[must_use]
    pub fn payload_len(&self) -> u64 {
        let has_one =
            self.command == Command::WRITE || self.flags.contains(CommandFlags::PAYLOAD_LEN);
        if has_one { self.length } else { 0 }
    }

    /// The transmission flags without which the client must not send this.
    #[must_use]
    pub fn needs(&self) -> TransmissionFlags {
        let mut needs = match self.command {
            Command::FLUSH => TransmissionFlags::SEND_FLUSH,
            Command::TRIM => TransmissionFlags::SEND_TRIM,
            Command::CACHE => TransmissionFlags::SEND_CACHE,
            Command::WRITE_ZEROES => TransmissionFlags::SEND_WRITE_ZEROES,
            Command::BLOCK_STATUS if self.flags.contains(CommandFlags::PAYLOAD_LEN) => {
                TransmissionFlags::BLOCK_STATUS_PAYLOAD
            }
            _ => TransmissionFlags(0),
        };
        for (flag, need) in [
            (CommandFlags::FUA, TransmissionFlags::SEND_FUA),
            (CommandFlags::DF, TransmissionFlags::SEND_DF),
            (CommandFlags::FAST_ZERO, TransmissionFlags::SEND_FAST_ZERO),
        ] {
            if self.flags.contains(flag) {
                needs = needs.with(need);
            }
        }
        needs
    }

    /// Whether a client may send this under these terms. What the export's
    /// size, block sizes and flags forbid is for others: see [`Self::needs`].
    ///
    /// - `FUA` goes with every command; `NO_HOLE` and `FAST_ZERO` with
    ///   `WRITE_ZEROES`; `DF` with a `READ` that chunks answer; `REQ_ONE` with
    ///   `BLOCK_STATUS`. Other flags are not to be sent.
    /// - `PAYLOAD_LEN` exists in the extended style only: `WRITE` must have it,
    ///   `BLOCK_STATUS` may.
    /// - Offset and length are zero for `FLUSH` and `DISC`; the length of all
    ///   others is not ("SHOULD NOT", with unspecified behaviour).
    /// - Payloads in either direction that the client sizes stay within the
    ///   maximum payload; a `READ` that chunks answer within 32 bits.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn check(&self, terms: Terms) -> Result<(), RequestError> {
        self.check_flags(terms.style)?;
        self.check_range(terms)
    }

    fn check_flags(&self, style: HeaderStyle) -> Result<(), RequestError> {
        let command = self.command;
        let own = match command {
            Command::READ if style != HeaderStyle::Compact => CommandFlags::DF,
            Command::READ
            | Command::WRITE
            | Command::DISC
            | Command::FLUSH
            | Command::TRIM
            | Command::CACHE => CommandFlags::NONE,
            Command::WRITE_ZEROES => CommandFlags::NO_HOLE.with(CommandFlags::FAST_ZERO),
            Command::BLOCK_STATUS if style == HeaderStyle::Compact => {
                return Err(RequestError::NeedsChunks);
            }
            Command::BLOCK_STATUS => CommandFlags::REQ_ONE,
            other => return Err(RequestError::UnknownCommand(other)),
        };
        let allowed = own.with(CommandFlags::FUA).with(CommandFlags::PAYLOAD_LEN);
        let flags = self.flags.without(allowed);
        if flags != CommandFlags::NONE {
            return Err(RequestError::Flags { command, flags });
        }
        self.check_payload_flag(style)
    }

    /// A wrong `PAYLOAD_LEN` would have the server take data for requests.
    fn check_payload_flag(&self, style: HeaderStyle) -> Result<(), RequestError> {
        let has = self.flags.contains(CommandFlags::PAYLOAD_LEN);
        let right = match (style, self.command) {
            (HeaderStyle::Compact | HeaderStyle::Structured, _) => !has,
            (HeaderStyle::Extended, Command::WRITE) => has,
            (HeaderStyle::Extended, Command::BLOCK_STATUS) => true,
            (HeaderStyle::Extended, _) => !has,
        };
        if right {
            Ok(())
        } else {
            Err(RequestError::PayloadFlag {
                command: self.command,
                style,
            })
        }
    }

    fn check_range(&self, terms: Terms) -> Result<(), RequestError> {
        let Self {
            command,
            offset,
            length,
            ..
        } = *self;
        if matches!(command, Command::FLUSH | Command::DISC) {
            return if offset == 0 && length == 0 {
                Ok(())
            } else {
                Err(RequestError::NotZero(command))
            };
        }
        if length == 0 {
            return Err(RequestError::ZeroLength(command));
        }
        if offset.checked_add(length).is_none() {
            return Err(RequestError::PastEnd { offset, length });
        }
        let limit = self.length_limit(terms);
        if length > limit {
            return Err(RequestError::TooLong {
                command,
                length,
                limit,
            });
        }
        Ok(())
    }

    fn length_limit(&self, terms: Terms) -> u64 {
        let max_payload = u64::from(terms.max_payload);
        let max_u32 = u64::from(u32::MAX);
        match (terms.style, self.command) {
            (_, Command::WRITE) | (HeaderStyle::Compact, Command::READ) => max_payload,
            (_, Command::READ) | (HeaderStyle::Compact | HeaderStyle::Structured, _) => max_u32,
            (HeaderStyle::Extended, _) if self.payload_len() > 0 => max_payload,
            (HeaderStyle::Extended, _) => u64::MAX,
        }
    }

    /// The header's bytes: 32 in the extended style, else 28.
    ///
    /// # Errors
    ///
    /// A length that the style has no room for, and a `PAYLOAD_LEN` that the
    /// style does not have: what would break the stream. The other rules are
    /// [`Self::check`]'s.
    pub fn encode(&self, style: HeaderStyle) -> Result<HeaderBytes, RequestError> {
        self.check_payload_flag(style)?;
        if style == HeaderStyle::Extended {
            return Ok(HeaderBytes::new(self.encode_extended()));
        }
        let length = u32::try_from(self.length).map_err(|_| RequestError::TooLong {
            command: self.command,
            length: self.length,
            limit: u64::from(u32::MAX),
        })?;
        let bytes: [u8; COMPACT_REQUEST_LEN] = self
            .encode_head(COMPACT_MAGIC)
            .put(&length.to_be_bytes())
            .finish();
        Ok(HeaderBytes::new(bytes))
    }

    fn encode_extended(&self) -> [u8; EXTENDED_REQUEST_LEN] {
        self.encode_head(EXTENDED_MAGIC)
            .put(&self.length.to_be_bytes())
            .finish()
    }

    fn encode_head<const N: usize>(&self, magic: u32) -> Writer<N> {
        Writer::new()
            .put(&magic.to_be_bytes())
            .put(&self.flags.0.to_be_bytes())
            .put(&self.command.0.to_be_bytes())
            .put(&self.cookie.to_be_bytes())
            .put(&self.offset.to_be_bytes())
    }

    /// A compact header, as the kernel's driver sends it.
    ///
    /// # Errors
    ///
    /// Another magic number.
    pub fn parse_compact(bytes: &[u8; COMPACT_REQUEST_LEN]) -> Result<Self, Violation> {
        let mut reader = Reader::new("a request", bytes);
        let head = Self::parse_head(&mut reader, COMPACT_MAGIC)?;
        let length = u64::from(reader.u32()?);
        reader.finish()?;
        Ok(Self { length, ..head })
    }

    /// An extended header.
    ///
    /// # Errors
    ///
    /// Another magic number.
    pub fn parse_extended(bytes: &[u8; EXTENDED_REQUEST_LEN]) -> Result<Self, Violation> {
        let mut reader = Reader::new("an extended request", bytes);
        let head = Self::parse_head(&mut reader, EXTENDED_MAGIC)?;
        let length = reader.u64()?;
        reader.finish()?;
        Ok(Self { length, ..head })
    }

    fn parse_head(reader: &mut Reader<'_>, magic: u32) -> Result<Self, Violation> {
        let got = reader.u32()?;
        if got != magic {
            return Err(Violation::BadMagic {
                what: "a request",
                got: u64::from(got),
            });
        }
        Ok(Self {
            flags: CommandFlags(reader.u16()?),
            command: Command(reader.u16()?),
            cookie: reader.u64()?,
            offset: reader.u64()?,
            length: 0,
        })
    }
}

/// The payload of a `BLOCK_STATUS` that asks for some contexts only: the
/// effect length, then their ids.
#[must_use]
pub fn status_payload(effect_length: u64, contexts: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + 4 * contexts.len());
    out.extend_from_slice(&effect_length.to_be_bytes());
    for id in contexts {
        out.extend_from_slice(&id.to_be_bytes());
    }
    out
}

/// The reverse of [`status_payload`].
///
/// # Errors
///
/// A length that is not 8 + n × 4.
pub fn parse_status_payload(payload: &[u8]) -> Result<(u64, Vec<u32>), Violation> {
    let mut reader = Reader::new("the payload of a block status request", payload);
    let effect_length = reader.u64()?;
    let mut contexts = Vec::with_capacity(payload.len() / 4);
    for _ in 0..payload.len().saturating_sub(8) / 4 {
        contexts.push(reader.u32()?);
    }
    reader.finish()?;
    Ok((effect_length, contexts))
}
