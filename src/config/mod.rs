//! What users ask for: names, identifiers and settings.
//!
//! It must not know how any of it is carried out, and it touches no device.

mod name;
mod settings;

pub use name::{BackendIdentifier, Name, NameError};
pub use settings::{BlockSize, Connections, DeadTimeout, Settings, ValueError, io_timeout};
