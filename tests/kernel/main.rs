//! Scenarios on the real driver. Each is one short test, which runs in a guest
//! of its own (`tests/uml`), once for each kernel; with NBDCTL_TEST_KERNEL=host,
//! as root, on this machine's own driver instead. `tests/README.md` says more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "it is all tests"
)]

#[path = "../../src/relay/tests/checker.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod checker;
#[path = "../common/mod.rs"]
mod common;
#[path = "../liar/mod.rs"]
mod liar;
#[path = "../relay/load.rs"]
mod overlapping;

#[macro_use]
mod machine;
mod direct;
mod kept;
mod load;
mod network;
mod reset;
mod server;

mod calm;
mod data;
mod facts;
mod forgets;
mod holders;
mod interruptions;
mod lifecycle;
mod links;
mod monitors;
mod mounted;
mod names;
mod outages;
mod package;
mod patience;
mod protection;
mod redial;
mod refusals;
mod relay;
mod rig;
mod roots;
mod round_trips;
mod silence;

mod steps;
mod worth;
