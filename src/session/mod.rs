//! A handshake driven over a stream: dial, negotiate, hand over.
//!
//! It must not know what the session is for; every wait in it ends at the
//! caller's deadline.

mod deadline;
mod dial;
mod error;
mod stream;

use std::os::fd::OwnedFd;

pub use deadline::Deadline;
pub use error::{Error, Fault};

use crate::proto::{Compact, Event, Export, Handshake, HeaderStyle, Negotiated, Wanted};
use crate::uri::Uri;
use stream::Stream;

/// A connection in transmission.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    peer: String,
    negotiated: Negotiated,
}

impl Session {
    /// Dials the URI's endpoint, each of its addresses until one answers, and
    /// negotiates the export with compact headers.
    ///
    /// # Errors
    ///
    /// What the last address did, where none gave a session before the deadline;
    /// a refusal ends the search, as the other addresses are the same server's.
    pub fn open(uri: &Uri, deadline: Deadline) -> Result<Self, Error> {
        let context = |fault| Error::new(uri, fault);
        let wanted = Wanted::compact(uri.export()).map_err(|e| context(Fault::Protocol(e)))?;
        let targets = dial::targets(uri.endpoint(), deadline).map_err(context)?;
        let mut failures = Vec::new();
        let count = targets.len();
        for (tried, target) in targets.into_iter().enumerate() {
            // An address that swallows packets may have its share of the time,
            // and no more.
            let share = deadline.share(count - tried);
            let attempt = target
                .dial(share)
                .and_then(|stream| negotiate(stream, wanted.clone(), share));
            match attempt {
                Ok((stream, negotiated)) => {
                    return Ok(Self {
                        stream,
                        peer: target.to_string(),
                        negotiated,
                    });
                }
                Err(fault) if fault.is_networks() => failures.push((target.to_string(), fault)),
                Err(fault) => return Err(context(fault)),
            }
        }
        Err(context(Fault::all(failures)))
    }

    /// What the server said of the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        self.negotiated.export()
    }

    /// The header style that was agreed on.
    #[must_use]
    pub fn header_style(&self) -> HeaderStyle {
        self.negotiated.header_style()
    }

    /// The address that answered, as users write it.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The socket, for the kernel's driver or whoever speaks compact headers.
    ///
    /// # Errors
    ///
    /// Gives the session back where another header style was agreed.
    pub fn into_compact(self) -> Result<Compact<OwnedFd>, Box<Self>> {
        let Self {
            stream,
            peer,
            negotiated,
        } = self;
        match negotiated.into_compact(stream) {
            Ok(compact) => Ok(compact.map(Stream::into_fd)),
            Err((negotiated, stream)) => Err(Box::new(Self {
                stream,
                peer,
                negotiated,
            })),
        }
    }
}

/// Drives a handshake to its end.
fn negotiate(
    mut stream: Stream,
    wanted: Wanted,
    deadline: Deadline,
) -> Result<(Stream, Negotiated), Fault> {
    let mut handshake = Handshake::new(wanted);
    // A greeting and a whole answer to GO in one read.
    let mut buffer = [0; 4096];
    loop {
        if let Some(bytes) = handshake.poll_transmit() {
            stream.write_all(&bytes, deadline)?;
        }
        if let Some(Event::Ready(negotiated)) = handshake.poll_event() {
            stream.clear_timeouts()?;
            return Ok((stream, negotiated));
        }
        let waits_for = handshake.waits_for();
        match stream.read(&mut buffer, deadline, waits_for)? {
            0 => {
                return Err(handshake
                    .handle_eof()
                    .map_or(Fault::HungUp { waits_for }, |refusal| {
                        Fault::Protocol(refusal.into())
                    }));
            }
            count => handshake.handle_input(buffer.get(..count).unwrap_or_default())?,
        }
    }
}
