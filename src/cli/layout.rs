//! How the extents of a map look from afar: totals, and a bar.

use std::collections::BTreeMap;

use super::show;
use crate::proto::transmission::Extent;

/// Cells of the bar; with its margins it fits 80 columns.
const CELLS: u64 = 72;

/// The statuses that get a letter and a total of their own; any beyond are
/// counted together, as a server may send a new one with every extent.
const MAX_KINDS: usize = 16;

/// Gathers extents as they come.
pub(super) struct Layout {
    offset: u64,
    length: u64,
    /// Bytes for each status, in the order of their coming.
    totals: Vec<(u64, u64)>,
    others: u64,
    /// For each cell, bytes of each kind.
    cells: Vec<BTreeMap<usize, u64>>,
}

impl Layout {
    pub(super) fn new(offset: u64, length: u64) -> Self {
        Self {
            offset,
            length,
            totals: Vec::new(),
            others: 0,
            cells: vec![BTreeMap::new(); usize::try_from(CELLS).unwrap_or(0)],
        }
    }

    pub(super) fn add(&mut self, offset: u64, extent: Extent) {
        let kind = self.kind(extent);
        let begin = offset.saturating_sub(self.offset);
        let end = begin.saturating_add(extent.length);
        for (number, cell) in (0..).zip(&mut self.cells) {
            let from = Self::edge(self.length, number).max(begin);
            let to = Self::edge(self.length, number + 1).min(end);
            if from < to {
                *cell.entry(kind).or_default() += to - from;
            }
        }
    }

    /// Where a cell begins.
    fn edge(length: u64, number: u64) -> u64 {
        let edge = u128::from(length) * u128::from(number) / u128::from(CELLS);
        u64::try_from(edge).unwrap_or(u64::MAX)
    }

    fn kind(&mut self, extent: Extent) -> usize {
        let known = self
            .totals
            .iter()
            .position(|(status, _)| *status == extent.status);
        let kind = known.unwrap_or_else(|| {
            if self.totals.len() < MAX_KINDS {
                self.totals.push((extent.status, 0));
                self.totals.len() - 1
            } else {
                MAX_KINDS
            }
        });
        match self.totals.get_mut(kind) {
            Some((_, total)) => *total += extent.length,
            None => self.others += extent.length,
        }
        kind
    }

    /// The bar, and a line for each status with what it has of the whole.
    pub(super) fn lines(&self, words: impl Fn(u64) -> String) -> Vec<String> {
        if self.length == 0 {
            return Vec::new();
        }
        let bar: String = self
            .cells
            .iter()
            .map(|cell| self.cell(cell, &words))
            .collect();
        let mut lines = vec![String::new(), format!("[{bar}]")];
        for (kind, (status, total)) in self.totals.iter().enumerate() {
            let words = words(*status);
            lines.push(self.total(Self::letter(kind, &words), &words, *total));
        }
        if self.others > 0 {
            lines.push(self.total('?', "others", self.others));
        }
        lines
    }

    fn total(&self, letter: char, words: &str, total: u64) -> String {
        let share = u128::from(total) * 1000 / u128::from(self.length.max(1));
        format!(
            "{letter} {words:<18} {:>9}  {:>3}.{} %",
            show::size(total),
            share / 10,
            share % 10
        )
    }

    /// What most of a cell is.
    fn cell(&self, cell: &BTreeMap<usize, u64>, words: &impl Fn(u64) -> String) -> char {
        let most = cell.iter().max_by_key(|(_, bytes)| **bytes);
        most.map_or(' ', |(kind, _)| {
            self.totals
                .get(*kind)
                .map_or('?', |(status, _)| Self::letter(*kind, &words(*status)))
        })
    }

    /// Signs that look like what they stand for where that is known, else letters.
    fn letter(kind: usize, words: &str) -> char {
        match words {
            "data" => '#',
            "zero" => '0',
            "hole" => '_',
            "hole,zero" => '.',
            _ => (b'a'..=b'z').nth(kind).map_or('?', char::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(length: u64, status: u64) -> Extent {
        Extent { length, status }
    }

    #[test]
    fn the_bar_shows_where_what_is() {
        let mut layout = Layout::new(1000, 7200);
        layout.add(1000, extent(3600, 0));
        layout.add(4600, extent(3600, 3));
        let lines =
            layout.lines(|status| if status == 0 { "data" } else { "hole,zero" }.to_owned());
        assert_eq!(lines[1], format!("[{}{}]", "#".repeat(36), ".".repeat(36)));
        assert_eq!(lines[2], "# data                 3.5 KiB   50.0 %");
        assert!(lines.iter().all(|line| line.len() <= 80));
    }

    #[test]
    fn a_server_that_invents_statuses_costs_no_memory() {
        let mut layout = Layout::new(0, 1 << 40);
        for number in 0..10_000 {
            layout.add(number << 20, extent(1 << 20, number));
        }
        assert_eq!(layout.totals.len(), MAX_KINDS);
        assert_eq!(layout.others, (10_000 - 16) << 20);
        assert!(layout.lines(|s| s.to_string()).len() <= MAX_KINDS + 3);
    }

    #[test]
    fn the_largest_sizes_overflow_nothing() {
        let mut layout = Layout::new(0, u64::MAX);
        layout.add(0, extent(u64::MAX, 1 << 63));
        assert_eq!(
            layout.lines(|s| format!("{s:#x}"))[1],
            format!("[{}]", "a".repeat(72))
        );
    }
}
