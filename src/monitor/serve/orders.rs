//! What a monitor is told to do by whoever starts it.

use super::Announce;
use crate::config::{Name, Settings};
use crate::monitor::error::Error;
use crate::monitor::service::Service;

/// What a monitor is started with.
pub struct Orders<'a> {
    /// Of the export.
    pub name: &'a Name,
    /// For a device that is yet to be made; without, there must be one.
    pub settings: Option<&'a Settings>,
    /// What is wrong with the configuration, where that is why there are none.
    pub misconfigured: Option<String>,
    /// How it begins.
    pub start: Start,
    /// Who is told when the device is usable.
    pub announce: Announce<'a>,
    /// The status that goes with an error.
    pub exit_of: fn(&Error) -> u8,
    /// Who started it.
    pub service: Service,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// There is nothing to serve any more, as somebody wanted.
    Ended,
    /// A signal ended it, and not what it is for.
    Left,
}

/// How a device is made that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// For an attach, which waits for it on the other end of standard output: it
    /// works at once or not at all.
    ForAttach,
    /// The same for a unit that attach starts.
    Once,
    /// There is a device, and the monitor that it had is gone. Whoever has it by now keeps
    /// it.
    InPlace,
    /// By a unit: as often as it takes.
    Insist {
        /// Booting goes on without it.
        ready_at_once: bool,
    },
}
