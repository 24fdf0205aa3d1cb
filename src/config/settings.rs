//! The settings of one export, checked as they are read.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::name::Name;
use super::setting::Key;
use super::values::{BlockSize, Connections, DataPath, DeadTimeout, Resize, ValueError};
use crate::uri::Uri;

/// All that attach needs to know. Fields that are `Option` were left to the
/// server or to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the device is called by.
    pub name: Name,
    /// Where the export is.
    #[serde(serialize_with = "write_uri", deserialize_with = "read_uri")]
    pub uri: Uri,
    /// The index N of `/dev/nbdN`; `None` takes the first free one.
    pub device: Option<u32>,
    /// How many connections to the server there are, or with a relay, may be.
    pub connections: Connections,
    /// Who moves the data. (An older nbdctl wrote none, and had one answer.)
    #[serde(default)]
    pub path: DataPath,
    /// Writes are refused, whatever the server allows.
    pub read_only: bool,
    /// The logical block size; `None` takes 512 or the server's minimum.
    pub block_size: Option<BlockSize>,
    /// How long I/O may wait for a server to come back.
    pub dead_timeout: DeadTimeout,
    /// The same once the machine goes down.
    pub shutdown_timeout: Duration,
    /// How long a server that owes something may be silent.
    pub silence_timeout: Duration,
    /// How long a new session waits after a link was cut for silence: the old
    /// server may still be at what it had read.
    pub settle_time: Duration,
    /// How long attach may take until a session stands, and again until the
    /// device can be read.
    pub connect_timeout: Duration,
    /// `queue/io_timeout`; `None` takes [`io_timeout`]'s.
    pub io_timeout: Option<Duration>,
    /// The UUID of a file system, or the GUID of a GPT, that a returned server's
    /// disk must have; in its canonical form.
    pub identity: Option<String>,
    /// What becomes of an export that has grown.
    pub resize: Resize,
    /// `/` is on it: whoever serves it touches no file system but those in memory, and
    /// stays until the machine ends. (An older nbdctl wrote none.)
    #[serde(default)]
    pub root: bool,
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
            path: DataPath::Auto,
            read_only: false,
            block_size: None,
            dead_timeout: DeadTimeout::DEFAULT,
            shutdown_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(30),
            settle_time: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            io_timeout: None,
            identity: None,
            resize: Resize::NextAttach,
            root: false,
        }
    }

    /// What is otherwise by default where `/` is on it, for what was not `set`: an error
    /// would make the root read-only for good, so I/O waits for ever.
    pub fn settle(&mut self, set: impl Fn(Key) -> bool) {
        if self.root && !set(Key::DeadTimeout) {
            self.dead_timeout = DeadTimeout::NEVER;
        }
    }

    /// Holds a NAME like `nbd7` to its device: chooses it where none was chosen.
    ///
    /// # Errors
    ///
    /// Another device was chosen.
    pub fn agree(&mut self) -> Result<(), ValueError> {
        let Some(index) = self.name.device() else {
            return Ok(());
        };
        if *self.device.get_or_insert(index) == index {
            return Ok(());
        }
        Err(ValueError::new(format!(
            "what is called \"{}\" can be /dev/nbd{index} only: choose that device, or another name",
            self.name
        )))
    }

    /// What `/` may be on: its monitor goes on from the initramfs to the end, and takes
    /// nothing with it that is on a disk; a relay is a program of its own.
    ///
    /// # Errors
    ///
    /// A relay is asked for.
    pub fn may_be_root(&self) -> Result<(), ValueError> {
        if self.root && self.path == DataPath::Relay {
            return Err(ValueError::new(
                "a relay cannot serve / or what an initramfs attaches, as it does not outlive \
                 the initramfs: leave path out, or choose \"kernel\"",
            ));
        }
        Ok(())
    }
}

impl Settings {
    /// Takes what may change while a device is attached from newer settings of the
    /// same NAME: how long things may take, and what is demanded of a server that
    /// returns. The rest is for the next attach.
    pub fn take_over(&mut self, newer: &Self) {
        self.dead_timeout = newer.dead_timeout;
        self.shutdown_timeout = newer.shutdown_timeout;
        self.silence_timeout = newer.silence_timeout;
        self.settle_time = newer.settle_time;
        self.connect_timeout = newer.connect_timeout;
        self.resize = newer.resize;
        if self.uri == newer.uri {
            self.identity.clone_from(&newer.identity);
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

fn write_uri<S: Serializer>(uri: &Uri, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(uri.as_str())
}

fn read_uri<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uri, D::Error> {
    let text = String::deserialize(deserializer)?;
    Uri::parse(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_connections_get_a_timer_that_outlasts_a_slow_server() {
        assert_eq!(io_timeout(1).as_millis(), 1000);
        assert_eq!(io_timeout(2).as_millis(), 30_000);
    }

    #[test]
    fn a_device_s_name_goes_with_that_device_only() {
        let mut settings = Settings::new(Uri::parse("nbd://h/a").unwrap());
        assert_eq!((settings.agree(), settings.device), (Ok(()), None));
        settings.name = "nbd7".parse().unwrap();
        assert_eq!((settings.agree(), settings.device), (Ok(()), Some(7)));
        settings.device = Some(8);
        assert!(settings.agree().is_err());
    }

    #[test]
    fn settings_of_an_older_nbdctl_are_read() {
        let settings = Settings::new(Uri::parse("nbd://h/a").unwrap());
        let text = serde_json::to_string(&settings).unwrap();
        let older = text.replace("\"path\":\"auto\",", "");
        assert_ne!(text, older);
        assert_eq!(serde_json::from_str::<Settings>(&older).unwrap(), settings);
    }

    #[test]
    fn settings_are_what_they_were_after_a_file() {
        let mut settings = Settings::new(Uri::parse("nbd://h/a%2fb").unwrap());
        settings.dead_timeout = "infinity".parse().unwrap();
        settings.block_size = Some("4096".parse().unwrap());
        settings.resize = Resize::Live;
        settings.path = DataPath::Relay;
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        for (good, bad) in [
            ("infinity", "0"),
            ("4096", "513"),
            ("live", "x"),
            ("relay", "kernel-tls"),
            ("nbd:", "x:"),
        ] {
            let text = text.replace(good, bad);
            assert!(serde_json::from_str::<Settings>(&text).is_err(), "{bad}");
        }
    }
}
