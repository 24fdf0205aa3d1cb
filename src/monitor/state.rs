//! state.json: what a later process must know of a device that it finds.

use serde::{Deserialize, Serialize};

use super::machine::Inheritance;
use crate::config::Settings;
use crate::kernel::{Ending, ProcessId, SavedQueue};

/// The form of state.json; a file of another is not used, but for those from which
/// only what has a default is missing.
const VERSION: u32 = 3;
const OLDEST: u32 = 2;

/// A device of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) version: u32,
    /// As it was attached.
    pub(super) settings: Settings,
    pub(super) index: u32,
    pub(super) backend_identifier: String,
    /// What the kernel was told of the export: no session may offer less.
    pub(super) size: u64,
    pub(super) block_size: u32,
    pub(super) flags: u16,
    pub(super) max_sectors_kb: u32,
    /// It was announced: its queue is set, and it could be read.
    pub(super) usable: bool,
    /// `io_timeout` is not what it should be, and is set when nothing is in flight.
    pub(super) queue_unset: bool,
    /// What detach puts back.
    pub(super) saved_queue: SavedQueue,
    pub(super) links: Vec<Link>,
    /// A link that the kernel may or may not have taken: this is written before
    /// it is asked.
    pub(super) offered: Option<Link>,
    /// The network namespace of the links: their inodes mean something in its
    /// tables only.
    pub(super) network_namespace: Option<u64>,
    /// The addresses that the server's name had last.
    pub(super) addresses: Vec<String>,
    /// Seconds since 1970.
    pub(super) since: u64,
    /// What the monitor knew when it wrote this.
    pub(super) inheritance: Inheritance,
    /// How the machine is to end that goes down, where it is known.
    #[serde(default)]
    pub(super) ending: Option<Ending>,
    /// The machine's uptime then, in milliseconds.
    pub(super) written_at: u64,
}

/// One connection: to the server, or to a relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    /// The server's address, with a relay one of its addresses.
    pub(super) peer: String,
    /// Or a Unix socket.
    pub(super) tcp: bool,
    /// The socket's inode.
    pub(super) inode: Option<u64>,
    /// The relay's process, where there is one. Older versions had none.
    #[serde(default)]
    pub(super) relay: Option<ProcessId>,
}

impl State {
    pub(super) const VERSION: u32 = VERSION;

    /// A relay carries the device's I/O, through one link.
    pub(super) fn by_relay(&self) -> bool {
        self.links.iter().any(|link| link.relay.is_some())
    }

    /// The relays that may live, the newest first.
    pub(super) fn relays(&self) -> impl Iterator<Item = ProcessId> + '_ {
        let links = self.offered.iter().chain(&self.links);
        links.filter_map(|link| link.relay)
    }

    /// What the device's size is; 0 where that cannot be told.
    pub(super) fn has_size(&mut self, size: u64) {
        if size > 0 {
            self.size = size;
        }
    }

    /// What the kernel's own patience is, in seconds: a session that settles when
    /// ours ends is waited for.
    pub(super) fn kernel_patience(&self) -> u64 {
        let settling = self.settings.settle_time.as_secs();
        self.settings.dead_timeout.kernel_seconds() + settling
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// Why it is none, for people.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let torn = |error: serde_json::Error| format!("it is torn or not ours ({error})");
        let version: Version = serde_json::from_slice(bytes).map_err(torn)?;
        if !(OLDEST..=VERSION).contains(&version.version) {
            return Err(format!(
                "it is of version {}, and this nbdctl knows {VERSION}",
                version.version
            ));
        }
        let state: Self = serde_json::from_slice(bytes).map_err(torn)?;
        Ok(Self {
            version: VERSION,
            ..state
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::uri::Uri;

    pub(in crate::monitor) fn state() -> State {
        State {
            version: VERSION,
            settings: Settings::new(Uri::parse("nbd://h/x").unwrap()),
            index: 3,
            backend_identifier: "nbdctl1:x:0000000000000000".to_owned(),
            size: 1 << 20,
            block_size: 512,
            flags: 1,
            max_sectors_kb: 1280,
            usable: true,
            queue_unset: false,
            saved_queue: SavedQueue {
                io_timeout: Some(30_000),
                ..SavedQueue::default()
            },
            links: vec![Link {
                peer: "127.0.0.1:1".to_owned(),
                tcp: true,
                inode: Some(17),
                relay: None,
            }],
            offered: None,
            network_namespace: Some(4_026_531_840),
            addresses: vec!["127.0.0.1:1".to_owned()],
            since: 1,
            inheritance: Inheritance::default(),
            ending: None,
            written_at: 0,
        }
    }

    #[test]
    fn a_size_that_cannot_be_told_is_none() {
        let mut state = state();
        // A monitor was killed between its wish to grow it and the deed.
        state.size = 1 << 21;
        state.has_size(1 << 20);
        assert_eq!(state.size, 1 << 20);
        state.has_size(0);
        assert_eq!(state.size, 1 << 20);
    }

    #[test]
    fn a_torn_or_foreign_state_is_refused_with_a_sentence() {
        let bytes = serde_json::to_vec(&state()).unwrap();
        assert_eq!(State::parse(&bytes), Ok(state()));
        for length in 0..bytes.len() {
            let said = State::parse(&bytes[..length]).unwrap_err();
            assert!(said.contains("torn"), "{said}");
        }
        let text = String::from_utf8(bytes).unwrap();
        let other = text.replace(r#""version":3"#, r#""version":4"#);
        let said = State::parse(other.as_bytes()).unwrap_err();
        assert_eq!(said, "it is of version 4, and this nbdctl knows 3");
        let said = State::parse(br#"{"version":3}"#).unwrap_err();
        assert!(said.contains("missing field"), "{said}");
    }

    #[test]
    fn a_state_from_before_there_were_relays_is_used() {
        let text = serde_json::to_string(&state()).unwrap();
        let older = text
            .replace(r#""version":3"#, r#""version":2"#)
            .replace(r#","relay":null"#, "")
            .replace(r#""path":"auto","#, "");
        assert!(
            !older.contains("relay") && !older.contains("path"),
            "{older}"
        );
        let found = State::parse(older.as_bytes()).unwrap();
        assert_eq!(found, state());
        assert!(!found.by_relay());
    }
}
