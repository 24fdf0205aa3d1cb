//! What can go wrong in transmission, by who is to blame: a [`Fault`] is the
//! server's, and ends the session; a [`RequestError`] is our caller's, and
//! nothing was sent.

use thiserror::Error;

use super::super::HeaderStyle;
use super::super::Violation;
use super::reply::ChunkType;
use super::request::{Command, CommandFlags};

/// What a server did wrong. Every one of them means that nothing more can be
/// believed of this session ("MUST initiate a hard disconnect").
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// A reply begins with none of the magic numbers that replies have.
    #[error("it sends {0:#010x} where a reply has its magic number")]
    BadMagic(u32),
    /// A reply in a header style that was not agreed.
    #[error("it sends {got} though {} headers were agreed", .agreed.as_str())]
    WrongStyle {
        /// What came.
        got: &'static str,
        /// What was agreed.
        agreed: HeaderStyle,
    },
    /// A message that is not as long as its contents.
    #[error(transparent)]
    Malformed(#[from] Violation),

    /// A reply while nothing was outstanding, to a cookie never used.
    #[error("it replies to cookie {cookie:#x} though it was asked nothing")]
    Unasked {
        /// The reply's cookie.
        cookie: u64,
    },
    /// A reply to a cookie that no request had.
    #[error("it replies to cookie {cookie:#x}, which no request had")]
    UnknownCookie {
        /// The reply's cookie.
        cookie: u64,
    },
    /// One more chunk of a reply that was complete.
    #[error("it sends {kind} for cookie {cookie:#x} after the reply's end")]
    AfterDone {
        /// The reply's cookie.
        cookie: u64,
        /// The chunk.
        kind: ChunkType,
    },
    /// A second end of one reply.
    #[error("it ends its reply to cookie {cookie:#x} twice")]
    RepeatedDone {
        /// The reply's cookie.
        cookie: u64,
    },
    /// An extended chunk with another offset than the request's.
    #[error("it replies with offset {got:#x} to a request at {asked:#x}")]
    WrongOffset {
        /// The chunk's.
        got: u64,
        /// The request's.
        asked: u64,
    },
    /// A simple reply to a READ, after structured replies were agreed.
    #[error("it sends a simple reply to NBD_CMD_READ though structured replies were agreed")]
    SimpleRead,
    /// A simple reply to a request that chunks have begun to answer.
    #[error("it ends a reply of chunks with a simple reply")]
    Mixed,

    /// A chunk type without a meaning.
    #[error("it sends a chunk of the unknown type {0}")]
    UnknownChunk(ChunkType),
    /// A chunk that does not answer the command, or not in this style.
    #[error("it answers {command} with {kind}")]
    WrongChunk {
        /// The request's.
        command: Command,
        /// The chunk's.
        kind: ChunkType,
    },
    /// A payload of a length that the chunk type does not have.
    #[error("it sends {kind} with a payload of {length} bytes")]
    ChunkLength {
        /// The chunk's type.
        kind: ChunkType,
        /// Its payload's length.
        length: u64,
    },
    /// The chunk that only can end a reply does not.
    #[error("it sends NBD_REPLY_TYPE_NONE without NBD_REPLY_FLAG_DONE")]
    NoneWithoutDone,

    /// More data in one chunk than were asked for or may be sent.
    #[error("it sends {length} bytes of data in a chunk that can have {limit}")]
    DataTooLong {
        /// The chunk's.
        length: u64,
        /// What the request and the maximum payload allow.
        limit: u64,
    },
    /// Data or a hole not within the request.
    #[error("it sends {length} bytes at {offset:#x}, which is not all within the request")]
    OutsideRequest {
        /// As sent.
        offset: u64,
        /// As sent.
        length: u64,
    },
    /// A hole of no bytes.
    #[error("it sends a hole of no bytes")]
    EmptyHole,
    /// Data for a place that was told about before.
    #[error("it sends {length} bytes at {offset:#x}, some of them for the second time")]
    Overlap {
        /// As sent.
        offset: u64,
        /// As sent.
        length: u64,
    },
    /// A reply in so many places at once that keeping track costs too much.
    #[error("it scatters one reply over more than {limit} places at a time")]
    Scattered {
        /// The limit of this client.
        limit: usize,
    },
    /// More than one content chunk in answer to `DF`.
    #[error("it fragments a reply that was asked for in one piece")]
    Fragmented,
    /// Success without all of the data.
    #[error("it ends a read without an error and without the data at {offset:#x}")]
    Gap {
        /// The first byte that is missing.
        offset: u64,
    },

    /// An error chunk with the error 0.
    #[error("it sends {0} without an error in it")]
    ErrorZero(ChunkType),
    /// A message that passes the end of its chunk.
    #[error("it sends {kind} of {length} bytes with a message of {message} bytes")]
    MessageOverrun {
        /// The chunk's type.
        kind: ChunkType,
        /// The length of its payload.
        length: usize,
        /// The message's.
        message: u16,
    },
    /// A message longer than a string may be.
    #[error("it sends an error message of {0} bytes, and a string has at most 4096")]
    MessageTooLong(u16),
    /// An error at an offset not within the request.
    #[error("it reports an error at {offset:#x}, which is not within the request")]
    ErrorOutside {
        /// As sent.
        offset: u64,
    },
    /// Error chunks without end.
    #[error("it sends more than {limit} errors in one reply")]
    TooManyErrors {
        /// The limit of this client.
        limit: u32,
    },

    /// A status chunk for a context that was not asked for.
    #[error("it sends the status of the metadata context {0}, which was not asked for")]
    ContextUnasked(u32),
    /// Two status chunks for one context.
    #[error("it sends the status of the metadata context {0} twice")]
    ContextTwice(u32),
    /// Success without one of the contexts.
    #[error("it ends a block status without an error and without the metadata context {0}")]
    ContextMissing(u32),
    /// More descriptors than a chunk should have.
    #[error("it sends {count} extents in one chunk, more than {limit}")]
    TooManyExtents {
        /// As announced.
        count: u64,
        /// The specification's.
        limit: u32,
    },
    /// A descriptor count that its chunk has no room for.
    #[error("it announces {count} extents in a chunk that has {room}")]
    ExtentCount {
        /// As announced.
        count: u32,
        /// As the length has it.
        room: u32,
    },
    /// More than one extent in answer to `REQ_ONE`.
    #[error("it sends {0} extents where one was asked for")]
    NotOneExtent(u32),
    /// An extent of no bytes.
    #[error("it sends an extent of no bytes")]
    EmptyExtent,
    /// An extent that begins where the request has ended.
    #[error("it sends an extent that begins {at} bytes into a request of {length}")]
    ExtentBehindEnd {
        /// Where it begins.
        at: u64,
        /// The request's effect length.
        length: u64,
    },
    /// An extent that is longer than the request, in answer to `REQ_ONE`, or
    /// passes the end of all offsets.
    #[error("it sends an extent of {0} bytes, longer than it can be")]
    ExtentTooLong(u64),
    /// A status beyond 32 bits in a context that has 32.
    #[error("it sends the status {status:#x} in the metadata context {context}, which has 32 bits")]
    WideStatus {
        /// The context's id.
        context: u32,
        /// As sent.
        status: u64,
    },

    /// It went away and owes something.
    #[error("it closed the connection and left {outstanding} requests without an answer")]
    Closed {
        /// How many.
        outstanding: usize,
    },
}

/// Why a request was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A length that the command cannot have under these terms.
    #[error("{command} of {length} bytes: it can have {limit}")]
    TooLong {
        /// The request's.
        command: Command,
        /// The request's.
        length: u64,
        /// What is possible.
        limit: u64,
    },
    /// A length of zero, for which servers have no rule.
    #[error("{0} of no bytes")]
    ZeroLength(Command),
    /// A range that passes the end of all offsets.
    #[error("{length} bytes at {offset:#x} pass the end of all offsets")]
    PastEnd {
        /// The request's.
        offset: u64,
        /// The request's.
        length: u64,
    },
    /// An offset or length where both are reserved.
    #[error("{0} has neither offset nor length")]
    NotZero(Command),
    /// Flags that do not belong to the command.
    #[error("{flags} does not belong to {command}")]
    Flags {
        /// The request's.
        command: Command,
        /// Those that do not belong.
        flags: CommandFlags,
    },
    /// `PAYLOAD_LEN` where the style or command has none, or lacking where it
    /// must be.
    #[error("NBD_CMD_FLAG_PAYLOAD_LEN is wrong for {command} with {} headers", .style.as_str())]
    PayloadFlag {
        /// The request's.
        command: Command,
        /// The style of the session.
        style: HeaderStyle,
    },
    /// A command without rules here.
    #[error("{0} is no command of the protocol")]
    UnknownCommand(Command),
    /// A command that has no reply cannot be waited for.
    #[error("{0} has no reply")]
    Unanswered(Command),
    /// Compact headers have no way to answer a block status.
    #[error("NBD_CMD_BLOCK_STATUS needs structured replies or extended headers")]
    NeedsChunks,
    /// A block status without a context.
    #[error("NBD_CMD_BLOCK_STATUS needs a metadata context")]
    NoContext,
    /// A context that was not selected, or is named twice.
    #[error("the metadata context {0} is not selected, or named twice")]
    BadContext(u32),
    /// A payload that does not name as many contexts as are expected.
    #[error("the payload of NBD_CMD_BLOCK_STATUS does not name its contexts")]
    StatusPayload,
    /// Too many requests wait for their answers.
    #[error("{limit} requests are outstanding: take their answers first")]
    TooManyOutstanding {
        /// The limit.
        limit: usize,
    },
}
