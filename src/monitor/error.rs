//! Why a device did not come up or go down.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::config::Name;
use crate::kernel::{self, holders::Holder};
use crate::session;

/// A failure of attach, detach or status.
#[derive(Debug, Error)]
pub enum Error {
    /// The server's or the network's side.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// The kernel's side.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A file of our own in /run.
    #[error("{}: {error}", .path.display())]
    Runtime {
        /// Which.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// Another nbdctl is at it.
    #[error("{holder} did not finish within {} s: try again, or see what it waits for", .allowed.as_secs())]
    Locked {
        /// What it works on.
        holder: String,
        /// How long it was waited for.
        allowed: Duration,
    },
    /// Nothing is attached under this name or at this device.
    #[error("{0} is not attached: nbdctl status lists what is")]
    NotAttached(String),
    /// Nothing at all can be such a device.
    #[error(
        "\"{0}\" is no device of this driver: give /dev/nbdN, N below 2^20, or the name of an attached export"
    )]
    NoDevice(String),
    /// The name is taken by another URI.
    #[error(
        "the name \"{name}\" is taken: {device} was attached under it from another URI; \
         choose another with --name, or detach it first"
    )]
    NameTaken {
        /// The name.
        name: Name,
        /// The device.
        device: String,
    },
    /// It is attached, but not as asked.
    #[error("it is attached already as {device}, {difference}: detach it first")]
    Differs {
        /// The device.
        device: String,
        /// How it differs.
        difference: &'static str,
    },
    /// The device that was asked for is taken.
    #[error("{device} is taken by {by}: choose another with --device, or none")]
    DeviceTaken {
        /// The device.
        device: String,
        /// By whom.
        by: String,
    },
    /// One connection only.
    #[error(
        "the server does not let several connections share an export (CAN_MULTI_CONN is not \
         set): use --connections 1, or let the server allow it (qemu-nbd: --shared)"
    )]
    OneConnection,
    /// Two connections to one export disagree.
    #[error(
        "two connections to the same export were told different sizes or flags: \
         does every address of the name lead to the same server?"
    )]
    Disagree,
    /// The session speaks what the kernel does not.
    #[error("the session agreed on {0} headers, which the kernel's driver cannot speak")]
    NotCompact(&'static str),
    /// It was attached, but cannot be used.
    #[error("{device} was attached but cannot be used, and {}: {error}", undone(.left))]
    Unusable {
        /// The device.
        device: String,
        /// Why.
        error: kernel::Error,
        /// Why it could not be detached again.
        left: Option<Box<kernel::Error>>,
    },
    /// It is attached, but its server is away.
    #[error(
        "\"{name}\" is attached already, but {state}: its server is away ({why}); its monitor \
         goes on trying"
    )]
    Away {
        /// What.
        name: Name,
        /// The word for it.
        state: String,
        /// The last error.
        why: String,
    },
    /// Its monitor tries to attach it.
    #[error(
        "\"{name}\" is not attached yet: its monitor tries to, again and again{}; systemctl stop \
         nbdctl@{name}.service ends that",
        said(.why)
    )]
    NotYet {
        /// What.
        name: Name,
        /// The last error; may be empty.
        why: String,
    },
    /// Its monitor does not answer.
    #[error("the monitor of \"{0}\" lives, and does not answer: see the system's log")]
    Mute(Name),
    /// It stays, whoever was to replace it.
    #[error("the monitor of \"{0}\" is not replaced: see the system's log")]
    Stays(Name),
    /// There is one already.
    #[error("\"{0}\" is served by another monitor already: nbdctl status tells which")]
    Monitored(Name),
    /// The configuration has this NAME.
    #[error(
        "\"{name}\" is configured otherwise in {}: change it there, or choose another name \
         with --name",
        .path.display()
    )]
    Configured {
        /// The name.
        name: Name,
        /// Where.
        path: PathBuf,
    },
    /// What is wrong with the configuration, a line each.
    #[error("{0}")]
    Misconfigured(String),
    /// Nothing tells what a monitor is to do.
    #[error(
        "\"{0}\" is not attached, and nothing tells from where it should be: write \
         /etc/nbdctl/{0}.toml, or nbdctl attach URI --name {0}"
    )]
    NoSettings(Name),
    /// A state that cannot be used.
    #[error("{} cannot be used: {why}", .path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// A device without a state that could be used.
    #[error(
        "{device} cannot be taken over: {why}; it stays as it is. Detach it when you can, and \
         attach it again"
    )]
    NotAdopted {
        /// The device.
        device: String,
        /// Why.
        why: String,
    },
    /// A CONNECT that had been given up on.
    #[error(
        "{device} has come up after all, later than the kernel was given: it stays attached, \
         and the next monitor takes it over"
    )]
    Appeared {
        /// The device.
        device: String,
    },
    /// Whoever wanted it wants it no more.
    #[error("it was not attached yet, and is wanted no more")]
    Unwanted,
    /// A monitor's own words, or a relay's.
    #[error("{said}")]
    Relayed {
        /// What it said.
        said: String,
        /// The status that goes with it.
        exit: Option<u8>,
    },
    /// The monitor could not be started.
    #[error("the monitor could not be started: {0}")]
    Starting(io::Error),
    /// The disk is not the one that was named.
    #[error(
        "the export is not the disk with identity {wanted}: it has {}; is it the right export?",
        listed(.there)
    )]
    OtherDisk {
        /// What was asked for.
        wanted: String,
        /// What is there.
        there: Vec<String>,
    },
    /// It is attached, but on its way out.
    #[error("{device} was disconnected and is held by what still uses it: {}", list(.holders))]
    Leaving {
        /// The device.
        device: String,
        /// Who that is.
        holders: Vec<Holder>,
    },
    /// DISCONNECT could stop all of generic netlink.
    #[error(
        "{device} cannot be detached now: its server takes no data, and this kernel cannot cut \
         the connection, so that to disconnect would stop network configuration on the whole \
         machine until the server reads or dies: end the server, or wait"
    )]
    WouldFreeze {
        /// The device.
        device: String,
    },
    /// It is in use.
    #[error("{device} is in use: {}; let go of it first, or use --force", list(.holders))]
    InUse {
        /// The device.
        device: String,
        /// By whom.
        holders: Vec<Holder>,
    },
    /// Another program attached it.
    #[error("{device} was not attached by nbdctl but by {by}: detach it with that, or use --force")]
    Foreign {
        /// The device.
        device: String,
        /// By whom.
        by: String,
    },
    /// It is disconnected, but the kernel keeps it.
    #[error(
        "{device} was disconnected, but the kernel keeps it until the last holder lets go: {}",
        list(.holders)
    )]
    Lingers {
        /// The device.
        device: String,
        /// Who that is.
        holders: Vec<Holder>,
    },
}

fn listed(there: &[String]) -> String {
    if there.is_empty() {
        "none that is known".to_owned()
    } else {
        there.join(", ")
    }
}

fn undone(left: &Option<Box<kernel::Error>>) -> String {
    match left {
        None => "was detached again".to_owned(),
        Some(error) => format!("could not be detached again ({error})"),
    }
}

fn list(holders: &[Holder]) -> String {
    /// More would not be read.
    const MAX: usize = 8;
    if holders.is_empty() {
        return "no process shows by whom; a mount namespace kept by a file, another PID \
                namespace, or the kernel itself"
            .to_owned();
    }
    let mut shown: Vec<_> = holders.iter().take(MAX).map(ToString::to_string).collect();
    if holders.len() > MAX {
        shown.push(format!("and {} more", holders.len() - MAX));
    }
    shown.join("; ")
}

fn said(why: &str) -> String {
    if why.is_empty() {
        String::new()
    } else {
        format!(" ({why})")
    }
}
