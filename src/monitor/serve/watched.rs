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
    /// We cut it.
    cut: bool,
    /// How often in a row it had not been acknowledged when it was looked at last.
    unanswered: u32,
}

/// One acknowledgement may be under way when a server's machine resets a link.
const UNANSWERED: u32 = 2;

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
            cut: false,
            unanswered: 0,
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
            cut: false,
            unanswered: 0,
        }
    }

    pub(in crate::monitor) fn found(link: Link, found: Option<FoundLink>) -> Self {
        Self {
            link,
            sight: found.map_or(Sight::None, Sight::Found),
            local: None,
            relay: None,
            cut: false,
            unanswered: 0,
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
    pub(in crate::monitor) fn fd(&self) -> Option<BorrowedFd<'_>> {
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
        let facts = match self.look() {
            Seen::Alive(facts) => facts?,
            _ => return None,
        };
        self.unanswered = facts.unanswered;
        Some(facts)
    }

    /// Of a dead link: whether its server may still be at what it had read. It may
    /// where the link was cut, by us or by the driver's timer, and where TCP gave up
    /// on it; not where the server's side closed it.
    pub(in crate::monitor) fn left_at_work(&self) -> bool {
        let (by_us, unanswered) = match &self.sight {
            Sight::Own(socket) => socket
                .tcp_facts()
                .map_or((false, 0), |facts| (facts.shut_by_us, facts.unanswered)),
            Sight::Found(found) => (found.is_shut_by_us(), self.unanswered),
            Sight::None => (false, 0),
        };
        self.cut || by_us || unanswered >= UNANSWERED
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
    pub(in crate::monitor) fn cut(&mut self) -> bool {
        self.cut = true;
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};

    use nix::sys::stat::fstat;

    use super::*;

    /// A link as we have it, as one finds it, and the server's end.
    fn link() -> (Watched, Watched, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let inode = fstat(&ours).unwrap().st_ino;
        let fd = OwnedFd::from(ours.try_clone().unwrap());
        let socket = KernelSocket::kept(fd, inode).unwrap();
        let own = Watched::own(Link::default(), socket, None);
        let found = Watched::found(Link::default(), Some(FoundLink::new(inode, true)));
        (own, found, ours, theirs)
    }

    fn until_dead(watched: &mut Watched) {
        let until = Instant::now() + Duration::from_secs(5);
        while watched.look() != Seen::Dead {
            assert!(Instant::now() < until, "it lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_server_that_closed_or_died_is_at_nothing_any_more() {
        for reset in [false, true] {
            let (mut own, mut found, mut ours, theirs) = link();
            if reset {
                crate::kernel::wire::reset_on_close(theirs.as_fd(), true);
            }
            drop(theirs);
            let _ = ours.read(&mut [0]);
            // As the driver does when it finds the end.
            let _ = ours.shutdown(Shutdown::Both);
            until_dead(&mut own);
            until_dead(&mut found);
            assert!(!own.left_at_work(), "reset: {reset}");
            assert!(!found.left_at_work(), "reset: {reset}");
        }
    }

    #[test]
    fn a_server_whose_link_we_closed_may_be_at_what_it_had_read() {
        // As the driver's timer does.
        let (mut own, mut found, ours, theirs) = link();
        ours.shutdown(Shutdown::Both).unwrap();
        until_dead(&mut own);
        until_dead(&mut found);
        assert!(own.left_at_work());
        assert!(found.left_at_work());
        drop(theirs);
        let (mut own, _, _ours, _theirs) = link();
        own.cut();
        until_dead(&mut own);
        assert!(own.left_at_work());
    }
}
