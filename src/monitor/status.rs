//! How an attached device is, as `nbdctl status` tells it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::control::{Request, ask};
use super::error::Error;
use super::lookup::{Attachment, Target};
use super::relay;
use super::runtime::Runtime;
use super::state::State;
use crate::config::{BackendIdentifier, DataPath};
use crate::kernel::{self, Device};
use crate::relay::message::{Report as Told, Standing};

/// One device. The names of the fields, and of the states, are a contract with
/// whoever reads the JSON; more may be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    pub path: String,
    /// The header style towards the server.
    pub headers: String,
    /// Its connections.
    pub connections: Vec<Connection>,
    /// How often a lost link was replaced.
    pub reconnects: u64,
    /// How often there was no link at all.
    pub outages: u64,
    /// How long the last outage was, in milliseconds.
    pub last_outage_ms: Option<u64>,
    /// How long this one has been.
    pub outage_ms: Option<u64>,
    /// How long requests have waited while nothing came from the server.
    pub silent_ms: Option<u64>,
    /// The last error, in words.
    pub last_error: Option<String>,
    /// What the configuration names by now, where that is another export: used
    /// when it is attached anew.
    pub configured_uri: Option<String>,
    /// When it was attached, in seconds since 1970.
    pub since: Option<u64>,
    /// The size that the export has grown to; the device gets it when it is
    /// attached anew.
    pub larger_size_bytes: Option<u64>,
    /// Requests that the driver works on.
    pub in_flight: Option<u64>,
    /// The process that keeps it connected; null while there is none.
    pub monitor_pid: Option<u32>,
    /// The process that carries its I/O; null where there is none, or it does not say.
    pub relay: Option<Carrier>,
}

/// A relay, by what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carrier {
    /// Its process.
    pub pid: u32,
    /// Requests of the kernel that it has not answered.
    pub in_flight: u64,
    /// Those of them that wait to be sent to a server.
    pub held: u64,
    /// Changes that the server's disk may not have yet.
    pub unflushed: u64,
    /// Their data, in bytes.
    pub unflushed_bytes: u64,
    /// It sends them again to a server that may have forgotten them.
    pub replaying: bool,
    /// Memory for the data of requests, in bytes.
    pub buffer_bytes: u64,
}

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// It is not usable yet.
    Connecting,
    /// Every link that can be seen lives.
    Connected,
    /// Some links are dead.
    Degraded,
    /// All are, and I/O waits for the server.
    Reconnecting,
    /// All are, and I/O fails; or nobody will replace them.
    Dead,
    /// It is being taken down.
    Detaching,
}

impl DeviceState {
    /// The word that users see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Degraded => "degraded",
            Self::Reconnecting => "reconnecting",
            Self::Dead => "dead",
            Self::Detaching => "detaching",
        }
    }
}

/// One connection of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// How long a monitor may take to answer. They are asked one after the other.
const ANSWER: Duration = Duration::from_secs(2);

/// Reports on one device of ours: what its monitor says, or what sysfs and /run
/// tell where there is none. It works on a dead device, and waits for no server.
#[must_use]
pub fn report(device: &Device, identifier: &BackendIdentifier) -> Report {
    let socket = Runtime::of(identifier.name()).control_socket();
    let asked = ask(&socket, &Request::Status {}, ANSWER).ok().flatten();
    let told = asked.and_then(|answer| answer.status);
    told.map_or_else(|| report_unmonitored(device, identifier), |report| *report)
}

/// What the monitor of a NAME that has no device yet says about that.
#[must_use]
pub fn not_yet(target: &Target) -> Option<Error> {
    let Target::Name(name) = target else {
        return None;
    };
    let socket = Runtime::of(name).control_socket();
    let answer = ask(&socket, &Request::Status {}, ANSWER).ok().flatten()?;
    Some(Error::Relayed {
        said: answer.error?,
        exit: answer.exit,
    })
}

/// Whether nobody answers for a device that was usable before: to read it takes as
/// long as the outage, or fails.
#[must_use]
pub fn is_lost(attachment: &Attachment) -> bool {
    let state = Runtime::of(attachment.identifier.name()).load();
    let report = || report(&attachment.device, &attachment.identifier);
    state.is_some_and(|state| state.usable) && must_wait(&report())
}

/// Also where a link lives and says nothing, and where nobody sees whether one does.
fn must_wait(report: &Report) -> bool {
    /// A sample or two; a disk that wakes up takes as long.
    const SILENT: u64 = 10_000;
    let unseen = |connection: &Connection| connection.alive.is_none();
    matches!(report.state, DeviceState::Reconnecting | DeviceState::Dead)
        || report.silent_ms.is_some_and(|silent| silent >= SILENT)
        || (report.monitor_pid.is_none() && report.connections.iter().all(unseen))
}

/// The same where no monitor is to be asked.
pub(super) fn report_unmonitored(device: &Device, identifier: &BackendIdentifier) -> Report {
    let runtime = Runtime::of(identifier.name());
    let state = runtime
        .load()
        .filter(|state| state.index == device.index())
        .filter(|state| state.backend_identifier == identifier.to_string());
    let mut report = of_state(device, identifier, state.as_ref());
    if let Some(state) = state.filter(State::by_relay) {
        report.carried(&state, relay::ask(&runtime.relay_socket(), ANSWER).as_ref());
    }
    if report.state == DeviceState::Dead {
        report.last_error = Some(
            "the link to the server is gone, and no monitor lives to replace it: nbdctl attach \
             starts one"
                .to_owned(),
        );
    }
    report
}

/// What sysfs and the state tell.
pub(super) fn of_state(
    device: &Device,
    identifier: &BackendIdentifier,
    state: Option<&State>,
) -> Report {
    let connections = state.map_or_else(Vec::new, connections);
    let past = state.map(|state| state.inheritance.history.clone());
    let past = past.unwrap_or_default();
    Report {
        name: identifier.name().to_string(),
        device: device.path().display().to_string(),
        uri: state.map(|state| state.settings.uri.to_string()),
        size_bytes: device.size(),
        block_size: device.block_size(),
        read_only: device.is_read_only(),
        state: overall(&connections),
        path: DataPath::Kernel.to_string(),
        headers: "compact".to_owned(),
        connections,
        reconnects: past.reconnects,
        outages: past.outages,
        last_outage_ms: past.last_outage_ms,
        outage_ms: None,
        silent_ms: None,
        last_error: past.last_error,
        since: state.map(|state| state.since),
        larger_size_bytes: None,
        configured_uri: None,
        in_flight: device.in_flight(),
        monitor_pid: None,
        relay: None,
    }
}

impl Report {
    /// Of a device whose I/O a relay carries: what that says, or that it says nothing.
    pub(super) fn carried(&mut self, state: &State, told: Option<&Told>) {
        self.path = DataPath::Relay.to_string();
        let offered = told.and_then(|told| told.offered.as_ref());
        let headers = offered.map(|offered| offered.headers.clone());
        self.headers = headers.unwrap_or_else(|| "unknown".to_owned());
        self.connections = servers(state, told);
        let Some(told) = told else {
            self.state = DeviceState::Dead;
            return;
        };
        self.state = match told.standing {
            Standing::Connecting | Standing::Connected => DeviceState::Connected,
            Standing::Degraded => DeviceState::Degraded,
            Standing::Reconnecting => DeviceState::Reconnecting,
            Standing::Dead => DeviceState::Dead,
        };
        let mut history = state.inheritance.history.clone();
        history.absorb(&relay::past(told));
        self.reconnects = history.reconnects;
        self.outages = history.outages;
        self.last_outage_ms = history.last_outage_ms;
        self.last_error = history.last_error;
        self.outage_ms = told.out_for_ms;
        let figures = told.figures;
        self.relay = Some(Carrier {
            pid: told.pid,
            in_flight: figures.in_flight,
            held: figures.held,
            unflushed: figures.logged,
            unflushed_bytes: figures.logged_bytes,
            replaying: figures.replaying,
            buffer_bytes: figures.buffers,
        });
    }
}

/// The connections of a relay: those that it has, and dead ones for those that it should
/// have.
fn servers(state: &State, told: Option<&Told>) -> Vec<Connection> {
    let there = told.map_or(&[][..], |told| &told.connections);
    let mut all: Vec<_> = there
        .iter()
        .map(|connection| Connection {
            peer: connection.peer.clone(),
            alive: Some(connection.alive),
            rtt_us: connection.rtt_us.map(u64::from),
            bytes_sent: Some(connection.bytes_sent),
            bytes_received: Some(connection.bytes_received),
        })
        .collect();
    let degraded = told.is_some_and(|told| told.standing == Standing::Degraded);
    let several = usize::try_from(state.settings.connections.get()).unwrap_or(1);
    let wanted = if degraded { several } else { 1 };
    let link = state.links.first();
    while all.len() < wanted {
        all.push(Connection {
            peer: link.map_or_else(String::new, |link| link.peer.clone()),
            alive: Some(false),
            rtt_us: None,
            bytes_sent: None,
            bytes_received: None,
        });
    }
    all
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
    use crate::monitor::state::tests::state;
    use crate::relay::message;

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

    fn told(standing: Standing, peers: &[&str]) -> Told {
        let connections = peers.iter().map(|peer| message::Connection {
            peer: (*peer).to_owned(),
            alive: true,
            rtt_us: Some(7),
            bytes_sent: 1,
            bytes_received: 2,
        });
        Told {
            pid: 77,
            standing,
            connections: connections.collect(),
            reconnects: 2,
            outages: 1,
            last_outage_ms: Some(300),
            figures: message::Holdings {
                logged: 5,
                ..message::Holdings::default()
            },
            ..Told::default()
        }
    }

    fn carried(told: Option<&Told>) -> Report {
        let mut state = state();
        state.settings.connections = "3".parse().unwrap();
        state.inheritance.history.reconnects = 10;
        state.inheritance.history.last_outage_ms = Some(1);
        let name = state.settings.name.clone();
        let identifier = BackendIdentifier::new(&name, &state.settings.uri);
        let mut report = of_state(&Device::new(4_000_000), &identifier, Some(&state));
        report.carried(&state, told);
        report
    }

    #[test]
    fn a_relay_tells_of_its_own_connections_and_its_past_goes_on_from_ours() {
        let report = carried(Some(&told(Standing::Connected, &["s:1"])));
        assert_eq!(
            (report.path.as_str(), report.state),
            ("relay", DeviceState::Connected)
        );
        assert_eq!((report.reconnects, report.last_outage_ms), (12, Some(300)));
        let relay = report.relay.unwrap();
        assert_eq!((relay.pid, relay.unflushed), (77, 5));
        let [link] = report.connections.as_slice() else {
            panic!("{:?}", report.connections);
        };
        assert_eq!(
            (link.peer.as_str(), link.alive, link.rtt_us),
            ("s:1", Some(true), Some(7))
        );
    }

    #[test]
    fn what_a_relay_lacks_is_shown_dead() {
        let alive = |told: Option<&Told>| -> Vec<_> {
            carried(told)
                .connections
                .iter()
                .map(|it| it.alive)
                .collect()
        };
        let degraded = told(Standing::Degraded, &["s:1"]);
        assert_eq!(
            alive(Some(&degraded)),
            [Some(true), Some(false), Some(false)]
        );
        let away = told(Standing::Reconnecting, &[]);
        assert_eq!(alive(Some(&away)), [Some(false)]);
        assert_eq!(carried(Some(&away)).state, DeviceState::Reconnecting);
        assert_eq!(alive(None), [Some(false)]);
        assert_eq!(carried(None).state, DeviceState::Dead);
    }

    #[test]
    fn whoever_would_wait_for_a_server_reads_nothing() {
        let waits = |change: fn(&mut Report)| {
            let mut report = carried(Some(&told(Standing::Connected, &["s:1"])));
            report.monitor_pid = Some(7);
            change(&mut report);
            must_wait(&report)
        };
        assert!(!waits(|_| {}));
        assert!(waits(|report| report.state = DeviceState::Dead));
        assert!(!waits(|report| report.silent_ms = Some(4_000)));
        assert!(waits(|report| report.silent_ms = Some(20_000)));
        let unseen: fn(&mut Report) = |report| report.connections = connections(&[None, None]);
        assert!(!waits(unseen), "its monitor would know");
        assert!(waits(|report| {
            report.connections = connections(&[None, None]);
            report.monitor_pid = None;
        }));
        assert!(!waits(|report| {
            report.connections = connections(&[None, Some(true)]);
            report.monitor_pid = None;
        }));
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
