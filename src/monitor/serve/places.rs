//! The addresses to dial, and where the links lead.

use std::collections::HashSet;

use super::Serving;
use crate::monitor::machine::{LinkId, PlaceId};
use crate::session::{Address, addresses_now};

impl Serving<'_> {
    /// The addresses to dial: those that the server had last, its link's own
    /// first.
    pub(super) fn know_addresses(&mut self) {
        let known = addresses_now(&self.state.settings.uri).unwrap_or_else(|| {
            let peers = self.state.links.iter().map(|link| &link.peer);
            let all = peers.chain(&self.state.addresses);
            all.filter_map(|text| text.parse().ok()).collect()
        });
        self.set_places(known);
    }

    /// Gives each address its id, the one that it had. A relay gets all of them.
    pub(super) fn set_places(&mut self, mut addresses: Vec<Address>) {
        let before = std::mem::take(&mut self.places);
        let leads = self.addresses_of_links();
        let all: Vec<_> = if self.state.by_relay() {
            let mut seen = HashSet::new();
            addresses.retain(|address| seen.insert(address.clone()));
            vec![addresses]
        } else {
            // Also one that the name has no more: its server gets our other links.
            let living = leads.iter().map(|(_, address)| address.clone());
            living
                .chain(addresses)
                .map(|address| vec![address])
                .collect()
        };
        for addresses in all {
            if self.places.iter().any(|(_, known)| *known == addresses) {
                continue;
            }
            let known = before.iter().find(|(_, known)| *known == addresses);
            let id = known.map_or_else(
                || {
                    self.next_place += 1;
                    PlaceId(self.next_place)
                },
                |(id, _)| *id,
            );
            self.places.push((id, addresses));
        }
        let place = |address| {
            let mut places = self.places.iter();
            places.find_map(|(id, known)| (known.first() == Some(address)).then_some(*id))
        };
        let leads: Vec<_> = leads
            .iter()
            .filter_map(|(link, address)| Some((*link, place(address)?)))
            .collect();
        self.machine.lead(&leads);
    }

    /// Where the living links lead, where that is a server.
    fn addresses_of_links(&self) -> Vec<(LinkId, Address)> {
        if self.state.by_relay() {
            return Vec::new();
        }
        let living = self
            .links
            .iter()
            .filter(|(id, _)| self.machine.is_alive(**id));
        living
            .filter_map(|(id, watched)| Some((*id, watched.link.peer.parse().ok()?)))
            .collect()
    }
}
