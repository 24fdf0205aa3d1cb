//! The settings of one export, checked as they are read: a value of these types
//! is one that can be used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::name::Name;
use crate::uri::Uri;

/// All that attach needs to know. Fields that are `Option` were left to the
/// server or to the kernel.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the device is called by.
    pub name: Name,
    /// Where the export is.
    pub uri: Uri,
    /// The index N of `/dev/nbdN`; `None` takes the first free one.
    pub device: Option<u32>,
    /// How many sockets the device gets.
    pub connections: Connections,
    /// Writes are refused, whatever the server allows.
    pub read_only: bool,
    /// The logical block size; `None` takes 512 or the server's minimum.
    pub block_size: Option<BlockSize>,
    /// How long I/O may wait for a server to come back.
    pub dead_timeout: DeadTimeout,
    /// How long attach may take until a session stands, and again until the
    /// device can be read.
    pub connect_timeout: Duration,
}

impl Settings {
    /// The defaults for a URI; the name is made from it.
    #[must_use]
    pub fn new(uri: Uri) -> Self {
        Self {
            name: Name::from_uri(&uri),
            uri,
            device: None,
            connections: Connections::DEFAULT,
            read_only: false,
            block_size: None,
            dead_timeout: DeadTimeout::DEFAULT,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// `queue/io_timeout` for a device with so many connections.
///
/// With one connection the driver's timer is a harmless poll for "was the
/// link replaced?", and one second is how often it asks. With more it shoots
/// the link of a request that is merely slow, so it must outlast the slowest
/// answer (`nbd_xmit_timeout`).
#[must_use]
pub fn io_timeout(connections: usize) -> Duration {
    if connections > 1 {
        Duration::from_secs(30)
    } else {
        Duration::from_secs(1)
    }
}

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ValueError(&'static str);

/// The number of sockets: 1 to [`Connections::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections(u32);

impl Connections {
    /// More than this adds nothing that was ever measured, and each is a thread
    /// at the server.
    pub const MAX: u32 = 16;
    /// The kernel path's default: see [`io_timeout`].
    pub const DEFAULT: Self = Self(1);

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Connections {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(count @ 1..=Self::MAX) => Ok(Self(count)),
            _ => Err(ValueError("give a number of connections from 1 to 16")),
        }
    }
}

/// A logical block size in bytes: 512, 1024, 2048 or 4096, which is all that
/// the kernel takes on a machine with 4 KiB pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize(u32);

impl BlockSize {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl FromStr for BlockSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(bytes @ (512 | 1024 | 2048 | 4096)) => Ok(Self(bytes)),
            _ => Err(ValueError(
                "give a block size of 512, 1024, 2048 or 4096 bytes",
            )),
        }
    }
}

/// How long I/O may wait for a server to come back: at least a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadTimeout(Option<u32>);

impl DeadTimeout {
    /// Ten minutes: a server's reboot, with its firmware's self-test.
    pub const DEFAULT: Self = Self(Some(600));

    /// What the kernel calls never: it multiplies the seconds by HZ into a
    /// signed long, where a huge value turns negative and fails at once; this one
    /// is safe with every HZ.
    const FOREVER: u64 = 1 << 31;

    /// In seconds, for the kernel's `dead_conn_timeout`.
    #[must_use]
    pub fn kernel_seconds(self) -> u64 {
        self.0.map_or(Self::FOREVER, u64::from)
    }
}

impl FromStr for DeadTimeout {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match (text, text.parse::<u32>()) {
            ("infinity", _) => Ok(Self(None)),
            // 0 would make fresh requests fail at once and leave those in
            // flight hanging.
            (_, Ok(seconds @ 1..)) => Ok(Self(Some(seconds))),
            _ => Err(ValueError(
                "give a number of whole seconds, at least 1, or \"infinity\"",
            )),
        }
    }
}

impl fmt::Display for DeadTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seconds) => write!(f, "{seconds}"),
            None => f.write_str("infinity"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_would_do_harm_are_refused() {
        for text in ["0", "17", "-1", "x", ""] {
            assert!(text.parse::<Connections>().is_err(), "{text}");
        }
        for text in ["0", "256", "513", "8192", "4k"] {
            assert!(text.parse::<BlockSize>().is_err(), "{text}");
        }
        for text in ["0", "-1", "1.5", "4294967296", "forever"] {
            assert!(text.parse::<DeadTimeout>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_infinite_patience_is_a_number_that_the_kernel_can_multiply() {
        let infinite: DeadTimeout = "infinity".parse().unwrap();
        assert!(i64::try_from(infinite.kernel_seconds() * 1000).is_ok());
        assert!(infinite.kernel_seconds() > u64::from(u32::MAX) / 2);
    }

    #[test]
    fn several_connections_get_a_timer_that_outlasts_a_slow_server() {
        assert_eq!(io_timeout(1).as_millis(), 1000);
        assert_eq!(io_timeout(2).as_millis(), 30_000);
    }
}
