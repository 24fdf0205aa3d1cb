//! The handshake as its drivers see it: bytes in, bytes and events out.
//!
//! The order to call it in: send what [`Handshake::poll_transmit`] gives, take
//! [`Handshake::poll_event`], read from the server into
//! [`Handshake::handle_input`], again. The states and what they wait for are
//! in `state`. It must not know what the bytes travel on.

use super::MAX_STRING;
use super::error::{Error, Lack, Refusal, Violation};
use super::export::Export;
use super::state::{Next, State};

/// How requests and replies will look on the wire ("Transmission").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeaderStyle {
    /// 28-byte requests, simple replies: all that the kernel's driver speaks.
    Compact,
    /// 28-byte requests, structured reply chunks.
    Structured,
    /// 32-byte requests and chunks with 64-bit lengths.
    Extended,
}

impl HeaderStyle {
    /// The word that users see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Structured => "structured",
            Self::Extended => "extended",
        }
    }
}

/// What a client wants of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    export: String,
}

impl Wanted {
    /// To enter transmission on an export, with compact headers. The empty
    /// name is the server's default export.
    ///
    /// # Errors
    ///
    /// A name longer than [`MAX_STRING`].
    pub fn compact(export: &str) -> Result<Self, Error> {
        if export.len() > MAX_STRING {
            return Err(Lack::ShortName(export.len()).into());
        }
        Ok(Self {
            export: export.to_owned(),
        })
    }

    /// The export's name.
    #[must_use]
    pub fn export(&self) -> &str {
        &self.export
    }
}

/// A session that was negotiated to its end. Only a handshake makes one, so
/// holding it proves that the server is in transmission, in that style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    export: Export,
    header_style: HeaderStyle,
}

impl Negotiated {
    /// For the last states of a handshake only.
    pub(super) fn new(export: Export, header_style: HeaderStyle) -> Self {
        Self {
            export,
            header_style,
        }
    }

    /// What the server said of the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// The style that every message has from here on.
    #[must_use]
    pub fn header_style(&self) -> HeaderStyle {
        self.header_style
    }

    /// Binds the stream that this was negotiated on to the proof that it speaks
    /// compact headers; the kernel's driver takes nothing else. Pass the very
    /// stream of this handshake.
    ///
    /// # Errors
    ///
    /// Gives both back where another style was agreed.
    pub fn into_compact<S>(self, stream: S) -> Result<Compact<S>, (Self, S)> {
        match self.header_style {
            HeaderStyle::Compact => Ok(Compact {
                export: self.export,
                stream,
            }),
            HeaderStyle::Structured | HeaderStyle::Extended => Err((self, stream)),
        }
    }
}

/// A stream in transmission that carries compact requests and simple replies:
/// what a kernel socket can be made of. Made by [`Negotiated::into_compact`].
#[derive(Debug)]
pub struct Compact<S> {
    export: Export,
    stream: S,
}

impl<S> Compact<S> {
    /// What the server said of the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// The same session with its stream seen as another type.
    #[must_use]
    pub fn map<T>(self, f: impl FnOnce(S) -> T) -> Compact<T> {
        Compact {
            export: self.export,
            stream: f(self.stream),
        }
    }

    /// The stream, for whoever sends requests on it.
    #[must_use]
    pub fn into_stream(self) -> S {
        self.stream
    }
}

/// What a handshake tells its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Transmission has begun; the handshake is over.
    Ready(Negotiated),
}

/// A handshake in progress.
#[derive(Debug)]
pub struct Handshake {
    /// `None` once it ended, well or badly.
    state: Option<State>,
    /// Bytes of a message that has not arrived whole. No message is longer than
    /// the limits in `state`, so neither is this, but for one read's surplus.
    input: Vec<u8>,
    output: Vec<u8>,
    event: Option<Event>,
}

impl Handshake {
    /// Begins one; the server speaks first.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self {
            state: Some(State::new(wanted)),
            input: Vec::new(),
            output: Vec::new(),
            event: None,
        }
    }

    /// Takes bytes from the server, cut anywhere.
    ///
    /// # Errors
    ///
    /// The handshake is over then, and later input is [`Violation::Unasked`].
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.input.extend_from_slice(bytes);
        let mut used = 0;
        let result = loop {
            let unread = self.input.get(used..).unwrap_or_default();
            let Some(state) = self.state.take() else {
                break unasked(unread);
            };
            match state.frame(unread) {
                Err(violation) => break Err(violation.into()),
                Ok(None) => {
                    self.state = Some(state);
                    break Ok(());
                }
                Ok(Some(length)) => {
                    let message = unread.get(..length).unwrap_or_default();
                    used += length;
                    match state.handle(message, &mut self.output) {
                        Err(error) => break Err(error),
                        Ok(Next::State(next)) => self.state = Some(next),
                        Ok(Next::Ready(negotiated)) => {
                            self.event = Some(Event::Ready(negotiated));
                        }
                    }
                }
            }
        };
        self.input.drain(..used);
        if result.is_err() {
            self.state = None;
            self.event = None;
        }
        result
    }

    /// The server closed the connection: the refusal that this means here, or
    /// `None` where it means nothing but a lost connection.
    #[must_use]
    pub fn handle_eof(&mut self) -> Option<Refusal> {
        self.state.take().and_then(|state| state.eof())
    }

    /// Bytes to send, in order.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.output.is_empty()).then(|| std::mem::take(&mut self.output))
    }

    /// What happened since it was last asked.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// What the server owes now, for an error message.
    #[must_use]
    pub fn waits_for(&self) -> &'static str {
        self.state
            .as_ref()
            .map_or("nothing", |state| state.waits_for())
    }
}

fn unasked(unread: &[u8]) -> Result<(), Error> {
    if unread.is_empty() {
        Ok(())
    } else {
        Err(Violation::Unasked(unread.len()).into())
    }
}
