//! What sessions and buffers are called by.

/// One connection to a server from its handshake to its end; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

/// A buffer of the caller's, by its index: the data of a WRITE, or the place for
/// those of a READ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u32);
