//! The extents of a metadata context.

use std::ops::ControlFlow;

use super::{Client, Range};
use crate::proto::transmission::{Command, CommandFlags, Event, Extent, push_merged};
use crate::session::HeaderStyle;
use crate::session::error::{Error, Fault};

/// What a length of 32 bits can ask for at once: the most that is a multiple of
/// every minimum block size there is.
const MAX_SHORT: u64 = 0xffff_0000;

impl Client {
    /// Tells the extents of the one selected context in a range, in order,
    /// neighbours of one status as one, until `each` breaks off. One request
    /// covers all that its header can say, and the answer as much as the server
    /// likes.
    ///
    /// # Errors
    ///
    /// As [`Client::only_context`]; the server fails or breaks off.
    pub fn map(
        &mut self,
        range: Range,
        mut each: impl FnMut(u64, Extent) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let context = self.only_context()?;
        let step = if self.style() == HeaderStyle::Extended {
            u64::MAX
        } else {
            MAX_SHORT
        };
        let end = range.offset + range.length;
        let mut at = range.offset;
        let mut begun = at;
        let mut last: Option<Extent> = None;
        while at < end {
            for extent in self.block_status(context, at, (end - at).min(step))? {
                let length = extent.length.min(end - at);
                let mut both: Vec<_> = last.take().into_iter().collect();
                push_merged(&mut both, Extent { length, ..extent });
                at += length;
                last = both.pop();
                for whole in both {
                    if each(begun, whole).is_break() {
                        return Ok(());
                    }
                    begun += whole.length;
                }
                if at == end {
                    break;
                }
            }
        }
        if let Some(last) = last {
            // Nothing follows that could be broken off.
            let _ = each(begun, last);
        }
        Ok(())
    }

    /// One BLOCK_STATUS: at least one extent, in whole blocks.
    fn block_status(&mut self, id: u32, offset: u64, length: u64) -> Result<Vec<Extent>, Error> {
        let mut found = Vec::new();
        let flags = CommandFlags::NONE;
        self.ask(Command::BLOCK_STATUS, flags, offset, length, |event| {
            if let Event::Extents { context, extents } = event {
                if context == id {
                    found = extents;
                }
            }
        })?;
        let block = u64::from(self.export().block_sizes.minimum);
        let mut at = offset;
        for extent in &found {
            at = at.saturating_add(extent.length);
            if at % block != 0 && at < self.export().size {
                return Err(self.error(Fault::Misaligned { at, block }));
            }
        }
        if found.is_empty() {
            return Err(self.error(Fault::Lacks(
                "the server answers block status with no extents at all",
            )));
        }
        Ok(found)
    }
}
