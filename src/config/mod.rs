//! What users ask for: names, identifiers and settings, and the files that they
//! write them in.
//!
//! It must not know how any of it is carried out, and it touches no device. Only
//! `places` reads files; what reads their text is pure.

mod export;
mod identity;
mod name;
mod nbdtab;
mod nbdtab_entry;
mod places;
mod problem;
mod setting;
mod settings;
mod toml_file;
mod unit;
mod values;

pub use export::{Boot, Export, Kind, Origin};
pub use identity::parse_identity;
pub use name::{BackendIdentifier, Name, NameError, unlike_a_partition};
pub use places::{Configuration, Places, find, load};
pub use problem::{Position, Problem, Severity, shown};
pub use setting::{Form, Key, Setting, nearest};
pub use settings::{Settings, io_timeout};
pub use toml_file::to_toml;
pub use unit::{device_unit, escape_path, unit_name};
pub use values::{
    BlockSize, Bounds, Connections, DataPath, DeadTimeout, DeviceTimeout, Resize, ValueError,
    device_index,
};
