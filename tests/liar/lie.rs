//! Every way to misbehave, or to be legal and still hard on a client.
//!
//! It must not know how a lie is told. A lie that does not fit the session
//! (a chunk in a simple reply) changes nothing. Lies about requests and replies
//! begin after `Config::lie_after` requests of a connection.

use super::config::BlockSize;

/// One misbehaviour. "Legal" ones a client must put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    // ── legal ──
    /// Legal: one byte per segment, `Config::drip` apart.
    Drip,
    /// Legal: the chunks of a reply come in a random order, DONE last.
    ShuffleChunks,
    /// Legal: READ data in chunks of at most so many bytes (holes too).
    SplitChunks(u32),
    /// Legal: the chunks of the replies that are due alternate.
    InterleaveReplies,
    /// Legal: the latest of the requests that arrived together is answered first.
    ReorderReplies,
    /// Legal: DONE comes in a NONE chunk of its own.
    DoneApart,
    /// Legal: holes are sent as data.
    NoHoles,
    /// Legal: a structured session gets simple replies to all but READ.
    SimpleWhereAllowed,
    /// Legal: this command fails with this error.
    Fail { command: u16, error: u32 },
    /// Legal: all data of the READ, then EIO: the READ must fail.
    ErrorAfterData,
    /// Legal: all data of the READ, then EIO at the middle of it: it must fail.
    ErrorOffsetAfterData,
    /// Legal: EIO in an error chunk of an unknown type.
    UnknownErrorChunk,
    /// Legal without `REQ_ONE`: the last extent passes the end of the request.
    ExtentPastRequest,
    /// Legal: INFO with an unknown information type before the others.
    UnknownInfo,

    // ── silence and hanging up ──
    /// Accepts and says nothing.
    StallGreeting,
    /// Greets, and answers no option.
    StallOptions,
    /// Reads and logs requests; neither does nor answers them.
    StallTransmission,
    /// Half of an option reply's header, then silence.
    StallInOptionReply,
    /// Half of the first message of a reply, then silence; the request was done.
    StallInReply,
    /// Closes the connection.
    HangUp(Phase),

    // ── the greeting and option haggling ──
    /// A magic number with one bit wrong.
    WrongMagic(Place),
    /// The hello of an oldstyle server.
    Oldstyle,
    /// Handshake flags without `FIXED_NEWSTYLE`.
    NotFixed,
    /// Replies name another option than the one asked.
    WrongOptionEchoed,
    /// The first option reply claims 4 GiB - 1 of data.
    HugeOptionReply,
    /// An error reply with a message of this many bytes to INFO and GO.
    LongErrorMessage(u32),
    /// INFO replies without end.
    EndlessInfo,
    /// SERVER replies without end.
    EndlessList,
    /// SERVER's name length is larger than the reply.
    ServerNameLength,
    /// A reply to an option nobody sent, before the first true one.
    UnaskedReply,
    /// Success of INFO and GO without `NBD_INFO_EXPORT`.
    ExportInfoMissing,
    /// `NBD_INFO_EXPORT` twice, of different size.
    ExportInfoTwice,
    /// `NBD_INFO_EXPORT` one byte short.
    ExportInfoShort,
    /// Other block sizes than those it honours, sent even when not asked for.
    BlockSizes(BlockSize),
    /// Transmission flags without `HAS_FLAGS`.
    NoHasFlags,
    /// An export of this size is advertised.
    ClaimSize(u64),
    /// A reply in plaintext right behind the ACK of STARTTLS.
    PlaintextBehindStartTls,
    /// `SET_META_CONTEXT` grants a context that was not asked for.
    ContextUnasked,
    /// `SET_META_CONTEXT` grants two contexts with one id.
    ContextIdTwice,

    // ── any reply in transmission ──
    /// A simple reply in a session with extended headers.
    SimpleInExtended,
    /// A structured chunk in a session with extended headers.
    StructuredInExtended,
    /// An extended chunk in a session without extended headers.
    ExtendedUnasked,
    /// The cookie of no request.
    UnknownCookie,
    /// The whole reply comes twice: two DONEs.
    RepeatedReply,
    /// One more chunk after DONE.
    ChunkAfterDone,
    /// The last chunk lacks DONE: the reply never ends.
    DoneMissing,
    /// The first chunk's length counts 4096 bytes more than follow.
    LengthTooLarge,
    /// The first chunk's length counts one byte less than follows.
    LengthTooSmall,
    /// The first chunk's length is this; what follows stays as it was.
    ClaimLength(u64),
    /// A chunk of an unknown type that is not an error.
    UnknownChunk,
    /// A NONE chunk with a payload.
    NoneWithPayload,
    /// A NONE chunk without DONE, first.
    NoneWithoutDone,
    /// An extended chunk whose offset is not the request's.
    WrongOffset,
    /// An error chunk whose message is longer than the chunk.
    ErrorMessageTooLong,
    /// An error chunk with error 0.
    ErrorZero,
    /// An error chunk too short for its fields.
    ErrorShort,

    // ── READ ──
    /// A simple reply to READ in a structured session.
    SimpleRead,
    /// A data chunk that starts after the request's end.
    DataOutside,
    /// A data chunk that begins inside the request and passes its end.
    DataPastRequest,
    /// The first data comes twice.
    DataOverlap,
    /// The first half of the first content chunk is missing.
    DataGap,
    /// DONE, and no content at all.
    DataMissing,
    /// A data chunk longer than the maximum payload.
    DataTooLong,
    /// A data chunk without data.
    DataEmpty,
    /// A data chunk too short for its offset.
    DataShort,
    /// A hole of length 0, before the content.
    HoleEmpty,
    /// A hole that passes the request's end.
    HolePastRequest,
    /// Two content chunks though DF was set.
    FragmentedDespiteDf,

    // ── BLOCK_STATUS ──
    /// An extent of length 0, first.
    ExtentEmpty,
    /// With `REQ_ONE`: one extent, longer than the request.
    ExtentPastReqOne,
    /// With `REQ_ONE`: two extents.
    ExtentsDespiteReqOne,
    /// A status chunk without extents.
    ExtentsMissing,
    /// The descriptor count is one more than there are.
    DescriptorCount,
    /// The last descriptor is cut in the middle.
    DescriptorCut,
    /// One more status chunk, for a context that was not selected.
    ContextNotSelected,
    /// The first context's status chunk comes twice.
    ContextTwice,
    /// The first context has no status chunk.
    ContextMissing,
    /// A 32-bit chunk in a session with extended headers.
    NarrowStatus,
    /// A 64-bit chunk in a structured session.
    WideStatus,
    /// Statuses of `base:allocation` with bit 63 set (64-bit chunks).
    StatusHighBit,

    // ── what no reply shows ──
    /// FLUSH succeeds and makes nothing durable.
    FlushForgets,
    /// FUA succeeds and makes nothing durable.
    FuaForgets,
}

/// When `Lie::HangUp` hangs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    BeforeGreeting,
    /// In the middle of the greeting.
    InGreeting,
    AfterGreeting,
    /// An option has arrived; nothing is answered.
    OnOption,
    /// In the middle of an option reply's header.
    InOptionReply,
    /// A request has arrived and was not done.
    OnRequest,
    /// The request was done and is not answered.
    BeforeReply,
    /// In the middle of the reply's header.
    InReplyHeader,
    /// The header is whole; half of the payload is missing.
    InReplyPayload,
}

/// Which magic `Lie::WrongMagic` gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `NBDMAGIC`
    Greeting,
    /// `IHAVEOPT`
    GreetingOption,
    OptionReply,
    /// Of the reply's first message.
    Reply,
}
