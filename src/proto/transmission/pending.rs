//! What one outstanding request is still owed, and the judge of what comes.
//!
//! For each header: [`Pending::header`] judges it and says how many bytes of
//! its payload to collect; [`Pending::prefix`] judges those and says where the
//! rest belongs; when that was read, [`Pending::end`] says whether the reply is
//! complete. It must not know where bytes come from, nor keep any.
//!
//! Nothing is allocated per request for READ, WRITE and their like, as long as
//! data come in order: [`Pending::renew`] keeps what memory disorder took.

use super::super::HeaderStyle;
use super::body::{Announced, End, Outcome, Shape};
use super::coverage::Coverage;
use super::error::{Fault, RequestError};
use super::extent::SelectedContext;
use super::reply::{ChunkFlags, ChunkType, ErrorCode, ReplyHeader, SimpleReply};
use super::request::{Command, CommandFlags, Request, Terms};

/// A context that is owed.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) context: SelectedContext,
    pub(super) answered: bool,
}

/// An outstanding request.
#[derive(Debug)]
pub struct Pending {
    pub(super) request: Request,
    pub(super) terms: Terms,
    /// The request's, also where its header has a payload's length.
    pub(super) effect_length: u64,
    pub(super) coverage: Coverage,
    pub(super) contexts: Vec<Owed>,
    /// A chunk came.
    begun: bool,
    /// A content chunk came.
    pub(super) content: bool,
    pub(super) errors: u32,
    pub(super) failed: Option<ErrorCode>,
    /// The last header came.
    done: bool,
}

impl Pending {
    /// A request that is about to be sent, of any command but DISC, which has
    /// no reply, and `BLOCK_STATUS`, for which see [`Self::block_status`].
    ///
    /// # Errors
    ///
    /// A request that must not be sent: see [`Request::check`].
    pub fn new(request: &Request, terms: Terms) -> Result<Self, RequestError> {
        let mut pending = Self::unasked(request, terms);
        pending.renew(request)?;
        Ok(pending)
    }

    /// A `BLOCK_STATUS` that is about to be sent. With `PAYLOAD_LEN`, the effect
    /// length and the contexts are those in the payload; without, the effect
    /// length is the header's, and the contexts are all that were selected.
    ///
    /// # Errors
    ///
    /// A request that must not be sent: see [`Request::check`]; or contexts
    /// that do not fit it.
    pub fn block_status(
        request: &Request,
        effect_length: u64,
        contexts: &[SelectedContext],
        terms: Terms,
    ) -> Result<Self, RequestError> {
        request.check(terms)?;
        check_status(request, effect_length, contexts)?;
        let mut pending = Self::unasked(request, terms);
        pending.effect_length = effect_length;
        for context in contexts {
            if pending.owed(context.id).is_some() {
                return Err(RequestError::BadContext(context.id));
            }
            pending.contexts.push(Owed {
                context: *context,
                answered: false,
            });
        }
        Ok(pending)
    }

    fn unasked(request: &Request, terms: Terms) -> Self {
        Self {
            request: *request,
            terms,
            effect_length: request.length,
            coverage: Coverage::default(),
            contexts: Vec::new(),
            begun: false,
            content: false,
            errors: 0,
            failed: None,
            done: false,
        }
    }

    /// The same for another request, as [`Self::new`] but in the same memory.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]; nothing is changed then.
    pub fn renew(&mut self, request: &Request) -> Result<(), RequestError> {
        request.check(self.terms)?;
        match request.command {
            Command::DISC => return Err(RequestError::Unanswered(request.command)),
            Command::BLOCK_STATUS => return Err(RequestError::NoContext),
            _ => {}
        }
        self.request = *request;
        self.effect_length = request.length;
        let read = request.command == Command::READ;
        self.coverage.reset(if read { request.length } else { 0 });
        self.contexts.clear();
        self.begun = false;
        self.content = false;
        self.errors = 0;
        self.failed = None;
        self.done = false;
        Ok(())
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Judges a header and every length in it.
    ///
    /// # Errors
    ///
    /// A reply that this request is not owed.
    pub fn header(&mut self, header: &ReplyHeader) -> Result<Announced, Fault> {
        let cookie = header.cookie();
        if cookie != self.request.cookie {
            return Err(Fault::UnknownCookie { cookie });
        }
        if self.done {
            return Err(header.after_done());
        }
        let wrong = |got| {
            let agreed = self.terms.style;
            Err(Fault::WrongStyle { got, agreed })
        };
        match (header, self.terms.style) {
            (ReplyHeader::Simple(reply), HeaderStyle::Compact | HeaderStyle::Structured) => {
                self.simple(*reply)
            }
            (ReplyHeader::Structured(chunk), HeaderStyle::Structured) => {
                self.chunk(chunk.kind, chunk.flags, u64::from(chunk.length))
            }
            (ReplyHeader::Extended(chunk), HeaderStyle::Extended) => {
                if chunk.offset != self.request.offset {
                    return Err(Fault::WrongOffset {
                        got: chunk.offset,
                        asked: self.request.offset,
                    });
                }
                self.chunk(chunk.kind, chunk.flags, chunk.length)
            }
            (ReplyHeader::Simple(_), _) => wrong("a simple reply"),
            (ReplyHeader::Structured(_), _) => wrong("a structured reply"),
            (ReplyHeader::Extended(_), _) => wrong("an extended reply"),
        }
    }

    fn simple(&mut self, reply: SimpleReply) -> Result<Announced, Fault> {
        let read = self.request.command == Command::READ;
        if read && self.terms.style == HeaderStyle::Structured {
            return Err(Fault::SimpleRead);
        }
        if self.begun {
            return Err(Fault::Mixed);
        }
        let (shape, payload) = if reply.error.is_error() {
            (Shape::Failure(reply.error), 0)
        } else if read {
            (Shape::Whole, self.request.length)
        } else {
            (Shape::Nothing, 0)
        };
        self.done = true;
        Ok(Announced {
            shape,
            kind: ChunkType::NONE,
            prefix: 0,
            payload,
            end: End { done: true },
        })
    }

    fn chunk(
        &mut self,
        kind: ChunkType,
        flags: ChunkFlags,
        length: u64,
    ) -> Result<Announced, Fault> {
        let done = flags.is_done();
        let (shape, prefix) = self.shape(kind, done, length)?;
        self.begun = true;
        self.done = done;
        Ok(Announced {
            shape,
            kind,
            prefix,
            payload: length,
            end: End { done },
        })
    }

    /// Ends a chunk once all of it was read; the outcome, if it was the last.
    ///
    /// # Errors
    ///
    /// Success without all that is owed.
    pub fn end(&mut self, end: End) -> Result<Option<Outcome>, Fault> {
        if !end.done {
            return Ok(None);
        }
        if let Some(code) = self.failed {
            return Ok(Some(Outcome::Failed(code)));
        }
        if let Some(at) = self.coverage.gap() {
            return Err(Fault::Gap {
                offset: self.request.offset.saturating_add(at),
            });
        }
        if let Some(owed) = self.contexts.iter().find(|owed| !owed.answered) {
            return Err(Fault::ContextMissing(owed.context.id));
        }
        Ok(Some(Outcome::Good))
    }
}

/// Whether the header fits what it asks for.
fn check_status(
    request: &Request,
    effect_length: u64,
    contexts: &[SelectedContext],
) -> Result<(), RequestError> {
    let command = request.command;
    if command != Command::BLOCK_STATUS || contexts.is_empty() {
        return Err(RequestError::NoContext);
    }
    if effect_length == 0 {
        return Err(RequestError::ZeroLength(command));
    }
    if request.offset.checked_add(effect_length).is_none() {
        return Err(RequestError::PastEnd {
            offset: request.offset,
            length: effect_length,
        });
    }
    let expected = if request.flags.contains(CommandFlags::PAYLOAD_LEN) {
        u64::try_from(contexts.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(4)
            .saturating_add(8)
    } else {
        effect_length
    };
    if request.length == expected {
        Ok(())
    } else {
        Err(RequestError::StatusPayload)
    }
}
