//! A session's replies as one byte stream, for callers who want values and not
//! bytes in place: map, zero, discard, info.
//!
//! The order to call it in: [`Replies::begin`], send what it gives; read from
//! the server into [`Replies::handle_input`], take [`Replies::poll_event`],
//! again. Each request ends in exactly one [`Event::Done`], or all that are
//! left end in one [`Fault`]. Data are handed on as they come; nothing is kept
//! but one header, one prefix, and the extents of one chunk. It must not know
//! what the bytes travel on.

use std::collections::{BTreeMap, VecDeque};

use super::body::{Announced, Body, End, ExtentList, split};
use super::error::{Fault, RequestError};
use super::event::Event;
use super::extent::{Extent, SelectedContext, push_merged};
use super::pending::Pending;
use super::reply::{ReplyHeader, header_len};
use super::request::{Command, CommandFlags, Request, Terms, status_payload};

/// Requests that can wait for their answers at a time: more than servers
/// handle at a time, and few enough for a table in memory.
pub const MAX_OUTSTANDING: usize = 256;

/// What the next byte is.
#[derive(Debug)]
enum Stage {
    Header,
    Prefix {
        cookie: u64,
        announced: Announced,
    },
    Data {
        cookie: u64,
        offset: u64,
        left: u64,
        end: End,
    },
    Extents {
        cookie: u64,
        list: ExtentList,
        extents: Vec<Extent>,
    },
}

/// Where a step leads.
enum Flow {
    Next(Stage),
    /// More input is needed first.
    Starved(Stage),
}

/// The outstanding requests of one session, and its stream of replies.
#[derive(Debug)]
pub struct Replies {
    terms: Terms,
    contexts: Vec<SelectedContext>,
    /// Cookies count from 1, so that one below this was used.
    next_cookie: u64,
    table: BTreeMap<u64, Pending>,
    stage: Stage,
    /// The beginning of a header, prefix or descriptor: never more than
    /// [`MAX_PREFIX`](super::MAX_PREFIX) bytes.
    held: Vec<u8>,
    events: VecDeque<(u64, Event)>,
    fault: Option<Fault>,
}

impl Replies {
    /// For a session with these terms and selected contexts, before its first
    /// request.
    #[must_use]
    pub fn new(terms: Terms, contexts: &[SelectedContext]) -> Self {
        Self {
            terms,
            contexts: contexts.to_vec(),
            next_cookie: 1,
            table: BTreeMap::new(),
            stage: Stage::Header,
            held: Vec::new(),
            events: VecDeque::new(),
            fault: None,
        }
    }

    /// Takes a request into the table; encode and send what it gives. A WRITE
    /// gets its `PAYLOAD_LEN`, `BLOCK_STATUS` asks for all selected contexts.
    ///
    /// # Errors
    ///
    /// A request that must not be sent: see [`Request::check`].
    pub fn begin(
        &mut self,
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
    ) -> Result<Request, RequestError> {
        let request = Request {
            command,
            flags,
            cookie: self.next_cookie,
            offset,
            length,
        }
        .for_style(self.terms.style);
        let pending = if command == Command::BLOCK_STATUS {
            Pending::block_status(&request, length, &self.contexts, self.terms)?
        } else {
            Pending::new(&request, self.terms)?
        };
        self.insert(pending)
    }

    /// A `BLOCK_STATUS` for some of the selected contexts: the request, and the
    /// payload to send behind it. Needs the extended style, and an export with
    /// `BLOCK_STATUS_PAYLOAD`.
    ///
    /// # Errors
    ///
    /// A request that must not be sent: see [`Request::check`]; or a context
    /// that was not selected.
    pub fn begin_status(
        &mut self,
        flags: CommandFlags,
        offset: u64,
        length: u64,
        contexts: &[u32],
    ) -> Result<(Request, Vec<u8>), RequestError> {
        let mut chosen = Vec::new();
        for id in contexts {
            let context = self.contexts.iter().find(|context| context.id == *id);
            chosen.push(*context.ok_or(RequestError::BadContext(*id))?);
        }
        let payload = status_payload(length, contexts);
        let request = Request {
            command: Command::BLOCK_STATUS,
            flags: flags.with(CommandFlags::PAYLOAD_LEN),
            cookie: self.next_cookie,
            offset,
            length: u64::try_from(payload.len()).unwrap_or(u64::MAX),
        };
        let pending = Pending::block_status(&request, length, &chosen, self.terms)?;
        Ok((self.insert(pending)?, payload))
    }

    fn insert(&mut self, pending: Pending) -> Result<Request, RequestError> {
        if self.table.len() >= MAX_OUTSTANDING {
            return Err(RequestError::TooManyOutstanding {
                limit: MAX_OUTSTANDING,
            });
        }
        let request = *pending.request();
        self.table.insert(request.cookie, pending);
        self.next_cookie += 1;
        Ok(request)
    }

    /// The cookies of requests that wait for their answers, or that a fault
    /// left without.
    pub fn outstanding(&self) -> impl Iterator<Item = u64> {
        self.table.keys().copied()
    }

    /// How many requests and bytes there are of what is not finished; `None` where
    /// nothing is, so that the stream can be another's.
    #[must_use]
    pub fn unfinished(&self) -> Option<usize> {
        let count = self.table.len() + self.held.len() + self.events.len();
        let begun = count > 0 || self.fault.is_some() || !matches!(self.stage, Stage::Header);
        begun.then_some(count)
    }

    /// What happened since it was last asked, and to which cookie.
    pub fn poll_event(&mut self) -> Option<(u64, Event)> {
        self.events.pop_front()
    }

    /// Takes bytes from the server, cut anywhere.
    ///
    /// # Errors
    ///
    /// The session is over then; the same fault answers all later input.
    /// Events of before stay to be taken.
    pub fn handle_input(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let result = self.run(&mut bytes);
        self.fault = result.clone().err();
        result
    }

    /// The server closed the connection.
    ///
    /// # Errors
    ///
    /// A request is without its answer, or a header without its end; or the
    /// session was over already.
    pub fn handle_eof(&mut self) -> Result<(), Fault> {
        if self.fault.is_none() && !(self.table.is_empty() && self.held.is_empty()) {
            let outstanding = self.table.len();
            self.fault = Some(Fault::Closed { outstanding });
        }
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn run(&mut self, bytes: &mut &[u8]) -> Result<(), Fault> {
        loop {
            let flow = match std::mem::replace(&mut self.stage, Stage::Header) {
                Stage::Header => self.header(bytes),
                Stage::Prefix { cookie, announced } => self.prefix(cookie, announced, bytes),
                Stage::Data {
                    cookie,
                    offset,
                    left,
                    end,
                } => self.data(cookie, offset, left, end, bytes),
                Stage::Extents {
                    cookie,
                    list,
                    extents,
                } => self.extents(cookie, list, extents, bytes),
            };
            match flow? {
                Flow::Next(stage) => self.stage = stage,
                Flow::Starved(stage) => {
                    self.stage = stage;
                    return Ok(());
                }
            }
        }
    }

    /// Moves input to what is held until that has `need` bytes.
    fn gather(&mut self, bytes: &mut &[u8], need: usize) -> bool {
        let missing = need.saturating_sub(self.held.len()).min(bytes.len());
        self.held.extend_from_slice(split(bytes, missing));
        self.held.len() >= need
    }

    fn header(&mut self, bytes: &mut &[u8]) -> Result<Flow, Fault> {
        let need = header_len(self.terms.style, &self.held)?;
        let full = self.gather(bytes, need);
        // Now with the magic number, perhaps.
        if header_len(self.terms.style, &self.held)? > need {
            return Ok(Flow::Next(Stage::Header));
        }
        if !full {
            return Ok(Flow::Starved(Stage::Header));
        }
        let header = ReplyHeader::parse(self.terms.style, &self.held)?;
        self.held.clear();
        let cookie = header.cookie();
        let announced = self.pending(cookie, &header)?.header(&header)?;
        Ok(Flow::Next(Stage::Prefix { cookie, announced }))
    }

    /// The request that a header answers.
    fn pending(&mut self, cookie: u64, header: &ReplyHeader) -> Result<&mut Pending, Fault> {
        let unasked = self.table.is_empty();
        let used = (1..self.next_cookie).contains(&cookie);
        self.table.get_mut(&cookie).ok_or_else(|| {
            if used {
                header.after_done()
            } else if unasked {
                Fault::Unasked { cookie }
            } else {
                Fault::UnknownCookie { cookie }
            }
        })
    }

    fn prefix(
        &mut self,
        cookie: u64,
        announced: Announced,
        bytes: &mut &[u8],
    ) -> Result<Flow, Fault> {
        if !self.gather(bytes, announced.prefix_len()) {
            return Ok(Flow::Starved(Stage::Prefix { cookie, announced }));
        }
        let Some(pending) = self.table.get_mut(&cookie) else {
            return Err(Fault::UnknownCookie { cookie });
        };
        let start = pending.request().offset;
        let body = pending.prefix(announced, &self.held)?;
        let (event, end) = match body {
            Body::Nothing(end) => (None, end),
            Body::Data { at, length, end } => {
                self.held.clear();
                return Ok(Flow::Next(Stage::Data {
                    cookie,
                    offset: start.saturating_add(at),
                    left: length,
                    end,
                }));
            }
            Body::Extents(list) => {
                self.held.clear();
                return Ok(Flow::Next(Stage::Extents {
                    cookie,
                    list,
                    extents: Vec::new(),
                }));
            }
            Body::Hole { at, length, end } => {
                let offset = start.saturating_add(at);
                (Some(Event::Hole { offset, length }), end)
            }
            Body::Error { report, end } => {
                let event = Event::Error {
                    code: report.code,
                    message: report.message(),
                    offset: report.offset,
                };
                (Some(event), end)
            }
        };
        self.held.clear();
        self.events.extend(event.map(|event| (cookie, event)));
        self.end(cookie, end)
    }

    fn data(
        &mut self,
        cookie: u64,
        offset: u64,
        left: u64,
        end: End,
        bytes: &mut &[u8],
    ) -> Result<Flow, Fault> {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let data = split(bytes, here).to_vec();
        let length = u64::try_from(here).unwrap_or(left);
        if !data.is_empty() {
            self.events.push_back((
                cookie,
                Event::Data {
                    offset,
                    bytes: data,
                },
            ));
        }
        if length == left {
            return self.end(cookie, end);
        }
        Ok(Flow::Starved(Stage::Data {
            cookie,
            offset: offset.saturating_add(length),
            left: left.saturating_sub(length),
            end,
        }))
    }

    fn extents(
        &mut self,
        cookie: u64,
        mut list: ExtentList,
        mut extents: Vec<Extent>,
        bytes: &mut &[u8],
    ) -> Result<Flow, Fault> {
        while list.left() > 0 {
            if !self.gather(bytes, list.descriptor_len()) {
                return Ok(Flow::Starved(Stage::Extents {
                    cookie,
                    list,
                    extents,
                }));
            }
            push_merged(&mut extents, list.extent(&self.held)?);
            self.held.clear();
        }
        let context = list.context();
        match list.into_end() {
            Ok(end) => {
                self.events
                    .push_back((cookie, Event::Extents { context, extents }));
                self.end(cookie, end)
            }
            Err(list) => Ok(Flow::Starved(Stage::Extents {
                cookie,
                list,
                extents,
            })),
        }
    }

    /// A chunk was read to its end.
    fn end(&mut self, cookie: u64, end: End) -> Result<Flow, Fault> {
        let Some(pending) = self.table.get_mut(&cookie) else {
            return Err(Fault::UnknownCookie { cookie });
        };
        if let Some(outcome) = pending.end(end)? {
            self.table.remove(&cookie);
            self.events.push_back((cookie, Event::Done(outcome)));
        }
        Ok(Flow::Next(Stage::Header))
    }
}
