//! Memory for the data of requests: taken once, and used again. It must not know what
//! is in it.
//!
//! A buffer has one of a few sizes, four to each doubling, so that what is not used of
//! it is a fifth at most. Buffers that are free are kept, until others need the room.
//! Whoever takes one touches all of it: no later use of it waits for memory, which the
//! machine may have to write to this very device to find. And he does so without the
//! lock: answers, which free memory, need it to give buffers back.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::super::BufferId;

/// The unit of the sizes; the smallest buffer has four.
const UNIT: usize = 128;

/// The driver's largest request, 65,536 sectors.
pub(super) const LONGEST: usize = 32 << 20;

/// What the READs under way may have, in bytes: a longer one goes alone.
const READS: u64 = 32 << 20;

/// Memory that no more than one thread changes at a time.
#[derive(Debug, Default)]
struct Slot {
    data: RwLock<Vec<u8>>,
    /// Who still needs it.
    users: AtomicU32,
    /// What it counts among the READs under way.
    read: AtomicU64,
}

#[derive(Debug, Default)]
struct Pool {
    /// Free buffers, by their class.
    free: Vec<Vec<u32>>,
    /// Slots without memory.
    empty: Vec<u32>,
    /// Bytes of all buffers, free or not.
    total: u64,
}

/// All buffers of a relay.
#[derive(Debug)]
pub(super) struct Buffers {
    slots: Box<[Slot]>,
    pool: Mutex<Pool>,
    /// Free buffers are given back to the system above this many bytes in all.
    enough: u64,
    reading: AtomicU64,
}

impl Buffers {
    /// For so many buffers at a time, which have `enough` bytes as a rule.
    pub(super) fn new(count: usize, enough: u64) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let classes = class(LONGEST) + 1;
        Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            pool: Mutex::new(Pool {
                free: vec![Vec::new(); classes],
                empty: (0..count).rev().collect(),
                total: 0,
            }),
            enough: enough + READS,
            reading: AtomicU64::new(0),
        }
    }

    /// Takes so many buffers of this length and lets them go: requests find them.
    pub(super) fn reserve(&self, count: usize, length: usize) {
        let taken: Vec<_> = (0..count).map_while(|_| self.take(length)).collect();
        for buffer in taken {
            self.release(buffer);
        }
    }

    /// Whether a READ may begin; ask again when one has ended.
    pub(super) fn has_room_to_read(&self, length: u64) -> bool {
        let reading = self.reading.load(Ordering::SeqCst);
        reading == 0 || reading.saturating_add(length) <= READS
    }

    /// A buffer for a READ.
    pub(super) fn take_to_read(&self, length: usize) -> Option<BufferId> {
        let buffer = self.take(length)?;
        let counts = u64::try_from(length).unwrap_or(u64::MAX);
        self.slot(buffer)?.read.store(counts, Ordering::Relaxed);
        self.reading.fetch_add(counts, Ordering::SeqCst);
        Some(buffer)
    }

    /// A buffer with one user. `None` for more than [`LONGEST`], and when there are
    /// too many.
    pub(super) fn take(&self, length: usize) -> Option<BufferId> {
        if length > LONGEST {
            return None;
        }
        let class = class(length);
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let index = if let Some(index) = pool.free.get_mut(class)?.pop() {
            drop(pool);
            index
        } else {
            let size = size(class);
            let gone = self.make_room(&mut pool, size);
            let index = pool.empty.pop()?;
            pool.total += u64::try_from(size).unwrap_or(0);
            drop(pool);
            drop(gone);
            let slot = self.slot(BufferId(index))?;
            let mut data = slot.data.write().unwrap_or_else(PoisonError::into_inner);
            *data = Vec::with_capacity(size);
            data.resize(size, 0);
            index
        };
        let buffer = BufferId(index);
        self.slot(buffer)?.users.store(1, Ordering::Release);
        Some(buffer)
    }

    /// Takes memory of free buffers, the largest first, where there is too much, and
    /// where no slot is without: it is to be given back without the lock.
    fn make_room(&self, pool: &mut Pool, size: usize) -> Vec<Vec<u8>> {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let mut gone = Vec::new();
        while pool.total.saturating_add(size) > self.enough || pool.empty.is_empty() {
            let Some(index) = pool.free.iter_mut().rev().find_map(Vec::pop) else {
                break;
            };
            if let Some(slot) = self.slot(BufferId(index)) {
                let mut data = slot.data.write().unwrap_or_else(PoisonError::into_inner);
                let data = std::mem::take(&mut *data);
                let had = u64::try_from(data.len()).unwrap_or(0);
                pool.total = pool.total.saturating_sub(had);
                gone.push(data);
            }
            pool.empty.push(index);
        }
        gone
    }

    /// One more needs it.
    pub(super) fn retain(&self, buffer: BufferId) {
        if let Some(slot) = self.slot(buffer) {
            slot.users.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// One needs it no more; with the last it is free.
    pub(super) fn release(&self, buffer: BufferId) {
        let Some(slot) = self.slot(buffer) else {
            return;
        };
        if slot.users.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let read = slot.read.swap(0, Ordering::AcqRel);
        let length = slot.data.read().map_or(0, |data| data.len());
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = pool.free.get_mut(class(length)) {
            free.push(buffer.0);
        }
        drop(pool);
        self.reading.fetch_sub(read, Ordering::SeqCst);
    }

    /// To look at its bytes.
    pub(super) fn read(&self, buffer: BufferId) -> Option<RwLockReadGuard<'_, Vec<u8>>> {
        let slot = self.slot(buffer)?;
        Some(slot.data.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// To change its bytes.
    pub(super) fn write(&self, buffer: BufferId) -> Option<RwLockWriteGuard<'_, Vec<u8>>> {
        let slot = self.slot(buffer)?;
        Some(slot.data.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes of all buffers, free or not.
    pub(super) fn total(&self) -> u64 {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.total
    }

    fn slot(&self, buffer: BufferId) -> Option<&Slot> {
        self.slots.get(usize::try_from(buffer.0).ok()?)
    }
}

/// The smallest class whose buffers have `length` bytes.
fn class(length: usize) -> usize {
    let units = length.div_ceil(UNIT).max(4);
    // 4 to 7 quarters of the power of two that is not above it, or 8: the next's 4.
    let power = usize::try_from(units.ilog2()).unwrap_or(2) - 2;
    let quarters = units.div_ceil(1 << power);
    power * 4 + quarters - 4
}

fn size(class: usize) -> usize {
    ((4 + class % 4) << (class / 4)) * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_length_and_wastes_a_fifth_at_most() {
        let lengths = (0..200_000).chain([1 << 20, 1280 << 10, LONGEST - 1, LONGEST]);
        for length in lengths {
            let class = class(length);
            assert!(size(class) >= length);
            assert!(class == 0 || size(class - 1) < length, "{length}");
            assert!(length <= 512 || size(class) * 4 <= length * 5 + 5 * UNIT);
        }
        assert_eq!(size(class(1280 << 10)), 1280 << 10);
    }

    #[test]
    fn a_buffer_is_used_again_when_its_last_user_is_gone() {
        let buffers = Buffers::new(4, 0);
        let first = buffers.take(4096).unwrap();
        buffers.retain(first);
        buffers.release(first);
        assert_ne!(buffers.take(4096), Some(first));
        buffers.release(first);
        assert_eq!(buffers.take(4000), Some(first));
        assert_eq!(buffers.total(), 2 * 4096);
    }

    #[test]
    fn free_buffers_make_room_for_others() {
        let buffers = Buffers::new(64, 0);
        buffers.reserve(64, 1 << 19);
        assert_eq!(buffers.total(), READS);
        let long = buffers.take(1 << 20).unwrap();
        assert_eq!(buffers.read(long).unwrap().len(), 1 << 20);
        assert!(buffers.total() <= READS);
        assert_eq!(buffers.take(LONGEST + 1), None);
    }

    #[test]
    fn many_small_ones_that_are_free_leave_room_for_larger_ones() {
        let buffers = Buffers::new(16, 1 << 30);
        buffers.reserve(16, 4096);
        let larger: Vec<_> = (0..16).map_while(|_| buffers.take(65_536)).collect();
        assert_eq!(larger.len(), 16);
        assert_eq!(buffers.take(512), None, "all are in use");
        for buffer in larger {
            buffers.release(buffer);
        }
        assert!(buffers.take(512).is_some());
    }

    #[test]
    fn reads_have_their_bound_and_a_long_one_goes_alone() {
        let buffers = Buffers::new(4, 0);
        assert!(buffers.has_room_to_read(READS + 1));
        let one = buffers.take_to_read(16 << 20).unwrap();
        assert!(buffers.has_room_to_read(16 << 20));
        assert!(!buffers.has_room_to_read((16 << 20) + 1));
        buffers.release(one);
        assert!(buffers.has_room_to_read(READS));
        // As data of a WRITE it counts no more.
        assert_eq!(buffers.take(16 << 20), Some(one));
        assert!(buffers.has_room_to_read(READS));
    }
}
