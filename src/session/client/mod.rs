//! Requests of the command line over a session, one after the other.
//!
//! It must not know what the answers are for.

mod erase;
mod map;

pub use erase::Erase;

use std::time::Duration;

use super::deadline::Deadline;
use super::error::{Error, Fault};
use super::stream::Stream;
use super::{HeaderStyle, Session};
use crate::proto::transmission::{
    self, Command, CommandFlags, Event, Outcome, Replies, Request, SelectedContext, Terms,
};
use crate::proto::{Export, Negotiated, Violation, readable_text};
use crate::uri::Uri;

/// A range of an export, in whole blocks of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    /// Bytes behind it that are no whole block, where the range was to be all.
    pub lost: u64,
}

/// A session that answers requests.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    replies: Replies,
    uri: Uri,
    peer: String,
    negotiated: Negotiated,
    /// How long one answer may take.
    allowed: Duration,
}

impl Client {
    /// The most that is read at once.
    pub const MAX_READ: u32 = 1 << 20;

    /// Sends requests on a session; each answer may take `allowed`.
    #[must_use]
    pub fn new(uri: &Uri, session: Session, allowed: Duration) -> Self {
        let negotiated = session.negotiated;
        let terms = Terms {
            style: negotiated.header_style(),
            max_payload: negotiated.export().block_sizes.maximum_payload,
        };
        let selected: Vec<_> = negotiated
            .contexts()
            .iter()
            .map(|context| SelectedContext::named(context.id, &context.name))
            .collect();
        Self {
            replies: Replies::new(terms, &selected),
            stream: session.stream,
            uri: uri.clone(),
            peer: session.peer,
            negotiated,
            allowed,
        }
    }

    /// The session, as it was before: nothing in flight, nothing unread, without
    /// time-outs.
    pub(super) fn into_session(mut self) -> Result<Session, Error> {
        let deadline = Deadline::after(self.allowed);
        while !self.stream.is_silent() {
            self.read(deadline).map_err(|fault| self.error(fault))?;
        }
        self.stream
            .clear_timeouts()
            .map_err(|fault| self.error(fault))?;
        if let Some(unread) = self.replies.unfinished() {
            let fault = transmission::Fault::from(Violation::Unasked(unread));
            return Err(self.error(fault.into()));
        }
        Ok(Session {
            stream: self.stream,
            peer: self.peer,
            negotiated: self.negotiated,
        })
    }

    /// What the server said of the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        self.negotiated.export()
    }

    fn style(&self) -> HeaderStyle {
        self.negotiated.header_style()
    }

    /// The address that answered.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The one selected context.
    ///
    /// # Errors
    ///
    /// None was selected, or one query selected several.
    pub fn only_context(&self) -> Result<u32, Error> {
        match self.negotiated.contexts() {
            [] => Err(self.error(Fault::NoContext)),
            [only] => Ok(only.id),
            several => {
                let names: Vec<_> = several
                    .iter()
                    .map(|context| readable_text(&context.name))
                    .collect();
                Err(self.error(Fault::Asked(format!(
                    "that selects several metadata contexts, choose one: {}",
                    names.join(", ")
                ))))
            }
        }
    }

    /// The range from `offset` on for `length` bytes; without a length to the
    /// export's last whole block.
    ///
    /// # Errors
    ///
    /// It is not within the export, or not in whole blocks of the server's.
    pub fn range(&self, offset: u64, length: Option<u64>) -> Result<Range, Error> {
        let asked = |text: String| Err(self.error(Fault::Asked(text)));
        let size = self.export().size;
        let block = u64::from(self.export().block_sizes.minimum);
        if offset > size {
            return asked(format!(
                "the offset is behind the export's end, which is at {size}"
            ));
        }
        if offset % block != 0 || length.is_some_and(|length| length % block != 0) {
            return asked(format!(
                "offset and length must be multiples of the server's minimum block size, {block}"
            ));
        }
        let lost = size % block;
        match length {
            Some(length) if offset.checked_add(length).is_none_or(|end| end > size) => asked(
                format!("{length} bytes at {offset} are not within the export, which has {size}"),
            ),
            Some(length) => Ok(Range {
                offset,
                length,
                lost: 0,
            }),
            None => Ok(Range {
                offset,
                length: (size - lost).saturating_sub(offset),
                lost,
            }),
        }
    }

    /// Reads a few bytes: what identifies a file system, not what it holds.
    ///
    /// # Errors
    ///
    /// More than [`Client::MAX_READ`]; the range is not within the export; the
    /// server fails or breaks off.
    pub fn read_bytes(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        self.read_bytes_by(Deadline::after(self.allowed), offset, length)
    }

    /// The same by a deadline that others share.
    pub(super) fn read_bytes_by(
        &mut self,
        deadline: Deadline,
        offset: u64,
        length: u32,
    ) -> Result<Vec<u8>, Error> {
        if length > Self::MAX_READ {
            return Err(self.error(Fault::Asked(format!(
                "{length} bytes at once are more than the {} that this reads",
                Self::MAX_READ
            ))));
        }
        self.range(offset, Some(length.into()))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let flags = CommandFlags::NONE;
        self.ask_by(
            deadline,
            Command::READ,
            flags,
            offset,
            length.into(),
            |event| {
                // `Replies` lets through what is within the request only; holes are
                // zeroes already.
                if let Event::Data {
                    offset: at,
                    bytes: data,
                } = event
                {
                    let begin = usize::try_from(at - offset).unwrap_or(usize::MAX);
                    let place = bytes.get_mut(begin..).unwrap_or_default();
                    for (to, from) in place.iter_mut().zip(data) {
                        *to = from;
                    }
                }
            },
        )?;
        Ok(bytes)
    }

    /// Says good-bye (`NBD_CMD_DISC`).
    pub fn leave(mut self) {
        let farewell = Request {
            command: Command::DISC,
            flags: CommandFlags::NONE,
            cookie: 0,
            offset: 0,
            length: 0,
        };
        if let Ok(bytes) = farewell.encode(self.style()) {
            let _ = self
                .stream
                .write_all(bytes.as_ref(), Deadline::after(self.allowed));
        }
    }

    /// One request to its end.
    fn ask(
        &mut self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
        each: impl FnMut(Event),
    ) -> Result<(), Error> {
        let deadline = Deadline::after(self.allowed);
        self.ask_by(deadline, command, flags, offset, length, each)
    }

    fn ask_by(
        &mut self,
        deadline: Deadline,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
        mut each: impl FnMut(Event),
    ) -> Result<(), Error> {
        let begun = self.replies.begin(command, flags, offset, length);
        let request = begun.map_err(|e| self.error(Fault::Asked(e.to_string())))?;
        let bytes = request.encode(self.style());
        let bytes = bytes.map_err(|e| self.error(Fault::Asked(e.to_string())))?;
        let sent = self.stream.write_all(bytes.as_ref(), deadline);
        sent.map_err(|fault| self.error(fault))?;
        let mut told = String::new();
        loop {
            while let Some((_, event)) = self.replies.poll_event() {
                match event {
                    Event::Done(Outcome::Failed(code)) => {
                        return Err(self.error(Fault::Failed {
                            command,
                            code,
                            message: told,
                        }));
                    }
                    Event::Done(_) => return Ok(()),
                    Event::Error { message, .. } => told = message,
                    event => each(event),
                }
            }
            self.read(deadline).map_err(|fault| self.error(fault))?;
        }
    }

    fn read(&mut self, deadline: Deadline) -> Result<(), Fault> {
        let mut buffer = [0; 64 * 1024];
        let count = self.stream.read(&mut buffer, deadline, "the reply")?;
        if count == 0 {
            // A server that dies is none that breaks the protocol.
            return Err(Fault::HungUp {
                waits_for: "the reply",
            });
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        Ok(self.replies.handle_input(bytes)?)
    }

    fn error(&self, fault: Fault) -> Error {
        Error::new(&self.uri, fault)
    }
}
