//! The product's protocol module by itself, and what the fuzz targets beside this
//! file share.
//!
//! - `meter`: how much memory was asked for
//! - `script`: a session made from a fuzzer's input: requests, and replies that
//!   are right up to where the input makes them wrong
//! - `drive`: the ways to feed a session
//! - `model`: what must hold whatever a server sends
//!
//! The module's own law lets it stand alone: it imports nothing of the crate.

pub mod drive;
pub mod meter;
pub mod model;
#[path = "../../src/proto/mod.rs"]
pub mod proto;
pub mod script;
