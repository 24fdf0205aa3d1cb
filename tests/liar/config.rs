//! What a test asks of the server: a plain structure, right by default.
//!
//! It must not know how any of it is done.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::lie::Lie;
use super::wire;

/// All a server is told. The handle can change it while the server runs;
/// sessions keep the export they negotiated.
#[derive(Clone, Debug)]
pub struct Config {
    pub socket: Socket,
    /// The first one is also the default export (the empty name).
    pub exports: Vec<Export>,
    pub contexts: Vec<Context>,
    /// Options that are refused, each with its error reply type.
    pub refusals: Vec<(u32, u32)>,
    /// Without extended headers, INFO and GO get `EXT_HEADER_REQD`.
    pub require_extended_headers: bool,
    /// Everything but STARTTLS and ABORT gets `TLS_REQD`; implies `starttls`.
    pub require_tls: bool,
    /// INFO and GO that do not ask for `BLOCK_SIZE` get `BLOCK_SIZE_REQD`.
    pub require_block_size: bool,
    /// STARTTLS gets ACK; what follows is recorded and never answered.
    pub starttls: bool,
    /// Asked for a context with 64-bit values without extended headers:
    /// `EXT_HEADER_REQD` instead of leaving it out.
    pub refuse_wide_contexts: bool,
    /// Each answer leaves this long after its request arrived: the latency of
    /// a network. Requests that arrive together are answered together.
    pub delay: Duration,
    /// The same for requests alone: a slow disk behind a server that greets.
    pub slowness: Duration,
    /// The most extents in one chunk.
    pub max_extents: usize,
    pub lies: Vec<Lie>,
    /// Requests of a connection that are answered honestly before the lies
    /// about transmission begin.
    pub lie_after: u64,
    /// Only the first so many connections are lied to.
    pub lie_connections: u64,
    /// Pause between two bytes of `Lie::Drip`.
    pub drip: Duration,
    /// For what is random.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: Socket::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            exports: vec![Export::default()],
            contexts: vec![Context::allocation(), Context::zones(1 << 33)],
            refusals: Vec::new(),
            require_extended_headers: false,
            require_tls: false,
            require_block_size: false,
            starttls: false,
            refuse_wide_contexts: false,
            delay: Duration::ZERO,
            slowness: Duration::ZERO,
            max_extents: 8192,
            lies: Vec::new(),
            lie_after: 0,
            lie_connections: u64::MAX,
            drip: Duration::from_micros(100),
            seed: 1,
        }
    }
}

impl Config {
    /// One honest export, "disk", of 64 MiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the default export; adds to those that were given.
    #[must_use]
    pub fn export(mut self, export: Export) -> Self {
        if self.exports == [Export::default()] {
            self.exports.clear();
        }
        self.exports.push(export);
        self
    }

    #[must_use]
    pub fn refuse(mut self, option: u32, error: u32) -> Self {
        self.refusals.push((option, error));
        self
    }

    /// The richest header style it grants.
    #[must_use]
    pub fn at_most(self, style: wire::Style) -> Self {
        let refuse = |config: Self, option| config.refuse(option, wire::REP_ERR_UNSUP);
        match style {
            wire::Style::Extended => self,
            wire::Style::Structured => refuse(self, wire::OPT_EXTENDED_HEADERS),
            wire::Style::Simple => refuse(
                refuse(self, wire::OPT_EXTENDED_HEADERS),
                wire::OPT_STRUCTURED_REPLY,
            ),
        }
    }

    #[must_use]
    pub fn lie(mut self, lie: Lie) -> Self {
        self.lies.push(lie);
        self
    }

    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    #[must_use]
    pub fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Socket::Unix(path.into());
        self
    }

    /// The export of that name; the first for the empty name.
    pub fn find(&self, name: &str) -> Option<&Export> {
        let same = self.exports.iter().find(|export| export.name == name);
        same.or_else(|| self.exports.first().filter(|_| name.is_empty()))
    }
}

/// Where to listen.
#[derive(Clone, Debug)]
pub enum Socket {
    /// Port 0 is replaced by a free one, which a restart keeps.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One export. Flags that a session cannot use (DF, `BLOCK_STATUS_PAYLOAD`)
/// are left out for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub name: String,
    pub description: String,
    pub size: u64,
    pub flags: u16,
    pub block: BlockSize,
}

impl Default for Export {
    fn default() -> Self {
        Self::new("disk", 64 << 20)
    }
}

impl Export {
    /// All features, multi-conn included, and the usual block sizes.
    pub fn new(name: &str, size: u64) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            size,
            flags: wire::HAS_FLAGS
                | wire::SEND_FLUSH
                | wire::SEND_FUA
                | wire::SEND_TRIM
                | wire::SEND_WRITE_ZEROES
                | wire::SEND_DF
                | wire::CAN_MULTI_CONN
                | wire::SEND_CACHE
                | wire::SEND_FAST_ZERO
                | wire::BLOCK_STATUS_PAYLOAD,
            block: BlockSize::default(),
        }
    }

    #[must_use]
    pub fn description(mut self, description: &str) -> Self {
        description.clone_into(&mut self.description);
        self
    }

    #[must_use]
    pub fn with(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    #[must_use]
    pub fn without(mut self, flags: u16) -> Self {
        self.flags &= !flags;
        self
    }

    #[must_use]
    pub fn block(mut self, minimum: u32, preferred: u32, maximum: u32) -> Self {
        self.block = BlockSize {
            minimum,
            preferred,
            maximum,
        };
        self
    }
}

/// `NBD_INFO_BLOCK_SIZE`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    pub minimum: u32,
    pub preferred: u32,
    pub maximum: u32,
}

impl Default for BlockSize {
    fn default() -> Self {
        Self {
            minimum: 1,
            preferred: 4096,
            maximum: 32 << 20,
        }
    }
}

/// A metadata context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub name: String,
    pub values: Values,
}

/// Where the status values of a context come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// `base:allocation`, from the storage.
    Allocation,
    /// Zones of this many bytes; the status of zone n is 2^63 + n.
    Zones(u64),
}

impl Context {
    pub fn allocation() -> Self {
        Self {
            name: "base:allocation".to_owned(),
            values: Values::Allocation,
        }
    }

    pub fn zones(size: u64) -> Self {
        Self {
            name: "x-liar:zones".to_owned(),
            values: Values::Zones(size),
        }
    }

    /// Whether its status values need 64 bits.
    pub fn is_wide(&self) -> bool {
        matches!(self.values, Values::Zones(_))
    }
}
