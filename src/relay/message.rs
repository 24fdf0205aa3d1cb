//! What a monitor and its relay say to each other: JSON, one object a line, on a
//! connection to the relay's control socket. It must not know who does what when.
//!
//! A relay is `nbdctl relay`. Its standard input is the control socket, listening; its
//! standard output its end of the socket pair whose other end is, or will be, the
//! kernel's. Whoever may connect to the socket is its monitor: the one that started
//! it, a successor later.
//!
//! The first connection begins with [`Order::Begin`]. The relay dials, and reports
//! what it found: [`Report::offered`], or [`Report::failed`] and ends. It holds its
//! session until it gets [`Order::Serve`], and carries I/O from then on, whether
//! anybody is connected or not, until the kernel disconnects, the kernel's end of the
//! pair is closed, or [`Order::Drain`] is done. A first connection that ends before
//! `Serve` ends it, too.
//!
//! A report comes at once on a new connection that follows, after [`Order::Tell`], and
//! with every change, at most ten a second. Several may be connected: a monitor, and
//! whoever only asks.
//!
//! The two may be of different versions of nbdctl: a relay outlives the monitor that
//! started it. So an order that a relay does not know is passed over, and what a report
//! does not say is as it was before there was a word for it.

use serde::{Deserialize, Serialize};

/// More than any line has, in bytes.
pub const MAX_LINE: u64 = 256 * 1024;

/// What a monitor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Dial. The first order, once.
    Begin(Begin),
    /// Carry I/O for a device that is made of this. The second order, once.
    Serve(Promise),
    /// How long I/O waits from now on.
    Patience(Patience),
    /// The machine goes down: the patience is `shutdown_timeout` from now on.
    GoingDown {},
    /// Try to reconnect now.
    Retry {
        /// Cut the connections that live, too.
        cut: bool,
    },
    /// Where the server is now, for those that are lost from now on.
    Addresses(Vec<String>),
    /// The device is to have so many bytes: requests up to there are let through.
    Grow {
        /// In bytes; not less than before.
        size: u64,
    },
    /// Take no more requests, answer those that are there, flush, and end.
    Drain {},
    /// Report now, whether anything changed or not: a relay that does not is taken for
    /// stuck.
    Tell {},
}

/// What a relay is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// For the log.
    pub name: String,
    /// The export.
    pub uri: String,
    /// Where its server is, as [`Address`](crate::session::Address) is written; a
    /// relay resolves no names.
    pub addresses: Vec<String>,
    /// How many connections it may have where the server allows several; 1 or more.
    pub connections: u32,
    /// The file system or GPT that a returned server's disk must have.
    pub identity: Option<String>,
    /// How long I/O waits.
    pub patience: Patience,
    /// How long a server that owes something may be silent, in milliseconds.
    pub silence_timeout_ms: u64,
    /// How long a new session waits after a cut for silence, in milliseconds.
    pub settle_time_ms: u64,
    /// How long the first session may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// The most that the log of unflushed changes holds, in bytes; 0 for the default.
    pub log_bytes: u64,
}

/// How long I/O waits for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// In milliseconds; `None` for ever.
    pub dead_timeout_ms: Option<u64>,
    /// The same once the machine goes down.
    pub shutdown_timeout_ms: u64,
    /// It does already.
    pub going_down: bool,
}

/// What the kernel was told of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// In bytes.
    pub size: u64,
    /// The export's transmission flags.
    pub flags: u16,
    /// The smallest request, in bytes.
    pub block_size: u32,
    /// The largest READ or WRITE, in bytes.
    pub max_request: u32,
}

/// How a relay is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of nbdctl, as the relay was built.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How its connections are.
    #[serde(default)]
    pub standing: Standing,
    /// What the newest session offers.
    pub offered: Option<Offered>,
    /// How many bytes the device may ask for: what [`Promise::size`] said, or the last
    /// [`Order::Grow`].
    pub device_size: Option<u64>,
    /// Why there is no first session; the last report then.
    pub failed: Option<Failed>,
    /// The connections, the oldest first.
    #[serde(default)]
    pub connections: Vec<Connection>,
    /// Connections replaced.
    #[serde(default)]
    pub reconnects: u64,
    /// Times without any connection.
    #[serde(default)]
    pub outages: u64,
    /// In milliseconds.
    pub last_outage_ms: Option<u64>,
    /// How long there has been no connection, in milliseconds, by now.
    pub out_for_ms: Option<u64>,
    /// How much longer I/O waits in this outage, in milliseconds, by now; `None` outside
    /// of one, for ever, and when it fails already.
    pub patience_left_ms: Option<u64>,
    /// In words.
    pub last_error: Option<String>,
    /// What it holds.
    #[serde(default)]
    pub figures: Holdings,
}

/// How the connections are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// There has been none yet.
    #[default]
    Connecting,
    /// As many as there should be.
    Connected,
    /// Some are missing.
    Degraded,
    /// None is there, and I/O waits.
    Reconnecting,
    /// None is there, and I/O fails.
    Dead,
}

/// What a session offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offered {
    /// The export's size in bytes.
    pub size: u64,
    /// Its transmission flags.
    pub flags: u16,
    /// The minimum block size, in bytes.
    pub minimum: u32,
    /// The preferred block size, in bytes.
    pub preferred: u32,
    /// The maximum payload, in bytes.
    pub maximum_payload: u32,
    /// `compact`, `structured`, `extended`.
    pub headers: String,
}

/// Why there is no first session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// For people.
    pub why: String,
    /// What nbdctl would exit with.
    pub exit: u8,
    /// The server took the connection, and was not done in time.
    pub stalled: bool,
}

/// One connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// Where it leads.
    pub peer: String,
    /// It carries I/O, or could.
    pub alive: bool,
    /// The smoothed round trip of TCP, in microseconds.
    pub rtt_us: Option<u32>,
    /// As written to the socket.
    pub bytes_sent: u64,
    /// As read from the socket.
    pub bytes_received: u64,
}

/// What a relay holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holdings {
    /// Requests of the kernel without an answer.
    pub in_flight: u64,
    /// Those of them that wait to be sent.
    pub held: u64,
    /// Changes that were not flushed, or not answered.
    pub logged: u64,
    /// Their data, in bytes.
    pub logged_bytes: u64,
    /// Earlier changes are being sent again.
    pub replaying: bool,
    /// Memory for the data of requests, in bytes.
    pub buffers: u64,
}
