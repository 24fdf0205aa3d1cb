//! The ways to one server: straight, over the relay, over two re-exporters.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbdctl::session::{Deadline, Session};
use nbdctl::uri::Uri;
use tempfile::TempDir;

use crate::load::{Load, Workload};
use crate::rig::{self, Relay};

struct Way {
    name: &'static str,
    socket: OwnedFd,
    /// What stands between.
    process: Option<u32>,
}

pub struct Ways {
    ways: Vec<Way>,
    // To be ended.
    _relay: Relay<()>,
    servers: Vec<Child>,
    _folder: TempDir,
}

impl Ways {
    pub fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let address = free();
        let mut servers = vec![spawn(Command::new("nbdkit").args([
            "-f",
            "-i",
            "127.0.0.1",
            "-p",
            &address.port().to_string(),
            "memory",
            "1G",
        ]))];
        await_that(|| TcpStream::connect(address).is_ok());
        let uri = format!("nbd://{address}/");
        // A hole would be read by nobody.
        let direct = open(&uri);
        let (sockets, paths) = (["nbdkit.sock", "qemu.sock"], folder.path());
        let at = sockets.map(|name| paths.join(name).to_str().unwrap().to_owned());
        servers.push(spawn(
            Command::new("nbdkit")
                .args(["-f", "-U", &at[0], "nbd"])
                .arg(format!("uri={uri}")),
        ));
        servers.push(spawn(
            Command::new("qemu-nbd")
                .args(["-t", "-f", "raw", "-k", &at[1]])
                .arg(&uri),
        ));
        let mut ours = None;
        let relay = Relay::serving(rig::orders(&uri, &address.to_string()), |end| {
            ours = Some(OwnedFd::from(end));
        });
        let mut ways = vec![
            Way {
                name: "direct",
                socket: direct,
                process: None,
            },
            Way {
                name: "relay",
                socket: ours.unwrap(),
                process: Some(relay.child.id()),
            },
        ];
        for (n, name) in ["nbdkit nbd", "qemu-nbd"].into_iter().enumerate() {
            await_that(|| Path::new(&at[n]).exists() && UnixStream::connect(&at[n]).is_ok());
            ways.push(Way {
                name,
                socket: open(&format!("nbd+unix:///?socket={}", at[n])),
                process: Some(servers[n + 1].id()),
            });
        }
        let fill = Workload {
            write: true,
            length: 1 << 20,
            ..Workload::random_read(1)
        };
        Load::run(
            &ways[0].socket,
            Workload {
                random: false,
                ..fill
            },
            Duration::from_secs(3),
        );
        Self {
            ways,
            _relay: relay,
            servers,
            _folder: folder,
        }
    }

    pub fn count(&self) -> usize {
        self.ways.len()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ways.iter().map(|way| way.name)
    }

    pub fn socket(&self, which: usize) -> &OwnedFd {
        &self.ways[which].socket
    }

    /// What the process between has used, in ticks of 10 ms.
    pub fn cpu_time(&self, which: usize) -> Duration {
        let Some(process) = self.ways[which].process else {
            return Duration::ZERO;
        };
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split(' ').collect();
        let ticks: u64 = fields[12..14]
            .iter()
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Counted by strace, which slows them all.
    pub fn calls_per_request(&mut self, which: usize, workload: Workload) -> Option<f64> {
        let process = self.ways[which].process?;
        let folder = TempDir::new().unwrap();
        let counts = folder.path().join("counts");
        let mut strace = Command::new("strace")
            .args(["-f", "-c", "-p", &process.to_string(), "-o"])
            .arg(&counts)
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        thread::sleep(Duration::from_millis(500));
        let load = Load::run(&self.ways[which].socket, workload, Duration::from_secs(1));
        let pid = strace.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().ok()?;
        strace.wait().ok()?;
        let counted = fs::read_to_string(counts).ok()?;
        let total = counted.lines().find(|line| line.ends_with("total"))?;
        let calls: f64 = total.split_whitespace().nth(3)?.parse().ok()?;
        Some(calls / load.requests as f64)
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn open(uri: &str) -> OwnedFd {
    let deadline = Deadline::after(Duration::from_secs(10));
    let session = Session::open(&Uri::parse(uri).unwrap(), deadline).unwrap();
    session.into_compact().unwrap().into_stream()
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: run tests/setup"))
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn await_that(test: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !test() {
        assert!(Instant::now() < until, "a server does not begin");
        thread::sleep(Duration::from_millis(20));
    }
}
