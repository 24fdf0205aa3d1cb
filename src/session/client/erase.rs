//! Erasing a range: zeroes or nothing where something was.

use super::{Client, Range};
use crate::proto::TransmissionFlags;
use crate::proto::transmission::{Command, CommandFlags, ErrorCode};
use crate::session::HeaderStyle;
use crate::session::error::{Error, Fault};

/// How much is erased at once where a request cannot take it all: progress is
/// told between two of them, and any server that takes 32 bits takes this.
const PIECE: u64 = 1 << 30;

/// How to make a range read as zeroes, or forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erase {
    /// WRITE_ZEROES.
    Zero {
        /// Keep the space allocated.
        no_hole: bool,
        /// Quickly or not at all.
        fast: bool,
    },
    /// TRIM.
    Discard,
}

impl Client {
    /// Erases a range: in one request where headers are extended, else in pieces;
    /// `progress` hears how much is done. What was done is flushed at the end, or
    /// when it fails.
    ///
    /// # Errors
    ///
    /// The server lacks the command; [`Fault::Partly`] when it fails.
    pub fn erase(
        &mut self,
        how: Erase,
        range: Range,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let (command, flags) = self.erasing(how)?;
        let mut step = if self.style() == HeaderStyle::Extended {
            u64::MAX
        } else {
            PIECE
        };
        let mut done = 0;
        while done < range.length {
            let piece = (range.length - done).min(step);
            match self.ask(command, flags, range.offset + done, piece, |_| {}) {
                // "The server MAY reply with EOVERFLOW or EINVAL if the oversize
                // request would require too many resources."
                Err(error) if piece > PIECE && is_too_large(&error.fault) => step = PIECE,
                Err(error) => {
                    if matches!(error.fault, Fault::Failed { .. }) {
                        // What was done is worth keeping; the failure is told.
                        let _ = self.flush();
                    }
                    return Err(self.error(Fault::Partly {
                        until: range.offset + done,
                        fault: Box::new(error.fault),
                    }));
                }
                Ok(()) => {
                    done += piece;
                    progress(done);
                }
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.export().flags.contains(TransmissionFlags::SEND_FLUSH) {
            self.ask(Command::FLUSH, CommandFlags::NONE, 0, 0, |_| {})?;
        }
        Ok(())
    }

    /// The command, where the server has it.
    fn erasing(&self, how: Erase) -> Result<(Command, CommandFlags), Error> {
        let has = |flag| self.export().flags.contains(flag);
        let lacks = |what| Err(self.error(Fault::Lacks(what)));
        if self.export().is_read_only() {
            return lacks("the export is read-only");
        }
        let (no_hole, fast) = match how {
            Erase::Discard if has(TransmissionFlags::SEND_TRIM) => {
                return Ok((Command::TRIM, CommandFlags::NONE));
            }
            Erase::Discard => return lacks("the server cannot discard (no SEND_TRIM)"),
            Erase::Zero { no_hole, fast } => (no_hole, fast),
        };
        if !has(TransmissionFlags::SEND_WRITE_ZEROES) {
            return lacks("the server cannot write zeroes (no SEND_WRITE_ZEROES)");
        }
        if fast && !has(TransmissionFlags::SEND_FAST_ZERO) {
            return lacks("the server cannot tell whether zeroes are fast: leave out --fast");
        }
        let mut flags = CommandFlags::NONE;
        if no_hole {
            flags = flags.with(CommandFlags::NO_HOLE);
        }
        if fast {
            flags = flags.with(CommandFlags::FAST_ZERO);
        }
        Ok((Command::WRITE_ZEROES, flags))
    }
}

fn is_too_large(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Failed {
            code: ErrorCode::EOVERFLOW | ErrorCode::EINVAL,
            ..
        }
    )
}
