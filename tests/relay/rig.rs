//! A stand-in for the monitor: it starts a relay, gives it its orders, reads its
//! reports.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbdctl::relay::message::{Begin, Order, Patience, Promise, Report};
use tempfile::TempDir;

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// What is not said otherwise.
pub fn orders(uri: &str, address: &str) -> Begin {
    Begin {
        name: "test".to_owned(),
        uri: uri.to_owned(),
        addresses: vec![address.to_owned()],
        connections: 1,
        identity: None,
        patience: Patience {
            dead_timeout_ms: None,
            shutdown_timeout_ms: 1000,
            going_down: false,
        },
        silence_timeout_ms: 30_000,
        settle_time_ms: 200,
        connect_timeout_ms: 5000,
        log_bytes: 0,
    }
}

/// A relay, and what has the other end of its pair.
pub struct Relay<D> {
    pub child: Child,
    pub driver: D,
    monitor: Option<Monitor>,
    folder: TempDir,
}

/// One connection to the control socket.
pub struct Monitor {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    last: Option<Report>,
}

impl Monitor {
    fn connect(path: &PathBuf) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self {
            lines: BufReader::new(stream.try_clone().unwrap()),
            stream,
            last: None,
        }
    }

    pub fn say(&mut self, order: &Order) {
        let mut line = serde_json::to_vec(order).unwrap();
        line.push(b'\n');
        self.stream.write_all(&line).unwrap();
    }

    /// A line as it stands.
    pub fn say_line(&mut self, line: &str) {
        self.stream.write_all(line.as_bytes()).unwrap();
        self.stream.write_all(b"\n").unwrap();
    }

    /// The first report that satisfies a test, from the last one on.
    pub fn until(&mut self, what: &str, test: impl Fn(&Report) -> bool) -> Report {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(report) = self.last.as_ref().filter(|report| test(report)) {
                return report.clone();
            }
            assert!(Instant::now() < until, "{what}: {:?}", self.last);
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "{what}: it hung up after {:?}", self.last);
            self.last = Some(serde_json::from_str(&line).unwrap());
        }
    }

    /// What is reported next.
    pub fn now(&mut self) -> Report {
        self.last = None;
        self.until("a report", |_| true)
    }
}

impl<D> Relay<D> {
    /// One that dials, as ordered.
    pub fn dialling(begin: Begin, driver: impl FnOnce(UnixStream) -> D) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("relay.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
            .arg("relay")
            .stdin(OwnedFd::from(listener))
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut monitor = Monitor::connect(&path);
        monitor.say(&Order::Begin(begin));
        Self {
            child,
            driver: driver(ours),
            monitor: Some(monitor),
            folder,
        }
    }

    /// One that carries, for a device of its export's size.
    pub fn serving(begin: Begin, driver: impl FnOnce(UnixStream) -> D) -> Self {
        let mut relay = Self::dialling(begin, driver);
        let found = relay.monitor().until("offered", |report| {
            assert_eq!(report.failed, None);
            report.offered.is_some()
        });
        let offered = found.offered.unwrap();
        relay.monitor().say(&Order::Serve(Promise {
            size: offered.size,
            flags: offered.flags,
            block_size: offered.minimum.max(512),
            max_request: offered.maximum_payload.min(1280 << 10),
        }));
        relay
    }

    pub fn monitor(&mut self) -> &mut Monitor {
        self.monitor.as_mut().unwrap()
    }

    /// The monitor dies.
    pub fn lose_monitor(&mut self) {
        self.monitor = None;
    }

    /// A successor comes.
    pub fn new_monitor(&mut self) -> &mut Monitor {
        self.monitor = Some(Monitor::connect(&self.folder.path().join("relay.sock")));
        self.monitor()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it goes on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A line of /proc/PID/status.
    pub fn status(&self, name: &str) -> String {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim_start_matches(':').trim().to_owned()
    }
}

impl<D> Drop for Relay<D> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
