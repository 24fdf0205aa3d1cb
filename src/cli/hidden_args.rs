//! What the verbs take that no person types: nbdctl itself, udev and packages call them.

use std::path::PathBuf;

use super::args::device;
use crate::kernel::Device;

#[derive(Debug, clap::Args)]
pub(super) struct OnDeviceArgs {
    /// probe or release
    pub(super) job: String,
    /// nbdN
    #[arg(value_parser = device)]
    pub(super) device: Device,
    /// Its backend identifier
    #[arg(default_value = "")]
    pub(super) backend: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct ResolveArgs {
    /// A name
    pub(super) host: String,
    /// A port
    pub(super) port: u16,
}

#[derive(Debug, clap::Args)]
pub(super) struct UdevNamesArgs {
    /// nbdN or nbdNpM
    pub(super) kernel_name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// The folder
    pub(super) folder: PathBuf,
}
