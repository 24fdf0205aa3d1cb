//! The way from this machine to a root's servers. Who manages the network may take it away
//! when a cable was out, and need the root to give it back: so where there is none for a
//! while, what there was is put back by the monitor. It must not know who that is.

use std::fs;
use std::time::Duration;

use nix::net::if_::if_nametoindex;

use super::Serving;
use crate::kernel;
use crate::monitor::machine::Moment;
use crate::session::{Address, Source};

/// How often it is noted.
const NOTE: Duration = Duration::from_secs(60);

/// Who took it away may be about to give it back: that takes a DHCP server's answer.
const GRACE: Duration = Duration::from_secs(10);

/// How it was when there was a connection.
#[derive(Debug, Default)]
pub(super) struct Ways {
    known: Vec<Way>,
    note_at: Moment,
    /// Since when there is none, or when it was put back last.
    without: Option<Moment>,
}

#[derive(Debug)]
struct Way {
    to: Address,
    from: Source,
    gateway: Option<Vec<u8>>,
}

impl Way {
    fn to(address: Address) -> Option<Self> {
        let from = address.source()?;
        let gateway = kernel::gateway(&from.interface, &address.host()?);
        Some(Self {
            to: address,
            from,
            gateway,
        })
    }

    /// Where nothing is plugged in, nothing leads anywhere.
    fn has_carrier(&self) -> bool {
        let path = format!("/sys/class/net/{}/carrier", self.from.interface);
        fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
    }

    fn put_back(&self) -> Result<(), String> {
        let index = if_nametoindex(self.from.interface.as_str());
        let index = index.map_err(|errno| errno.desc().to_owned())?;
        let prefix = u8::try_from(self.from.prefix).unwrap_or_default();
        let mut done = kernel::restore_own_address(index, &self.from.address, prefix);
        if let (Ok(()), Some(gateway)) = (&done, &self.gateway) {
            done = kernel::restore_default_route(index, gateway);
        }
        done.map_err(|error| error.to_string())
    }
}

impl Serving<'_> {
    pub(super) fn keep_ways(&mut self) {
        let now = self.now();
        let living = self.is_linked();
        let Some(root) = &mut self.root else { return };
        let ways = &mut root.ways;
        if !living {
            return ways.look(now);
        }
        ways.without = None;
        if now >= ways.note_at {
            ways.note_at = now + NOTE;
            let peers = self.state.links.iter().map(|link| link.peer.parse());
            ways.note(peers.filter_map(Result::ok).filter_map(Way::to).collect());
        }
    }
}

impl Ways {
    /// A connection may live on for a while when its way is gone already.
    fn note(&mut self, seen: Vec<Way>) {
        if !seen.is_empty() {
            self.known = seen;
        }
    }

    fn look(&mut self, now: Moment) {
        let lead = self.known.iter().any(|way| way.to.source().is_some());
        if lead || !self.known.iter().any(Way::has_carrier) {
            self.without = None;
            return;
        }
        let since = *self.without.get_or_insert(now);
        if now.saturating_sub(since) < GRACE {
            return;
        }
        self.without = Some(now);
        for way in self.known.iter().filter(|way| way.has_carrier()) {
            let interface = &way.from.interface;
            match way.put_back() {
                Ok(()) => tracing::warn!(
                    "{interface} has lost the address that {} is reached from: it has it again",
                    way.to
                ),
                Err(error) => tracing::warn!(
                    "{interface} cannot be given back the address that {} is reached from: \
                     {error}; it is tried again, or give it back by hand",
                    way.to
                ),
            }
        }
    }
}
