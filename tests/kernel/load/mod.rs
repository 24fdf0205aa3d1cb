//! A load that knows what every block must hold: threads write and read random
//! blocks of a device, directly, and note what fails, what is wrong and what took
//! long. Nothing panics in its threads, and nothing waits for a dead device.
//!
//! | file | what it holds |
//! |---|---|
//! | `threads.rs` | what each thread does, in random order |
//! | `stamp.rs` | what a block holds; direct I/O |
//! | `journal.rs` | what the operations did, and when |
//! | `report.rs` | what became of it all; verification |
//!
//! A block has a version, 0 before its first write. Between its last acknowledged
//! and its last begun version, every read must find one, whole.

#![allow(dead_code, unused_imports, reason = "each suite uses a part of it")]

mod journal;
mod report;
mod stamp;
mod threads;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

pub use journal::{Counts, Failure, Kind, Operation, Pending, Resumed, Wrong};
pub use report::LoadReport;
pub use stamp::{Buffer, Content, read_block, write_block};
pub use threads::Random;

use journal::Journal;

/// How long `stop` waits for what is under way.
const STOP: Duration = Duration::from_secs(30);
/// How long a load may take to get going.
const START: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub writers: usize,
    pub readers: usize,
    pub blocks: u64,
    pub block_bytes: usize,
    pub region_start: u64,
    pub seed: u64,
    /// A writer flushes after so many writes; 0 is never.
    pub flush_every: u64,
    /// A thread's pause between two operations.
    pub pace: Option<Duration>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            writers: 2,
            readers: 2,
            blocks: 512,
            block_bytes: 4096,
            region_start: 0,
            seed: 1,
            flush_every: 64,
            pace: None,
        }
    }
}

impl Plan {
    pub fn offset(&self, block: u64) -> u64 {
        self.region_start + block * u64::try_from(self.block_bytes).unwrap()
    }
}

#[derive(Default)]
struct Block {
    /// Raised before the write.
    begun: AtomicU64,
    /// Raised after it.
    acked: AtomicU64,
    /// A writer has it.
    held: AtomicBool,
}

struct Shared {
    plan: Plan,
    file: File,
    blocks: Vec<Block>,
    stopping: AtomicBool,
    /// Threads that have not ended.
    threads: AtomicUsize,
    probes: AtomicUsize,
    journal: Mutex<Journal>,
}

/// A running load; dropped, it ends by itself.
pub struct Load {
    shared: Arc<Shared>,
}

impl Load {
    /// Starts it on a region that holds zeroes.
    pub fn start(device: &Path, plan: Plan) -> Self {
        let blocks = usize::try_from(plan.blocks).unwrap();
        assert!(plan.writers < blocks, "each writer holds a block");
        let shared = Arc::new(Shared {
            plan,
            file: stamp::open_direct(device, true).unwrap(),
            blocks: (0..blocks).map(|_| Block::default()).collect(),
            stopping: AtomicBool::new(false),
            threads: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            journal: Mutex::new(Journal::new()),
        });
        for number in 0..plan.writers + plan.readers {
            let random = Random(plan.seed ^ (u64::try_from(number).unwrap() << 32));
            let work = if number < plan.writers {
                threads::write
            } else {
                threads::read
            };
            shared.spawn(move |shared| work(shared, random));
        }
        shared.spawn(threads::probe);
        Self { shared }
    }

    /// Ends it. What does not end in time is left behind and reported.
    pub fn stop(self) -> LoadReport {
        self.stop_within(STOP)
    }

    pub fn stop_within(self, limit: Duration) -> LoadReport {
        self.shared.stopping.store(true, SeqCst);
        wait(limit, || self.shared.threads.load(SeqCst) == 0);
        self.report()
    }

    /// As it is now.
    pub fn report(&self) -> LoadReport {
        // The journal first: what it calls ended is then in the versions.
        let journal = self.shared.journal().clone();
        let versions = self.shared.blocks.iter().map(Block::versions).collect();
        LoadReport::new(self.shared.plan, journal, versions)
    }

    /// Now, and what begins next is kept in the report however short it is: put
    /// one just after an outage began, and one where it is over. (Not before: what
    /// is in flight when it begins may have begun since then.)
    pub fn mark(&self) -> Instant {
        self.shared.journal().mark()
    }

    pub fn resumed_after(&self, down: Instant, back: Instant) -> Resumed {
        self.shared.journal().resumed_after(down, back)
    }

    pub fn operations_now(&self) -> u64 {
        self.shared.journal().counts.all()
    }

    pub fn counts(&self) -> Counts {
        self.shared.journal().counts
    }

    /// An operation has been waiting for longer than that.
    pub fn is_stuck(&self, limit: Duration) -> bool {
        let journal = self.shared.journal();
        journal
            .pending
            .values()
            .any(|one| one.begun.elapsed() > limit)
    }

    /// Waits until each thread may have had a few turns.
    pub fn wait_until_running(&self) {
        let most = 4 * (self.shared.plan.writers + self.shared.plan.readers);
        let enough = self.operations_now() + u64::try_from(most).unwrap();
        let running = wait(START, || self.operations_now() >= enough);
        assert!(running, "the load does not run: {:?}", self.counts());
    }

    /// Whether, within a limit, everything that is under way now ended and as many
    /// operations as there are threads began later and succeeded.
    pub fn wait_until_resumed(&self, limit: Duration) -> bool {
        let (now, enough) = {
            let journal = self.shared.journal();
            let threads = self.shared.plan.writers + self.shared.plan.readers;
            let under_way = journal.pending.len();
            let counts = journal.counts;
            let more = u64::try_from(under_way + threads).unwrap();
            (Instant::now(), counts.all() - counts.errors + more)
        };
        wait(limit, || {
            let journal = self.shared.journal();
            let waiting = journal.pending.values().any(|one| one.begun < now);
            !waiting && journal.counts.all() - journal.counts.errors >= enough
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
    }
}

fn wait(limit: Duration, done: impl Fn() -> bool) -> bool {
    let until = Instant::now() + limit;
    while !done() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

impl Block {
    /// The least version that may be found from now on, and the most until now.
    fn versions(&self) -> (u64, u64) {
        let acked = self.acked.load(SeqCst);
        (acked, self.begun.load(SeqCst))
    }

    fn hold(&self) -> bool {
        !self.held.swap(true, SeqCst)
    }

    fn let_go(&self) {
        self.held.store(false, SeqCst);
    }
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap()
    }

    fn spawn(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let shared = Arc::clone(self);
        self.threads.fetch_add(1, SeqCst);
        thread::spawn(move || {
            work(&shared);
            shared.threads.fetch_sub(1, SeqCst);
        });
    }

    fn goes_on(&self) -> bool {
        if let Some(pace) = self.plan.pace {
            thread::sleep(pace);
        }
        !self.stopping.load(SeqCst)
    }

    fn operation(&self, kind: Kind, block: u64, work: impl FnOnce() -> io::Result<()>) -> bool {
        let id = self.journal().begin(kind, block);
        let result = work();
        self.journal().end(id, &result);
        if result.is_err() {
            // A dead device refuses at once, and without end.
            thread::sleep(Duration::from_millis(10));
        }
        result.is_ok()
    }

    fn block(&self, number: u64) -> &Block {
        &self.blocks[usize::try_from(number).unwrap()]
    }

    fn read(&self, kind: Kind, number: u64, buffer: &mut Buffer) {
        let block = self.block(number);
        let (acked, _) = block.versions();
        let work = || read_block(&self.file, buffer, self.plan.offset(number));
        if !self.operation(kind, number, work) {
            return;
        }
        let got = stamp::read(buffer, number, self.plan.seed);
        let (_, begun) = block.versions();
        match got {
            Content::Version(version) if (acked..=begun).contains(&version) => {}
            // No device promises more than sectors to a read beside a write.
            Content::Torn { least, most } if acked <= least && most <= begun => {
                self.journal().counts.overlaps += 1;
                self.read_alone(number, buffer);
            }
            got => self.wrong(number, (acked, begun), got),
        }
    }

    /// Reads a block that nobody is writing.
    fn read_alone(&self, number: u64, buffer: &mut Buffer) {
        let block = self.block(number);
        while !block.hold() {
            if self.stopping.load(SeqCst) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let (acked, begun) = block.versions();
        let work = || read_block(&self.file, buffer, self.plan.offset(number));
        if self.operation(Kind::Read, number, work) {
            let got = stamp::read(buffer, number, self.plan.seed);
            if !matches!(got, Content::Version(version) if (acked..=begun).contains(&version)) {
                self.wrong(number, (acked, begun), got);
            }
        }
        block.let_go();
    }

    fn wrong(&self, block: u64, expected: (u64, u64), got: Content) {
        let mut journal = self.journal();
        let at = Some(journal.start.elapsed());
        journal.wrong(Wrong {
            block,
            expected,
            got,
            at,
        });
    }

    fn write(&self, number: u64, buffer: &mut Buffer) {
        let block = self.block(number);
        let version = block.begun.load(SeqCst) + 1;
        stamp::write(buffer, number, version, self.plan.seed);
        block.begun.store(version, SeqCst);
        let work = || write_block(&self.file, buffer, self.plan.offset(number));
        if self.operation(Kind::Write, number, work) {
            block.acked.store(version, SeqCst);
        }
    }
}
