//! Everything that is said to Linux: the `nbd` netlink family, sysfs, /proc.
//!
//! What the driver does with it is `drivers/block/nbd.c`; comments name its
//! functions. It must not know what a session is or who wants a device: it takes
//! sockets that are proven compact ([`crate::proto::Compact`]) and numbers.
//! `neli` stays in this module. Nothing here opens a device but
//! [`claim`] and [`probe`], and only while its link is expected to live: an open
//! can wait for the server.

mod claim;
pub mod environment;
mod error;
mod exchange;
mod family;
pub mod geometry;
mod helper;
pub mod holders;
mod index;
mod link_deaths;
mod netlink;
mod patience;
mod probe;
mod queue;
mod socket;
mod sys;
mod sysfs;

pub use claim::Claim;
pub use error::Error;
pub use index::free_indices;
pub use link_deaths::LinkDeaths;
pub use netlink::{Connect, DeviceStatus, Netlink, Reconfigure, Taken};
pub use patience::give_up;
pub use probe::wait_readable as wait_until_readable;
pub use queue::{QueueSettings, SavedQueue};
pub use socket::KernelSocket;
pub use sys::has_sys_admin;
pub use sysfs::{Device, devices};
