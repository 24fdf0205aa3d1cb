//! `nbdctl relay` as a process, between a stand-in for the kernel's driver and the
//! server that misbehaves, or one of the field: no guest, no driver, no root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "it is all tests"
)]

#[path = "../../src/relay/tests/checker.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod checker;
#[path = "../liar/mod.rs"]
mod liar;

mod carries;
mod driver;
mod life;
#[allow(dead_code, reason = "a part of it is used")]
mod load;
mod outages;
mod rig;

use nbdctl::relay::message::Begin;

/// What a relay for this server is told, unless a test has a reason.
fn begin(server: &liar::Handle) -> Begin {
    rig::orders(&server.uri(""), &server.address().to_string())
}
