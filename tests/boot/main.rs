//! Root over NBD: whole boots in qemu by `tests/boot/run`, from an initramfs of either kind.
//! `tests/README.md` says more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "it is all tests"
)]

mod machine;

mod boots;
mod disks;
mod ends;
mod exitrd;
mod failures;
mod host;
mod monitors;
mod networks;
mod outages;
mod size;
mod stock;
