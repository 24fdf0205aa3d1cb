//! What a judged chunk turns out to be: the values that [`Pending`] hands to
//! whoever moves the bytes, in the order in which they must be used.
//!
//! [`Announced`] is spent on a [`Body`], a body's [`End`] on
//! [`Pending::end`]; none can be made or used twice elsewhere.
//!
//! [`Pending`]: super::Pending
//! [`Pending::end`]: super::Pending::end

use super::super::codec::{Reader, readable};
use super::error::Fault;
use super::extent::{Extent, SelectedContext};
use super::reply::{ChunkType, ErrorCode};

/// The most bytes of a payload that must be collected before it is judged
/// further: an error chunk, all of it. A message has at most 4096 bytes; the
/// rest is for the fields of error types that do not exist yet.
pub const MAX_PREFIX: usize = 8192;

/// What a header announces, judged, before anything behind it is read.
#[must_use = "the payload must be read"]
#[derive(Debug)]
pub struct Announced {
    pub(super) shape: Shape,
    pub(super) kind: ChunkType,
    pub(super) prefix: usize,
    pub(super) payload: u64,
    pub(super) end: End,
}

/// What the payload is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Nothing,
    /// A simple reply that failed.
    Failure(ErrorCode),
    /// All data of a READ, behind a simple reply.
    Whole,
    Data,
    Hole,
    Status,
    Error,
}

impl Announced {
    /// Bytes to collect and to judge next, at most [`MAX_PREFIX`].
    #[must_use]
    pub fn prefix_len(&self) -> usize {
        self.prefix
    }

    /// Bytes behind the header, the prefix among them.
    #[must_use]
    pub fn payload_len(&self) -> u64 {
        self.payload
    }

    /// Bytes behind the prefix.
    pub(super) fn rest(&self) -> u64 {
        self.payload
            .saturating_sub(u64::try_from(self.prefix).unwrap_or(u64::MAX))
    }
}

/// The right to end a chunk once all of it was read.
#[must_use = "a chunk whose end is not reported does not count"]
#[derive(Debug)]
pub struct End {
    pub(super) done: bool,
}

/// How a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All was done, and all that was asked for is there.
    Good,
    /// It failed; the first error, as [`ErrorCode::effective`] has it. What
    /// data came are not to be relied on.
    Failed(ErrorCode),
}

/// A chunk behind its prefix.
#[must_use = "the payload must be read"]
#[derive(Debug)]
pub enum Body<'a> {
    /// Nothing is left to read.
    Nothing(End),
    /// Data follow.
    Data {
        /// Where they belong, from the start of the request.
        at: u64,
        /// How many bytes.
        length: u64,
        /// To be used when they were read.
        end: End,
    },
    /// Bytes that read as zeroes; nothing is left to read.
    Hole {
        /// Where, from the start of the request.
        at: u64,
        /// How many bytes.
        length: u64,
        /// To be used when the place was filled.
        end: End,
    },
    /// Descriptors of extents follow.
    Extents(ExtentList),
    /// An error; nothing is left to read.
    Error {
        /// What the server says of it.
        report: ErrorReport<'a>,
        /// To be used at once.
        end: End,
    },
}

/// An error as the server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReport<'a> {
    /// As sent.
    pub code: ErrorCode,
    /// Where it happened, from the start of the export.
    pub offset: Option<u64>,
    pub(super) message: &'a [u8],
}

impl ErrorReport<'_> {
    /// What the server tells people about it: bounded, safe to show, and
    /// often empty.
    #[must_use]
    pub fn message(&self) -> String {
        readable(self.message)
    }
}

/// The extents of one context, one by one.
#[derive(Debug)]
pub struct ExtentList {
    pub(super) context: SelectedContext,
    /// Descriptors that are still to be read.
    pub(super) left: u32,
    /// Whether descriptors have 64-bit fields.
    pub(super) long: bool,
    pub(super) one_only: bool,
    /// The request's range.
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Bytes that were described so far.
    pub(super) told: u64,
    pub(super) end: End,
}

impl ExtentList {
    /// The context's id.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.context.id
    }

    /// Descriptors that are still to be read.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Bytes of one descriptor.
    #[must_use]
    pub fn descriptor_len(&self) -> usize {
        if self.long { 16 } else { 8 }
    }

    /// Judges the next descriptor.
    ///
    /// # Errors
    ///
    /// An extent that cannot be.
    pub fn extent(&mut self, descriptor: &[u8]) -> Result<Extent, Fault> {
        let mut reader = Reader::new("an extent", descriptor);
        let (length, status) = if self.long {
            (reader.u64()?, reader.u64()?)
        } else {
            (u64::from(reader.u32()?), u64::from(reader.u32()?))
        };
        reader.finish()?;
        if length == 0 {
            return Err(Fault::EmptyExtent);
        }
        if self.told >= self.length {
            return Err(Fault::ExtentBehindEnd {
                at: self.told,
                length: self.length,
            });
        }
        if !self.context.wide && status > u64::from(u32::MAX) {
            return Err(Fault::WideStatus {
                context: self.context.id,
                status,
            });
        }
        self.told = self.end_of(length)?;
        self.left = self.left.saturating_sub(1);
        Ok(Extent { length, status })
    }

    fn end_of(&self, length: u64) -> Result<u64, Fault> {
        let end = self.told.checked_add(length);
        end.filter(|end| self.offset.checked_add(*end).is_some())
            .filter(|end| !self.one_only || *end <= self.length)
            .ok_or(Fault::ExtentTooLong(length))
    }

    /// Ends the chunk once no descriptor is left; gives the list back before.
    ///
    /// # Errors
    ///
    /// The list, where descriptors are left.
    pub fn into_end(self) -> Result<End, Self> {
        if self.left == 0 {
            Ok(self.end)
        } else {
            Err(self)
        }
    }
}

/// Takes the first bytes off the input.
pub(super) fn split<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
    *bytes = rest;
    head
}
