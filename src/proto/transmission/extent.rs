//! Block status as lists of extents ("Metadata querying"). It must not know
//! how they travel.

/// The most extents of one status chunk: "servers SHOULD NOT send more than
/// 2^20 extents in a single reply chunk".
pub const MAX_EXTENTS: u32 = 1 << 20;

/// `NBD_STATE_HOLE` of `base:allocation`.
const STATE_HOLE: u64 = 1 << 0;
/// `NBD_STATE_ZERO` of `base:allocation`.
const STATE_ZERO: u64 = 1 << 1;

/// A metadata context that was selected in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectedContext {
    /// The server's number for it.
    pub id: u32,
    /// Whether its status may use all 64 bits.
    pub wide: bool,
}

impl SelectedContext {
    /// The `base:` contexts have 32 bits of status; of the others a client
    /// knows nothing.
    #[must_use]
    pub fn named(id: u32, name: &str) -> Self {
        Self {
            id,
            wide: !name.starts_with("base:"),
        }
    }
}

/// A run of bytes with one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// In bytes, never 0.
    pub length: u64,
    /// What it means is its context's.
    pub status: u64,
}

/// Appends an extent, or makes the last one longer where the status is the
/// same: "the client SHOULD be prepared to handle consecutive descriptors with
/// the same status".
pub fn push_merged(extents: &mut Vec<Extent>, next: Extent) {
    if let Some(last) = extents.last_mut() {
        if last.status == next.status {
            if let Some(length) = last.length.checked_add(next.length) {
                last.length = length;
                return;
            }
        }
    }
    extents.push(next);
}

/// The same extents, none beside one of its own status.
#[must_use]
pub fn merge(extents: &[Extent]) -> Vec<Extent> {
    let mut merged = Vec::new();
    for extent in extents {
        push_merged(&mut merged, *extent);
    }
    merged
}

/// What a status means in words, for the context of this name; `None` where
/// only the number can be shown. Unknown bits of `base:allocation` are ignored.
#[must_use]
pub fn allocation_words(context: &str, status: u64) -> Option<&'static str> {
    if context != "base:allocation" {
        return None;
    }
    let words = match (status & STATE_HOLE != 0, status & STATE_ZERO != 0) {
        (false, false) => "data",
        (false, true) => "zero",
        (true, false) => "hole",
        (true, true) => "hole,zero",
    };
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(length: u64, status: u64) -> Extent {
        Extent { length, status }
    }

    #[test]
    fn neighbours_of_one_status_become_one() {
        let merged = merge(&[extent(1, 0), extent(2, 0), extent(3, 1), extent(4, 0)]);
        assert_eq!(merged, [extent(3, 0), extent(3, 1), extent(4, 0)]);
    }

    #[test]
    fn a_sum_beyond_64_bits_stays_two_extents() {
        let extents = [extent(u64::MAX, 0), extent(1, 0)];
        assert_eq!(merge(&extents), extents);
    }

    #[test]
    fn only_base_allocation_has_words_and_its_unknown_bits_are_ignored() {
        assert_eq!(allocation_words("base:allocation", 0), Some("data"));
        assert_eq!(allocation_words("base:allocation", 7), Some("hole,zero"));
        assert_eq!(allocation_words("base:allocation", 1 << 40), Some("data"));
        assert_eq!(allocation_words("qemu:dirty-bitmap:x", 1), None);
    }

    #[test]
    fn base_contexts_are_narrow() {
        assert!(!SelectedContext::named(1, "base:allocation").wide);
        assert!(SelectedContext::named(2, "x-zone:type").wide);
    }
}
