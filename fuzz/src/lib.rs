//! The product's protocol module and the relay's decisions by themselves, and what the fuzz targets beside this
//! file share.
//!
//! - `meter`: how much memory was asked for
//! - `script`: a session made from a fuzzer's input: requests, and replies that
//!   are right up to where the input makes them wrong
//! - `drive`: the ways to feed a session
//! - `model`: what must hold whatever a server sends
//! - `owed`: what must hold of a relay, whatever the kernel and servers do
//!
//! The modules' own law lets them stand alone: the protocol imports nothing of the
//! crate, and the relay's decisions import the protocol.

pub mod drive;
pub mod meter;
pub mod model;
pub mod owed;
#[path = "../../src/proto/mod.rs"]
pub mod proto;
pub mod relay;
pub mod script;
