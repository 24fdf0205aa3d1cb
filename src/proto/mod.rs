//! The NBD protocol without I/O: bytes in, bytes and events out.
//!
//! Law of this module: it imports nothing of the crate, knows no socket, no
//! clock and no runtime, writes no log, and sizes no allocation by a number
//! from the wire that was not checked against a limit first. What a server may
//! send is in `doc/proto.md` of the `NetworkBlockDevice/nbd` project (branch
//! `extension-ext-header`); section names in the comments are that document's.
//!
//! - `number`: the wire's open numbers and their names
//! - `codec`: a bounded reader, and the few shapes that are written
//! - `export`: what a server says of an export
//! - `ask`, `handshake`, `state`, `replies`: from the greeting to what was asked,
//!   or to a [`Negotiated`] session
//! - [`transmission`]: requests and replies
//! - `error`: who is to blame, and for what

mod ask;
mod codec;
mod error;
mod export;
mod handshake;
mod negotiated;
#[macro_use]
mod number;
mod option_reply;
mod replies;
mod state;
pub mod transmission;

pub use ask::{Ask, MAX_QUERIES};
pub use error::{Error, Lack, Refusal, Violation};
pub use export::{BlockSizes, Export, TransmissionFlags};
pub use handshake::{Event, Handshake, Wanted};
pub use negotiated::{Compact, Context, HeaderStyle, Negotiated};
pub use number::{InfoType, OptionCode, ReplyType};
pub use state::GREETING;

/// Makes a server's text safe for a terminal: control characters, and those that
/// change how the text around them is shown, are escaped; it is cut at the
/// longest that a name can be.
#[must_use]
pub fn readable_text(text: &str) -> String {
    codec::readable_text(text, MAX_STRING)
}

/// The longest string that the protocol allows, in bytes ("Conventions").
pub const MAX_STRING: usize = 4096;
