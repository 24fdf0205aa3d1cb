//! Translation: requests in the style of a session, with cookies of our own, and
//! the judge of every reply. It must not know why a request is sent, nor keep a
//! byte of what is carried.
//!
//! The rules of chunks (order, coverage, holes, errors) are those of
//! [`proto::transmission`](crate::proto::transmission); here they are given to the
//! request that they are for. A reply's outcome is known when its last chunk was
//! read to its end, and not before: so no later chunk can turn what was said to the
//! kernel into an error.
//!
//! Nothing is allocated per request: each slot keeps the memory of its last one.

use crate::proto::transmission::{
    Announced, Body, End, Fault, Outcome, Pending, ReplyHeader, Request, RequestError, Terms,
};

use super::SessionId;

/// A cookie is a count above the index of its slot, so that none comes twice:
/// 2^48 requests are nine years of a million a second.
const SLOT_BITS: u32 = 16;

/// The most requests that can wait for their answers.
pub(super) const MAX_SLOTS: usize = 1 << SLOT_BITS;

/// A chunk whose header was judged: its prefix comes next.
#[must_use = "the payload must be read"]
#[derive(Debug)]
pub struct Chunk {
    cookie: u64,
    announced: Announced,
}

impl Chunk {
    /// Bytes to read and to judge next: at most
    /// [`MAX_PREFIX`](crate::proto::transmission::MAX_PREFIX).
    #[must_use]
    pub fn prefix_len(&self) -> usize {
        self.announced.prefix_len()
    }
}

/// The right to end a chunk when all of it was read.
#[must_use = "a chunk whose end is not reported does not count"]
#[derive(Debug)]
pub struct Ending {
    cookie: u64,
    end: End,
}

/// What a chunk turned out to be; places are counted from the request's start.
pub(super) enum Content {
    /// Nothing is left to read.
    Nothing(Ending),
    /// Data follow.
    Data(u64, u64, Ending),
    /// Zeroes that need no reading.
    Zeroes(u64, u64, Ending),
    /// An error, in the server's words.
    Trouble(Trouble, Ending),
}

/// What a server says of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) code: u32,
    pub(super) offset: Option<u64>,
    pub(super) message: String,
}

/// A request that waits for its answer, and whose it is.
#[derive(Debug)]
struct Slot<O> {
    cookie: u64,
    session: SessionId,
    terms: Terms,
    owner: Option<O>,
    /// It told of an error already.
    told: bool,
    pending: Pending,
}

/// All requests that wait for answers of servers.
#[derive(Debug)]
pub(super) struct Outstanding<O> {
    slots: Vec<Slot<O>>,
    free: Vec<usize>,
    limit: usize,
    sent: u64,
}

impl<O> Outstanding<O> {
    /// For at most `limit` requests at a time, and [`MAX_SLOTS`].
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.min(MAX_SLOTS);
        Self {
            slots: Vec::with_capacity(limit),
            free: Vec::with_capacity(limit),
            limit,
            sent: 0,
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many more can be sent.
    pub(super) fn room(&self) -> usize {
        self.limit - self.len()
    }

    /// Takes in a request: what to send, with its cookie. `None` where there is no
    /// room.
    ///
    /// # Errors
    ///
    /// A request that must not be sent in these terms: the session lacks something.
    pub(super) fn begin(
        &mut self,
        session: SessionId,
        terms: Terms,
        request: Request,
        owner: O,
    ) -> Result<Option<Request>, RequestError> {
        if self.room() == 0 {
            return Ok(None);
        }
        let index = self.free.last().copied().unwrap_or(self.slots.len());
        let cookie = (self.sent << SLOT_BITS) | u64::try_from(index).unwrap_or_default();
        let request = Request { cookie, ..request }.for_style(terms.style);
        if let Some(slot) = self.slots.get_mut(index) {
            if slot.terms == terms {
                slot.pending.renew(&request)?;
            } else {
                slot.pending = Pending::new(&request, terms)?;
            }
            slot.cookie = cookie;
            slot.session = session;
            slot.terms = terms;
            slot.owner = Some(owner);
            slot.told = false;
            self.free.pop();
        } else {
            self.slots.push(Slot {
                cookie,
                session,
                terms,
                owner: Some(owner),
                told: false,
                pending: Pending::new(&request, terms)?,
            });
        }
        self.sent += 1;
        Ok(Some(request))
    }

    /// Judges a header.
    ///
    /// # Errors
    ///
    /// A reply to what was not asked in this session, or is answered; or a chunk
    /// that the request is not owed.
    pub(super) fn header(
        &mut self,
        session: SessionId,
        header: &ReplyHeader,
    ) -> Result<Chunk, Fault> {
        let cookie = header.cookie();
        let was_used = cookie >> SLOT_BITS < self.sent;
        let slot = self.slot(cookie).filter(|slot| slot.session == session);
        let Some(slot) = slot else {
            return Err(if was_used {
                header.after_done()
            } else {
                Fault::UnknownCookie { cookie }
            });
        };
        let announced = slot.pending.header(header)?;
        Ok(Chunk { cookie, announced })
    }

    /// Judges the first bytes of a chunk: pass exactly [`Chunk::prefix_len`].
    ///
    /// # Errors
    ///
    /// Content that the request is not owed: outside of it, for the second time, in
    /// too many places.
    pub(super) fn prefix(&mut self, chunk: Chunk, bytes: &[u8]) -> Result<(Content, &O), Fault> {
        let cookie = chunk.cookie;
        let ending = |end| Ending { cookie, end };
        let unknown = Fault::UnknownCookie { cookie };
        let Some(slot) = self.slot(cookie) else {
            return Err(unknown);
        };
        let content = match slot.pending.prefix(chunk.announced, bytes)? {
            Body::Nothing(end) => Content::Nothing(ending(end)),
            Body::Data { at, length, end } => Content::Data(at, length, ending(end)),
            Body::Hole { at, length, end } => Content::Zeroes(at, length, ending(end)),
            // One of a reply is enough for a log.
            Body::Error { end, .. } if std::mem::replace(&mut slot.told, true) => {
                Content::Nothing(ending(end))
            }
            Body::Error { report, end } => {
                let trouble = Trouble {
                    code: report.code.0,
                    offset: report.offset,
                    message: report.message(),
                };
                Content::Trouble(trouble, ending(end))
            }
            // Nobody asks for extents: `Pending` lets none pass.
            Body::Extents(_) => return Err(unknown),
        };
        slot.owner
            .as_ref()
            .map(|owner| (content, owner))
            .ok_or(unknown)
    }

    /// Ends a chunk; with the last of its reply, the outcome and whose it is.
    ///
    /// # Errors
    ///
    /// Success without all that is owed.
    pub(super) fn end(&mut self, ending: Ending) -> Result<Option<(O, Outcome)>, Fault> {
        let cookie = ending.cookie;
        let unknown = Fault::UnknownCookie { cookie };
        let Some(slot) = self.slot(cookie) else {
            return Err(unknown);
        };
        let Some(outcome) = slot.pending.end(ending.end)? else {
            return Ok(None);
        };
        let owner = slot.owner.take().ok_or(unknown)?;
        self.free.push(index_of(cookie));
        Ok(Some((owner, outcome)))
    }

    /// Takes one request of a session that will get no answer any more.
    pub(super) fn lose(&mut self, session: SessionId) -> Option<O> {
        let mut slots = self.slots.iter_mut().enumerate();
        let (index, slot) =
            slots.find(|(_, slot)| slot.session == session && slot.owner.is_some())?;
        self.free.push(index);
        slot.owner.take()
    }

    /// The slot of a request that waits for its answer.
    fn slot(&mut self, cookie: u64) -> Option<&mut Slot<O>> {
        self.slots
            .get_mut(index_of(cookie))
            .filter(|slot| slot.cookie == cookie && slot.owner.is_some())
    }
}

fn index_of(cookie: u64) -> usize {
    usize::try_from(cookie & ((1 << SLOT_BITS) - 1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::HeaderStyle;
    use crate::proto::transmission::{
        ChunkFlags, ChunkType, Command, CommandFlags, ErrorCode, ExtendedChunk, SimpleReply,
        StructuredChunk,
    };
    use crate::relay::tests::request;

    const ONE: SessionId = SessionId(1);
    const TWO: SessionId = SessionId(2);

    fn terms(style: HeaderStyle) -> Terms {
        Terms {
            style,
            max_payload: 1 << 25,
        }
    }

    fn begin(
        table: &mut Outstanding<char>,
        style: HeaderStyle,
        command: Command,
        owner: char,
    ) -> Request {
        let asked = request(command, CommandFlags::NONE, 64, 16);
        table
            .begin(ONE, terms(style), asked, owner)
            .unwrap()
            .unwrap()
    }

    fn simple(request: &Request, error: u32) -> ReplyHeader {
        ReplyHeader::Simple(SimpleReply {
            error: ErrorCode(error),
            cookie: request.cookie,
        })
    }

    fn extended(request: &Request, kind: ChunkType, done: bool, length: u64) -> ReplyHeader {
        ReplyHeader::Extended(ExtendedChunk {
            flags: ChunkFlags(u16::from(done)),
            kind,
            cookie: request.cookie,
            offset: request.offset,
            length,
        })
    }

    fn through(
        table: &mut Outstanding<char>,
        header: &ReplyHeader,
        prefix: &[u8],
    ) -> Result<Option<(char, Outcome)>, Fault> {
        let chunk = table.header(ONE, header)?;
        assert_eq!(chunk.prefix_len(), prefix.len());
        let (content, _) = table.prefix(chunk, prefix)?;
        let (Content::Nothing(ending)
        | Content::Data(_, _, ending)
        | Content::Zeroes(_, _, ending)
        | Content::Trouble(_, ending)) = content;
        table.end(ending)
    }

    #[test]
    fn requests_get_the_style_and_a_cookie_of_their_own() {
        for style in [
            HeaderStyle::Compact,
            HeaderStyle::Structured,
            HeaderStyle::Extended,
        ] {
            let mut table = Outstanding::new(2);
            let first = begin(&mut table, style, Command::WRITE, 'a');
            let second = begin(&mut table, style, Command::WRITE, 'b');
            assert_ne!(first.cookie, second.cookie);
            let extended = style == HeaderStyle::Extended;
            assert_eq!(first.flags.contains(CommandFlags::PAYLOAD_LEN), extended);
            assert!(first.encode(style).is_ok());
            let third = request(Command::READ, CommandFlags::NONE, 0, 1);
            assert_eq!(table.begin(ONE, terms(style), third, 'c'), Ok(None));
        }
    }

    #[test]
    fn a_cookie_does_not_come_twice_though_its_slot_does() {
        let mut table = Outstanding::new(1);
        let mut last = None;
        for _ in 0..1000 {
            let asked = begin(&mut table, HeaderStyle::Compact, Command::TRIM, 'a');
            assert!(last < Some(asked.cookie));
            last = Some(asked.cookie);
            let end = through(&mut table, &simple(&asked, 0), &[]);
            assert_eq!(end, Ok(Some(('a', Outcome::Good))));
        }
    }

    #[test]
    fn replies_interleave_and_each_ends_at_its_last_chunk() {
        let mut table = Outstanding::new(8);
        let style = HeaderStyle::Extended;
        let a = begin(&mut table, style, Command::READ, 'a');
        let b = begin(&mut table, style, Command::READ, 'b');
        let hole = |at: u64, length: u32| [&at.to_be_bytes()[..], &length.to_be_bytes()].concat();
        let kind = ChunkType::OFFSET_HOLE;
        let chunks = [
            (&a, hole(72, 8), false, None),
            (&b, hole(64, 16), false, None),
            (&a, hole(64, 8), true, Some('a')),
        ];
        for (asked, prefix, done, ended) in chunks {
            let end = through(&mut table, &extended(asked, kind, done, 12), &prefix);
            assert_eq!(end, Ok(ended.map(|owner| (owner, Outcome::Good))));
        }
        // All of the data came, and yet it fails.
        let error = [&5u32.to_be_bytes()[..], &0u16.to_be_bytes()].concat();
        let header = extended(&b, ChunkType::ERROR, true, 6);
        let failed = Outcome::Failed(ErrorCode::EIO);
        assert_eq!(
            through(&mut table, &header, &error),
            Ok(Some(('b', failed)))
        );
    }

    #[test]
    fn one_error_of_a_reply_is_told_and_is_safe_to_show() {
        let mut table = Outstanding::new(1);
        let asked = begin(&mut table, HeaderStyle::Extended, Command::READ, 'a');
        let error = [
            &5u32.to_be_bytes()[..],
            &3u16.to_be_bytes(),
            b"a\x1bb" as &[u8],
        ]
        .concat();
        let header = extended(&asked, ChunkType::ERROR, false, 9);
        let chunk = table.header(ONE, &header).unwrap();
        let (content, _) = table.prefix(chunk, &error).unwrap();
        let Content::Trouble(trouble, ending) = content else {
            panic!("it is an error");
        };
        assert!(!trouble.message.contains('\x1b'));
        assert_eq!(trouble.code, 5);
        assert_eq!(table.end(ending), Ok(None));
        let chunk = table.header(ONE, &header).unwrap();
        let (content, _) = table.prefix(chunk, &error).unwrap();
        assert!(matches!(content, Content::Nothing(_)));
    }

    #[test]
    fn what_was_not_asked_is_a_fault() {
        let mut table = Outstanding::new(4);
        let style = HeaderStyle::Structured;
        let asked = begin(&mut table, style, Command::TRIM, 'a');
        let header = simple(&asked, 0);
        let other = table.header(TWO, &header).map(|_| ());
        let cookie = asked.cookie;
        assert_eq!(
            other,
            Err(Fault::RepeatedDone { cookie }),
            "another session's"
        );
        assert!(through(&mut table, &header, &[]).is_ok());
        let twice = table.header(ONE, &header).map(|_| ());
        assert_eq!(twice, Err(Fault::RepeatedDone { cookie }));
        let cookie = cookie + (1 << SLOT_BITS);
        let never = ReplyHeader::Structured(StructuredChunk {
            flags: ChunkFlags::DONE,
            kind: ChunkType::NONE,
            cookie,
            length: 0,
        });
        let never = table.header(ONE, &never).map(|_| ());
        assert_eq!(never, Err(Fault::UnknownCookie { cookie }));
    }

    #[test]
    fn success_without_all_of_the_data_is_a_fault() {
        let mut table = Outstanding::new(4);
        let asked = begin(&mut table, HeaderStyle::Extended, Command::READ, 'a');
        let hole = [&64u64.to_be_bytes()[..], &8u32.to_be_bytes()].concat();
        let header = extended(&asked, ChunkType::OFFSET_HOLE, true, 12);
        let end = through(&mut table, &header, &hole);
        assert_eq!(end, Err(Fault::Gap { offset: 72 }));
    }

    #[test]
    fn what_a_session_took_along_is_given_back() {
        let mut table = Outstanding::new(4);
        let asked = begin(&mut table, HeaderStyle::Compact, Command::TRIM, 'a');
        begin(&mut table, HeaderStyle::Compact, Command::TRIM, 'b');
        let mut lost = [table.lose(ONE), table.lose(ONE)];
        lost.sort_unstable();
        assert_eq!(lost, [Some('a'), Some('b')]);
        assert_eq!(table.lose(ONE), None);
        assert_eq!(table.room(), 4);
        let late = table.header(ONE, &simple(&asked, 0)).map(|_| ());
        assert!(late.is_err());
        // A slot serves sessions of another style, too.
        let asked = begin(&mut table, HeaderStyle::Extended, Command::READ, 'c');
        assert!(asked.encode(HeaderStyle::Extended).is_ok());
    }
}
