//! What a reply tells a caller who wants values. It knows no bytes of headers.

use super::body::Outcome;
use super::extent::Extent;
use super::reply::ErrorCode;

/// What happened to a request. Offsets are from the start of the export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Some of its data: each byte once, in any order.
    Data {
        /// Where they belong.
        offset: u64,
        /// At most what one input had.
        bytes: Vec<u8>,
    },
    /// Bytes that read as zeroes.
    Hole {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// One context's answer, from the request's offset on; neighbours of one
    /// status are merged.
    Extents {
        /// The context's id.
        context: u32,
        /// At least one.
        extents: Vec<Extent>,
    },
    /// An error; the request goes on until `Done`.
    Error {
        /// As sent.
        code: ErrorCode,
        /// For people: bounded, safe to show, often empty.
        message: String,
        /// Where, if the server says so.
        offset: Option<u64>,
    },
    /// The end.
    Done(Outcome),
}
