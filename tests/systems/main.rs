//! Scenarios on a whole system: a real systemd and a real udevd, in a guest that
//! `tests/systems/run` boots. `tests/README.md` says more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "it is all tests"
)]

mod elsewhere;
mod system;

mod by_hand;
mod going_down;
mod package;
mod relays;
mod rig;
mod units;
