//! What servers say of errors, for the log: not more than a reader can read. It must
//! not know what is done about them.

use std::time::{Duration, Instant};

use crate::proto::transmission::{Command, ErrorCode};

/// So many lines in this time; a full disk may fail every write.
const LINES: u32 = 20;
const EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Troubles {
    since: Instant,
    said: u32,
    unsaid: u64,
}

impl Troubles {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            said: 0,
            unsaid: 0,
        }
    }

    pub(super) fn say(
        &mut self,
        peer: &str,
        command: Command,
        code: ErrorCode,
        offset: Option<u64>,
        message: &str,
    ) {
        if self.since.elapsed() >= EVERY {
            if self.unsaid > 0 {
                tracing::warn!("{} more errors of servers were not logged", self.unsaid);
            }
            *self = Self::new();
        }
        if self.said == LINES {
            self.unsaid += 1;
            return;
        }
        self.said += 1;
        let place = offset.map_or_else(String::new, |offset| format!(" at {offset:#x}"));
        let words = if message.is_empty() { "" } else { ": " };
        tracing::warn!("{peer} answers {command}{place} with {code}{words}{message}");
    }
}
