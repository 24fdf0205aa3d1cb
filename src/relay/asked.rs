//! The kernel's requests that it has no answer to yet. It must not know servers.

use crate::proto::transmission::Request;

use super::BufferId;
use super::offer::changes;

/// A request of the kernel.
#[derive(Debug)]
pub(super) struct Asked {
    /// As it came, the kernel's cookie in it.
    pub(super) request: Request,
    pub(super) buffer: Option<BufferId>,
    /// Its entry in the log, for what changes the contents.
    pub(super) seq: Option<u64>,
    /// Where it stands in the order in which the kernel asked.
    pub(super) arrival: u64,
    /// A server has it.
    pub(super) sent: bool,
    /// It was not sent as soon as it came, or more than once: newer ones may have
    /// passed it.
    pub(super) delayed: bool,
    /// Up to here it is done, and up to here it was sent last.
    pub(super) progress: u64,
    pub(super) until: u64,
    /// Bytes that it did not send, as newer changes had replaced them.
    pub(super) left_out: u64,
    /// What it was last seen to wait for.
    pub(super) blocker: Option<Blocker>,
}

/// Why a request is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocker {
    /// All of the replay.
    Plan,
    /// One piece of it.
    Piece(usize),
    /// Another request of the kernel: its index and arrival.
    Asked(usize, u64),
}

impl Asked {
    pub(super) fn changes(&self) -> bool {
        changes(self.request.command)
    }

    pub(super) fn end(&self) -> u64 {
        self.request.offset.saturating_add(self.request.length)
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.request.offset < other.end() && other.request.offset < self.end()
    }
}

/// A table of them, whose size does not change.
#[derive(Debug)]
pub(super) struct Table {
    places: Vec<Option<Asked>>,
    free: Vec<usize>,
}

impl Table {
    pub(super) fn new(depth: usize) -> Self {
        Self {
            places: std::iter::repeat_with(|| None).take(depth).collect(),
            free: (0..depth).rev().collect(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Ask [`Self::has_room`] first.
    pub(super) fn insert(&mut self, asked: Asked) -> Option<usize> {
        let index = self.free.pop()?;
        if let Some(place) = self.places.get_mut(index) {
            *place = Some(asked);
        }
        Some(index)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Asked> {
        self.places.get(index)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Asked> {
        self.places.get_mut(index)?.as_mut()
    }

    pub(super) fn take(&mut self, index: usize) -> Option<Asked> {
        let asked = self.places.get_mut(index)?.take()?;
        self.free.push(index);
        Some(asked)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Asked)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, place)| Some((index, place.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Asked)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(|(index, place)| Some((index, place.as_mut()?)))
    }
}
