//! Everything that is said to Linux: the `nbd` netlink family, sysfs, /proc.
//!
//! What the driver does with it is `drivers/block/nbd.c`; comments name its
//! functions. It must not know what a session is or who wants a device: it takes
//! sockets that are proven compact ([`crate::proto::Compact`]), or pairs, and numbers.
//! `neli` stays in this module. Nothing here opens a device but `probe` and
//! `release`, and only while its link is expected to live: an open can wait for
//! the server. Both do so in a process of their own (`child`).

mod carries;
mod child;
mod confine;
mod cut;
mod diag;
mod ending;
pub mod environment;
mod error;
mod exchange;
mod family;
mod found_link;
mod gateway;
pub mod geometry;
mod helper;
pub mod holders;
mod index;
mod inherited;
mod leads;
mod link_deaths;
mod netlink;
mod node;
mod own_address;
mod pair;
mod patience;
mod probe;
mod process;
mod protect;
mod queue;
mod release;
mod resident;
mod root_change;
mod socket;
mod sys;
mod sysfs;
mod tcp_info;
mod tcp_table;
mod timeout_cut;
mod udev;
pub mod wire;

pub use carries::carries_root;
pub use child::{VERB as ON_DEVICE, Verdict};
pub use confine::{Keeps, confine};
pub use cut::{Cut, cut};
pub use ending::Ending;
pub use error::Error;
pub use found_link::{FoundLink, Seen};
pub use gateway::gateway;
pub use index::free_indices;
pub use inherited::inherited_descriptors;
pub use link_deaths::LinkDeaths;
pub use netlink::{Connect, DeviceStatus, Netlink, Reconfigure, Taken};
pub use own_address::{keep_own_address, restore_default_route, restore_own_address};
pub use patience::{give_up, has_dead_link};
pub use probe::wait_until_readable;
pub use process::{Process, ProcessId};
pub use protect::{leave_no_core, protect_process, set_process_name};
pub use queue::{QueueSettings, SavedQueue};
pub use release::release;
pub use resident::{Resident, files_of, keep_own_text, running};
pub use root_change::RootChange;
pub use socket::KernelSocket;
pub use sys::has_sys_admin;
pub use sysfs::{Device, devices};
pub use tcp_info::TcpFacts;
pub use tcp_table::{TcpEntry, network_namespace, tcp_entry};
pub use udev::wait_for_names;

/// Runs a job of [`ON_DEVICE`] in this process: what a child does. Only one that
/// takes a device down asks for its identifier.
///
/// # Errors
///
/// What the job met.
pub fn on_device(job: &str, device: &Device, backend: &str) -> Result<Verdict, Error> {
    match job {
        probe::JOB => probe::here(device).map(|()| Verdict::Done),
        release::JOB => release::here(device, backend, false),
        release::DEAD_JOB => release::here(device, backend, true),
        _ => Err(Error::Device(format!("there is no job \"{job}\""))),
    }
}
