//! What became of a load, and whether its blocks are where it left them.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use super::Plan;
use super::journal::{Counts, Failure, Journal, Operation, Pending, Resumed, Wrong};
use super::stamp::{self, Buffer, Content};

/// A load that ended, or as it is now.
pub struct LoadReport {
    pub plan: Plan,
    /// Every operation that failed.
    pub errors: Vec<Failure>,
    /// Every block that was read and held what it must not.
    pub wrong: Vec<Wrong>,
    pub operations: Counts,
    /// Those that took long, or followed a mark.
    pub long: Vec<Operation>,
    /// Those that did not end in time; their threads are left behind.
    pub unfinished: Vec<Pending>,
    /// Each block's last acknowledged and last begun version.
    pub versions: Vec<(u64, u64)>,
    journal: Journal,
}

impl LoadReport {
    pub fn new(plan: Plan, journal: Journal, versions: Vec<(u64, u64)>) -> Self {
        Self {
            plan,
            errors: journal.errors.clone(),
            wrong: journal.wrong.clone(),
            operations: journal.counts,
            long: journal.long.clone(),
            unfinished: journal.pending.values().copied().collect(),
            versions,
            journal,
        }
    }

    /// How operations went on that an outage, from `down` to `back`, held up.
    pub fn resumed_after(&self, down: Instant, back: Instant) -> Resumed {
        self.journal.resumed_after(down, back)
    }

    /// Nothing failed, was wrong, or did not end; or says what.
    pub fn assert_good(&self) {
        let lines =
            |what: Vec<String>| what.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        let errors = lines(self.errors.iter().map(ToString::to_string).collect());
        let wrong = lines(self.wrong.iter().map(ToString::to_string).collect());
        let bad = self.operations.errors + self.operations.wrong;
        assert!(
            bad == 0 && self.unfinished.is_empty(),
            "{:?}\n{errors}\n{wrong}\nunfinished: {:?}",
            self.operations,
            self.unfinished
        );
    }

    /// Every block through the device, past its cache.
    pub fn verify_device(&self, device: &Path) -> Vec<Wrong> {
        self.verify(&stamp::open_direct(device, false).unwrap())
    }

    /// Every block in the server's file.
    pub fn verify_file(&self, image: &Path) -> Vec<Wrong> {
        self.verify(&File::open(image).unwrap())
    }

    fn verify(&self, file: &File) -> Vec<Wrong> {
        let mut buffer = Buffer::new(self.plan.block_bytes);
        let blocks = (0..self.plan.blocks).zip(&self.versions);
        let read = blocks.map(|(block, (acked, begun))| {
            let at = self.plan.offset(block);
            let got = match stamp::read_block(file, &mut buffer, at) {
                Ok(()) => stamp::read(&buffer, block, self.plan.seed),
                Err(error) => Content::Foreign(error.to_string()),
            };
            let good =
                matches!(got, Content::Version(version) if (*acked..=*begun).contains(&version));
            (!good).then_some(Wrong {
                block,
                expected: (*acked, *begun),
                got,
                at: None,
            })
        });
        read.flatten().collect()
    }
}
