//! What the kernel refused, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;

use super::geometry;
use super::netlink::Command;

/// A failure on the kernel's side.
#[derive(Debug, Error)]
pub enum Error {
    /// The driver is not there.
    #[error("the kernel has no \"nbd\" netlink family: load the driver (modprobe nbd)")]
    NoFamily,
    /// CAP_SYS_ADMIN is missing.
    #[error("the right to configure block devices is missing (CAP_SYS_ADMIN): run it as root")]
    NoRight,
    /// A command was refused.
    #[error("the kernel refuses {command} for /dev/nbd{index}: {errno}{hint}", hint = hint(*.errno, .told))]
    Refused {
        /// The command.
        command: Command,
        /// The device's index.
        index: u32,
        /// Why.
        errno: Errno,
        /// The extended acknowledgement's text; often empty.
        told: String,
    },
    /// A command did not come back.
    #[error(
        "the kernel did not finish {what} within {} s: look for stuck tasks in its log (dmesg)",
        .allowed.as_secs()
    )]
    Stuck {
        /// The command, or what else was waited for.
        what: String,
        /// How long it was waited for.
        allowed: Duration,
    },
    /// A command of ours is inside the kernel, and was given up on.
    #[error(
        "the kernel is still at the command before {0}: look for stuck tasks in its log (dmesg)"
    )]
    Busy(String),
    /// The netlink socket failed.
    #[error("netlink: {0}")]
    Netlink(String),
    /// A file of sysfs, /proc, /dev or /run.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// No index is free.
    #[error(
        "no device is free, and the driver can make no more: detach one, or load nbd with a \
         smaller max_part"
    )]
    NoFreeIndex,
    /// The export cannot be a device.
    #[error(transparent)]
    Geometry(#[from] geometry::Error),
    /// A job in a child process failed; it said why.
    #[error("{0}")]
    Device(String),
    /// Every link of the device was closed.
    #[error("the server closed the connection")]
    LinkLost,
    /// The user asked for it to end.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }

    /// Whether the device was taken, or made, by someone else in the meantime.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                errno: Errno::EBUSY | Errno::EEXIST,
                ..
            }
        )
    }

    /// Whether a RECONFIGURE was for a device that was disconnected and is only held
    /// open (`nbd_genl_reconfigure`: "not configured"); sysfs does not show it.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                command: Command::Reconfigure,
                errno: Errno::EINVAL,
                ..
            }
        )
    }

    /// Whether a deadline ended it.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Stuck { .. } | Self::Busy(_))
    }
}

fn hint(errno: Errno, told: &str) -> String {
    if !told.is_empty() {
        return format!(" ({told})");
    }
    match errno {
        Errno::EBUSY => ": another program uses the device".to_owned(),
        Errno::EPERM => ": run it as root".to_owned(),
        _ => ": its log says more (dmesg)".to_owned(),
    }
}
