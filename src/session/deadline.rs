//! A point in time by which something must be done.

use std::time::{Duration, Instant};

/// A point in time, and how long the whole wait was allowed to be, which is what
/// users set and what an error must say.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// From now on.
    #[must_use]
    pub fn after(allowed: Duration) -> Self {
        Self {
            at: Instant::now() + allowed,
            allowed,
        }
    }

    /// What is left; `None` when it has passed.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        let left = self.at.saturating_duration_since(Instant::now());
        // Less than this would be rounded to 0 by a socket's time-outs, which
        // means to wait for ever.
        (left >= Duration::from_millis(1)).then_some(left)
    }

    /// The whole wait.
    #[must_use]
    pub fn allowed(self) -> Duration {
        self.allowed
    }

    /// An equal share of what is left for each of `count` attempts.
    #[must_use]
    pub fn share(self, count: usize) -> Self {
        let left = self.remaining().unwrap_or_default();
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        Self::after(left / count)
    }
}
