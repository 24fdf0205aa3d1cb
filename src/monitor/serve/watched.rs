//! The links of a served device: one of our own, of which we have a duplicate, one
//! that an earlier monitor made, or a relay.

use std::os::fd::{AsFd, BorrowedFd};

use crate::kernel::{Cut, FoundLink, KernelSocket, Seen, TcpFacts};
use crate::monitor::relay::{Heard, Relay};
use crate::monitor::state::Link;
use crate::session::SocketAddr;

/// One link.
pub(in crate::monitor) struct Watched {
    pub(in crate::monitor) link: Link,
    sight: Sight,
    /// What our end of it is bound to.
    pub(in crate::monitor) local: Option<SocketAddr>,
    relay: Option<Relay>,
}

enum Sight {
    Own(KernelSocket),
    Found(FoundLink),
    /// Of another network namespace, or never seen.
    None,
}

impl Watched {
    pub(in crate::monitor) fn own(
        link: Link,
        socket: KernelSocket,
        local: Option<SocketAddr>,
    ) -> Self {
        Self {
            link,
            sight: Sight::Own(socket),
            local,
            relay: None,
        }
    }

    /// One that leads to a relay, which outlives us; `socket` is the kernel's end, where
    /// we have it.
    pub(in crate::monitor) fn relay(
        link: Link,
        socket: Option<KernelSocket>,
        mut relay: Relay,
    ) -> Self {
        relay.keep();
        Self {
            link,
            sight: socket.map_or(Sight::None, Sight::Own),
            local: None,
            relay: Some(relay),
        }
    }

    pub(in crate::monitor) fn found(link: Link, found: Option<FoundLink>) -> Self {
        Self {
            link,
            sight: found.map_or(Sight::None, Sight::Found),
            local: None,
            relay: None,
        }
    }

    /// It is not what we have a descriptor of.
    pub(super) fn go_blind(&mut self) {
        if self.look() == Seen::Dead {
            self.relay = None;
            self.sight = Sight::None;
        }
    }

    /// To be polled for its end.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.sight {
            Sight::Own(socket) => Some(socket.as_fd()),
            _ => None,
        }
    }

    /// The relay that it leads to.
    pub(super) fn its_relay(&mut self) -> Option<&mut Relay> {
        self.relay.as_mut()
    }

    pub(super) fn as_relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Takes what its relay has said; one that hung up on us is ended.
    pub(super) fn hear(&mut self) -> Heard {
        let Some(relay) = &mut self.relay else {
            return Heard::Nothing;
        };
        let heard = relay.hear();
        if heard == Heard::End {
            relay.kill();
        }
        heard
    }

    /// Whether its end is seen without a descriptor to poll, or not at all.
    pub(super) fn must_be_asked_for(&self) -> bool {
        !matches!(self.sight, Sight::Own(_)) && self.relay.is_none()
    }

    pub(super) fn look(&mut self) -> Seen {
        if self.relay.as_ref().is_some_and(Relay::has_ended) {
            return Seen::Dead;
        }
        match &mut self.sight {
            Sight::Own(socket) if socket.is_hung_up() => Seen::Dead,
            Sight::Own(socket) => Seen::Alive(socket.tcp_facts()),
            Sight::Found(found) => found.look(),
            Sight::None if self.relay.is_some() => Seen::Alive(None),
            Sight::None => Seen::Unknown,
        }
    }

    pub(super) fn facts(&mut self) -> Option<TcpFacts> {
        match self.look() {
            Seen::Alive(facts) => facts,
            _ => None,
        }
    }

    /// Whether its last close resets it, where it is ours to say.
    pub(super) fn reset_on_close(&self, reset: bool) {
        if let Sight::Own(socket) = &self.sight {
            socket.reset_on_close(reset);
        }
    }

    /// To look at it from another thread.
    pub(super) fn another_look(&self) -> Option<FoundLink> {
        match &self.sight {
            Sight::Found(found) => Some(found.clone()),
            _ => None,
        }
    }

    /// Cuts it; false where that cannot be done from here.
    pub(super) fn cut(&self) -> bool {
        if let Some(relay) = &self.relay {
            relay.kill();
        }
        match &self.sight {
            Sight::Own(socket) => {
                socket.cut();
                true
            }
            Sight::Found(found) => matches!(found.cut(), Ok(Cut::Closed)),
            Sight::None => self.relay.is_some(),
        }
    }
}
