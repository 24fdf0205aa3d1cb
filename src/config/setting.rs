//! One table of all settings: their keys, how a file writes them, and the one rule
//! by which each value is checked, whoever it comes from: a file, nbdtab, or the
//! command line. It must not know any file's grammar.

use std::fmt;
use std::time::Duration;

use super::export::Boot;
use super::identity::parse_identity;
use super::settings::{Settings, io_timeout};
use super::values::{
    BlockSize, Bounds, Connections, DataPath, DeadTimeout, DeviceTimeout, Resize, ValueError,
    device_index,
};
use crate::uri::Uri;

/// A setting's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is what its field in Settings or Boot is")]
pub enum Key {
    Uri,
    Device,
    Connections,
    Path,
    ReadOnly,
    BlockSize,
    DeadTimeout,
    ShutdownTimeout,
    SilenceTimeout,
    SettleTime,
    ConnectTimeout,
    IoTimeout,
    Identity,
    Resize,
    Root,
    Noauto,
    Nofail,
    DeviceTimeout,
}

/// How a file writes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `"text"`
    Text,
    /// `true`, `false`
    Switch,
    /// `30`
    Number,
    /// `30`, `"infinity"`
    NumberOrInfinity,
}

impl Key {
    /// All, in the order in which they are shown.
    pub const ALL: &[Self] = &[
        Self::Uri,
        Self::Device,
        Self::Connections,
        Self::Path,
        Self::ReadOnly,
        Self::BlockSize,
        Self::DeadTimeout,
        Self::ShutdownTimeout,
        Self::SilenceTimeout,
        Self::SettleTime,
        Self::ConnectTimeout,
        Self::IoTimeout,
        Self::Identity,
        Self::Resize,
        Self::Root,
        Self::Noauto,
        Self::Nofail,
        Self::DeviceTimeout,
    ];

    /// As files write it; an option of the command line has `-` for `_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uri => "uri",
            Self::Device => "device",
            Self::Connections => "connections",
            Self::Path => "path",
            Self::ReadOnly => "read_only",
            Self::BlockSize => "block_size",
            Self::DeadTimeout => "dead_timeout",
            Self::ShutdownTimeout => "shutdown_timeout",
            Self::SilenceTimeout => "silence_timeout",
            Self::SettleTime => "settle_time",
            Self::ConnectTimeout => "connect_timeout",
            Self::IoTimeout => "io_timeout",
            Self::Identity => "identity",
            Self::Resize => "resize",
            Self::Root => "root",
            Self::Noauto => "noauto",
            Self::Nofail => "nofail",
            Self::DeviceTimeout => "device_timeout",
        }
    }

    /// The key of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }

    /// How a file writes its value.
    #[must_use]
    pub fn form(self) -> Form {
        match self {
            Self::Uri | Self::Device | Self::Path | Self::Identity | Self::Resize => Form::Text,
            Self::ReadOnly | Self::Root | Self::Noauto | Self::Nofail => Form::Switch,
            Self::DeadTimeout | Self::DeviceTimeout => Form::NumberOrInfinity,
            Self::Connections
            | Self::BlockSize
            | Self::ShutdownTimeout
            | Self::SilenceTimeout
            | Self::SettleTime
            | Self::ConnectTimeout
            | Self::IoTimeout => Form::Number,
        }
    }

    /// What stands behind its value.
    #[must_use]
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::IoTimeout => Some("ms"),
            Self::BlockSize => Some("bytes"),
            Self::DeadTimeout
            | Self::ShutdownTimeout
            | Self::SilenceTimeout
            | Self::SettleTime
            | Self::ConnectTimeout
            | Self::DeviceTimeout => Some("s"),
            _ => None,
        }
    }

    /// Its value as [`Setting::read`] takes it; `None` where it is left to the
    /// server, the kernel or systemd.
    #[must_use]
    pub fn value(self, settings: &Settings, boot: &Boot) -> Option<String> {
        let number = |bounds: Bounds, duration| Some(bounds.number(duration).to_string());
        match self {
            Self::Uri => Some(settings.uri.to_string()),
            Self::Device => settings.device.map(|index| format!("/dev/nbd{index}")),
            Self::Connections => Some(settings.connections.to_string()),
            Self::Path => Some(settings.path.to_string()),
            Self::ReadOnly => Some(settings.read_only.to_string()),
            Self::BlockSize => settings.block_size.map(|size| size.to_string()),
            Self::DeadTimeout => Some(settings.dead_timeout.to_string()),
            Self::ShutdownTimeout => number(Bounds::SHUTDOWN_TIMEOUT, settings.shutdown_timeout),
            Self::SilenceTimeout => number(Bounds::SILENCE_TIMEOUT, settings.silence_timeout),
            Self::SettleTime => number(Bounds::SETTLE_TIME, settings.settle_time),
            Self::ConnectTimeout => number(Bounds::CONNECT_TIMEOUT, settings.connect_timeout),
            Self::IoTimeout => settings
                .io_timeout
                .and_then(|timeout| number(Bounds::IO_TIMEOUT, timeout)),
            Self::Identity => settings.identity.clone(),
            Self::Resize => Some(settings.resize.to_string()),
            Self::Root => Some(settings.root.to_string()),
            Self::Noauto => Some(boot.noauto.to_string()),
            Self::Nofail => Some(boot.nofail.to_string()),
            Self::DeviceTimeout => boot.device_timeout.map(|timeout| timeout.to_string()),
        }
    }

    /// What is done where there is no value.
    #[must_use]
    pub fn left_open(self, settings: &Settings) -> String {
        match self {
            Self::Device => "the first free one".to_owned(),
            Self::BlockSize => "512, or the server's minimum".to_owned(),
            Self::IoTimeout => {
                let sockets = match settings.path {
                    // One, however many lead from the relay to the server.
                    DataPath::Relay => 1,
                    DataPath::Auto | DataPath::Kernel => settings.connections.get() as usize,
                };
                io_timeout(sockets).as_millis().to_string()
            }
            Self::Identity => "not looked at".to_owned(),
            Self::DeviceTimeout => "systemd's own".to_owned(),
            _ => "none".to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A setting with a value that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what its field in Settings or Boot is")]
pub enum Setting {
    Uri(Uri),
    Device(u32),
    Connections(Connections),
    Path(DataPath),
    ReadOnly(bool),
    BlockSize(BlockSize),
    DeadTimeout(DeadTimeout),
    ShutdownTimeout(Duration),
    SilenceTimeout(Duration),
    SettleTime(Duration),
    ConnectTimeout(Duration),
    IoTimeout(Duration),
    Identity(String),
    Resize(Resize),
    Root(bool),
    Noauto(bool),
    Nofail(bool),
    DeviceTimeout(DeviceTimeout),
}

impl Setting {
    /// Checks a value.
    ///
    /// # Errors
    ///
    /// It cannot be used; the error says what can.
    pub fn read(key: Key, text: &str) -> Result<Self, ValueError> {
        Ok(match key {
            Key::Uri => Self::Uri(uri(text)?),
            Key::Device => Self::Device(device_index(text)?),
            Key::Connections => Self::Connections(text.parse()?),
            Key::Path => Self::Path(text.parse()?),
            Key::ReadOnly => Self::ReadOnly(switch(text)?),
            Key::BlockSize => Self::BlockSize(text.parse()?),
            Key::DeadTimeout => Self::DeadTimeout(text.parse()?),
            Key::ShutdownTimeout => Self::ShutdownTimeout(Bounds::SHUTDOWN_TIMEOUT.read(text)?),
            Key::SilenceTimeout => Self::SilenceTimeout(Bounds::SILENCE_TIMEOUT.read(text)?),
            Key::SettleTime => Self::SettleTime(Bounds::SETTLE_TIME.read(text)?),
            Key::ConnectTimeout => Self::ConnectTimeout(Bounds::CONNECT_TIMEOUT.read(text)?),
            Key::IoTimeout => Self::IoTimeout(Bounds::IO_TIMEOUT.read(text)?),
            Key::Identity => Self::Identity(identity(text)?),
            Key::Resize => Self::Resize(text.parse()?),
            Key::Root => Self::Root(switch(text)?),
            Key::Noauto => Self::Noauto(switch(text)?),
            Key::Nofail => Self::Nofail(switch(text)?),
            Key::DeviceTimeout => Self::DeviceTimeout(text.parse()?),
        })
    }

    /// Puts the value where it belongs.
    pub fn apply(self, settings: &mut Settings, boot: &mut Boot) {
        match self {
            Self::Uri(uri) => settings.uri = uri,
            Self::Device(index) => settings.device = Some(index),
            Self::Connections(connections) => settings.connections = connections,
            Self::Path(path) => settings.path = path,
            Self::ReadOnly(read_only) => settings.read_only = read_only,
            Self::BlockSize(size) => settings.block_size = Some(size),
            Self::DeadTimeout(timeout) => settings.dead_timeout = timeout,
            Self::ShutdownTimeout(timeout) => settings.shutdown_timeout = timeout,
            Self::SilenceTimeout(timeout) => settings.silence_timeout = timeout,
            Self::SettleTime(time) => settings.settle_time = time,
            Self::ConnectTimeout(timeout) => settings.connect_timeout = timeout,
            Self::IoTimeout(timeout) => settings.io_timeout = Some(timeout),
            Self::Identity(id) => settings.identity = Some(id),
            Self::Resize(resize) => settings.resize = resize,
            Self::Root(root) => settings.root = root,
            Self::Noauto(noauto) => boot.noauto = noauto,
            Self::Nofail(nofail) => boot.nofail = nofail,
            Self::DeviceTimeout(timeout) => boot.device_timeout = Some(timeout),
        }
    }
}

/// A URI that identifies an export: it means the same wherever it is read.
fn uri(text: &str) -> Result<Uri, ValueError> {
    let uri = Uri::parse(text).map_err(|error| ValueError::new(error.to_string()))?;
    if uri.is_relative() {
        return Err(ValueError::new(
            "give the socket's path from the root: a relative one means another server in \
             another folder",
        ));
    }
    Ok(uri)
}

fn identity(text: &str) -> Result<String, ValueError> {
    parse_identity(text)
        .ok_or_else(|| ValueError::new("give a UUID, as blkid shows it (UUID or PTUUID)"))
}

fn switch(text: &str) -> Result<bool, ValueError> {
    text.parse()
        .map_err(|_| ValueError::new("give true or false"))
}

/// What was probably meant: of some known words the nearest, if it is near.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance takes time and memory by the word's length.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let plain = |word: &str| word.to_ascii_lowercase().replace('-', "_");
    let distance = |other: &str| strsim::osa_distance(&plain(word), &plain(other));
    let near = |(distance, word): &(usize, &str)| *distance <= (word.len() / 3).max(1);
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_that_is_shown_is_read_back() {
        let mut settings = Settings::new(Uri::parse("nbd://h/x").unwrap());
        let mut boot = Boot::default();
        for (key, text) in [
            (Key::Device, "/dev/nbd7"),
            (Key::Path, "relay"),
            (Key::BlockSize, "4096"),
            (Key::IoTimeout, "250"),
            (Key::Identity, "01234567-89ab-cdef-fedc-ba9876543210"),
            (Key::Noauto, "true"),
            (Key::DeviceTimeout, "infinity"),
        ] {
            let setting = Setting::read(key, text).unwrap();
            setting.apply(&mut settings, &mut boot);
            assert_eq!(key.value(&settings, &boot).as_deref(), Some(text));
        }
        for key in Key::ALL {
            assert_eq!(Key::of(key.name()), Some(*key));
            let text = key.value(&settings, &boot).unwrap();
            let mut again = (settings.clone(), boot);
            let setting = Setting::read(*key, &text).unwrap();
            setting.apply(&mut again.0, &mut again.1);
            assert_eq!(again, (settings.clone(), boot), "{key}");
        }
    }

    #[test]
    fn a_relay_has_one_socket_however_many_lead_on_from_it() {
        let mut settings = Settings::new(Uri::parse("nbd://h/x").unwrap());
        settings.connections = "4".parse().unwrap();
        assert_eq!(Key::IoTimeout.left_open(&settings), "30000");
        settings.path = DataPath::Relay;
        assert_eq!(Key::IoTimeout.left_open(&settings), "1000");
    }

    #[test]
    fn the_nearest_key_is_near() {
        let near = |word: &str| nearest(word, Key::ALL.iter().map(|key| key.name()));
        assert_eq!(near("dead-timeout"), Some("dead_timeout"));
        assert_eq!(near("ded_timeout"), Some("dead_timeout"));
        assert_eq!(near("URI"), Some("uri"));
        assert_eq!(near("url"), Some("uri"));
        assert_eq!(near("readonly"), Some("read_only"));
        assert_eq!(near("conections"), Some("connections"));
        assert_eq!(near("nofial"), Some("nofail"));
        assert_eq!(near("colour"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"connections".repeat(100_000)), None);
    }
}
