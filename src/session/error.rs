//! Why no session came about: where, what happened, what to do.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::proto::transmission::{self, Command, ErrorCode};
use crate::proto::{self, ReplyType};
use crate::uri::{Endpoint, Uri};

/// A failure to open a session on an export.
#[derive(Debug, Error)]
#[error("{}: {fault}", place(.export, .endpoint))]
pub struct Error {
    export: String,
    endpoint: Endpoint,
    /// What happened.
    pub fault: Fault,
}

impl Error {
    pub(super) fn new(uri: &Uri, fault: Fault) -> Self {
        Self {
            export: uri.export().to_owned(),
            endpoint: uri.endpoint().clone(),
            fault,
        }
    }
}

/// `export "vm1" at 10.0.0.5:10809`
fn place(export: &str, endpoint: &Endpoint) -> String {
    match export {
        "" => format!("default export at {endpoint}"),
        name => format!("export \"{}\" at {endpoint}", name.escape_debug()),
    }
}

/// What happened, by who is to blame.
#[derive(Debug, Error)]
pub enum Fault {
    /// The server broke the protocol, said no, or lacks something.
    #[error(transparent)]
    Protocol(#[from] proto::Error),
    /// The server broke the protocol in transmission.
    #[error("the server broke the protocol: {0}")]
    Transmission(#[from] transmission::Fault),
    /// The server could not do what it was asked.
    #[error("the server answers {command} with {code}{}", told(.message))]
    Failed {
        /// What it was asked.
        command: Command,
        /// Its error.
        code: ErrorCode,
        /// What it told people about it, readable; often empty.
        message: String,
    },
    /// An extent that is not in whole blocks of the server's own.
    #[error(
        "the server broke the protocol: it tells an extent that ends at {at}, and its minimum \
         block size is {block}"
    )]
    Misaligned {
        /// Its end.
        at: u64,
        /// In bytes.
        block: u64,
    },
    /// Erasing failed in the middle.
    #[error("{fault}; what is before {until} is done{}", doubt(.fault))]
    Partly {
        /// Where it failed, in bytes from the export's start.
        until: u64,
        /// How.
        fault: Box<Self>,
    },
    /// The metadata context is not to be had.
    #[error(
        "the server has no such metadata context for this client: --list-contexts shows what \
         there is; a server with simple replies has none"
    )]
    NoContext,
    /// The server lacks what was asked for.
    #[error("{0}")]
    Lacks(&'static str),
    /// What was asked for makes no sense here.
    #[error("{0}")]
    Asked(String),
    /// The name has no address.
    #[error("the name \"{}\" does not resolve ({why}): check its spelling and this machine's resolver", .host.escape_debug())]
    Unresolved {
        /// The name.
        host: String,
        /// The resolver's word for it.
        why: String,
    },
    /// Nobody took the connection.
    #[error("{}", connect(.0))]
    Connect(io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The server closed the connection where it owed an answer.
    #[error(
        "the server closed the connection before {waits_for}: it may be restarting, serve one \
         client at a time, or refuse this address"
    )]
    HungUp {
        /// The answer.
        waits_for: &'static str,
    },
    /// The deadline passed.
    #[error("no answer within {}: {waits_for} did not come{}", seconds(.allowed), hint(waits_for))]
    TimedOut {
        /// What was waited for.
        waits_for: &'static str,
        /// How long.
        allowed: Duration,
    },
    /// Every one of several addresses failed.
    #[error("{}", each(.0))]
    Several(Vec<(String, Self)>),
}

impl Fault {
    /// Whether another address, or another time, may do better.
    #[must_use]
    pub fn is_networks(&self) -> bool {
        !matches!(
            self,
            Self::Protocol(_)
                | Self::Transmission(_)
                | Self::Failed { .. }
                | Self::Misaligned { .. }
                | Self::Partly { .. }
                | Self::NoContext
                | Self::Lacks(_)
                | Self::Asked(_)
        )
    }

    /// Whether the server would have nothing but extended headers.
    #[must_use]
    pub fn requires_extended_headers(&self) -> bool {
        let required = ReplyType::ERR_EXT_HEADER_REQD;
        matches!(self, Self::Protocol(proto::Error::Refused(refusal)) if refusal.reply == required)
    }

    /// Whether it was a deadline that ended it.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Partly { fault, .. } => fault.is_timeout(),
            Self::Several(faults) => faults.iter().any(|(_, fault)| fault.is_timeout()),
            _ => false,
        }
    }

    pub(super) fn all(mut failures: Vec<(String, Self)>) -> Self {
        if failures.len() > 1 {
            return Self::Several(failures);
        }
        match failures.pop() {
            Some((_, fault)) => fault,
            None => Self::Io(io::ErrorKind::NotFound.into()),
        }
    }
}

/// What the commonest silence means.
fn hint(waits_for: &str) -> &'static str {
    if waits_for == proto::GREETING {
        " (it may serve one client at a time, as qemu-nbd does without --shared: another, or \
         still a connection that was lost)"
    } else {
        ""
    }
}

/// What a server that does not answer may be doing all the same.
fn doubt(fault: &Fault) -> &'static str {
    match fault {
        Fault::Failed { .. } => "",
        _ => ", and what follows may be done or under way",
    }
}

fn told(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(" (it says: \"{message}\")")
    }
}

fn seconds(duration: &Duration) -> String {
    let text = format!("{:.1}", duration.as_secs_f64());
    format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
}

fn connect(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there (connection refused): is the server running, and on this port? \
             (qemu-nbd without --persistent ends when its client leaves)"
                .to_owned()
        }
        io::ErrorKind::NotFound => {
            "the socket does not exist: is the server running, and is its path right? \
             (qemu-nbd without --persistent ends when its client leaves)"
                .to_owned()
        }
        _ => format!("cannot connect: {error}"),
    }
}

fn each(faults: &[(String, Fault)]) -> String {
    let lines: Vec<_> = faults
        .iter()
        .map(|(address, fault)| format!("{address}: {fault}"))
        .collect();
    format!(
        "none of {} addresses answered: {}",
        faults.len(),
        lines.join("; ")
    )
}
