//! What each thread of a load does: random blocks, and no end but the load's.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use super::Shared;
use super::journal::Kind;
use super::stamp::Buffer;

/// While everything is stuck, a read begins this often: some must be fresh in the
/// kernel's eyes, that is, begun after it saw the link die.
const PROBE_EVERY: Duration = Duration::from_millis(500);
const STUCK: Duration = Duration::from_millis(100);
/// Below the 128 requests that an nbd device takes at a time.
const MOST_PROBES: usize = 64;

pub fn write(shared: &Arc<Shared>, mut random: Random) {
    let mut buffer = Buffer::new(shared.plan.block_bytes);
    let mut count = 0u64;
    while shared.goes_on() {
        let number = random.below(shared.plan.blocks);
        let block = shared.block(number);
        if !block.hold() {
            continue;
        }
        shared.write(number, &mut buffer);
        block.let_go();
        count += 1;
        if shared.plan.flush_every > 0 && count % shared.plan.flush_every == 0 {
            shared.operation(Kind::Flush, 0, || shared.file.sync_data());
        }
    }
}

pub fn read(shared: &Arc<Shared>, mut random: Random) {
    let mut buffer = Buffer::new(shared.plan.block_bytes);
    while shared.goes_on() {
        let number = random.below(shared.plan.blocks);
        shared.read(Kind::Read, number, &mut buffer);
    }
}

/// Begins reads for as long as everything else is stuck, each in a thread.
pub fn probe(shared: &Arc<Shared>) {
    let mut random = Random(!shared.plan.seed);
    let threads = shared.plan.writers + shared.plan.readers;
    let mut last = Instant::now();
    while !shared.stopping.load(SeqCst) {
        thread::sleep(Duration::from_millis(20));
        let stuck = {
            let journal = shared.journal();
            let stuck = journal
                .pending
                .values()
                .filter(|one| one.begun.elapsed() > STUCK);
            stuck.filter(|one| one.kind != Kind::Probe).count() >= threads
        };
        let few = shared.probes.load(SeqCst) < MOST_PROBES;
        if !stuck || !few || last.elapsed() < PROBE_EVERY {
            continue;
        }
        last = Instant::now();
        let number = random.below(shared.plan.blocks);
        shared.probes.fetch_add(1, SeqCst);
        shared.spawn(move |shared| {
            let mut buffer = Buffer::new(shared.plan.block_bytes);
            shared.read(Kind::Probe, number, &mut buffer);
            shared.probes.fetch_sub(1, SeqCst);
        });
    }
}

/// splitmix64
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
