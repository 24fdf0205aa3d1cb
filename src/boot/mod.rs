//! What booting needs: what the kernel's command line asks of an initramfs, the names in
//! /dev/disk that a device keeps, and the units that systemd is given for the configured
//! exports.
//!
//! All of it is made from texts and the configuration, without a look at a device or at
//! the network: a generator runs before there is either.

mod cmdline;
mod generator;
mod names;
mod write;

pub use cmdline::{Dhcp, Mount, Ordered, Plan, read as read_command_line, word_of};
pub use generator::{Content, Unit, generate};
pub use names::{PARTITIONS, StableNames, properties};
pub use write::write;
