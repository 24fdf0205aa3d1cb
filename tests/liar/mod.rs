//! A server that misbehaves: an NBD server for tests, right by default and
//! wrong in one chosen way at a time.
//!
//! It has a codec of its own and must not use nbdctl's (nor may it know
//! anything else of the crate): two implementations check each other. It needs
//! nothing but std, so that it also runs inside a guest:
//!
//! ```ignore
//! #[path = "liar/mod.rs"]
//! mod liar;
//!
//! let server = liar::start(Config::new().export(Export::new("disk", 1 << 44)));
//! // ... a client at server.uri("disk") ...
//! assert_eq!(server.requests().len(), 1);
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `config.rs` | what a test asks for: exports, refusals, contexts, lies |
//! | `lie.rs` | every way to misbehave, one line each |
//! | `handle.rs` | the running server: start, stop, pause, power loss, log |
//! | `log.rs` | what it saw: options, requests, bytes, round trips |
//! | `wire.rs`, `chunk.rs` | the codec |
//! | `image.rs`, `disk.rs` | sparse storage, and its volatile cache |
//! | `net.rs`, `line.rs` | sockets; one connection's input, output, delay |
//! | `haggle.rs`, `info.rs`, `meta.rs` | the handshake |
//! | `transmit.rs`, `answer.rs` | requests and their honest answers |
//! | `twist.rs`, `twist_read.rs`, `twist_status.rs` | what a lie does to an honest answer |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "it is all tests, and each suite uses a part of it"
)]

mod answer;
mod chunk;
mod config;
mod disk;
mod haggle;
mod handle;
mod image;
mod info;
mod lie;
mod line;
mod log;
mod meta;
mod net;
mod transmit;
mod twist;
mod twist_read;
mod twist_status;
pub mod wire;

pub use config::{BlockSize, Config, Context, Export, Socket, Values};
pub use disk::PowerLoss;
pub use handle::{Handle, start};
pub use lie::{Lie, Phase, Place};
pub use log::{OptionSeen, RequestSeen, Totals};
pub use transmit::NO_PAYLOAD_LEN;
pub use wire::Style;
