//! One export's storage with a volatile write cache: writes are visible at
//! once, and durable after FLUSH or FUA only.
//!
//! It must not know the protocol, nor the size of the export.

use super::image::{Image, State};

/// What a power loss does to writes that were not flushed.
#[derive(Clone, Copy, Debug)]
pub enum PowerLoss {
    /// All of them are forgotten.
    All,
    /// Of each, a random part survives (writes tear at 4096 bytes).
    Subset { seed: u64 },
}

/// A change of the storage.
#[derive(Clone)]
pub struct Change {
    pub offset: u64,
    pub length: u64,
    pub what: What,
}

#[derive(Clone)]
pub enum What {
    Data(Vec<u8>),
    Zero { reserve: bool },
}

impl Change {
    pub fn data(offset: u64, data: Vec<u8>) -> Self {
        let length = data.len().try_into().unwrap();
        let what = What::Data(data);
        Self {
            offset,
            length,
            what,
        }
    }

    pub fn zero(offset: u64, length: u64, reserve: bool) -> Self {
        let what = What::Zero { reserve };
        Self {
            offset,
            length,
            what,
        }
    }

    fn apply(&self, image: &mut Image) {
        match &self.what {
            What::Data(data) => image.write(self.offset, data),
            What::Zero { reserve } => image.zero(self.offset, self.length, *reserve),
        }
    }

    fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// The part of it within a range, if there is one.
    fn part(&self, start: u64, end: u64) -> Option<Self> {
        let (start, end) = (start.max(self.offset), end.min(self.end()));
        (start < end).then(|| match &self.what {
            What::Data(data) => {
                let within = size(start - self.offset)..size(end - self.offset);
                Self::data(start, data[within].to_vec())
            }
            What::Zero { reserve } => Self::zero(start, end - start, *reserve),
        })
    }

    /// What a torn write is torn into; the rest goes whole.
    fn sectors(self) -> Vec<Self> {
        const SECTOR: u64 = 4096;
        if matches!(self.what, What::Zero { .. }) {
            return vec![self];
        }
        let first = self.offset / SECTOR;
        let sectors = first..self.end().div_ceil(SECTOR);
        let part = |sector| self.part(sector * SECTOR, (sector + 1) * SECTOR);
        sectors.filter_map(part).collect()
    }
}

/// Storage, and its cache.
#[derive(Default)]
pub struct Disk {
    visible: Image,
    durable: Image,
    /// Visible and not yet durable, oldest first.
    unflushed: Vec<Change>,
}

impl Disk {
    pub fn change(&mut self, change: Change, fua: bool) {
        change.apply(&mut self.visible);
        if !fua {
            self.unflushed.push(change);
            return;
        }
        change.apply(&mut self.durable);
        // An older change must not come back over a durable one.
        let (start, end) = (change.offset, change.end());
        let clipped = self.unflushed.drain(..).flat_map(|old| {
            let parts = [old.part(0, start), old.part(end, u64::MAX)];
            parts.into_iter().flatten()
        });
        self.unflushed = clipped.collect();
    }

    pub fn flush(&mut self) {
        for change in self.unflushed.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    pub fn lose_power(&mut self, loss: PowerLoss) {
        let unflushed = std::mem::take(&mut self.unflushed);
        if let PowerLoss::Subset { seed } = loss {
            let mut random = Random(seed);
            for piece in unflushed.into_iter().flat_map(Change::sectors) {
                if random.next() & 1 == 1 {
                    piece.apply(&mut self.durable);
                }
            }
        }
        self.visible = self.durable.clone();
    }

    pub fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; size(length)];
        self.visible.read(offset, &mut bytes);
        bytes
    }

    /// What a power loss now would leave.
    pub fn read_durable(&self, offset: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; size(length)];
        self.durable.read(offset, &mut bytes);
        bytes
    }

    pub fn states(&self, offset: u64, length: u64, limit: usize) -> Vec<(u64, State)> {
        self.visible.states(offset, length, limit)
    }

    /// Changes that a power loss would forget.
    pub fn unflushed(&self) -> usize {
        self.unflushed.len()
    }
}

/// Numbers that look random and are the same for the same seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// Puts a slice in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let below = u64::try_from(last).unwrap() + 1;
            items.swap(last, size(self.next() % below));
        }
    }
}

fn size(value: u64) -> usize {
    value.try_into().unwrap()
}
