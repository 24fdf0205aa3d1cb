//! The handshake as its drivers see it: bytes in, bytes and events out.
//!
//! The order to call it in: send what [`Handshake::poll_transmit`] gives, take
//! every [`Handshake::poll_event`], read from the server into
//! [`Handshake::handle_input`], again. The states and what they wait for are
//! in `state`. It must not know what the bytes travel on.

use std::collections::VecDeque;

use super::ask::Ask;
use super::error::{Error, Refusal, Violation};
use super::export::Export;
use super::negotiated::{Context, HeaderStyle, Negotiated};
use super::state::{Effects, Next, State};

/// What a client wants of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub(super) tls: bool,
    pub(super) asks: Vec<Ask>,
}

impl Wanted {
    /// To enter transmission on an export with compact headers, which is all
    /// that the kernel's driver speaks. The empty name is the server's default
    /// export.
    ///
    /// # Errors
    ///
    /// A name longer than [`super::MAX_STRING`].
    pub fn compact(export: &str) -> Result<Self, Error> {
        Self::questions(vec![Ask::Go {
            export: export.to_owned(),
        }])
    }

    /// To enter transmission with the best header style that the server grants,
    /// and with these metadata contexts.
    ///
    /// # Errors
    ///
    /// Strings or lists that are too long.
    pub fn best(export: &str, contexts: &[String]) -> Result<Self, Error> {
        let export = || export.to_owned();
        let mut asks = vec![Ask::StructuredReply, Ask::ExtendedHeaders];
        if !contexts.is_empty() {
            asks.push(Ask::SetContexts {
                export: export(),
                queries: contexts.to_vec(),
            });
        }
        asks.push(Ask::Go { export: export() });
        Self::questions(asks)
    }

    /// To ask these things. What does not depend on another's answer leaves in
    /// one write; the answers come as events, in order, then [`Event::Idle`].
    ///
    /// # Errors
    ///
    /// Strings or lists that are too long.
    pub fn questions(asks: Vec<Ask>) -> Result<Self, Error> {
        let asks: Result<Vec<_>, _> = asks.into_iter().map(Ask::checked).collect();
        Ok(Self {
            tls: false,
            asks: asks?,
        })
    }

    /// The same inside TLS, or not at all.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }
}

/// What a handshake tells its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server agreed to TLS: do the TLS handshake on the stream, then call
    /// [`Handshake::tls_established`] and go on inside it.
    StartTls,
    /// Whether a header style was granted ([`Ask::StructuredReply`],
    /// [`Ask::ExtendedHeaders`]).
    Style(HeaderStyle, Result<(), Refusal>),
    /// One export of a list.
    Listed {
        /// Its name.
        name: String,
        /// What the server tells people of it; often empty.
        description: String,
    },
    /// The end of a list ([`Ask::List`]).
    ListEnded(Result<(), Refusal>),
    /// What an export is ([`Ask::Info`]).
    Info {
        /// Its name.
        export: String,
        /// What it is.
        answer: Result<Export, Refusal>,
    },
    /// The contexts of an export ([`Ask::ListContexts`], [`Ask::SetContexts`]);
    /// none where replies are not structured, as there cannot be any then.
    Contexts(Result<Vec<Context>, Refusal>),
    /// Transmission has begun; the handshake is over.
    Ready(Negotiated),
    /// Everything was answered, and more can be asked.
    Idle,
    /// The server took leave; the handshake is over.
    Ended,
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
    events: VecDeque<Event>,
}

impl Handshake {
    /// Begins one; the server speaks first.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self {
            state: Some(State::new(wanted)),
            input: Vec::new(),
            output: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes bytes from the server, cut anywhere.
    ///
    /// # Errors
    ///
    /// The handshake is over then; what it had to say in plain leave-taking is
    /// in [`Handshake::poll_transmit`].
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
                    let mut effects = Effects {
                        out: &mut self.output,
                        events: &mut self.events,
                    };
                    match state.handle(message, &mut effects) {
                        Err(error) => break Err(error),
                        Ok(Next::State(next)) => self.state = Some(next),
                        Ok(Next::Over) => {}
                    }
                }
            }
        };
        self.input.drain(..used);
        if let Err(error) = &result {
            self.fail(error);
        }
        result
    }

    /// A server that said no is still listening, and is owed a good-bye
    /// ("Termination of the session during option haggling").
    fn fail(&mut self, error: &Error) {
        self.state = None;
        self.events.clear();
        self.output.clear();
        if matches!(error, Error::Refused(_)) {
            Ask::Abort.put(&mut self.output);
        }
    }

    /// Goes on after [`Event::StartTls`], inside TLS.
    pub fn tls_established(&mut self) {
        if let Some(state) = self.state.take() {
            self.state = Some(state.tls_established(&mut Effects {
                out: &mut self.output,
                events: &mut self.events,
            }));
        }
    }

    /// Asks more, after [`Event::Idle`].
    ///
    /// # Errors
    ///
    /// Strings or lists that are too long.
    pub fn ask(&mut self, asks: Vec<Ask>) -> Result<(), Error> {
        let asks = Wanted::questions(asks)?.asks;
        if let Some(state) = self.state.take() {
            self.state = Some(state.ask(
                asks,
                &mut Effects {
                    out: &mut self.output,
                    events: &mut self.events,
                },
            ));
        }
        Ok(())
    }

    /// The server closed the connection: the refusal that this means here, or
    /// `None` where it means nothing but a lost connection.
    #[must_use]
    pub fn handle_eof(&mut self) -> Option<Refusal> {
        self.state.take().and_then(State::eof)
    }

    /// Bytes to send, in order.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.output.is_empty()).then(|| std::mem::take(&mut self.output))
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        // There is no session as long as the server sends what nobody asked for.
        self.events.pop_front()
    }

    /// What the server owes now, for an error message.
    #[must_use]
    pub fn waits_for(&self) -> &'static str {
        self.state.as_ref().map_or("nothing", State::waits_for)
    }
}

fn unasked(unread: &[u8]) -> Result<(), Error> {
    if unread.is_empty() {
        Ok(())
    } else {
        Err(Violation::Unasked(unread.len()).into())
    }
}
