//! Every WRITE, WRITE_ZEROES and TRIM, in the order of the kernel, until the disk
//! of the server has it for certain. It must not know sessions, cookies or time.
//!
//! Two rules make it right:
//!
//! - An entry counts as durable when a FLUSH that was sent after its answer was
//!   answered, or at once where it had FUA or the server has no cache to flush.
//!   Its data are released then: they will never be sent again.
//! - The entry itself stays until every older one is gone. So while an older write
//!   may have to be sent again, all newer ones are known, and can be kept from
//!   being undone by it: see `plan` and [`Log::fragment`].
//!
//! No request looks at another one here: appending, answering and flushing cost
//! the same however long the log is.

use std::collections::VecDeque;

use crate::proto::transmission::{CommandFlags, Request};

use super::BufferId;

/// What is known of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The kernel waits for its answer.
    Open,
    /// It was answered by a server that is gone: the present one may not have it.
    Lost,
    /// It was answered by the present server, which may have it in memory only.
    Answered,
    /// The disk has it.
    Durable,
    /// It failed, and the kernel knows.
    Failed,
}

/// A change of the disk's contents.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) request: Request,
    pub(super) buffer: Option<BufferId>,
    pub(super) state: State,
}

impl Entry {
    pub(super) fn start(&self) -> u64 {
        self.request.offset
    }

    /// The first byte behind it; the request was checked to have one.
    pub(super) fn end(&self) -> u64 {
        self.request.offset.saturating_add(self.request.length)
    }

    /// Whether the kernel was told that it is done: older ones must not undo it.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Lost | State::Answered | State::Durable)
    }
}

/// How much the log may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of data that are not durable. A WRITE that alone is longer is taken
    /// when there are none.
    pub bytes: u64,
    /// Entries of any kind, of some 100 bytes each.
    pub entries: usize,
}

impl Default for LogLimits {
    /// 64 MiB: half a second of a fast network. 16,384 entries are as many writes
    /// of 4 KiB.
    fn default() -> Self {
        Self {
            bytes: 64 * 1024 * 1024,
            entries: 16 * 1024,
        }
    }
}

/// All that was answered when a FLUSH was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    limits: LogLimits,
    /// By `seq`, which has gaps only before the first.
    entries: VecDeque<Entry>,
    next_seq: u64,
    /// Entries that are [`State::Answered`], in the order of their answers.
    answered: VecDeque<u64>,
    /// How many ever left `answered`, so that a [`Mark`] stays true.
    flushed: u64,
    /// Of the data that are held.
    bytes: u64,
}

impl Log {
    pub(super) fn new(limits: LogLimits) -> Self {
        Self {
            limits,
            entries: VecDeque::with_capacity(limits.entries),
            next_seq: 0,
            answered: VecDeque::with_capacity(limits.entries),
            flushed: 0,
            bytes: 0,
        }
    }

    /// Whether a change with so many bytes of data can be taken.
    pub(super) fn has_room(&self, data: u64) -> bool {
        let fits = self.bytes.saturating_add(data) <= self.limits.bytes;
        self.entries.len() < self.limits.entries && (fits || self.bytes == 0)
    }

    /// Whether it is so full that what was answered should be flushed: from the
    /// half on, so that the kernel need not wait for it.
    pub(super) fn wants_flush(&self) -> bool {
        let full =
            self.bytes > self.limits.bytes / 2 || self.entries.len() > self.limits.entries / 2;
        full && !self.answered.is_empty()
    }

    /// Bytes of data that are held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All entries, the oldest first.
    pub(super) fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether something that was answered is not durable.
    pub(super) fn has_answered(&self) -> bool {
        !self.answered.is_empty()
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(self.index(seq)?)
    }

    fn index(&self, seq: u64) -> Option<usize> {
        let first = self.entries.front()?.seq;
        usize::try_from(seq.checked_sub(first)?).ok()
    }

    /// Takes in a change: ask [`Self::has_room`] first.
    pub(super) fn append(&mut self, request: Request, buffer: Option<BufferId>) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        if buffer.is_some() {
            self.bytes = self.bytes.saturating_add(request.length);
        }
        self.entries.push_back(Entry {
            seq,
            request,
            buffer,
            state: State::Open,
        });
        seq
    }

    /// The present server answered it; `durable` where that says all. Gives the
    /// data back that are not needed any more.
    pub(super) fn answered(&mut self, seq: u64, durable: bool) -> Option<BufferId> {
        if durable {
            return self.settle(seq, State::Durable);
        }
        self.set(seq, State::Answered);
        self.answered.push_back(seq);
        None
    }

    /// It failed: nothing is owed any more, and what is older counts again.
    pub(super) fn failed(&mut self, seq: u64) -> Option<BufferId> {
        self.settle(seq, State::Failed)
    }

    /// To be kept with a FLUSH that is sent now.
    pub(super) fn mark(&self) -> Mark {
        let waiting = u64::try_from(self.answered.len()).unwrap_or(u64::MAX);
        Mark(self.flushed.saturating_add(waiting))
    }

    /// A FLUSH was answered, by the server that it was sent to: all up to its mark
    /// is durable. Gives data back, one by one: call it until there are none.
    pub(super) fn flushed(&mut self, mark: Mark) -> Option<BufferId> {
        while self.flushed < mark.0 {
            let seq = self.answered.pop_front()?;
            self.flushed += 1;
            if let Some(buffer) = self.settle(seq, State::Durable) {
                return Some(buffer);
            }
        }
        None
    }

    /// The server is gone, and what it had not on its disk.
    pub(super) fn lose(&mut self) {
        while let Some(seq) = self.answered.pop_front() {
            self.flushed += 1;
            self.set(seq, State::Lost);
        }
    }

    /// All that was lost was sent again, and answered.
    pub(super) fn restored(&mut self) {
        for entry in &mut self.entries {
            if entry.state == State::Lost {
                entry.state = State::Answered;
                self.answered.push_back(entry.seq);
            }
        }
    }

    /// The first part of a change, from `from` on, that no newer one of those that
    /// the kernel knows to be done has replaced: where it starts and ends. `None`
    /// where nothing is left. For changes that were delayed.
    pub(super) fn fragment(&self, seq: u64, from: u64) -> Option<(u64, u64)> {
        let index = self.index(seq)?;
        let this = self.entries.get(index)?;
        let newer = || {
            let newer = self.entries.range(index.saturating_add(1)..);
            newer.filter(|entry| entry.is_done())
        };
        let mut start = from.max(this.start());
        // Each round passes one newer change at least.
        while let Some(over) = newer().find(|entry| entry.start() <= start && start < entry.end()) {
            start = over.end();
        }
        let ahead = newer().map(Entry::start).filter(|next| *next > start);
        let end = ahead.fold(this.end(), u64::min);
        (start < end).then_some((start, end))
    }

    fn set(&mut self, seq: u64, state: State) -> Option<&mut Entry> {
        let index = self.index(seq)?;
        let entry = self.entries.get_mut(index)?;
        entry.state = state;
        Some(entry)
    }

    /// Nothing of it will be sent again. The oldest entries go, if they can.
    fn settle(&mut self, seq: u64, state: State) -> Option<BufferId> {
        let entry = self.set(seq, state)?;
        let length = entry.request.length;
        let buffer = entry.buffer.take();
        if buffer.is_some() {
            self.bytes = self.bytes.saturating_sub(length);
        }
        let gone = |entry: &Entry| matches!(entry.state, State::Durable | State::Failed);
        while self.entries.front().is_some_and(gone) {
            self.entries.pop_front();
        }
        buffer
    }
}

/// Whether an answer to it means that it is durable.
pub(super) fn is_fua(request: &Request) -> bool {
    request.flags.contains(CommandFlags::FUA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::transmission::Command;
    use crate::relay::tests::request;

    fn log() -> Log {
        Log::new(LogLimits {
            bytes: 100,
            entries: 8,
        })
    }

    fn write(log: &mut Log, offset: u64, length: u64) -> u64 {
        let buffer = BufferId(u32::try_from(offset).unwrap());
        let write = request(Command::WRITE, CommandFlags::NONE, offset, length);
        log.append(write, Some(buffer))
    }

    fn flush(log: &mut Log, mark: Mark) -> Vec<u32> {
        std::iter::from_fn(|| log.flushed(mark))
            .map(|buffer| buffer.0)
            .collect()
    }

    #[test]
    fn a_flush_covers_what_was_answered_when_it_was_sent() {
        let mut log = log();
        let (a, b, c) = (
            write(&mut log, 1, 10),
            write(&mut log, 2, 10),
            write(&mut log, 3, 10),
        );
        assert_eq!(log.answered(a, false), None);
        let mark = log.mark();
        // Answered, but only after the FLUSH had gone.
        log.answered(b, false);
        assert_eq!(flush(&mut log, mark), [1]);
        assert_eq!((log.entries().len(), log.bytes()), (2, 20));
        let mark = log.mark();
        assert_eq!(flush(&mut log, mark), [2]);
        log.answered(c, false);
        assert_eq!(flush(&mut log, mark), [0; 0]);
        assert!(!log.is_empty());
    }

    #[test]
    fn an_entry_outlives_every_older_one_but_its_data_do_not() {
        let mut log = log();
        let old = write(&mut log, 1, 10);
        let new = write(&mut log, 2, 10);
        assert_eq!(log.answered(new, true), Some(BufferId(2)));
        assert_eq!((log.entries().len(), log.bytes()), (2, 10));
        log.answered(old, false);
        assert_eq!(log.entries().len(), 2);
        let mark = log.mark();
        assert_eq!(flush(&mut log, mark), [1]);
        assert!(log.is_empty());
    }

    #[test]
    fn what_a_server_took_along_needs_a_flush_of_the_next_one() {
        let mut log = log();
        let a = write(&mut log, 1, 10);
        log.answered(a, false);
        let mark = log.mark();
        log.lose();
        assert_eq!(flush(&mut log, mark), [0; 0], "the gone server's FLUSH");
        assert_eq!(log.get(a).unwrap().state, State::Lost);
        log.restored();
        assert_eq!(flush(&mut log, mark), [0; 0], "late");
        let mark = log.mark();
        assert_eq!(flush(&mut log, mark), [1]);
    }

    #[test]
    fn it_is_bounded_in_bytes_and_entries() {
        let mut log = log();
        assert!(log.has_room(1000), "alone, any length");
        let first = write(&mut log, 1, 60);
        assert!(log.has_room(40) && !log.has_room(41));
        assert!(!log.wants_flush(), "nothing to flush yet");
        log.answered(first, false);
        assert!(log.wants_flush());
        let mark = log.mark();
        flush(&mut log, mark);
        for _ in 0..8 {
            assert!(log.has_room(0));
            log.append(request(Command::TRIM, CommandFlags::NONE, 0, 9), None);
        }
        assert!(!log.has_room(0));
    }

    #[test]
    fn a_delayed_change_leaves_out_what_is_newer_and_done() {
        let mut log = log();
        let old = write(&mut log, 10, 40);
        assert_eq!(log.fragment(old, 10), Some((10, 50)));
        let open = write(&mut log, 20, 5);
        assert_eq!(log.fragment(old, 10), Some((10, 50)), "not done");
        log.answered(open, true);
        assert_eq!(log.fragment(old, 10), Some((10, 20)));
        assert_eq!(log.fragment(old, 20), Some((25, 50)));
        let two = [write(&mut log, 25, 5), write(&mut log, 28, 30)];
        for seq in two {
            log.answered(seq, false);
        }
        assert_eq!(log.fragment(old, 20), None);
        log.failed(two[1]);
        assert_eq!(log.fragment(old, 20), Some((30, 50)), "it was not done");
    }
}
