//! The exit statuses: one table, for the code and for those who read it.

use std::process::ExitCode;

use crate::monitor::Error;
use crate::proto::{self, ReplyType};
use crate::{kernel, session};

/// What the program ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// No such device or export.
    NotFound = 3,
    /// The server refused, or lacks what is required.
    ServerRefused = 4,
    /// The kernel refused: module missing, busy, no right.
    KernelRefused = 5,
    /// Timed out.
    TimedOut = 6,
    /// A signal ended a unit's monitor, and its device is there: the unit decides
    /// whether that was a stop or is to be made good. No other verb ends so.
    Left = 75,
    /// A unit's monitor cannot take its device over, now or later. No other verb ends
    /// so.
    Refused = 76,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The status for a failure.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Session(error) => Self::of_session(&error.fault),
            Error::Kernel(error) | Error::Unusable { error, .. } => of_kernel(error),
            Error::Locked { .. }
            | Error::Away { .. }
            | Error::NotYet { .. }
            | Error::Mute(_)
            | Error::Stays(_) => Self::TimedOut,
            Error::NotAttached(_) | Error::NoSettings(_) => Self::NotFound,
            Error::Relayed { exit, .. } => Self::of_number(*exit),
            Error::NoDevice(_) | Error::Misconfigured(_) => Self::Usage,
            Error::OneConnection => Self::ServerRefused,
            Error::DeviceTaken { .. }
            | Error::InUse { .. }
            | Error::Foreign { .. }
            | Error::Leaving { .. }
            | Error::WouldFreeze { .. }
            | Error::Lingers { .. } => Self::KernelRefused,
            Error::Runtime { .. }
            | Error::NameTaken { .. }
            | Error::Configured { .. }
            | Error::Differs { .. }
            | Error::Monitored(_)
            | Error::State { .. }
            | Error::NotAdopted { .. }
            | Error::Appeared { .. }
            | Error::Unwanted
            | Error::Starting(_)
            | Error::OtherDisk { .. }
            | Error::Disagree
            | Error::NotCompact(_) => Self::Failed,
        }
    }

    /// The status that another process of ours ended with.
    pub(super) fn of_number(number: Option<u8>) -> Self {
        let all = [
            Self::Failed,
            Self::Usage,
            Self::NotFound,
            Self::ServerRefused,
            Self::KernelRefused,
            Self::TimedOut,
        ];
        let same = all.into_iter().find(|exit| Some(*exit as u8) == number);
        same.unwrap_or(Self::Failed)
    }

    /// The status for a failure of a session.
    #[must_use]
    pub fn of_session(fault: &session::Fault) -> Self {
        match fault {
            session::Fault::Protocol(proto::Error::Refused(refusal)) => match refusal.reply {
                ReplyType::ERR_UNKNOWN => Self::NotFound,
                _ => Self::ServerRefused,
            },
            session::Fault::Protocol(proto::Error::Lacks(_))
            | session::Fault::Failed { .. }
            | session::Fault::NoContext
            | session::Fault::Lacks(_) => Self::ServerRefused,
            session::Fault::Partly { fault, .. } => Self::of_session(fault),
            session::Fault::Asked(_) => Self::Usage,
            fault if fault.is_timeout() => Self::TimedOut,
            _ => Self::Failed,
        }
    }
}

fn of_kernel(error: &kernel::Error) -> Exit {
    match error {
        kernel::Error::Geometry(_) => Exit::ServerRefused,
        kernel::Error::File { .. }
        | kernel::Error::Netlink(_)
        | kernel::Error::Device(_)
        | kernel::Error::LinkLost
        | kernel::Error::Interrupted => Exit::Failed,
        error if error.is_timeout() => Exit::TimedOut,
        _ => Exit::KernelRefused,
    }
}
