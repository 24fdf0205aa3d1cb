//! Verified load of requests that overlap: every block has the number of the write that
//! it has, and each answer is judged by all that went before. What it is a load of, a
//! stand-in for the driver or a device, it must not know.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::checker::{Checker, Value};

/// What the load is of; nothing of it fails.
pub trait Disk: Clone + Send + 'static {
    fn read(&self, offset: u64, length: u32) -> Vec<u8>;
    /// `durable`: on the disk before it is answered (FUA).
    fn write(&self, offset: u64, data: &[u8], durable: bool);
    fn zero(&self, offset: u64, length: u32);
    /// On a server that makes zeroes of it.
    fn trim(&self, offset: u64, length: u32);
    fn flush(&self);
}

pub const BLOCK: u64 = 4096;
/// Few, so that requests overlap.
pub const BLOCKS: u64 = 48;
/// The longest request, in blocks.
const LONGEST: u64 = 5;

pub struct Load {
    checker: Mutex<Checker>,
    clock: AtomicU64,
    ops: AtomicU64,
    done: AtomicUsize,
    stop: AtomicUsize,
}

impl Load {
    /// So many threads, each with one request at a time.
    pub fn run(disk: &impl Disk, threads: usize, seed: u64) -> Running {
        let load = Arc::new(Self {
            checker: Mutex::new(Checker::new(BLOCKS as usize)),
            clock: AtomicU64::new(1),
            ops: AtomicU64::new(1),
            done: AtomicUsize::new(0),
            stop: AtomicUsize::new(0),
        });
        let threads = (0..threads as u64).map(|n| {
            let (load, disk) = (Arc::clone(&load), disk.clone());
            thread::spawn(move || {
                let mut dice = Dice(seed * 1000 + n);
                while load.stop.load(Ordering::SeqCst) == 0 {
                    load.one(&disk, &mut dice);
                    load.done.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        Running {
            threads: threads.collect(),
            load,
        }
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn one(&self, disk: &impl Disk, dice: &mut Dice) {
        let first = dice.below(BLOCKS - LONGEST);
        let count = 1 + dice.below(LONGEST);
        let blocks = first as usize..(first + count) as usize;
        let (offset, length) = (first * BLOCK, (count * BLOCK) as u32);
        let kind = dice.below(32);
        let invoked = self.now();
        match kind {
            0..14 => {
                let read = disk.read(offset, length);
                let now = self.now();
                let mut checker = self.checker.lock().unwrap();
                for (block, bytes) in blocks.zip(read.chunks(BLOCK as usize)) {
                    checker.read(block, number(bytes), invoked, now);
                }
            }
            14..16 => {
                disk.flush();
                self.checker.lock().unwrap().flushed(invoked);
            }
            _ => {
                let op = self.ops.fetch_add(1, Ordering::SeqCst);
                let value = if kind < 28 { op } else { 0 };
                let durable = kind < 28 && dice.below(8) == 0;
                let mut checker = self.checker.lock().unwrap();
                for block in blocks.clone() {
                    checker.write(block, op, Value::Is(value), invoked);
                }
                drop(checker);
                match kind {
                    16..28 => {
                        let block = op.to_be_bytes().repeat(BLOCK as usize / 8);
                        disk.write(offset, &block.repeat(count as usize), durable);
                    }
                    28..31 => disk.zero(offset, length),
                    _ => disk.trim(offset, length),
                }
                let now = self.now();
                let mut checker = self.checker.lock().unwrap();
                for block in blocks {
                    checker.answered(block, op, now, durable);
                }
            }
        }
    }
}

/// The number that all of a block has.
fn number(bytes: &[u8]) -> u64 {
    let first = &bytes[..8];
    assert!(bytes.chunks(8).all(|part| part == first), "a block is torn");
    u64::from_be_bytes(first.try_into().unwrap())
}

pub struct Running {
    threads: Vec<thread::JoinHandle<()>>,
    load: Arc<Load>,
}

impl Running {
    /// Waits until so many more requests are done.
    pub fn wait_for(&self, count: usize) {
        let until = self.load.done.load(Ordering::SeqCst) + count;
        while self.load.done.load(Ordering::SeqCst) < until {
            assert!(!self.has_failed(), "the load has failed");
            thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// An answer was wrong: its thread has said so, and ended.
    pub fn has_failed(&self) -> bool {
        self.threads.iter().any(thread::JoinHandle::is_finished)
    }

    /// Ends it, whatever it saw.
    pub fn abandon(self) {
        self.load.stop.store(1, Ordering::SeqCst);
        for thread in self.threads {
            let _ = thread.join();
        }
    }

    /// Judges what a disk holds.
    pub fn judge(&self, disk: &[u8]) {
        let checker = self.load.checker.lock().unwrap();
        for (block, bytes) in disk.chunks(BLOCK as usize).enumerate() {
            checker.on_disk(block, number(bytes));
        }
    }

    /// Ends it, reads everything once more.
    pub fn end(self, disk: &impl Disk) {
        self.load.stop.store(1, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let invoked = self.load.now();
        let all = disk.read(0, (BLOCKS * BLOCK) as u32);
        let now = self.load.now();
        let mut checker = self.load.checker.lock().unwrap();
        for (block, bytes) in all.chunks(BLOCK as usize).enumerate() {
            checker.read(block, number(bytes), invoked, now);
        }
    }
}

/// splitmix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % below
    }
}
