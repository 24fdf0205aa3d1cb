//! Scenarios on the real driver. Each is one short test, which runs in a guest
//! of its own (`tests/uml`), once for each kernel; with NBDCTL_TEST_KERNEL=host,
//! as root, on this machine's own driver instead. `tests/README.md` says more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::expect_used,
    unreachable_pub,
    reason = "it is all tests"
)]

#[path = "../common/mod.rs"]
mod common;

#[macro_use]
mod machine;
mod server;

mod data;
mod facts;
mod holders;
mod interruptions;
mod lifecycle;
mod refusals;
mod round_trips;
