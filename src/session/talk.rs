//! Option haggling over a stream: the handshake's bytes carried to and fro.

use super::deadline::Deadline;
use super::error::Fault;
use super::stream::Stream;
use crate::proto::{Ask, Error, Event, Handshake, Lack, Wanted};

/// A handshake in progress on a stream.
#[derive(Debug)]
pub(super) struct Talk {
    stream: Stream,
    handshake: Handshake,
}

impl Talk {
    pub(super) fn begin(stream: Stream, wanted: Wanted) -> Self {
        Self {
            stream,
            handshake: Handshake::new(wanted),
        }
    }

    /// The next thing that happens, by the deadline.
    pub(super) fn event(&mut self, deadline: Deadline) -> Result<Event, Fault> {
        loop {
            if let Some(bytes) = self.handshake.poll_transmit() {
                self.stream.write_all(&bytes, deadline)?;
            }
            match self.handshake.poll_event() {
                // Nothing asks for it before there is TLS to be started.
                Some(Event::StartTls) => return Err(Error::from(Lack::Tls).into()),
                Some(event) => return Ok(event),
                None => self.read(deadline)?,
            }
        }
    }

    fn read(&mut self, deadline: Deadline) -> Result<(), Fault> {
        // A greeting and a whole answer to GO in one read.
        let mut buffer = [0; 4096];
        let waits_for = self.handshake.waits_for();
        let count = self.stream.read(&mut buffer, deadline, waits_for)?;
        if count == 0 {
            return Err(self
                .handshake
                .handle_eof()
                .map_or(Fault::HungUp { waits_for }, |refusal| {
                    Fault::Protocol(refusal.into())
                }));
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        self.handshake.handle_input(bytes).map_err(|error| {
            if let Some(good_bye) = self.handshake.poll_transmit() {
                // Manners only: the session is over either way.
                let _ = self.stream.write_all(&good_bye, deadline);
            }
            error.into()
        })
    }

    /// Whether the server agrees to TLS. The session is of no use afterwards.
    pub(super) fn starts_tls(mut self, deadline: Deadline) -> Result<bool, Fault> {
        loop {
            if let Some(bytes) = self.handshake.poll_transmit() {
                self.stream.write_all(&bytes, deadline)?;
            }
            match self.handshake.poll_event() {
                Some(event) => return Ok(event == Event::StartTls),
                None => match self.read(deadline) {
                    Err(Fault::Protocol(Error::Refused(_))) => return Ok(false),
                    read => read?,
                },
            }
        }
    }

    /// Asks more, once it is idle.
    pub(super) fn ask(&mut self, asks: Vec<Ask>) -> Result<(), Fault> {
        Ok(self.handshake.ask(asks)?)
    }

    /// Takes leave without waiting for the answer.
    pub(super) fn leave(mut self, deadline: Deadline) {
        if self.ask(vec![Ask::Abort]).is_ok() {
            if let Some(bytes) = self.handshake.poll_transmit() {
                let _ = self.stream.write_all(&bytes, deadline);
            }
        }
    }

    /// The stream, in transmission, without the handshake's time-outs.
    pub(super) fn into_stream(self) -> Result<Stream, Fault> {
        self.stream.clear_timeouts()?;
        Ok(self.stream)
    }
}
