//! A sparse image in memory: what was written takes room, nothing else does.
//!
//! It must not know the protocol; every length up to 2^63 costs the same.

use std::collections::BTreeMap;

/// Room is taken in pages of this many bytes.
pub const PAGE: u64 = 65_536;

/// What is known of a range without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Data,
    /// Allocated, and reads as zeroes.
    Zero,
    Hole,
}

/// Pages that were written, and ranges that are allocated but zero.
#[derive(Clone, Default)]
pub struct Image {
    pages: BTreeMap<u64, Box<[u8]>>,
    reserved: Ranges,
}

impl Image {
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        for (page, within, part) in pieces(offset, out.len()) {
            match self.pages.get(&page) {
                Some(bytes) => {
                    let bytes = &bytes[within..within + part.len()];
                    out[part].copy_from_slice(bytes);
                }
                None => out[part].fill(0),
            }
        }
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (page, within, part) in pieces(offset, data.len()) {
            let bytes = self.pages.entry(page).or_insert_with(blank);
            bytes[within..within + part.len()].copy_from_slice(&data[part]);
        }
    }

    /// Makes a range read as zeroes: allocated if `reserve`, else as a hole.
    /// A page that is hit only in part stays allocated.
    pub fn zero(&mut self, offset: u64, length: u64, reserve: bool) {
        let end = offset + length;
        let first_whole = offset.div_ceil(PAGE);
        let end_whole = end / PAGE;
        if first_whole < end_whole {
            let whole = self.pages.range(first_whole..end_whole);
            let whole: Vec<u64> = whole.map(|(page, _)| *page).collect();
            whole.iter().for_each(|page| drop(self.pages.remove(page)));
        }
        self.blank_part(offset, end.min(first_whole * PAGE));
        self.blank_part(offset.max(end_whole * PAGE), end);
        if reserve {
            self.reserved.insert(offset, end);
        } else {
            self.reserved.remove(offset, end);
        }
    }

    fn blank_part(&mut self, start: u64, end: u64) {
        if start < end {
            if let Some(bytes) = self.pages.get_mut(&(start / PAGE)) {
                let within = size(start % PAGE);
                bytes[within..within + size(end - start)].fill(0);
            }
        }
    }

    /// Runs of one state from `offset` on, up to `length` bytes or `limit` runs.
    pub fn states(&self, offset: u64, length: u64, limit: usize) -> Vec<(u64, State)> {
        let end = offset + length;
        let mut runs: Vec<(u64, State)> = Vec::new();
        let mut at = offset;
        while at < end {
            let (until, state) = self.state(at, end);
            let full = runs.len() == limit;
            match runs.last_mut() {
                Some((length, last)) if *last == state => *length += until - at,
                _ if full => break,
                _ => runs.push((until - at, state)),
            }
            at = until;
        }
        runs
    }

    fn state(&self, at: u64, end: u64) -> (u64, State) {
        let page = at / PAGE;
        let next = self.pages.range(page..).next().map(|(page, _)| *page);
        if next == Some(page) {
            return (end.min((page + 1) * PAGE), State::Data);
        }
        let end = next.map_or(end, |next| end.min(next * PAGE));
        let (until, reserved) = self.reserved.at(at);
        let state = if reserved { State::Zero } else { State::Hole };
        (end.min(until), state)
    }
}

/// Ranges that neither touch nor overlap: start to end.
#[derive(Clone, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn insert(&mut self, start: u64, end: u64) {
        self.remove(start, end);
        if start < end {
            self.0.insert(start, end);
        }
    }

    fn remove(&mut self, start: u64, end: u64) {
        let hit = self.0.range(..end).rev();
        let hit: Vec<(u64, u64)> = hit
            .take_while(|(_, until)| **until > start)
            .map(|(from, until)| (*from, *until))
            .collect();
        for (from, until) in hit {
            self.0.remove(&from);
            if from < start {
                self.0.insert(from, start);
            }
            if until > end {
                self.0.insert(end, until);
            }
        }
    }

    /// Whether `at` lies in a range, and up to where that stays so.
    fn at(&self, at: u64) -> (u64, bool) {
        if let Some((_, until)) = self.0.range(..=at).next_back() {
            if *until > at {
                return (*until, true);
            }
        }
        let next = self.0.range(at..).next();
        (next.map_or(u64::MAX, |(start, _)| *start), false)
    }
}

/// Page, offset within it, and part of the buffer, for each page touched.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < length).then(|| {
            let at = offset + u64::try_from(done).unwrap();
            let within = size(at % PAGE);
            let part = (size(PAGE) - within).min(length - done);
            let piece = (at / PAGE, within, done..done + part);
            done += part;
            piece
        })
    })
}

fn blank() -> Box<[u8]> {
    vec![0; size(PAGE)].into_boxed_slice()
}

fn size(value: u64) -> usize {
    value.try_into().unwrap()
}
