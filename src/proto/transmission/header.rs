//! Fixed buffers that headers are written to, without a heap. It knows no
//! header: `request` and `reply` do.

/// The longest header of any style, in bytes.
const MAX_HEADER: usize = 32;

/// Fills an array of known size, field by field.
pub(super) struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; N],
            at: 0,
        }
    }

    /// Appends a field; what passes the end of the array is dropped, which
    /// the layouts of this module never do.
    pub(super) fn put(mut self, field: &[u8]) -> Self {
        for (place, byte) in self.bytes.iter_mut().skip(self.at).zip(field) {
            *place = *byte;
        }
        self.at += field.len();
        self
    }

    pub(super) fn finish(self) -> [u8; N] {
        debug_assert_eq!(self.at, N, "a header is filled exactly");
        self.bytes
    }
}

/// An encoded header whose length depends on the header style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderBytes {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

impl HeaderBytes {
    pub(super) fn new<const N: usize>(header: [u8; N]) -> Self {
        const { assert!(N <= MAX_HEADER) };
        let mut bytes = [0; MAX_HEADER];
        for (place, byte) in bytes.iter_mut().zip(header) {
            *place = byte;
        }
        Self { bytes, len: N }
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for HeaderBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_one_behind_the_other() {
        let bytes = Writer::<4>::new().put(&[1]).put(&[2, 3, 4]).finish();
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert_eq!(HeaderBytes::new(bytes).as_slice(), [1, 2, 3, 4]);
    }
}
