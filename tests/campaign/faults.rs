//! The faults, and the device they happen to.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::{Load, Random};
use crate::machine::Machine;
use crate::network::Net;
use crate::server::Server;

const PORT: u16 = 10900;
const NAME: &str = "x";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    ServerKilled,
    ServerStopped,
    ServerStoppedThenKilled,
    NetworkCut,
    LinkDown,
    Unplugged,
    Reset,
    /// And attached again at once.
    MonitorKilled,
    /// And attached again in the outage that follows.
    MonitorKilledBefore,
    /// The process between the driver and the server.
    RelayKilled,
    /// While its server is restarted.
    RelayKilledBefore,
}

impl Fault {
    /// On both paths.
    const ALWAYS: [Self; 9] = [
        Self::ServerKilled,
        Self::ServerStopped,
        Self::ServerStoppedThenKilled,
        Self::NetworkCut,
        Self::LinkDown,
        Self::Unplugged,
        Self::Reset,
        Self::MonitorKilled,
        Self::MonitorKilledBefore,
    ];

    const OF_RELAYS: [Self; 2] = [Self::RelayKilled, Self::RelayKilledBefore];

    /// Those that can be made where I/O takes a path.
    pub fn of(path: &str) -> Vec<Self> {
        match path {
            "kernel" => Self::ALWAYS.to_vec(),
            "relay" => [&Self::ALWAYS[..], &Self::OF_RELAYS].concat(),
            other => panic!("{other}: no path"),
        }
    }

    pub fn named(name: &str) -> Self {
        let all = Self::of("relay").into_iter();
        let mut found = all.filter(|fault| format!("{fault:?}") == name);
        found.next().unwrap_or_else(|| panic!("{name}: no fault"))
    }
}

/// From when to when the server could not be reached.
pub type Outage = (Instant, Instant);

pub struct Rig<'a> {
    machine: &'a Machine,
    net: Net<'a>,
    kind: String,
    path: String,
    server: Option<Server>,
    pub image: PathBuf,
    device: String,
}

impl<'a> Rig<'a> {
    pub fn new(machine: &'a Machine, kind: &str, path: &str) -> Self {
        let mut rig = Self {
            machine,
            net: Net::new(machine),
            kind: kind.to_owned(),
            path: path.to_owned(),
            server: None,
            image: machine.image("image", 64 << 20),
            device: String::new(),
        };
        rig.start_server();
        rig
    }

    /// Attaches, or gives a device its monitor back; the device.
    pub fn attach(&mut self) -> Result<String, String> {
        let uri = format!("nbd://10.77.0.2:{PORT}/disk");
        let mut args = vec!["attach", &uri, "--name", NAME, "--path", &self.path];
        args.extend(["--silence-timeout", "10"]);
        let ran = self.machine.nbdctl(&args);
        if ran.status != 0 {
            return Err(format!("attach: {ran:?}"));
        }
        self.device.clone_from(&ran.stdout);
        Ok(ran.stdout)
    }

    pub fn device(&self) -> String {
        self.device.clone()
    }

    pub fn detach(&self, extra: &[&str]) -> String {
        let ran = self.machine.nbdctl(&[&["detach", NAME], extra].concat());
        format!("detach: {ran:?}")
    }

    fn start_server(&mut self) {
        let image = &self.image;
        self.server = Some(match self.kind.as_str() {
            "nbdkit" => self.net.nbdkit(image, PORT, &[], &[]),
            "qemu-nbd" => self.net.qemu_nbd(image, PORT, &[]),
            "nbd-server" => self.net.nbd_server(image, PORT),
            other => panic!("{other}: no server"),
        });
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn kill_server(&mut self) {
        self.server.take().unwrap().kill();
    }

    /// Makes a fault and ends it.
    pub fn inject(
        &mut self,
        load: &Load,
        fault: Fault,
        random: &mut Random,
    ) -> Result<Outage, String> {
        // Both are drawn for every fault: what one takes does not shift the next.
        let short = Duration::from_millis(200 + random.below(2801));
        let long = Duration::from_millis(1000 + random.below(14_001));
        match fault {
            Fault::ServerKilled => Ok(self.restart(load, short)),
            Fault::ServerStopped => Ok(self.stopped(load, long, false)),
            Fault::ServerStoppedThenKilled => Ok(self.stopped(load, long, true)),
            Fault::NetworkCut => Ok(self.outage(load, long, Net::cut, Net::heal)),
            Fault::LinkDown => Ok(self.outage(load, long, Net::link_down, Net::link_up)),
            Fault::Unplugged => Ok(self.outage(load, long, Net::unplug, Net::plug)),
            Fault::Reset => self.reset(load),
            Fault::MonitorKilled => self.kill("monitor_pid").and_then(|()| {
                let (down, _) = (load.mark(), self.attach()?);
                Ok((down, load.mark()))
            }),
            Fault::MonitorKilledBefore => {
                self.kill("monitor_pid")?;
                let outage = self.restart(load, short);
                self.attach()?;
                Ok(outage)
            }
            Fault::RelayKilled => self.kill("pid").map(|()| {
                let down = load.mark();
                (down, down)
            }),
            Fault::RelayKilledBefore => {
                self.kill("pid")?;
                Ok(self.restart(load, short))
            }
        }
    }

    fn restart(&mut self, load: &Load, after: Duration) -> Outage {
        self.kill_server();
        let down = load.mark();
        thread::sleep(after);
        self.start_server();
        (down, load.mark())
    }

    fn stopped(&mut self, load: &Load, time: Duration, killed: bool) -> Outage {
        self.server().stop();
        let down = load.mark();
        thread::sleep(time);
        if killed {
            self.kill_server();
            self.start_server();
        } else {
            self.server().cont();
        }
        (down, load.mark())
    }

    fn outage(
        &self,
        load: &Load,
        time: Duration,
        begin: impl FnOnce(&Net<'a>),
        end: impl FnOnce(&Net<'a>),
    ) -> Outage {
        begin(&self.net);
        let down = load.mark();
        thread::sleep(time);
        end(&self.net);
        (down, load.mark())
    }

    fn reset(&mut self, load: &Load) -> Result<Outage, String> {
        let (ends, down) = self.net.reset_connections();
        if ends == 0 {
            return Err("no connection was reset".to_owned());
        }
        if !self.server.as_mut().unwrap().is_running() {
            println!("  the server did not survive it, and is started again");
            self.start_server();
            return Ok((down, load.mark()));
        }
        // The outage was no longer than that moment.
        Ok((down, down))
    }

    /// Kills the process that the status has under this key.
    fn kill(&self, key: &str) -> Result<(), String> {
        let status = self.machine.nbdctl(&["status", NAME, "--json"]).stdout;
        let all: Value = serde_json::from_str(&status).map_err(|error| error.to_string())?;
        let pid = match key {
            "pid" => &all[0]["relay"][key],
            _ => &all[0][key],
        };
        let Some(pid) = pid.as_u64() else {
            return Err(format!("status names no {key}"));
        };
        self.machine.sh(&format!("kill -9 {pid}"));
        Ok(())
    }
}
