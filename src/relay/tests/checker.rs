//! What the kernel may see: each block as a register whose writes and reads overlap
//! in time, and what must be on the disk whatever happens.
//!
//! A write is surely there from its answer on, or from the first answer of a read
//! that saw it. A value must not be seen when another write was surely made after
//! it, and surely there before the read began. This is weaker than linearizability
//! only where writes of one block were under way at one time.

/// Moments are counted.
pub(super) type Time = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Is(u64),
    /// After a TRIM, where the server ignores it.
    Anything,
}

#[derive(Debug, Clone)]
struct Write {
    op: u64,
    value: Value,
    invoked: Time,
    /// Surely there since.
    there: Option<Time>,
    /// The kernel knows since.
    answered: Option<Time>,
    failed: Option<Time>,
    /// On the disk for certain, as the kernel was told.
    promised: bool,
}

impl Write {
    fn over(&self) -> Option<Time> {
        self.there.or(self.failed)
    }

    fn surely_before(&self, other: &Self) -> bool {
        self.over().is_some_and(|over| over < other.invoked)
    }
}

#[derive(Debug)]
pub(super) struct Checker {
    blocks: Vec<Vec<Write>>,
}

impl Checker {
    pub(super) fn new(blocks: usize) -> Self {
        let first = Write {
            op: 0,
            value: Value::Is(0),
            invoked: 0,
            there: Some(0),
            answered: Some(0),
            failed: None,
            promised: true,
        };
        Self {
            blocks: vec![vec![first]; blocks],
        }
    }

    pub(super) fn write(&mut self, block: usize, op: u64, value: Value, invoked: Time) {
        self.blocks[block].push(Write {
            op,
            value,
            invoked,
            there: None,
            answered: None,
            failed: None,
            promised: false,
        });
    }

    fn find(&mut self, block: usize, op: u64) -> &mut Write {
        let mut writes = self.blocks[block].iter_mut();
        writes.find(|write| write.op == op).unwrap()
    }

    pub(super) fn answered(&mut self, block: usize, op: u64, now: Time, fua: bool) {
        let write = self.find(block, op);
        write.there = Some(write.there.unwrap_or(now));
        write.answered = Some(now);
        write.promised |= fua;
        self.forget(block);
    }

    pub(super) fn failed(&mut self, block: usize, op: u64, now: Time) {
        let write = self.find(block, op);
        write.there = None;
        write.failed = Some(now);
    }

    /// A FLUSH was answered: what was answered before it began is on the disk.
    pub(super) fn flushed(&mut self, invoked: Time) {
        for write in self.blocks.iter_mut().flatten() {
            // That a read saw it is no promise.
            write.promised |= write.answered.is_some_and(|answered| answered < invoked);
        }
    }

    /// Judges what a read saw.
    pub(super) fn read(&mut self, block: usize, seen: u64, invoked: Time, now: Time) {
        let writes = &self.blocks[block];
        let replaced = |write: &Write| {
            writes.iter().any(|newer| {
                let there = newer.there.is_some_and(|there| there < invoked);
                there && write.surely_before(newer)
            })
        };
        let fits = |write: &&Write| {
            (write.value == Value::Is(seen) || write.value == Value::Anything) && !replaced(write)
        };
        let ops: Vec<u64> = writes.iter().filter(fits).map(|write| write.op).collect();
        assert!(
            !ops.is_empty(),
            "block {block}: a read of {invoked}..{now} sees {seen}, in\n{writes:#?}"
        );
        if let [op] = ops[..] {
            let write = self.find(block, op);
            if write.failed.is_none() && write.value != Value::Anything {
                write.there = Some(write.there.unwrap_or(now));
            }
        }
    }

    /// Judges what a disk holds, or may hold after its power is lost.
    pub(super) fn on_disk(&self, block: usize, value: u64) {
        let writes = &self.blocks[block];
        let fits = writes.iter().any(|write| {
            let same = write.value == Value::Is(value) || write.value == Value::Anything;
            let mut newer = writes.iter().filter(|newer| newer.promised);
            same && !newer.any(|newer| write.surely_before(newer))
        });
        assert!(
            fits,
            "block {block}: the disk may have {value}, in\n{writes:#?}"
        );
    }

    /// Drops what cannot be seen again: keeps a long run fast.
    fn forget(&mut self, block: usize) {
        let writes = &mut self.blocks[block];
        if writes.len() > 200 {
            // The oldest are judged no more, except as what must not be seen.
            let gone = writes.len() - 100;
            let old = writes.iter().take(gone).all(|write| write.over().is_some());
            let covered = writes.iter().skip(gone).any(|write| {
                write.promised && writes.iter().take(gone).all(|old| old.surely_before(write))
            });
            if old && covered {
                writes.drain(..gone);
            }
        }
    }
}
