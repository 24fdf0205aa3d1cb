//! What the server saw, in order of arrival, for tests to make claims about.
//!
//! It must not change what the server does.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::wire::{Request, Style};

/// One option a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionSeen {
    /// Connections count from 0, in order of their acceptance.
    pub connection: usize,
    /// Since the server was created.
    pub at: Duration,
    pub option: u32,
    pub data: Vec<u8>,
}

/// One request a client sent, DISC included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSeen {
    pub connection: usize,
    pub at: Duration,
    pub style: Style,
    pub flags: u16,
    /// The command.
    pub kind: u16,
    pub cookie: u64,
    pub offset: u64,
    /// The header's length field: of the payload, or the effect.
    pub length: u64,
    /// Bytes that followed the header.
    pub payload: usize,
    /// The payload's first bytes, at most 16, to tell writes apart.
    pub head: Vec<u8>,
}

/// Counts of one connection, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub received: u64,
    pub sent: u64,
    /// Answers to something that arrived after all earlier answers were sent;
    /// the greeting is the first. Exact with a delay; without one, what a
    /// client pipelines in separate writes may count apart.
    pub round_trips: u64,
}

#[derive(Default)]
struct Seen {
    options: Vec<OptionSeen>,
    requests: Vec<RequestSeen>,
    complaints: Vec<String>,
    after_starttls: Vec<u8>,
    connections: Vec<Totals>,
}

/// Filled by all connections.
pub struct Log {
    start: Instant,
    seen: Mutex<Seen>,
}

impl Log {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            seen: Mutex::default(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        work(&mut self.seen.lock().unwrap())
    }

    /// The number of a new connection.
    pub fn connection(&self) -> usize {
        self.with(|seen| {
            seen.connections.push(Totals::default());
            seen.connections.len() - 1
        })
    }

    pub fn option(&self, connection: usize, option: u32, data: &[u8]) {
        let data = data.to_vec();
        let at = self.start.elapsed();
        let option = OptionSeen {
            connection,
            at,
            option,
            data,
        };
        self.with(|seen| seen.options.push(option));
    }

    pub fn request(&self, connection: usize, style: Style, request: &Request, payload: &[u8]) {
        let request = RequestSeen {
            connection,
            at: self.start.elapsed(),
            style,
            flags: request.flags,
            kind: request.kind,
            cookie: request.cookie,
            offset: request.offset,
            length: request.length,
            payload: payload.len(),
            head: payload[..payload.len().min(16)].to_vec(),
        };
        self.with(|seen| seen.requests.push(request));
    }

    /// The client did what the specification forbids.
    pub fn complain(&self, connection: usize, what: &str) {
        let line = format!("connection {connection}: {what}");
        self.with(|seen| seen.complaints.push(line));
    }

    pub fn after_starttls(&self, bytes: &[u8]) {
        self.with(|seen| seen.after_starttls.extend_from_slice(bytes));
    }

    pub fn received(&self, connection: usize, count: usize) {
        let count = u64::try_from(count).unwrap();
        self.with(|seen| seen.connections[connection].received += count);
    }

    pub fn sent(&self, connection: usize, count: usize) {
        let count = u64::try_from(count).unwrap();
        self.with(|seen| seen.connections[connection].sent += count);
    }

    pub fn round_trip(&self, connection: usize) {
        self.with(|seen| seen.connections[connection].round_trips += 1);
    }

    pub fn options(&self) -> Vec<OptionSeen> {
        self.with(|seen| seen.options.clone())
    }

    pub fn requests(&self) -> Vec<RequestSeen> {
        self.with(|seen| seen.requests.clone())
    }

    pub fn complaints(&self) -> Vec<String> {
        self.with(|seen| seen.complaints.clone())
    }

    pub fn heard_after_starttls(&self) -> Vec<u8> {
        self.with(|seen| seen.after_starttls.clone())
    }

    pub fn connections(&self) -> Vec<Totals> {
        self.with(|seen| seen.connections.clone())
    }

    /// Forgets all but how many connections there were.
    pub fn clear(&self) {
        self.with(|seen| {
            let connections = vec![Totals::default(); seen.connections.len()];
            *seen = Seen {
                connections,
                ..Seen::default()
            };
        });
    }
}
