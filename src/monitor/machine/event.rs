//! What reaches the state machine, and what it asks for.

use std::time::Duration;

pub(in crate::monitor) use crate::session::{Acks, CutReason, Probe};

/// How things are, as far as it can be seen.
pub(in crate::monitor) type Sample = crate::session::Sample<LinkId>;

/// A point in time: since whatever the clock's owner calls its beginning.
pub(in crate::monitor) type Moment = Duration;

/// One connection of the device, as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::monitor) struct LinkId(pub(in crate::monitor) u32);

/// One address to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::monitor) struct PlaceId(pub(in crate::monitor) u32);

/// One attempt to get a session, and the session that it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::monitor) struct AttemptId(pub(in crate::monitor) u32);

/// The settings that decide something here.
#[derive(Debug, Clone)]
pub(in crate::monitor) struct Policy {
    /// How long I/O waits; `None` for ever.
    pub(in crate::monitor) dead_timeout: Option<Duration>,
    /// The same once the machine goes down.
    pub(in crate::monitor) shutdown_timeout: Duration,
    /// How long nothing may come from a server that owes something.
    pub(in crate::monitor) silence_timeout: Duration,
    /// How long a session waits after a cut.
    pub(in crate::monitor) settle_time: Duration,
    /// What a handshake got when the export was attached.
    pub(in crate::monitor) connect_timeout: Duration,
    /// A larger export is made use of at once.
    pub(in crate::monitor) resize_live: bool,
    /// Names are resolved anew in an outage.
    pub(in crate::monitor) resolves: bool,
    /// Spreads the clients of one server.
    pub(in crate::monitor) seed: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::monitor) enum Event {
    /// Nothing but time.
    Tick,
    /// A link was seen dead.
    Died(LinkId),
    /// The same, and its server may still be at what it had read.
    DiedAtWork(LinkId),
    /// The kernel told of a dead link, and none is seen: it must be one that
    /// cannot be.
    DiedUnseen,
    /// The addresses to dial are these now.
    Places(Vec<PlaceId>),
    /// The resolver came to an end, with or without an answer.
    Resolved,
    /// An attempt has its connection, and negotiates.
    Connected(AttemptId),
    /// An attempt has a session that meets every demand; the server greeted then.
    Offered(AttemptId, Offer),
    /// The server of the links that live offers this by now.
    Offers(Offer),
    /// An attempt came to nothing.
    Failed(AttemptId, Failure),
    /// An offered session died while it waited.
    OfferDied(AttemptId),
    /// What became of [`Action::HandOver`].
    HandedOver(HandedOver),
    /// What became of [`Action::GiveUp`]: whether all I/O fails now.
    GaveUp(Result<bool, String>),
    /// What became of [`Action::Probe`].
    Probed(Probe),
    /// What became of [`Action::Resize`].
    Resized(Result<u64, String>),
    /// How the links and the device are.
    Sampled(Sample),
    /// A user wants an attempt now; or every living link cut, too.
    Retry {
        /// Cut what lives.
        cut: bool,
    },
    /// The machine goes down.
    ShuttingDown,
    /// It does not, after all.
    GoesOn,
}

/// A session to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) struct Offer {
    /// Its export's size, in whole blocks of the device.
    pub(in crate::monitor) size: u64,
    /// The device's.
    pub(in crate::monitor) device_size: u64,
}

impl Offer {
    /// Its size, where that is more than the device's.
    pub(in crate::monitor) fn larger(self) -> Option<u64> {
        (self.size > self.device_size).then_some(self.size)
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::monitor) struct Failure {
    /// For people.
    pub(in crate::monitor) why: String,
    /// The server took the connection and was not done by the deadline.
    pub(in crate::monitor) stalled: bool,
}

/// What the kernel made of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::monitor) enum HandedOver {
    /// It replaced a dead link.
    Taken,
    /// It was dropped: the kernel holds that no link is dead.
    Dropped,
    /// It refused, or did not come back.
    Failed(String),
}

/// What is to be done. Each but the last two is answered by an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::monitor) enum Action {
    /// Dial and negotiate.
    Dial {
        /// Its name in the answer.
        attempt: AttemptId,
        /// Where.
        place: PlaceId,
        /// For the connection.
        connect: Duration,
        /// For the handshake, from the connection on.
        handshake: Duration,
    },
    /// Look up the server's name.
    Resolve,
    /// RECONFIGURE with this session.
    HandOver(AttemptId),
    /// Make all I/O fail.
    GiveUp,
    /// See whether the server greets a second client.
    Probe {
        /// How long it may take.
        allowed: Duration,
    },
    /// Give the device this size.
    Resize(u64),
    /// Reset a link; it dies of it.
    Cut(LinkId, CutReason),
    /// The session is of no use.
    Drop(AttemptId),
}
