//! What becomes of an export on this machine: bringing its device up, taking it
//! down, and knowing how it is.
//!
//! It must not know how anything is said to a server or to the kernel, only
//! what to ask of [`crate::session`] and [`crate::kernel`], and it prints
//! nothing. The process that keeps a device up through outages will live here;
//! until it exists, an outage ends with errors.

mod attach;
mod detach;
mod doctor;
mod error;
mod interrupt;
mod links;
mod lookup;
mod reconcile;
mod runtime;
mod status;

pub use attach::{Attached, attach};
pub use detach::{Detached, detach};
pub use doctor::{Finding, Severity, examine};
pub use error::Error;
pub use lookup::{Attachment, Target, attached, attachments, uri_of};
pub use status::{Connection, DeviceState, Report, report};
