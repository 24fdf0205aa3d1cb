//! The values of single settings: what these types hold can be used.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::name::Name;

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ValueError(Cow<'static, str>);

impl ValueError {
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }
}

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
            _ => Err(ValueError::new("give a number of connections from 1 to 16")),
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
            _ => Err(ValueError::new(
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

    /// I/O waits for ever.
    pub const NEVER: Self = Self(None);

    /// What the kernel calls never: it multiplies the seconds by HZ into a
    /// signed long, where a huge value turns negative and fails at once; this one
    /// is safe with every HZ.
    const FOREVER: u64 = 1 << 31;

    /// The kernel's own clock is a backstop for when no monitor lives; it is later
    /// by this, in seconds, as it begins with a request that finds no link.
    const BACKSTOP: u64 = 30;

    /// How long the monitor waits; `None` for ever.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        self.0.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// In seconds, for the kernel's `dead_conn_timeout`.
    #[must_use]
    pub fn kernel_seconds(self) -> u64 {
        self.0.map_or(Self::FOREVER, |seconds| {
            (u64::from(seconds) + Self::BACKSTOP).min(Self::FOREVER)
        })
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
            _ => Err(ValueError::new(
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

/// What a length of time may be: whole numbers of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    least: u32,
    most: u32,
    unit: Duration,
}

impl Bounds {
    /// Of `silence_timeout`: 1 s to a day.
    pub const SILENCE_TIMEOUT: Self = Self::seconds(1, 86_400);
    /// Of `settle_time`: none to an hour.
    pub const SETTLE_TIME: Self = Self::seconds(0, 3600);
    /// Of `shutdown_timeout`: 1 s to an hour.
    pub const SHUTDOWN_TIMEOUT: Self = Self::seconds(1, 3600);
    /// Of `connect_timeout`: 1 s to an hour.
    pub const CONNECT_TIMEOUT: Self = Self::seconds(1, 3600);
    /// Of `io_timeout`: 100 ms to an hour.
    pub const IO_TIMEOUT: Self = Self {
        least: 100,
        most: 3_600_000,
        unit: Duration::from_millis(1),
    };

    const fn seconds(least: u32, most: u32) -> Self {
        Self {
            least,
            most,
            unit: Duration::from_secs(1),
        }
    }

    /// Reads a number, without a unit.
    ///
    /// # Errors
    ///
    /// It is none, or out of bounds.
    pub fn read(self, text: &str) -> Result<Duration, ValueError> {
        match text.parse::<u32>() {
            Ok(number) if (self.least..=self.most).contains(&number) => Ok(self.unit * number),
            _ => Err(ValueError::new(format!(
                "give a whole number of {} from {} to {}",
                if self.is_seconds() { "seconds" } else { "ms" },
                self.least,
                self.most
            ))),
        }
    }

    /// The number that [`Bounds::read`] makes this of.
    pub(super) fn number(self, duration: Duration) -> u128 {
        if self.is_seconds() {
            duration.as_secs().into()
        } else {
            duration.as_millis()
        }
    }

    fn is_seconds(self) -> bool {
        self.unit == Duration::from_secs(1)
    }
}

/// How long booting waits for a device before what needs it fails: at least a
/// second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceTimeout(Option<u32>);

impl DeviceTimeout {
    /// The time; `None` for ever.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        self.0.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

impl FromStr for DeviceTimeout {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(|DeadTimeout(seconds)| Self(seconds))
    }
}

impl fmt::Display for DeviceTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DeadTimeout(self.0).fmt(f)
    }
}

/// Who moves the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataPath {
    /// The kernel, unless the server requires what the driver cannot speak.
    #[default]
    Auto,
    /// The kernel and the server.
    Kernel,
    /// A process between the two.
    Relay,
}

impl FromStr for DataPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self::Auto),
            "kernel" => Ok(Self::Kernel),
            "relay" => Ok(Self::Relay),
            "kernel-tls" => Err(ValueError::new(
                "this version of nbdctl cannot speak TLS yet, and will not fall back to plaintext",
            )),
            _ => Err(ValueError::new("give \"auto\", \"kernel\" or \"relay\"")),
        }
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Relay => "relay",
        })
    }
}

/// The index N of `/dev/nbdN` or `nbdN`: a whole disk, written in one way.
///
/// # Errors
///
/// It is no such device.
pub fn device_index(text: &str) -> Result<u32, ValueError> {
    let index = || {
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        let digits = name.strip_prefix("nbd")?;
        let canonical = !digits.starts_with('0') || digits == "0";
        let plain = canonical && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    index().ok_or_else(|| ValueError::new("give /dev/nbdN, the whole disk"))
}

/// What becomes of an export that has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resize {
    /// The device stays as it is until it is attached anew.
    #[default]
    NextAttach,
    /// The device grows after a reconnect, on a live link with nothing in flight.
    /// Were the link to die at that very moment, the kernel could freeze the
    /// device, and all of generic netlink with it.
    Live,
}

impl FromStr for Resize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "next-attach" => Ok(Self::NextAttach),
            "live" => Ok(Self::Live),
            _ => Err(ValueError::new("give \"next-attach\" or \"live\"")),
        }
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NextAttach => "next-attach",
            Self::Live => "live",
        })
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// In files, each is the text that users type, and is checked in the same way.
macro_rules! as_text {
    ($($type:ty),*) => { $(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}
as_text!(Name, Connections, BlockSize, DataPath, DeadTimeout, Resize);

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
    fn lengths_of_time_have_bounds_and_no_units() {
        let second = Duration::from_secs(1);
        assert_eq!(Bounds::SETTLE_TIME.read("0"), Ok(Duration::ZERO));
        assert_eq!(Bounds::SILENCE_TIMEOUT.read("86400"), Ok(second * 86_400));
        assert_eq!(Bounds::IO_TIMEOUT.read("1000"), Ok(second));
        assert_eq!(Bounds::IO_TIMEOUT.number(second), 1000);
        for text in ["0", "3601", "5s", "1.5", "-1", "", "infinity"] {
            let error = Bounds::CONNECT_TIMEOUT.read(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                "give a whole number of seconds from 1 to 3600"
            );
        }
    }

    #[test]
    fn only_whole_disks_have_an_index() {
        assert_eq!(device_index("nbd0"), Ok(0));
        assert_eq!(device_index("/dev/nbd15"), Ok(15));
        for text in ["nbd", "nbd0p1", "/dev/nbd0p1", "sda", "nbd00", "nbd+1", "7"] {
            assert!(device_index(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_for_the_data_that_are_missing_are_refused_in_a_sentence() {
        for path in [DataPath::Auto, DataPath::Kernel, DataPath::Relay] {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        let why = |text: &str| text.parse::<DataPath>().unwrap_err().to_string();
        assert!(why("kernel-tls").contains("plaintext"));
        assert!(why("x").contains("\"auto\""));
    }

    #[test]
    fn an_infinite_patience_is_a_number_that_the_kernel_can_multiply() {
        let infinite: DeadTimeout = "infinity".parse().unwrap();
        assert!(i64::try_from(infinite.kernel_seconds() * 1000).is_ok());
        assert!(infinite.kernel_seconds() > u64::from(u32::MAX) / 2);
    }

    #[test]
    fn the_kernel_waits_longer_than_the_monitor_and_not_for_ever() {
        for text in ["1", "600", "1000000"] {
            let timeout: DeadTimeout = text.parse().unwrap();
            assert!(timeout.kernel_seconds() > timeout.duration().unwrap().as_secs());
        }
    }
}
