//! Which bytes of a READ have been answered: each exactly once, in any order.
//! It knows offsets from the start of the request, and nothing else.

/// The most places that a reply may be in at a time. Servers answer in order,
/// or in as many orders as they have threads; 4096 places are 64 KiB, and a
/// new one in their midst costs microseconds, so that no order of chunks makes
/// a client slow.
pub(super) const MAX_ISLANDS: usize = 4096;

/// Why bytes cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Outside,
    Overlap,
    Scattered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

/// A set of bytes of a range that begins at 0.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    length: u64,
    /// All before it is there: a reply in order needs nothing else.
    front: u64,
    /// What is there beyond it: in order, and none touches another or `front`.
    islands: Vec<Span>,
}

impl Coverage {
    /// Begins again with a range of this length; keeps its memory.
    pub(super) fn reset(&mut self, length: u64) {
        self.length = length;
        self.front = 0;
        self.islands.clear();
    }

    /// The first byte that is missing.
    pub(super) fn gap(&self) -> Option<u64> {
        (self.front < self.length).then_some(self.front)
    }

    /// Adds bytes that must not be there yet; none of them where it is refused.
    pub(super) fn add(&mut self, start: u64, length: u64) -> Result<(), Refused> {
        let end = start
            .checked_add(length)
            .filter(|end| *end <= self.length)
            .ok_or(Refused::Outside)?;
        if start < self.front {
            return Err(Refused::Overlap);
        }
        if start == self.front && self.islands.is_empty() {
            self.front = end;
            return Ok(());
        }
        self.add_among_islands(Span { start, end })
    }

    fn add_among_islands(&mut self, new: Span) -> Result<(), Refused> {
        let index = self.islands.partition_point(|span| span.start < new.start);
        let before = index
            .checked_sub(1)
            .and_then(|before| self.islands.get(before))
            .copied();
        let after = self.islands.get(index).copied();
        if before.is_some_and(|span| span.end > new.start)
            || after.is_some_and(|span| span.start < new.end)
        {
            return Err(Refused::Overlap);
        }
        let joins_after = after.is_some_and(|span| span.start == new.end);
        if new.start == self.front {
            self.front = new.end;
            if let Some(span) = after.filter(|_| joins_after) {
                self.front = span.end;
                self.islands.remove(index);
            }
            return Ok(());
        }
        let joins_before = before.is_some_and(|span| span.end == new.start);
        self.join(index, new, joins_before, joins_after)
    }

    /// Puts a span that overlaps nothing before the island at `index`.
    fn join(
        &mut self,
        index: usize,
        new: Span,
        joins_before: bool,
        joins_after: bool,
    ) -> Result<(), Refused> {
        match (joins_before, joins_after) {
            (false, false) if self.islands.len() >= MAX_ISLANDS => return Err(Refused::Scattered),
            (false, false) => self.islands.insert(index, new),
            (false, true) => {
                if let Some(span) = self.islands.get_mut(index) {
                    span.start = new.start;
                }
            }
            (true, _) => {
                let end = if joins_after {
                    self.islands.remove(index).end
                } else {
                    new.end
                };
                if let Some(span) = self.islands.get_mut(index.saturating_sub(1)) {
                    span.end = end;
                }
            }
        }
        Ok(())
    }

    /// Sees to it that nothing is added over this byte from now on.
    pub(super) fn close(&mut self, at: u64) -> Result<(), Refused> {
        match self.add(at, 1) {
            Err(Refused::Overlap) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covering(length: u64) -> Coverage {
        let mut coverage = Coverage::default();
        coverage.reset(length);
        coverage
    }

    #[test]
    fn a_reply_in_order_needs_no_memory() {
        let mut coverage = covering(1 << 40);
        for piece in 0..1 << 10 {
            coverage.add(piece << 30, 1 << 30).unwrap();
        }
        assert_eq!(coverage.gap(), None);
        assert_eq!(coverage.islands.capacity(), 0);
    }

    #[test]
    fn what_is_there_is_not_taken_again() {
        let mut coverage = covering(100);
        coverage.add(50, 10).unwrap();
        for (start, length) in [(50, 1), (59, 1), (49, 2), (59, 2), (40, 30), (52, 3)] {
            assert_eq!(coverage.add(start, length), Err(Refused::Overlap));
        }
        assert_eq!(coverage.add(91, 10), Err(Refused::Outside));
        assert_eq!(coverage.add(u64::MAX, 2), Err(Refused::Outside));
        coverage.add(0, 50).unwrap();
        assert_eq!(coverage.gap(), Some(60));
        assert_eq!(coverage.add(59, 1), Err(Refused::Overlap));
        coverage.add(60, 40).unwrap();
        assert_eq!(coverage.gap(), None);
    }

    #[test]
    fn the_number_of_places_is_bounded() {
        let mut coverage = covering(1 << 20);
        for piece in 0..MAX_ISLANDS as u64 {
            coverage.add(1 + 2 * piece, 1).unwrap();
        }
        assert_eq!(coverage.add(1 << 19, 1), Err(Refused::Scattered));
        // What joins places still finds room.
        coverage.add(2, 1).unwrap();
        coverage.add(1 << 19, 1).unwrap();
        coverage.add(0, 1).unwrap();
    }

    #[test]
    fn a_closed_byte_is_closed_once_and_for_all() {
        let mut coverage = covering(10);
        coverage.add(0, 5).unwrap();
        coverage.close(3).unwrap();
        coverage.close(7).unwrap();
        coverage.close(7).unwrap();
        assert_eq!(coverage.add(5, 5), Err(Refused::Overlap));
        coverage.add(5, 2).unwrap();
        assert_eq!(coverage.close(10), Err(Refused::Outside));
    }

    proptest! {
        /// Held against a plain map of bytes.
        #[test]
        fn it_knows_exactly_what_is_there(
            pieces in prop::collection::vec((0u64..70, 1u64..9), 0..60),
        ) {
            let mut coverage = covering(64);
            let mut model = [false; 64];
            for (start, length) in pieces {
                let range = usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap();
                let expected = match model.get(range.clone()) {
                    None => Err(Refused::Outside),
                    Some(bytes) if bytes.contains(&true) => Err(Refused::Overlap),
                    Some(_) => Ok(()),
                };
                prop_assert_eq!(coverage.add(start, length), expected);
                if expected.is_ok() {
                    model[range].fill(true);
                }
                let gap = model.iter().position(|there| !there).map(|gap| gap as u64);
                prop_assert_eq!(coverage.gap(), gap);
                let mut last = coverage.front;
                for span in &coverage.islands {
                    prop_assert!(span.start > last && span.end > span.start);
                    last = span.end;
                }
            }
        }
    }
}
