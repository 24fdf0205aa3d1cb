//! How an attached device is, as `nbdctl status` tells it.

use serde::Serialize;

use super::runtime::{Runtime, State};
use crate::config::BackendIdentifier;
use crate::kernel::{self, Device};

/// One device. The names of the fields, and of the states, are a contract with
/// whoever reads the JSON; more may be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// NAME.
    pub name: String,
    /// `/dev/nbdN`
    pub device: String,
    /// As attached; null where /run does not tell.
    pub uri: Option<String>,
    /// Of the device.
    pub size_bytes: u64,
    /// Logical block size.
    pub block_size: Option<u32>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// How it is.
    pub state: DeviceState,
    /// Who moves the bytes.
    pub path: &'static str,
    /// The header style towards the server.
    pub headers: &'static str,
    /// Its connections.
    pub connections: Vec<Connection>,
    /// How often a lost link was replaced.
    pub reconnects: u64,
    /// How long the last outage was, in milliseconds.
    pub last_outage_ms: Option<u64>,
    /// The last error, in words.
    pub last_error: Option<String>,
    /// When it was attached, in seconds since 1970.
    pub since: Option<u64>,
    /// Requests that the driver works on.
    pub in_flight: Option<u64>,
    /// The process that keeps it connected; null while there is none.
    pub monitor_pid: Option<u32>,
}

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Every link that can be seen lives.
    Connected,
    /// Some links are dead.
    Degraded,
    /// All links are dead, and nobody will replace them.
    Dead,
}

impl DeviceState {
    /// The word that users see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Dead => "dead",
        }
    }
}

/// One connection of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// The server's address.
    pub peer: String,
    /// Whether it lives; null where that cannot be told from here.
    pub alive: Option<bool>,
    /// Round-trip time in microseconds; null while nothing measures it.
    pub rtt_us: Option<u64>,
    /// Null while nothing counts them.
    pub bytes_sent: Option<u64>,
    /// Null while nothing counts them.
    pub bytes_received: Option<u64>,
}

/// Reports on one device of ours, from sysfs and /run alone: it works on a dead
/// device and waits for nothing.
#[must_use]
pub fn report(device: &Device, identifier: &BackendIdentifier) -> Report {
    let state = Runtime::of(identifier.name())
        .load()
        .filter(|state| state.index == device.index())
        .filter(|state| state.backend_identifier == identifier.to_string());
    let connections = state.as_ref().map_or_else(Vec::new, connections);
    let since = state.as_ref().map(|state| state.since);
    let last_error = (overall(&connections) == DeviceState::Dead).then(|| {
        "the link to the server is gone, and nothing replaces it: detach, attach".to_owned()
    });
    Report {
        name: identifier.name().to_string(),
        device: device.path().display().to_string(),
        uri: state.map(|state| state.uri),
        size_bytes: device.size(),
        block_size: device.block_size(),
        read_only: device.is_read_only(),
        state: overall(&connections),
        path: "kernel",
        headers: "compact",
        connections,
        reconnects: 0,
        last_outage_ms: None,
        last_error,
        since,
        in_flight: device.in_flight(),
        monitor_pid: None,
    }
}

fn connections(state: &State) -> Vec<Connection> {
    let here = kernel::network_namespace();
    let visible = here.is_some() && here == state.network_namespace;
    state
        .links
        .iter()
        .map(|link| Connection {
            peer: link.peer.clone(),
            alive: link
                .inode
                .filter(|_| link.tcp && visible)
                .map(|inode| kernel::tcp_entry(inode).is_some_and(|entry| entry.established)),
            rtt_us: None,
            bytes_sent: None,
            bytes_received: None,
        })
        .collect()
}

/// What cannot be seen is taken for living: an alarm must be true.
fn overall(connections: &[Connection]) -> DeviceState {
    let dead = connections
        .iter()
        .filter(|connection| connection.alive == Some(false))
        .count();
    match dead {
        0 => DeviceState::Connected,
        dead if dead == connections.len() => DeviceState::Dead,
        _ => DeviceState::Degraded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(alive: &[Option<bool>]) -> Vec<Connection> {
        alive
            .iter()
            .map(|alive| Connection {
                peer: "h:1".to_owned(),
                alive: *alive,
                rtt_us: None,
                bytes_sent: None,
                bytes_received: None,
            })
            .collect()
    }

    #[test]
    fn a_device_is_dead_only_when_every_link_is_seen_dead() {
        let state = |alive: &[Option<bool>]| overall(&connections(alive));
        assert_eq!(state(&[]), DeviceState::Connected);
        assert_eq!(state(&[None]), DeviceState::Connected);
        assert_eq!(state(&[Some(true)]), DeviceState::Connected);
        assert_eq!(state(&[Some(false)]), DeviceState::Dead);
        assert_eq!(state(&[Some(false), Some(true)]), DeviceState::Degraded);
        assert_eq!(state(&[Some(false), None]), DeviceState::Degraded);
    }
}
