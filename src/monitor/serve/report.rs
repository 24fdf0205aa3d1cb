//! What a monitor tells of its device.

use std::os::fd::AsFd;
use std::time::SystemTime;

use super::{Serving, Watched};
use crate::kernel::Seen;
use crate::monitor::machine::Standing;
use crate::monitor::state::Link;
use crate::monitor::status::{self, Connection, DeviceState, Report};

/// The name under which the netlink socket is kept.
pub(super) const NETLINK: &str = "netlink";

/// Of a server that is silent and may have a reason.
pub(super) const CANNOT_TELL: &str = "the server answers nothing for long, and greets no second \
     client, which one that serves one client at a time never does (qemu-nbd without --shared): \
     whether it is stuck or slow cannot be told, so it is not cut";

impl Serving<'_> {
    pub(super) fn device_state(&self) -> DeviceState {
        if self.detaching.is_some() {
            return DeviceState::Detaching;
        }
        if !self.state.usable {
            return DeviceState::Connecting;
        }
        match self.standing() {
            Standing::Connected => DeviceState::Connected,
            Standing::Degraded => DeviceState::Degraded,
            Standing::Reconnecting => DeviceState::Reconnecting,
            Standing::Dead => DeviceState::Dead,
        }
    }

    pub(super) fn report(&mut self) -> Report {
        let now = self.now();
        let connections = self.connections();
        let history = self.history();
        let said = if let Some(span) = self.machine.stuck_for(now) {
            Some(format!(
                "the kernel has been at a command for {} s: another nbd device may be stuck and \
                 hold up all of them; dmesg may tell, and `nbdctl doctor` which devices are dead",
                span.as_secs()
            ))
        } else if self.machine.cannot_tell(now) {
            Some(CANNOT_TELL.to_owned())
        } else {
            history.last_error
        };
        let milliseconds = |span: std::time::Duration| u64::try_from(span.as_millis()).ok();
        let mut report = status::of_state(&self.device, &self.identifier, Some(&self.state));
        report.connections = connections;
        if self.state.by_relay() {
            report.carried(&self.state, self.relay_report());
        }
        Report {
            state: self.device_state(),
            reconnects: history.reconnects,
            outages: history.outages,
            last_outage_ms: history.last_outage_ms,
            outage_ms: self
                .outage()
                .and_then(|outage| milliseconds(outage.out_for)),
            silent_ms: self.machine.silent_for(now).and_then(milliseconds),
            last_error: said,
            larger_size_bytes: self.machine.larger(),
            configured_uri: self.configured_uri.clone(),
            monitor_pid: Some(std::process::id()),
            ..report
        }
    }

    /// Whoever started the monitor sees how things are, and that it lives.
    pub(super) fn report_to_service(&mut self) {
        let sentence = self.sentence();
        self.service.status(&sentence);
        self.service.live();
    }

    /// What a successor needs is kept for it: the links, and the socket through
    /// which the kernel has them.
    pub(super) fn keep_descriptors(&mut self) {
        let links = self.links.iter();
        // Not what is dead: its last close is to be the driver's.
        let mut wanted: Vec<_> = links
            .filter(|(id, _)| self.machine.is_alive(**id))
            .filter_map(|(_, watched)| Some((kept_as(&watched.link)?, watched.fd()?)))
            .collect();
        wanted.extend(
            self.owner
                .as_ref()
                .map(|owner| (NETLINK.to_owned(), owner.as_fd())),
        );
        self.service.keep(&wanted);
    }

    /// How the device is, for `systemctl status`; times are fixed points, as nobody
    /// knows when it is read.
    fn sentence(&self) -> String {
        let history = self.history();
        let outage = self.outage().unwrap_or_default();
        let since = clock(SystemTime::now() - outage.out_for);
        let why = history.last_error.as_deref().unwrap_or("the link is gone");
        let peers = || {
            let links = self.links.iter();
            let alive = links.filter(|(id, _)| self.machine.is_alive(**id));
            let mut peers: Vec<_> = alive
                .map(|(_, watched)| watched.link.peer.as_str())
                .collect();
            peers.dedup();
            peers.join(", ")
        };
        let path = self.path();
        match self.device_state() {
            DeviceState::Connecting => format!("{path} is being made usable"),
            DeviceState::Connected if self.state.by_relay() => {
                format!("{path} is connected to {}, by a relay", peers())
            }
            DeviceState::Connected => format!("{path} is connected to {}", peers()),
            DeviceState::Degraded => format!(
                "{path} is connected to {} by some of its connections; the others are tried \
                 again and again: {why}",
                peers()
            ),
            DeviceState::Reconnecting => match outage.left {
                Some(left) => format!(
                    "{path}: its server is away since {since}, tried again and again: {why}; I/O \
                     waits until {}, and fails from then on",
                    clock(SystemTime::now() + left)
                ),
                None => format!(
                    "{path}: its server is away since {since}, tried again and again: {why}; I/O \
                     waits for it"
                ),
            },
            DeviceState::Dead => format!(
                "{path} is dead: its server is away since {since}, and I/O fails until it is \
                 back; tried again and again: {why}"
            ),
            DeviceState::Detaching => format!("{path} is being detached"),
        }
    }

    fn connections(&mut self) -> Vec<Connection> {
        let machine = &self.machine;
        let links = self.links.iter_mut();
        links
            .map(|(id, watched)| connection(watched, machine.is_alive(*id)))
            .collect()
    }
}

/// The name under which a link's descriptor is kept.
pub(super) fn kept_as(link: &Link) -> Option<String> {
    Some(format!("link-{}", link.inode?))
}

/// In UTC, to the second: who reads it may be anywhere.
fn clock(time: SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(time)
}

fn connection(watched: &mut Watched, alive: bool) -> Connection {
    let facts = match watched.look() {
        Seen::Alive(facts) if alive => facts,
        _ => None,
    };
    Connection {
        peer: watched.link.peer.clone(),
        alive: Some(alive),
        rtt_us: facts.and_then(|facts| u64::try_from(facts.rtt.as_micros()).ok()),
        bytes_sent: facts.and_then(|facts| facts.bytes_sent),
        bytes_received: facts.and_then(|facts| facts.bytes_received),
    }
}
