//! A device that the scenario itself made, by the library's calls: nobody looks
//! after it.

use std::thread;
use std::time::{Duration, Instant};

use nbdctl::kernel::geometry::Geometry;
use nbdctl::kernel::{
    Connect, Device, KernelSocket, LinkDeaths, Netlink, QueueSettings, Reconfigure, SavedQueue,
    Taken,
};
use nbdctl::session::{Deadline, Session};
use nbdctl::uri::Uri;

use crate::machine::Machine;

const PATIENCE: Duration = Duration::from_secs(10);
const BACKEND: &str = "a scenario's";

/// `/dev/nbd0`, and all that a monitor would have.
pub struct Direct<'a> {
    machine: &'a Machine,
    uri: Uri,
    pub device: Device,
    backend: &'static str,
    saved: SavedQueue,
    pub netlink: Netlink,
    pub deaths: LinkDeaths,
    /// As CONNECT had them.
    pub sockets: Vec<KernelSocket>,
}

impl<'a> Direct<'a> {
    /// With one connection, and the io_timeout that attach gives it.
    pub fn new(machine: &'a Machine, uri: &str) -> Self {
        Self::with(machine, uri, 1, Duration::from_secs(1))
    }

    pub fn with(machine: &'a Machine, uri: &str, connections: usize, io_timeout: Duration) -> Self {
        Self::named(machine, uri, connections, io_timeout, BACKEND)
    }

    /// Of a program that calls its device something else.
    pub fn calling_it(machine: &'a Machine, uri: &str, backend: &'static str) -> Self {
        Self::named(machine, uri, 1, Duration::from_secs(1), backend)
    }

    fn named(
        machine: &'a Machine,
        uri: &str,
        connections: usize,
        io_timeout: Duration,
        backend: &'static str,
    ) -> Self {
        let uri = Uri::parse(uri).unwrap();
        let device = Device::new(0);
        let geometry = Geometry::new(session(&uri).export(), None, false).unwrap();
        let direct = Self {
            machine,
            saved: SavedQueue::of(&device),
            netlink: Netlink::open(PATIENCE).unwrap(),
            deaths: LinkDeaths::subscribe(PATIENCE).unwrap(),
            sockets: (0..connections).map(|_| socket(&uri)).collect(),
            uri,
            device,
            backend,
        };
        let connect = Connect {
            index: 0,
            size: geometry.size,
            block_size: geometry.block_size,
            server_flags: geometry.flags.0,
            dead_conn_timeout: 600,
            backend_identifier: backend.to_owned(),
            sockets: direct.sockets.clone(),
            queue: QueueSettings {
                io_timeout,
                max_sectors_kb: geometry.max_sectors_kb,
            },
        };
        direct.netlink.connect(connect, ()).unwrap();
        direct
    }

    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// A new link to the server.
    pub fn socket(&self) -> KernelSocket {
        socket(&self.uri)
    }

    /// Offers it for a dead one.
    pub fn reconfigure(&self, socket: &KernelSocket) -> Taken {
        let request = Reconfigure {
            index: 0,
            backend_identifier: self.backend.to_owned(),
            dead_conn_timeout: 600,
            socket: socket.clone(),
        };
        self.netlink.reconfigure(request).unwrap()
    }

    /// A new link, which is needed.
    pub fn reconnect(&self) -> KernelSocket {
        let socket = self.socket();
        assert_eq!(self.reconfigure(&socket), Taken::Yes);
        socket
    }

    /// The driver tells of so many dead links.
    pub fn expect_deaths(&self, count: usize, limit: Duration) {
        let until = Instant::now() + limit;
        let mut deaths = 0;
        while deaths < count {
            let left = until.saturating_duration_since(Instant::now());
            let found = self.deaths.wait(left).unwrap().len();
            assert!(found > 0, "{deaths} of {count} within {limit:?}");
            deaths += found;
        }
    }

    /// Reads a block, now.
    pub fn read(&self, offset: u32) {
        self.machine.sh(&format!(
            "timeout 10 dd if=/dev/nbd0 of=/dev/null bs=4k skip={offset} count=1 iflag=direct \
             status=none"
        ));
    }

    /// Starts a read in the background; `ended` tells how it went.
    pub fn read_in_background(&self, name: &str, offset: u32) {
        self.machine.sh(&format!(
            "(status=0; dd if=/dev/nbd0 of=/dev/null bs=4k skip={offset} count=1 iflag=direct \
              status=none 2>/dev/null || status=$?; echo $status >{name}) >/dev/null 2>&1 &"
        ));
    }

    /// As that, until the driver has it.
    pub fn read_in_flight(&self, name: &str, offset: u32) {
        self.read_in_background(name, offset);
        let until = Instant::now() + PATIENCE;
        while self.device.in_flight() != Some(1) {
            assert!(Instant::now() < until, "the read is not in flight");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How the read ended, and when, within `limit`.
    pub fn ended(&self, name: &str, limit: Duration) -> Option<(String, Duration)> {
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.machine.path(name)).unwrap_or_default();
            if text.ends_with('\n') {
                return Some((text.trim().to_owned(), begun.elapsed()));
            }
            if begun.elapsed() >= limit {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn finish(self) {
        self.netlink.disconnect(0).unwrap();
        self.device.wait_until_free(self.backend, PATIENCE).unwrap();
        self.saved.restore(&self.device, PATIENCE).unwrap();
        self.machine.assert_clean();
    }
}

fn session(uri: &Uri) -> Session {
    Session::open(uri, Deadline::after(PATIENCE)).unwrap()
}

fn socket(uri: &Uri) -> KernelSocket {
    session(uri).into_compact().unwrap().into()
}
