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
//! - `handshake`, `state`: from the greeting to a [`Negotiated`] session
//! - `error`: who is to blame, and for what

mod codec;
mod error;
mod export;
mod handshake;
mod number;
mod state;

pub use error::{Error, Lack, Refusal, Violation};
pub use export::{BlockSizes, Export, TransmissionFlags};
pub use handshake::{Compact, Event, Handshake, HeaderStyle, Negotiated, Wanted};
pub use number::{InfoType, OptionCode, ReplyType};

/// The longest string that the protocol allows, in bytes ("Conventions").
pub const MAX_STRING: usize = 4096;
