//! What the engine asks its caller to do. It must not know how that is done.

use thiserror::Error;

use crate::proto::transmission::{Command, ErrorCode, Fault, Request, RequestError};

use super::translate::{Chunk, Ending};
use super::{BufferId, SessionId};

/// Something to do, in the order in which it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Encode and send a request. What goes to a session that ended is dropped.
    Send {
        /// Where.
        session: SessionId,
        /// In the session's style, with a cookie of our own.
        request: Request,
        /// The data of a WRITE: `request.length` bytes of this buffer, from this
        /// byte on.
        data: Option<(BufferId, u64)>,
    },
    /// Answer the kernel with a simple reply.
    Answer {
        /// The kernel's.
        cookie: u64,
        /// 0 for success.
        error: ErrorCode,
        /// The data of a READ: a buffer and how many bytes. The buffer is free when
        /// they were sent.
        data: Option<(BufferId, u64)>,
    },
    /// A buffer is not needed any more, once what was asked for before is done.
    Release(BufferId),
    /// Close a connection, and say [`Engine::session_down`] when nothing of it
    /// touches a buffer any more.
    ///
    /// [`Engine::session_down`]: super::Engine::session_down
    Close {
        /// Which.
        session: SessionId,
        /// For the log.
        reason: Reason,
    },
    /// For the log: a server's words for an error, one at most of each reply.
    Trouble {
        /// Whose.
        session: SessionId,
        /// What it was asked.
        command: Command,
        /// As sent.
        code: ErrorCode,
        /// From the start of the export, where the server says.
        offset: Option<u64>,
        /// Bounded and safe to show; often empty.
        message: String,
    },
    /// The kernel, or the caller, wanted to end, and nothing is left to do: send
    /// DISC to the servers. Comes once.
    Finish,
}

/// Why a session is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reason {
    /// The server broke the protocol.
    #[error("the server breaks the protocol: {0}")]
    Fault(Fault),
    /// It goes down, and says so; what it refused for that is asked again.
    #[error("the server is shutting down")]
    Shutdown,
    /// It refuses what an earlier server had answered and lost: going on would
    /// lose it for good.
    #[error("the server refuses to take {length} bytes at {offset:#x} again: {code}")]
    Replay {
        /// In bytes.
        offset: u64,
        /// In bytes.
        length: u64,
        /// What it says.
        code: ErrorCode,
    },
    /// It refuses a FLUSH without which the log cannot be emptied.
    #[error("the server refuses to flush: {0}")]
    Flush(ErrorCode),
    /// It cannot be asked what the device promised.
    #[error("a request cannot be sent to this server: {0}")]
    Lacks(RequestError),
}

/// What to do next with the stream of a session.
#[must_use = "the stream goes on with it"]
#[derive(Debug)]
pub enum Step {
    /// Read the next header.
    Header,
    /// Read [`Chunk::prefix_len`] bytes, then [`Engine::reply_prefix`].
    ///
    /// [`Engine::reply_prefix`]: super::Engine::reply_prefix
    Prefix(Chunk),
    /// Read so many bytes into the buffer, then [`Engine::reply_end`].
    ///
    /// [`Engine::reply_end`]: super::Engine::reply_end
    Data(Place, Ending),
    /// Set so many bytes of the buffer to zero, then [`Engine::reply_end`].
    ///
    /// [`Engine::reply_end`]: super::Engine::reply_end
    Zeroes(Place, Ending),
    /// Stop reading: the session is closed.
    Over,
}

/// Bytes of a READ's buffer; always within the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub buffer: BufferId,
    /// The first byte.
    pub at: u64,
    /// How many.
    pub length: u64,
}
