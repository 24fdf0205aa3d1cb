//! How [`Pending`] judges what its chunks carry ("Structured reply types"):
//! first every length, by the header alone, then the fixed fields. It must not
//! know of headers and styles more than which status chunk belongs to which.

use super::super::HeaderStyle;
use super::super::MAX_STRING;
use super::super::codec::Reader;
use super::body::{Announced, Body, End, ErrorReport, ExtentList, MAX_PREFIX, Shape};
use super::coverage::{MAX_ISLANDS, Refused};
use super::error::Fault;
use super::extent::MAX_EXTENTS;
use super::pending::{Owed, Pending};
use super::reply::{ChunkType, ErrorCode};
use super::request::{Command, CommandFlags, Request};

/// A payload that no one may hold for an attack, whatever was advertised
/// ("Size constraints").
const ALWAYS_ALLOWED: u64 = 32 * 1024 * 1024;
/// Error chunks of one reply: as many places as a reply can be in at a time.
/// A server that sends more for ever would be listened to for ever.
const MAX_ERRORS: u32 = 4096;

impl Pending {
    /// What a chunk of this type and length is made of, and the length of its
    /// prefix.
    pub(super) fn shape(
        &mut self,
        kind: ChunkType,
        done: bool,
        length: u64,
    ) -> Result<(Shape, usize), Fault> {
        match kind {
            ChunkType::NONE => none(length, done),
            ChunkType::OFFSET_DATA => self.data(length),
            ChunkType::OFFSET_HOLE => self.hole(length),
            ChunkType::BLOCK_STATUS | ChunkType::BLOCK_STATUS_EXT => self.status(kind, length),
            kind if kind.is_error() => self.error(kind, length),
            unknown => Err(Fault::UnknownChunk(unknown)),
        }
    }

    fn data(&mut self, length: u64) -> Result<(Shape, usize), Fault> {
        let kind = ChunkType::OFFSET_DATA;
        self.content(kind)?;
        let data = length.saturating_sub(8);
        if data == 0 {
            return Err(Fault::ChunkLength { kind, length });
        }
        let limit = self
            .request
            .length
            .min(u64::from(self.terms.max_payload).max(ALWAYS_ALLOWED));
        if data > limit {
            return Err(Fault::DataTooLong {
                length: data,
                limit,
            });
        }
        Ok((Shape::Data, 8))
    }

    fn hole(&mut self, length: u64) -> Result<(Shape, usize), Fault> {
        let kind = ChunkType::OFFSET_HOLE;
        self.content(kind)?;
        if length == 12 {
            Ok((Shape::Hole, 12))
        } else {
            Err(Fault::ChunkLength { kind, length })
        }
    }

    fn content(&mut self, kind: ChunkType) -> Result<(), Fault> {
        let Request { command, flags, .. } = self.request;
        if command != Command::READ {
            return Err(Fault::WrongChunk { command, kind });
        }
        if self.content && flags.contains(CommandFlags::DF) {
            return Err(Fault::Fragmented);
        }
        self.content = true;
        Ok(())
    }

    fn status(&self, kind: ChunkType, length: u64) -> Result<(Shape, usize), Fault> {
        let command = self.request.command;
        let (right, prefix, each) = match self.terms.style {
            HeaderStyle::Extended => (ChunkType::BLOCK_STATUS_EXT, 8, 16),
            HeaderStyle::Compact | HeaderStyle::Structured => (ChunkType::BLOCK_STATUS, 4, 8),
        };
        if command != Command::BLOCK_STATUS || kind != right {
            return Err(Fault::WrongChunk { command, kind });
        }
        let descriptors = length.saturating_sub(prefix);
        if descriptors == 0 || descriptors % each != 0 {
            return Err(Fault::ChunkLength { kind, length });
        }
        let count = descriptors / each;
        if count > u64::from(MAX_EXTENTS) {
            return Err(Fault::TooManyExtents {
                count,
                limit: MAX_EXTENTS,
            });
        }
        Ok((Shape::Status, if prefix == 8 { 8 } else { 4 }))
    }

    fn error(&mut self, kind: ChunkType, length: u64) -> Result<(Shape, usize), Fault> {
        let least = if kind == ChunkType::ERROR_OFFSET {
            14
        } else {
            6
        };
        let prefix = usize::try_from(length)
            .ok()
            .filter(|length| (least..=MAX_PREFIX).contains(length))
            .ok_or(Fault::ChunkLength { kind, length })?;
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            return Err(Fault::TooManyErrors { limit: MAX_ERRORS });
        }
        Ok((Shape::Error, prefix))
    }

    /// Judges the first [`Announced::prefix_len`] bytes of the payload: pass
    /// exactly those.
    ///
    /// # Errors
    ///
    /// Contents that this request is not owed.
    pub fn prefix<'a>(&mut self, announced: Announced, bytes: &'a [u8]) -> Result<Body<'a>, Fault> {
        let rest = announced.rest();
        let Announced {
            shape, kind, end, ..
        } = announced;
        let mut reader = Reader::new("a chunk", bytes);
        let body = match shape {
            Shape::Nothing => Body::Nothing(end),
            Shape::Failure(code) => {
                self.fail(code);
                let report = ErrorReport {
                    code,
                    offset: None,
                    message: &[],
                };
                Body::Error { report, end }
            }
            Shape::Whole => {
                let (at, length) = self.place(self.request.offset, rest)?;
                Body::Data { at, length, end }
            }
            Shape::Data => {
                let (at, length) = self.place(reader.u64()?, rest)?;
                Body::Data { at, length, end }
            }
            Shape::Hole => {
                let (offset, length) = (reader.u64()?, reader.u32()?);
                if length == 0 {
                    return Err(Fault::EmptyHole);
                }
                let (at, length) = self.place(offset, u64::from(length))?;
                Body::Hole { at, length, end }
            }
            Shape::Status => Body::Extents(self.extents(kind, &mut reader, rest, end)?),
            Shape::Error => {
                let report = self.report(kind, &mut reader, bytes.len())?;
                Body::Error { report, end }
            }
        };
        reader.finish()?;
        Ok(body)
    }

    /// Where content belongs, from the start of the request.
    fn place(&mut self, offset: u64, length: u64) -> Result<(u64, u64), Fault> {
        let outside = Fault::OutsideRequest { offset, length };
        let Some(at) = offset.checked_sub(self.request.offset) else {
            return Err(outside);
        };
        match self.coverage.add(at, length) {
            Ok(()) => Ok((at, length)),
            Err(Refused::Outside) => Err(outside),
            Err(Refused::Overlap) => Err(Fault::Overlap { offset, length }),
            Err(Refused::Scattered) => Err(Fault::Scattered { limit: MAX_ISLANDS }),
        }
    }

    fn extents(
        &mut self,
        kind: ChunkType,
        reader: &mut Reader<'_>,
        rest: u64,
        end: End,
    ) -> Result<ExtentList, Fault> {
        let long = kind == ChunkType::BLOCK_STATUS_EXT;
        let one_only = self.request.flags.contains(CommandFlags::REQ_ONE);
        let (offset, length) = (self.request.offset, self.effect_length);
        let id = reader.u32()?;
        let room = u32::try_from(rest / if long { 16 } else { 8 }).unwrap_or(u32::MAX);
        if long {
            let count = reader.u32()?;
            if count != room {
                return Err(Fault::ExtentCount { count, room });
            }
        }
        if one_only && room != 1 {
            return Err(Fault::NotOneExtent(room));
        }
        let owed = self.owed(id).ok_or(Fault::ContextUnasked(id))?;
        if std::mem::replace(&mut owed.answered, true) {
            return Err(Fault::ContextTwice(id));
        }
        Ok(ExtentList {
            context: owed.context,
            left: room,
            long,
            one_only,
            offset,
            length,
            told: 0,
            end,
        })
    }

    pub(super) fn owed(&mut self, id: u32) -> Option<&mut Owed> {
        self.contexts.iter_mut().find(|owed| owed.context.id == id)
    }

    /// An error chunk of any type: all begin alike ("All error chunk types
    /// have bit 15 set"). What a type that is not known has further is skipped.
    fn report<'a>(
        &mut self,
        kind: ChunkType,
        reader: &mut Reader<'a>,
        length: usize,
    ) -> Result<ErrorReport<'a>, Fault> {
        let (code, message) = (ErrorCode(reader.u32()?), reader.u16()?);
        if !code.is_error() {
            return Err(Fault::ErrorZero(kind));
        }
        if usize::from(message) > MAX_STRING {
            return Err(Fault::MessageTooLong(message));
        }
        let overrun = Fault::MessageOverrun {
            kind,
            length,
            message,
        };
        let text = reader
            .bytes(usize::from(message))
            .map_err(|_| overrun.clone())?;
        // Behind a FLUSH, which has no range, the type is merely unexpected.
        let has_offset = kind == ChunkType::ERROR_OFFSET && self.request.command != Command::FLUSH;
        let offset = if has_offset {
            let offset = reader.u64().map_err(|_| overrun)?;
            self.close(offset)?;
            Some(offset)
        } else {
            None
        };
        reader.rest();
        self.fail(code);
        Ok(ErrorReport {
            code,
            offset,
            message: text,
        })
    }

    /// No content may follow where an error was reported.
    fn close(&mut self, offset: u64) -> Result<(), Fault> {
        let at = offset
            .checked_sub(self.request.offset)
            .filter(|at| *at < self.effect_length)
            .ok_or(Fault::ErrorOutside { offset })?;
        if self.request.command == Command::READ {
            self.coverage
                .close(at)
                .map_err(|_| Fault::Scattered { limit: MAX_ISLANDS })?;
        }
        Ok(())
    }

    fn fail(&mut self, code: ErrorCode) {
        let code = code.effective();
        self.failed = self.failed.or(Some(code));
    }
}

fn none(length: u64, done: bool) -> Result<(Shape, usize), Fault> {
    let kind = ChunkType::NONE;
    if length != 0 {
        return Err(Fault::ChunkLength { kind, length });
    }
    if done {
        Ok((Shape::Nothing, 0))
    } else {
        Err(Fault::NoneWithoutDone)
    }
}
