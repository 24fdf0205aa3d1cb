//! The transmission phase without I/O ("Transmission"): requests written,
//! replies judged, in the three header styles.
//!
//! - `request`: request headers, and which flag belongs to which command
//! - `reply`: reply headers and how long the next one is
//! - `pending`, `payload`, `body`, `coverage`: what one outstanding request is still owed;
//!   it lets a pump read data straight to where they belong
//! - `replies`, `event`: a whole byte stream of replies, for callers without a pump
//! - `extent`: block status, as lists of extents
//! - `error`: what a server, or our caller, did wrong
//!
//! Law of this module: that of `proto`. A length from the wire is judged
//! before a byte behind it is read or a place for it is made.

mod body;
mod coverage;
mod error;
mod event;
mod extent;
mod header;
mod payload;
mod pending;
mod replies;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use body::{Announced, Body, End, ErrorReport, ExtentList, MAX_PREFIX, Outcome};
pub use error::{Fault, RequestError};
pub use event::Event;
pub use extent::{Extent, MAX_EXTENTS, SelectedContext, allocation_words, merge, push_merged};
pub use header::HeaderBytes;
pub use pending::Pending;
pub use replies::{MAX_OUTSTANDING, Replies};
pub use reply::{
    ChunkFlags, ChunkType, ErrorCode, ExtendedChunk, ReplyHeader, SimpleReply, StructuredChunk,
    header_len,
};
pub use request::{
    COMPACT_REQUEST_LEN, Command, CommandFlags, EXTENDED_REQUEST_LEN, Request, Terms,
    parse_status_payload, status_payload,
};
