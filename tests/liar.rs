//! The server that misbehaves, tested itself: right by default in the eyes of
//! other implementations, forgetful exactly as it says, and each lie on the
//! wire as its line says.
//!
//! Wants `nbdinfo` and `nbdcopy` (libnbd-bin), `qemu-img` and `qemu-io`
//! (qemu-utils); a test that lacks its client fails and names it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "it is all tests"
)]

#[path = "liar/mod.rs"]
mod liar;

#[path = "liar/probe.rs"]
mod probe;

#[path = "liar/prove_clients.rs"]
mod prove_clients;
#[path = "liar/prove_handshake.rs"]
mod prove_handshake;
#[path = "liar/prove_lies.rs"]
mod prove_lies;
#[path = "liar/prove_storage.rs"]
mod prove_storage;
#[path = "liar/prove_transmission.rs"]
mod prove_transmission;
