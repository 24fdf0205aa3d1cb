//! What is said on a monitor's control.sock: one request a line, one answer a
//! line, both JSON. Here is the form, and the asking side.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use serde::{Deserialize, Serialize};

use super::status::Report;
use crate::kernel::Ending;

/// More than any request or answer has.
pub(super) const MAX_LINE: u64 = 256 * 1024;

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    /// How things are.
    Status {},
    /// Try now.
    Reconnect {
        /// Cut the links that live, too; what waits is sent anew on others.
        #[serde(default)]
        cut: bool,
    },
    /// Take the device down, and end.
    Detach {
        /// Even if it is in use.
        #[serde(default)]
        force: bool,
    },
    /// The machine goes down: patience is `shutdown_timeout` from now on.
    ShuttingDown {
        /// How it is to end, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ending: Option<Ending>,
        /// Process 1 has begun it, for all that whoever says this knows.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        begun: bool,
    },
    /// It does not, after all.
    GoesOn {},
    /// End, and leave the device to whoever asks.
    Leave {},
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// It was done.
    pub(super) ok: bool,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What nbdctl would exit with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exit: Option<u8>,
    /// To `status`, of what is not attached yet: the last error alone; may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// To `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<Box<Report>>,
    /// To `detach`: what its user should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

impl Answer {
    pub(super) fn done() -> Self {
        Self {
            ok: true,
            error: None,
            exit: None,
            why: None,
            status: None,
            warnings: Vec::new(),
        }
    }

    pub(super) fn failed(error: String, exit: u8) -> Self {
        Self {
            ok: false,
            error: Some(error),
            exit: Some(exit),
            ..Self::done()
        }
    }
}

/// Asks the monitor behind a socket; `None` where none listens.
///
/// # Errors
///
/// It does not answer within `allowed`, or not in this form.
pub(super) fn ask(
    socket: &Path,
    request: &Request,
    allowed: Duration,
) -> io::Result<Option<Answer>> {
    let Some(mut stream) = connect(socket)? else {
        return Ok(None);
    };
    stream.set_read_timeout(Some(allowed))?;
    stream.set_write_timeout(Some(allowed))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    let late = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let said = format!("no answer within {} s", allowed.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, said)
        }
        _ => error,
    };
    stream.write_all(line.as_bytes()).map_err(late)?;
    let mut answer = String::new();
    let mut reader = BufReader::new(stream.take(MAX_LINE));
    reader.read_line(&mut answer).map_err(late)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_str(&answer)?))
}

/// Whoever listens there; `None` where nobody does. Not as std does: that waits for
/// ever where a monitor that was stopped lets others wait already.
pub(super) fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => {}
        Err(Errno::ENOENT | Errno::ECONNREFUSED) => return Ok(None),
        Err(Errno::EAGAIN) => {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "too many wait for its answer already",
            ));
        }
        Err(error) => return Err(error.into()),
    }
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(Some(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_they_are_documented() {
        let parse = |text| serde_json::from_str::<Request>(text).ok();
        assert_eq!(parse(r#"{"request":"status"}"#), Some(Request::Status {}));
        assert_eq!(
            parse(r#"{"request":"detach"}"#),
            Some(Request::Detach { force: false })
        );
        assert_eq!(
            parse(r#"{"request":"reconnect","cut":true}"#),
            Some(Request::Reconnect { cut: true })
        );
        assert_eq!(
            parse(r#"{"request":"shutting-down"}"#),
            Some(Request::ShuttingDown {
                ending: None,
                begun: false
            })
        );
        assert_eq!(
            parse(r#"{"request":"shutting-down","ending":"power-off","begun":true}"#),
            Some(Request::ShuttingDown {
                ending: Some(Ending::PowerOff),
                begun: true
            })
        );
        assert_eq!(parse(r#"{"request":"goes-on"}"#), Some(Request::GoesOn {}));
        assert_eq!(parse(r#"{"request":"leave"}"#), Some(Request::Leave {}));
        for text in [
            r#"{"request":"explode"}"#,
            r#"{"request":"detach","forse":true}"#,
            "{}",
            "",
            "[]",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_monitor_that_takes_nobody_makes_nobody_wait_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let ask = || ask(&path, &Request::Status {}, Duration::from_millis(50));
        assert!(ask().unwrap().is_none(), "there is no socket");
        let fd = socket::socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        socket::bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&fd, socket::Backlog::new(0).unwrap()).unwrap();
        let waiting = connect(&path).unwrap();
        assert_eq!(ask().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(waiting);
        drop(fd);
        assert!(ask().unwrap().is_none(), "nobody listens");
    }
}
