//! The ways to feed a session: to `Replies`, whole or cut, and to `Pending` as a
//! pump does. All must tell the same.

use std::collections::BTreeMap;

use crate::meter::bounded;
use crate::proto::HeaderStyle;
use crate::proto::transmission::{
    Body, ChunkFlags, ChunkType, Command, ErrorCode, Event, ExtendedChunk, Extent, Fault, Pending,
    Replies, ReplyHeader, Request, SimpleReply, StructuredChunk, Terms, header_len, push_merged,
};
use crate::script::{Action, Asked, Script, begin};

/// What a session told, and how it ended.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub events: Vec<(u64, Event)>,
    pub fault: Option<Fault>,
    /// Of the requests that were begun, those without an end.
    pub outstanding: Vec<u64>,
    /// How many requests were begun.
    pub begun: usize,
}

/// Appends an event; data in several pieces are put together.
pub fn push(events: &mut Vec<(u64, Event)>, cookie: u64, event: Event) {
    if let Event::Data {
        offset: at,
        bytes: more,
    } = &event
    {
        if let Some((last, Event::Data { offset, bytes })) = events.last_mut() {
            if *last == cookie && *offset + bytes.len() as u64 == *at {
                bytes.extend(more);
                return;
            }
        }
    }
    events.push((cookie, event));
}

/// Feeds `Replies`; pieces are as long as the cuts say, by turns.
pub fn replies(script: &Script, cuts: [usize; 2]) -> Told {
    let mut replies = Replies::new(script.terms, &script.contexts);
    let mut events = Vec::new();
    let mut fault = None;
    let mut fed = 0;
    let mut begun = 0;
    let mut turn = 0;
    'session: for action in &script.actions {
        let Action::Bytes(bytes) = action else {
            begun += usize::from(begin(&mut replies, &script.contexts, action).is_some());
            continue;
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(cuts[turn % 2].min(rest.len()));
            rest = behind;
            turn += 1;
            fed += piece.len();
            let result = bounded(fed, || replies.handle_input(piece));
            while let Some((cookie, event)) = replies.poll_event() {
                push(&mut events, cookie, event);
            }
            if let Err(error) = result {
                assert_eq!(
                    replies.handle_input(&[]),
                    Err(error.clone()),
                    "it came back"
                );
                assert_eq!(
                    replies.handle_input(bytes),
                    Err(error.clone()),
                    "it came back"
                );
                assert_eq!(replies.poll_event(), None, "an event after the fault");
                fault = Some(error);
                break 'session;
            }
        }
    }
    let outstanding: Vec<_> = replies.outstanding().collect();
    match (replies.handle_eof(), &fault) {
        (Ok(()), None) => assert!(outstanding.is_empty(), "a good end with requests left"),
        (Err(Fault::Closed { outstanding: count }), None) => assert_eq!(count, outstanding.len()),
        (Err(error), Some(fault)) => assert_eq!(error, *fault),
        other => panic!("{other:?}"),
    }
    Told {
        events,
        fault,
        outstanding,
        begun,
    }
}

/// The requests by cookie, and what is read for them.
struct Pump {
    terms: Terms,
    table: BTreeMap<u64, (Pending, bool)>,
    events: Vec<(u64, Event)>,
}

/// Feeds `Pending`, message by message; what was told, and the fault.
pub fn pump(script: &Script) -> (Vec<(u64, Event)>, Option<Fault>) {
    let mut replies = Replies::new(script.terms, &script.contexts);
    let mut stream = Vec::new();
    // The requests, and how many bytes of the server came before each.
    let mut begun = Vec::new();
    for action in &script.actions {
        match action {
            Action::Bytes(bytes) => stream.extend(bytes),
            Action::Begin { .. } => {
                if let Some(asked) = begin(&mut replies, &script.contexts, action) {
                    begun.push((stream.len(), asked));
                }
            }
        }
    }
    let mut begun = begun.into_iter().peekable();
    let mut pump = Pump {
        terms: script.terms,
        table: BTreeMap::new(),
        events: Vec::new(),
    };
    let mut used = 0;
    loop {
        let bytes = &stream[used..];
        // A header is judged once it is whole, with the requests of before.
        let magic = bytes.get(..4).unwrap_or_default();
        let header = header_len(script.terms.style, magic).unwrap_or(4);
        while let Some((_, asked)) = begun.next_if(|(before, _)| *before < used + header) {
            let cookie = asked.request.cookie;
            let pending = pending(&asked, script.terms);
            pump.table.insert(cookie, (pending, false));
        }
        match pump.message(bytes) {
            Ok(Some(length)) => used += length,
            Ok(None) | Err(UNFINISHED) => return (pump.events, None),
            Err(fault) => return (pump.events, Some(fault)),
        }
    }
}

/// In memory that served another request before, where that can be.
fn pending(asked: &Asked, terms: Terms) -> Pending {
    let Asked {
        request,
        effect,
        contexts,
    } = asked;
    if request.command == Command::BLOCK_STATUS {
        let pending = Pending::block_status(request, *effect, contexts, terms);
        return pending.expect("it was begun");
    }
    let other = Request {
        offset: 5,
        length: 77,
        ..*request
    };
    let Ok(mut pending) = Pending::new(&other, terms) else {
        return Pending::new(request, terms).expect("it was begun");
    };
    // One byte of it is there, or it failed.
    let (flags, cookie, offset) = (ChunkFlags::NONE, request.cookie, other.offset);
    let (kind, payload) = if request.command == Command::READ {
        (ChunkType::OFFSET_DATA, 7u64.to_be_bytes().to_vec())
    } else {
        (ChunkType::ERROR, vec![0, 0, 0, 5, 0, 0])
    };
    let length: u8 = if request.command == Command::READ {
        9
    } else {
        6
    };
    let header = match terms.style {
        HeaderStyle::Compact => ReplyHeader::Simple(SimpleReply {
            error: ErrorCode::EIO,
            cookie,
        }),
        HeaderStyle::Structured => {
            let length = u32::from(length);
            ReplyHeader::Structured(StructuredChunk {
                flags,
                kind,
                cookie,
                length,
            })
        }
        HeaderStyle::Extended => {
            let length = u64::from(length);
            ReplyHeader::Extended(ExtendedChunk {
                flags,
                kind,
                cookie,
                offset,
                length,
            })
        }
    };
    let announced = pending.header(&header).expect("it is right");
    let payload = &payload[..announced.prefix_len()];
    assert!(pending.prefix(announced, payload).is_ok(), "it is right");
    pending.renew(request).expect("it was begun");
    pending
}

impl Pump {
    /// Reads one message; how many bytes it was.
    fn message(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let mut length = header_len(self.terms.style, bytes.get(..4).unwrap_or_default())?;
        let Some(header) = bytes.get(..length) else {
            return Ok(None);
        };
        let header = ReplyHeader::parse(self.terms.style, header)?;
        let cookie = header.cookie();
        let nothing_open = self.table.values().all(|(_, done)| *done);
        let Some((pending, done)) = self.table.get_mut(&cookie) else {
            return Err(if nothing_open {
                Fault::Unasked { cookie }
            } else {
                Fault::UnknownCookie { cookie }
            });
        };
        let announced = pending.header(&header)?;
        let behind = &bytes[length..];
        length =
            length.saturating_add(usize::try_from(announced.payload_len()).unwrap_or(usize::MAX));
        let Some(prefix) = behind.get(..announced.prefix_len()) else {
            return Err(UNFINISHED);
        };
        let mut rest = &behind[prefix.len()..];
        let start = pending.request().offset;
        let end = match pending.prefix(announced, prefix)? {
            Body::Nothing(end) => end,
            Body::Data { at, length, end } => {
                let here = usize::try_from(length)
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                let offset = start + at;
                if here > 0 {
                    let bytes = rest[..here].to_vec();
                    push(&mut self.events, cookie, Event::Data { offset, bytes });
                }
                if (here as u64) < length {
                    return Err(UNFINISHED);
                }
                end
            }
            Body::Hole { at, length, end } => {
                let offset = start + at;
                push(&mut self.events, cookie, Event::Hole { offset, length });
                end
            }
            Body::Extents(mut list) => {
                let context = list.context();
                let mut extents: Vec<Extent> = Vec::new();
                while list.left() > 0 {
                    let Some((descriptor, behind)) = rest.split_at_checked(list.descriptor_len())
                    else {
                        return Err(UNFINISHED);
                    };
                    push_merged(&mut extents, list.extent(descriptor)?);
                    rest = behind;
                }
                push(
                    &mut self.events,
                    cookie,
                    Event::Extents { context, extents },
                );
                list.into_end().expect("no descriptor is left")
            }
            Body::Error { report, end } => {
                let event = Event::Error {
                    code: report.code,
                    message: report.message(),
                    offset: report.offset,
                };
                push(&mut self.events, cookie, event);
                end
            }
        };
        if let Some(outcome) = pending.end(end)? {
            *done = true;
            push(&mut self.events, cookie, Event::Done(outcome));
        }
        Ok(Some(length))
    }
}

/// The bytes ended within a message: no fault of the protocol, but the end here.
const UNFINISHED: Fault = Fault::Closed {
    outstanding: usize::MAX,
};
