//! When the next attempt is due, so that a thousand clients of one server do not
//! come at one moment. It must not know a clock.

use std::time::Duration;

/// In the first two minutes of an outage.
const QUICK: Duration = Duration::from_millis(250);
const QUICK_FOR: Duration = Duration::from_secs(120);

/// Later; for ever.
const STEADY: Duration = Duration::from_secs(1);

/// splitmix64: good enough to spread clients, and the same for the same seed.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// The same for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to `below`, which is not 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % below.max(1)
    }

    /// The pause after an attempt that began when the outage was `old`: a quarter
    /// more or less than its middle.
    pub fn pause(&mut self, old: Duration) -> Duration {
        let middle = if old < QUICK_FOR { QUICK } else { STEADY };
        let quarter = middle / 4;
        let micros = u64::try_from(quarter.as_micros()).unwrap_or(0);
        middle - quarter + Duration::from_micros(self.below(2 * micros))
    }
}
