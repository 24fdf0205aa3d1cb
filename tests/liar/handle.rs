//! The running server, as a test holds it.
//!
//! It must not know the protocol.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::config::{Config, Socket};
use super::disk::{Disk, PowerLoss};
use super::haggle;
use super::lie::Lie;
use super::line::{Gate, Line};
use super::log::{Log, OptionSeen, RequestSeen, Totals};
use super::net::{Listener, Stream};
use super::transmit;

/// How long a restart tries to get its port back.
const REBIND: Duration = Duration::from_secs(5);

/// What all connections share.
pub struct Shared {
    config: Mutex<Arc<Config>>,
    disks: Mutex<HashMap<String, Arc<Mutex<Disk>>>>,
    gate: Arc<Gate>,
    pub log: Arc<Log>,
    accepting: AtomicBool,
    live: Mutex<Vec<Live>>,
}

struct Live {
    stream: Stream,
    dead: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Shared {
    /// The configuration as it is now, for this connection.
    pub fn config(&self, connection: usize) -> Arc<Config> {
        let mut config = Arc::clone(&self.config.lock().unwrap());
        let honest = u64::try_from(connection).unwrap() >= config.lie_connections;
        if honest && !config.lies.is_empty() {
            Arc::make_mut(&mut config).lies.clear();
        }
        config
    }

    pub fn disk(&self, export: &str) -> Arc<Mutex<Disk>> {
        let mut disks = self.disks.lock().unwrap();
        Arc::clone(disks.entry(export.to_owned()).or_default())
    }
}

/// A running server; dropping it stops it.
pub struct Handle {
    shared: Arc<Shared>,
    socket: Socket,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// Starts a server.
pub fn start(config: Config) -> Handle {
    let (listener, socket) = Listener::bind(&config.socket).expect("a socket to listen on");
    let handle = Handle {
        shared: Arc::new(Shared {
            config: Mutex::new(Arc::new(config)),
            disks: Mutex::default(),
            gate: Arc::default(),
            log: Arc::new(Log::new()),
            accepting: AtomicBool::new(false),
            live: Mutex::default(),
        }),
        socket,
        acceptor: Mutex::new(None),
    };
    handle.listen(listener);
    handle
}

impl Handle {
    /// Where a TCP server listens.
    pub fn address(&self) -> SocketAddr {
        match &self.socket {
            Socket::Tcp(address) => *address,
            Socket::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// The NBD URI of an export, or of the server for the empty name.
    pub fn uri(&self, export: &str) -> String {
        match &self.socket {
            Socket::Tcp(address) => format!("nbd://{address}/{export}"),
            Socket::Unix(path) => format!("nbd+unix:///{export}?socket={}", path.display()),
        }
    }

    /// Changes the configuration. Running sessions keep their export and
    /// contexts; lies and the delay change for them too.
    pub fn set(&self, change: impl FnOnce(&mut Config)) {
        change(Arc::make_mut(&mut self.shared.config.lock().unwrap()));
    }

    /// Replaces all lies by one, or by none.
    pub fn tell(&self, lie: impl Into<Option<Lie>>) {
        self.set(|config| config.lies = lie.into().into_iter().collect());
    }

    // ── life and death ──

    /// The process dies: connections end, the port refuses. What was written
    /// stays visible, as it is in the cache of the server's machine.
    pub fn stop(&self) {
        let acceptor = self.acceptor.lock().unwrap().take();
        if let Some(acceptor) = acceptor {
            self.shared.accepting.store(false, Ordering::SeqCst);
            // Wakes it out of accept.
            drop(Stream::connect(&self.socket));
            acceptor.join().unwrap();
            if let Socket::Unix(path) = &self.socket {
                std::fs::remove_file(path).unwrap();
            }
        }
        self.cut();
    }

    /// Listens again where it did.
    pub fn start(&self) {
        if self.acceptor.lock().unwrap().is_some() {
            return;
        }
        let deadline = Instant::now() + REBIND;
        loop {
            match Listener::bind(&self.socket) {
                Ok((listener, _)) => return self.listen(listener),
                Err(error) if Instant::now() > deadline => panic!("{error}"),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    pub fn restart(&self) {
        self.stop();
        self.start();
    }

    /// The machine dies: as `stop`, and what was not flushed is forgotten.
    pub fn lose_power(&self, loss: PowerLoss) {
        self.stop();
        for disk in self.shared.disks.lock().unwrap().values() {
            disk.lock().unwrap().lose_power(loss);
        }
    }

    /// Ends the connections there are, and goes on listening. When it returns,
    /// nothing they sent is still being done.
    pub fn cut(&self) {
        let live = std::mem::take(&mut *self.shared.live.lock().unwrap());
        for connection in &live {
            self.shared.gate.kill(&connection.dead);
            connection.stream.shutdown();
        }
        for connection in live {
            // A panic in there was printed; the test sees a dead connection.
            let _ = connection.thread.join();
        }
    }

    /// Accepts, and neither reads nor answers anything from now on. What has
    /// been sent to it by then is done after `resume`.
    pub fn pause(&self) {
        self.shared.gate.set_paused(true);
    }

    pub fn resume(&self) {
        self.shared.gate.set_paused(false);
    }

    // ── what it saw ──

    /// All options, in order of arrival.
    pub fn options(&self) -> Vec<OptionSeen> {
        self.shared.log.options()
    }

    /// All requests, in order of arrival.
    pub fn requests(&self) -> Vec<RequestSeen> {
        self.shared.log.requests()
    }

    /// What clients did that the specification forbids.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.log.complaints()
    }

    /// What clients said after STARTTLS was granted.
    pub fn heard_after_starttls(&self) -> Vec<u8> {
        self.shared.log.heard_after_starttls()
    }

    /// One entry per connection that was ever accepted.
    pub fn connections(&self) -> Vec<Totals> {
        self.shared.log.connections()
    }

    pub fn totals(&self) -> Totals {
        let connections = self.connections();
        connections
            .iter()
            .fold(Totals::default(), |sum, one| Totals {
                received: sum.received + one.received,
                sent: sum.sent + one.sent,
                round_trips: sum.round_trips + one.round_trips,
            })
    }

    /// Connections that are open now.
    pub fn live(&self) -> usize {
        let live = self.shared.live.lock().unwrap();
        live.iter().filter(|one| !one.thread.is_finished()).count()
    }

    /// Forgets what was seen, but not how many connections there were.
    pub fn clear_log(&self) {
        self.shared.log.clear();
    }

    /// Waits until what it saw satisfies a test; panics after ten seconds.
    pub fn wait_until(&self, what: &str, test: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !test(self) {
            assert!(Instant::now() < deadline, "in vain: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    // ── what it stores ──

    /// Content of an export, behind the clients' backs.
    pub fn peek(&self, export: &str, offset: u64, length: u64) -> Vec<u8> {
        let disk = self.shared.disk(export);
        let disk = disk.lock().unwrap();
        disk.read(offset, length)
    }

    /// Content that a power loss now would leave.
    pub fn peek_durable(&self, export: &str, offset: u64, length: u64) -> Vec<u8> {
        let disk = self.shared.disk(export);
        let disk = disk.lock().unwrap();
        disk.read_durable(offset, length)
    }

    /// Writes, durably, behind the clients' backs.
    pub fn poke(&self, export: &str, offset: u64, data: &[u8]) {
        let disk = self.shared.disk(export);
        let change = super::disk::Change::data(offset, data.to_vec());
        disk.lock().unwrap().change(change, true);
    }

    /// Writes and zeroings that a power loss would forget.
    pub fn unflushed(&self, export: &str) -> usize {
        self.shared.disk(export).lock().unwrap().unflushed()
    }

    fn listen(&self, listener: Listener) {
        self.shared.accepting.store(true, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        let acceptor = thread::spawn(move || accept(&shared, &listener));
        *self.acceptor.lock().unwrap() = Some(acceptor);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(shared: &Arc<Shared>, listener: &Listener) {
    loop {
        let stream = listener.accept();
        if !shared.accepting.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(clone) = stream.try_clone() else {
            continue;
        };
        let dead = Arc::new(AtomicBool::new(false));
        let connection = shared.log.connection();
        let (gate, log) = (Arc::clone(&shared.gate), Arc::clone(&shared.log));
        let Ok(line) = Line::new(connection, stream, gate, Arc::clone(&dead), log) else {
            continue;
        };
        let shared_too = Arc::clone(shared);
        let thread = thread::spawn(move || serve(&shared_too, line, connection));
        let mut live = shared.live.lock().unwrap();
        live.retain(|one| !one.thread.is_finished());
        live.push(Live {
            stream: clone,
            dead,
            thread,
        });
    }
}

/// One connection, from the greeting to its end.
fn serve(shared: &Arc<Shared>, mut line: Line, connection: usize) {
    // The client may hang up at any time, and so may we.
    let _ = line
        .pass()
        .and_then(|()| match haggle::haggle(shared, &mut line, connection)? {
            Some(session) => transmit::transmit(shared, &mut line, connection, &session),
            None => io::Result::Ok(()),
        });
    line.close();
}
