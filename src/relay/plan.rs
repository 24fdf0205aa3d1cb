//! What a new server has to be told again: the newest of what was lost, for every
//! byte once. It must not know how it is sent.
//!
//! The log is laid over itself: each byte belongs to the newest change of it that
//! the kernel knows to be done, and only those pieces are sent whose change was
//! lost. What is durable is not sent, but keeps what is older from being sent over
//! it. So the pieces do not overlap, may be carried out in any order, and never
//! bring back what was replaced, not even for a moment.
//!
//! The memory for it is set aside in advance: a disk may be waiting for us.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::log::{Log, State};

/// A range of bytes of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The change's.
    pub(super) seq: u64,
    done: bool,
}

/// A change that is laid over others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Layer {
    seq: u64,
    end: u64,
    lost: bool,
}

/// What is to be sent again.
#[derive(Debug)]
pub(super) struct Plan {
    /// By place.
    pieces: Vec<Piece>,
    /// Those that are to be sent, in the order of the log.
    queue: VecDeque<usize>,
    /// Those that are not answered.
    left: usize,
    layers: Vec<(u64, Layer)>,
    open: BinaryHeap<Layer>,
    ends: BinaryHeap<Reverse<u64>>,
}

impl Plan {
    /// For a log of at most so many entries.
    pub(super) fn new(entries: usize) -> Self {
        // Each entry begins one piece, and uncovers at most one where it ends.
        let most = entries.saturating_mul(2);
        Self {
            pieces: Vec::with_capacity(most),
            queue: VecDeque::with_capacity(most),
            left: 0,
            layers: Vec::with_capacity(entries),
            open: BinaryHeap::with_capacity(entries),
            ends: BinaryHeap::with_capacity(entries),
        }
    }

    /// Whether nothing is left to be answered.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.queue.clear();
        self.left = 0;
    }

    /// Plans what was lost.
    pub(super) fn make(&mut self, log: &Log) {
        self.clear();
        self.layers.clear();
        self.open.clear();
        self.ends.clear();
        for entry in log.entries().filter(|entry| entry.is_done()) {
            let layer = Layer {
                seq: entry.seq,
                end: entry.end(),
                lost: entry.state == State::Lost,
            };
            self.layers.push((entry.start(), layer));
        }
        self.layers.sort_unstable();
        self.sweep();
        self.queue.extend(0..self.pieces.len());
        let pieces = &self.pieces;
        let seq = |index: &usize| pieces.get(*index).map(|piece| piece.seq);
        self.queue.make_contiguous().sort_unstable_by_key(seq);
        self.left = self.pieces.len();
    }

    /// Goes over all places where a layer begins or ends; between two of them, the
    /// newest layer is the one that counts.
    fn sweep(&mut self) {
        let mut next = 0;
        loop {
            let begin = self.layers.get(next).map(|(start, _)| *start);
            let end = self.ends.peek().map(|Reverse(end)| *end);
            let Some(at) = begin.into_iter().chain(end).min() else {
                return;
            };
            while self.ends.peek().is_some_and(|Reverse(end)| *end <= at) {
                self.ends.pop();
            }
            while let Some((_, layer)) = self.layers.get(next).filter(|(start, _)| *start == at) {
                self.open.push(*layer);
                self.ends.push(Reverse(layer.end));
                next += 1;
            }
            while self.open.peek().is_some_and(|layer| layer.end <= at) {
                self.open.pop();
            }
            let begin = self.layers.get(next).map(|(start, _)| *start);
            let end = self.ends.peek().map(|Reverse(end)| *end);
            let until = begin.into_iter().chain(end).min();
            if let (Some(top), Some(until)) = (self.open.peek().copied(), until) {
                if top.lost {
                    self.lay(at, until, top.seq);
                }
            }
        }
    }

    fn lay(&mut self, start: u64, end: u64, seq: u64) {
        if let Some(last) = self.pieces.last_mut() {
            if last.seq == seq && last.end == start {
                last.end = end;
                return;
            }
        }
        self.pieces.push(Piece {
            start,
            end,
            seq,
            done: false,
        });
    }

    /// The next piece to send, and its index.
    pub(super) fn next(&mut self) -> Option<(usize, Piece)> {
        let index = self.queue.pop_front()?;
        self.pieces.get(index).map(|piece| (index, *piece))
    }

    pub(super) fn get(&self, index: usize) -> Option<Piece> {
        self.pieces.get(index).copied()
    }

    /// It could not be sent, or was sent to a session that ended.
    pub(super) fn again(&mut self, index: usize) {
        self.queue.push_front(index);
    }

    /// It was answered.
    pub(super) fn done(&mut self, index: usize) {
        if let Some(piece) = self.pieces.get_mut(index) {
            self.left = self.left.saturating_sub(usize::from(!piece.done));
            piece.done = true;
        }
    }

    /// Whether this one waits for its answer, to be sent perhaps.
    pub(super) fn waits(&self, index: usize) -> bool {
        self.left > 0 && self.pieces.get(index).is_some_and(|piece| !piece.done)
    }

    /// A piece of this range that waits for its answer.
    pub(super) fn blocker(&self, start: u64, end: u64) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let first = self.pieces.partition_point(|piece| piece.end <= start);
        let here = self.pieces.iter().enumerate().skip(first);
        let mut here = here.take_while(|(_, piece)| piece.start < end);
        here.find(|(_, piece)| !piece.done).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::log::LogLimits;
    use super::*;
    use crate::proto::transmission::{Command, CommandFlags};
    use crate::relay::tests::request;

    const LIMITS: LogLimits = LogLimits {
        bytes: 1 << 20,
        entries: 64,
    };

    /// A log of changes: where, how long, and how they ended.
    fn log(changes: &[(u64, u64, State)]) -> Log {
        let mut log = Log::new(LIMITS);
        // So that no entry leaves.
        log.append(request(Command::TRIM, CommandFlags::NONE, 1000, 1), None);
        let append = |(offset, length, state): &(u64, u64, State)| {
            let trim = request(Command::TRIM, CommandFlags::NONE, *offset, *length);
            (log.append(trim, None), *state)
        };
        let seqs: Vec<_> = changes.iter().map(append).collect();
        for (seq, state) in &seqs {
            if *state == State::Lost {
                log.answered(*seq, false);
            }
        }
        log.lose();
        for (seq, state) in seqs {
            match state {
                State::Durable => drop(log.answered(seq, true)),
                State::Failed => drop(log.failed(seq)),
                _ => {}
            }
        }
        log
    }

    fn pieces(plan: &mut Plan) -> Vec<(u64, u64, u64)> {
        std::iter::from_fn(|| plan.next())
            .map(|(_, piece)| (piece.start, piece.end, piece.seq))
            .collect()
    }

    #[test]
    fn the_newest_counts_and_what_is_durable_hides_what_is_older() {
        let mut plan = Plan::new(8);
        let lost = State::Lost;
        plan.make(&log(&[(0, 10, lost), (2, 4, lost), (8, 4, State::Durable)]));
        assert_eq!(pieces(&mut plan), [(0, 2, 1), (6, 8, 1), (2, 6, 2)]);
        plan.make(&log(&[
            (0, 4, lost),
            (0, 4, State::Failed),
            (9, 1, State::Open),
        ]));
        assert_eq!(pieces(&mut plan), [(0, 4, 1)]);
        plan.make(&log(&[(1, 2, lost), (0, 4, State::Durable)]));
        assert!(plan.is_done());
    }

    #[test]
    fn a_piece_blocks_its_range_until_it_is_answered() {
        let mut plan = Plan::new(8);
        plan.make(&log(&[(0, 4, State::Lost), (8, 4, State::Lost)]));
        assert_eq!(plan.blocker(4, 8), None);
        assert_eq!(plan.blocker(3, 9), Some(0));
        let (first, _) = plan.next().unwrap();
        plan.again(first);
        assert_eq!(plan.next().map(|(index, _)| index), Some(first));
        plan.done(first);
        plan.done(first);
        assert!(!plan.waits(first) && plan.waits(1));
        assert_eq!(plan.blocker(3, 9), Some(1));
        plan.done(1);
        assert!(plan.is_done());
        assert_eq!(plan.blocker(0, 100), None);
    }

    fn state() -> impl Strategy<Value = State> {
        prop::sample::select(vec![
            State::Open,
            State::Lost,
            State::Lost,
            State::Durable,
            State::Failed,
        ])
    }

    proptest! {
        /// Held against a plain map of bytes.
        #[test]
        fn every_byte_is_the_newest_ones(
            changes in prop::collection::vec((0u64..40, 1u64..12, state()), 0..40),
        ) {
            let mut model = [None; 64];
            for (index, (offset, length, state)) in changes.iter().enumerate() {
                let owner = match state {
                    State::Lost => Some(index as u64 + 1),
                    State::Durable => None,
                    _ => continue,
                };
                let range = usize::try_from(*offset).unwrap()..usize::try_from(offset + length).unwrap();
                model[range].fill(owner);
            }
            let mut plan = Plan::new(LIMITS.entries);
            let capacity = plan.pieces.capacity();
            plan.make(&log(&changes));
            prop_assert_eq!(plan.pieces.capacity(), capacity);
            let mut got = [None; 64];
            for (start, end, seq) in pieces(&mut plan) {
                for byte in start..end {
                    let place = &mut got[usize::try_from(byte).unwrap()];
                    prop_assert_eq!(*place, None, "twice");
                    *place = Some(seq);
                }
            }
            prop_assert_eq!(got, model);
        }
    }
}
