//! One connection's input and output: what is put leaves as one batch when the
//! input runs dry, `delay` after it arrived, and never while paused.
//!
//! It must not know the protocol.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::log::Log;
use super::net::Stream;

/// More than this is sent even though more input is there.
const BATCH: usize = 1 << 16;
/// Batches that may wait for their time, or for a client that does not read.
const WAITING: usize = 256;

/// Of what is heard in silence, not more than this is kept.
const MOST_HEARD: usize = 1 << 20;

/// Holds all connections while the server is paused.
#[derive(Default)]
pub struct Gate {
    paused: Mutex<bool>,
    bell: Condvar,
}

impl Gate {
    pub fn set_paused(&self, paused: bool) {
        *self.paused.lock().unwrap() = paused;
        self.bell.notify_all();
    }

    /// Ends the waits of a connection.
    pub fn kill(&self, dead: &AtomicBool) {
        let guard = self.paused.lock().unwrap();
        dead.store(true, Ordering::SeqCst);
        drop(guard);
        self.bell.notify_all();
    }

    /// Waits until that time, and then as long as the server is paused.
    fn pass(&self, due: Instant, dead: &AtomicBool) -> io::Result<()> {
        let mut paused = self.paused.lock().unwrap();
        loop {
            if dead.load(Ordering::SeqCst) {
                return hang_up();
            }
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                paused = self.bell.wait_timeout(paused, left).unwrap().0;
            } else if *paused {
                paused = self.bell.wait(paused).unwrap();
            } else {
                return Ok(());
            }
        }
    }
}

/// Ends a connection from the server's side.
pub fn hang_up<T>() -> io::Result<T> {
    Err(ErrorKind::ConnectionAborted.into())
}

struct Batch {
    due: Instant,
    bytes: Vec<u8>,
    drip: Option<Duration>,
}

pub struct Line {
    connection: usize,
    stream: Stream,
    input: Vec<u8>,
    /// Bytes of `input` that were taken.
    taken: usize,
    arrived: Instant,
    /// Nothing was answered since something arrived.
    fresh: bool,
    output: Vec<u8>,
    batches: Option<SyncSender<Batch>>,
    writer: Option<JoinHandle<()>>,
    /// Batches that were queued and are not yet sent.
    pending: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    dead: Arc<AtomicBool>,
    log: Arc<Log>,
    pub delay: Duration,
    /// A byte at a time, with this pause.
    pub drip: Option<Duration>,
}

impl Line {
    pub fn new(
        connection: usize,
        stream: Stream,
        gate: Arc<Gate>,
        dead: Arc<AtomicBool>,
        log: Arc<Log>,
    ) -> io::Result<Self> {
        let (batches, queue) = sync_channel(WAITING);
        let pending = Arc::new(AtomicUsize::new(0));
        let pen = Pen {
            connection,
            stream: stream.try_clone()?,
            gate: Arc::clone(&gate),
            dead: Arc::clone(&dead),
            log: Arc::clone(&log),
            pending: Arc::clone(&pending),
        };
        Ok(Self {
            connection,
            stream,
            input: Vec::new(),
            taken: 0,
            arrived: Instant::now(),
            fresh: true,
            output: Vec::new(),
            batches: Some(batches),
            writer: Some(thread::spawn(move || pen.run(&queue))),
            pending,
            gate,
            dead,
            log,
            delay: Duration::ZERO,
            drip: None,
        })
    }

    /// Waits until the server is not paused.
    pub fn pass(&self) -> io::Result<()> {
        self.gate.pass(self.arrived, &self.dead)
    }

    /// Exactly so many bytes; sends what was put before it waits for them.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while !self.has(count) {
            self.send()?;
            self.fill()?;
        }
        let bytes = self.input[self.taken..self.taken + count].to_vec();
        self.taken += count;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        Ok(bytes)
    }

    /// Whether so many bytes are there without waiting.
    pub fn has(&self, count: usize) -> bool {
        self.input.len() - self.taken >= count
    }

    /// Waits a while for so many bytes.
    pub fn has_within(&mut self, count: usize, patience: Duration) -> io::Result<bool> {
        let until = Instant::now() + patience;
        while !self.has(count) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.stream.set_read_timeout(Some(left))?;
            let filled = self.fill();
            self.stream.set_read_timeout(None)?;
            match filled.map_err(|error| error.kind()) {
                Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
                other => other?,
            }
        }
        Ok(true)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.input.drain(..self.taken);
        self.taken = 0;
        let mut buffer = [0; 65_536];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.arrived = Instant::now();
        self.fresh = true;
        self.log.received(self.connection, count);
        self.input.extend_from_slice(&buffer[..count]);
        self.gate.pass(self.arrived, &self.dead)
    }

    /// Adds to the batch that is sent next.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(bytes);
        if self.output.len() > BATCH {
            self.send()?;
        }
        Ok(())
    }

    /// Sends what was put, as one batch.
    pub fn send(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let idle = self.pending.fetch_add(1, Ordering::SeqCst) == 0;
        if idle && self.fresh {
            self.log.round_trip(self.connection);
        }
        self.fresh = false;
        let batch = Batch {
            due: self.arrived + self.delay,
            bytes: mem::take(&mut self.output),
            drip: self.drip,
        };
        match &self.batches {
            Some(batches) if batches.send(batch).is_ok() => Ok(()),
            _ => hang_up(),
        }
    }

    /// Says nothing until the client hangs up; returns what it still said.
    pub fn silence(&mut self) -> io::Result<Vec<u8>> {
        self.send()?;
        let mut heard = self.input.split_off(self.taken);
        loop {
            self.input.clear();
            self.taken = 0;
            match self.fill() {
                Ok(()) if heard.len() < MOST_HEARD => heard.extend_from_slice(&self.input),
                Ok(()) => {}
                Err(_) => return Ok(heard),
            }
        }
    }

    /// Sends the rest and closes the connection.
    pub fn close(mut self) {
        // The client may have gone before.
        let _ = self.send();
        self.batches = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        self.stream.shutdown();
    }
}

/// The writing half, in a thread of its own: it alone waits for the delay.
struct Pen {
    connection: usize,
    stream: Stream,
    gate: Arc<Gate>,
    dead: Arc<AtomicBool>,
    log: Arc<Log>,
    pending: Arc<AtomicUsize>,
}

impl Pen {
    fn run(mut self, queue: &Receiver<Batch>) {
        for batch in queue {
            let passed = self.gate.pass(batch.due, &self.dead);
            // Before the write: the client may react before it returns.
            self.pending.fetch_sub(1, Ordering::SeqCst);
            let written = passed.and_then(|()| self.write(&batch));
            if written.is_err() {
                // The reading half sees it too, even if it waits for input.
                self.stream.shutdown();
                return;
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        // Counted first: the client must not see bytes that were not counted.
        let Some(pause) = batch.drip else {
            self.log.sent(self.connection, batch.bytes.len());
            return self.stream.write_all(&batch.bytes);
        };
        for byte in &batch.bytes {
            self.log.sent(self.connection, 1);
            self.stream.write_all(&[*byte])?;
            self.gate.pass(Instant::now() + pause, &self.dead)?;
        }
        Ok(())
    }
}
