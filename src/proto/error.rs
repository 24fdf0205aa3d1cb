//! What can go wrong between a client and a server, by who is to blame.
//!
//! A caller decides what to do next by matching these, never by reading text.

use thiserror::Error;

use super::number::{OptionCode, ReplyType};

/// Why a handshake ended without a session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The server broke the protocol: report it, retry slowly.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The server said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server is in order but lacks something that is required here.
    #[error(transparent)]
    Lacks(#[from] Lack),
}

/// How a server broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// The first bytes are not NBD's.
    #[error("this is not an NBD server: it greets with \"{greeting}\"")]
    NotNbd {
        /// The first bytes, readable.
        greeting: String,
    },
    /// A magic number in the middle of the session is wrong.
    #[error("{what} begins with {got:#018x}, which is not its magic number")]
    BadMagic {
        /// The message that was expected.
        what: &'static str,
        /// What stood there.
        got: u64,
    },
    /// A message is shorter than its contents.
    #[error("{what} ends too early")]
    Truncated {
        /// The message.
        what: &'static str,
    },
    /// A message is longer than its contents.
    #[error("{what} has {extra} bytes too many")]
    Overlong {
        /// The message.
        what: &'static str,
        /// How many.
        extra: usize,
    },
    /// A message claims a length beyond what it can need.
    #[error("{what} claims {claimed} bytes, more than the {limit} that it can need")]
    TooLong {
        /// The message.
        what: &'static str,
        /// The length in its header.
        claimed: u32,
        /// The limit of this client.
        limit: u32,
    },
    /// A reply to an option that was not asked.
    #[error("it answers {got} when {asked} was asked")]
    WrongOption {
        /// The option in the reply.
        got: OptionCode,
        /// The option that was asked.
        asked: OptionCode,
    },
    /// A reply type that does not belong to the option.
    #[error("it answers {asked} with {got}")]
    WrongReply {
        /// The option that was asked.
        asked: OptionCode,
        /// The type in the reply.
        got: ReplyType,
    },
    /// GO or INFO was acknowledged without the export's size.
    #[error("it acknowledges the export without telling its size")]
    NoExportInfo,
    /// The export's size or flags came twice, and not the same.
    #[error("it tells the export's size and flags twice, and not the same")]
    TwoExports,
    /// A string beyond the protocol's limit.
    #[error("{what} has a string of {length} bytes, and the protocol allows 4096")]
    LongString {
        /// The message.
        what: &'static str,
        /// In bytes.
        length: usize,
    },
    /// A string that is none.
    #[error("{what} has a string that is no UTF-8")]
    NotUtf8 {
        /// The message.
        what: &'static str,
    },
    /// Bytes between the consent to TLS and TLS itself: whoever sent them was
    /// not authenticated, and would have them taken for what is.
    #[error("it sends {0} bytes in plaintext behind its consent to TLS, which is an attack")]
    PlaintextBehindStartTls(usize),
    /// A metadata context that was not asked for.
    #[error("it selects the metadata context \"{0}\", which was not asked for")]
    UnaskedContext(String),
    /// Two selected contexts share an id, or are the same.
    #[error("it selects the metadata context \"{0}\" twice, or two with one id")]
    RepeatedContext(String),
    /// A list without end.
    #[error("its answer to {asked} goes on beyond {limit} bytes")]
    EndlessList {
        /// The option.
        asked: OptionCode,
        /// The limit of this client, in bytes.
        limit: usize,
    },
    /// Both cannot be had.
    #[error("it agreed to extended headers and does not know NBD_OPT_GO, which they require")]
    ExtendedWithoutGo,
    /// The same option was answered with more pieces than there can be.
    #[error("it sends more than {limit} pieces of information about one export")]
    TooManyInfos {
        /// The limit of this client.
        limit: u32,
    },
    /// Block sizes that the specification forbids ("Size constraints").
    #[error(
        "its block sizes make no sense: minimum {minimum}, preferred {preferred}, \
         maximum payload {maximum_payload}"
    )]
    BlockSizes {
        /// As sent, in bytes.
        minimum: u32,
        /// As sent, in bytes.
        preferred: u32,
        /// As sent, in bytes.
        maximum_payload: u32,
    },
    /// Transmission flags without their HAS_FLAGS bit.
    #[error("its transmission flags {0:#06x} lack HAS_FLAGS")]
    NoFlags(u16),
    /// Bytes after the end of the handshake, before any request was sent.
    #[error("it sends {0} bytes that nothing was asked for")]
    Unasked(usize),
}

/// A server's refusal of an option.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{}", reason(*.reply, *.option), told(.message))]
pub struct Refusal {
    /// The option that was refused.
    pub option: OptionCode,
    /// How; `ERR_UNKNOWN` also where a server could only hang up.
    pub reply: ReplyType,
    /// What the server told people about it, readable; often empty.
    pub message: String,
}

fn told(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(" (it says: \"{message}\")")
    }
}

/// What happened and what to do, in words, for each refusal there is.
fn reason(reply: ReplyType, option: OptionCode) -> String {
    let text = match reply {
        ReplyType::ERR_UNSUP => return format!("the server does not know {option}"),
        ReplyType::ERR_POLICY => {
            "the server does not allow this client: look at the server's access rules"
        }
        ReplyType::ERR_INVALID => return format!("the server holds {option} for malformed"),
        ReplyType::ERR_PLATFORM => return format!("the server's platform cannot do {option}"),
        ReplyType::ERR_TLS_REQD => {
            "the server requires TLS, which this version of nbdctl cannot speak yet"
        }
        ReplyType::ERR_UNKNOWN => {
            "the server has no such export: check the name after the last / of the URI"
        }
        ReplyType::ERR_SHUTDOWN => "the server is shutting down: try again when it is back",
        ReplyType::ERR_BLOCK_SIZE_REQD => {
            "the server requires that its block sizes be honoured, and did not see that they are"
        }
        ReplyType::ERR_TOO_BIG => {
            return format!("the server holds {option} for too big: use a shorter export name");
        }
        ReplyType::ERR_EXT_HEADER_REQD => {
            "the server requires extended headers, which the kernel's driver cannot speak: \
             a relay can (--path relay)"
        }
        other => return format!("the server refuses {option} with {other}"),
    };
    text.to_owned()
}

/// What a server lacks that is required here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Lack {
    /// The server speaks the handshake of before 2011.
    #[error(
        "the server speaks the oldstyle handshake only: it must be upgraded \
         (nbd-server since 3.10 speaks fixed newstyle)"
    )]
    Oldstyle,
    /// The server speaks newstyle, but not its fixed form.
    #[error(
        "the server speaks newstyle without its fixed form: it must be upgraded \
         (nbd-server since 3.0 speaks fixed newstyle)"
    )]
    FixedNewstyle,
    /// This build has no TLS.
    #[error("TLS is not supported by this version of nbdctl")]
    Tls,
    /// More was asked of metadata contexts than is sensible.
    #[error(
        "too many metadata contexts were asked for, or too long ones: ask for 32 at most, of 4096 bytes"
    )]
    FewQueries,
    /// The export's name is longer than a name may be.
    #[error("the export's name has {0} bytes, and the protocol allows 4096")]
    ShortName(usize),
}
