//! What must hold of a relay, whatever the kernel and servers do: each cookie of the
//! kernel's is answered once; no buffer is let go twice, used after that, or kept; what
//! is sent can be sent; what is held keeps within its limits. And whatever was before,
//! an honest server is enough for all of it to end.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::transmission::{
    ChunkFlags, ChunkType, Command, CommandFlags, ErrorCode, ExtendedChunk, ReplyHeader, Request,
    SimpleReply, StructuredChunk, Terms, header_len,
};
use crate::proto::{HeaderStyle, TransmissionFlags};
use crate::relay::{Action, BufferId, Engine, Limits, LogLimits, Offer, SessionId, Step};

const SIZE: u64 = 1 << 16;
const LIMITS: Limits = Limits {
    log: LogLimits {
        bytes: 4096,
        entries: 24,
    },
    depth: 12,
};
/// Longer than the log: taken alone.
const LONGEST: u32 = 8192;

const STYLES: [HeaderStyle; 3] = [
    HeaderStyle::Compact,
    HeaderStyle::Structured,
    HeaderStyle::Extended,
];

struct Link {
    session: SessionId,
    style: HeaderStyle,
    requests: Vec<Request>,
    closed: bool,
}

/// An engine between a kernel and servers, and the input that moves them.
pub struct World<'a> {
    input: &'a [u8],
    engine: Engine,
    links: Vec<Link>,
    owed: BTreeMap<u64, Request>,
    buffers: BTreeMap<u32, u64>,
    cookies: u64,
    finished: bool,
}

impl<'a> World<'a> {
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            engine: Engine::new(offer(HeaderStyle::Compact), LIMITS),
            links: Vec::new(),
            owed: BTreeMap::new(),
            buffers: BTreeMap::new(),
            cookies: 0,
            finished: false,
        }
    }

    /// Does what the input says next; `false` at its end.
    pub fn step(&mut self) -> bool {
        let Some((first, rest)) = self.input.split_first() else {
            return false;
        };
        self.input = rest;
        match first % 16 {
            0..6 => self.ask(),
            6..11 => self.answer(),
            11 => self.lie(),
            12 | 13 => self.come(),
            14 => self.go(),
            _ => match self.byte() % 4 {
                0 => self.engine.give_up(),
                1 => self.engine.grow(SIZE),
                _ => {
                    let which = usize::from(self.byte());
                    let count = self.links.len().max(1);
                    if let Some(link) = self.links.get_mut(which % count) {
                        self.engine.suspend(link.session);
                        link.closed = true;
                    }
                }
            },
        }
        self.act();
        true
    }

    /// Everything ends well with a server that is honest.
    pub fn end(&mut self) {
        while let Some(link) = self.links.pop() {
            self.engine.session_down(link.session);
            self.act();
        }
        self.engine.wind_down();
        self.up(HeaderStyle::Compact);
        for _ in 0..10_000 {
            self.act();
            let Some(link) = self.links.first_mut() else {
                panic!("an honest server is closed");
            };
            let Some(request) = link.requests.pop() else {
                break;
            };
            self.good(0, &request);
        }
        assert!(
            self.finished,
            "it does not finish: {:?}",
            self.engine.figures()
        );
        assert!(self.owed.is_empty(), "{:?} are not answered", self.owed);
        assert!(self.buffers.is_empty(), "{:?} are kept", self.buffers);
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.input.split_first().unwrap_or((&0, &[]));
        self.input = rest;
        *first
    }

    fn ask(&mut self) {
        let all = [
            Command::READ,
            Command::WRITE,
            Command::WRITE,
            Command::FLUSH,
            Command::TRIM,
            Command::WRITE_ZEROES,
            Command::CACHE,
            Command(77),
        ];
        let command = all[usize::from(self.byte() % 8)];
        let shape = self.byte();
        let (place, size) = (u64::from(self.byte()), u64::from(self.byte()));
        let unit = if shape & 1 == 0 { 512 } else { 100 };
        let length = match shape & 0b110 {
            0 => 512,
            0b010 => size % 17 * unit,
            0b100 => u64::from(LONGEST),
            _ => size << 24,
        };
        self.cookies += 1;
        let request = Request {
            command,
            flags: if shape & 8 == 0 {
                CommandFlags::NONE
            } else {
                CommandFlags::FUA
            },
            cookie: self.cookies,
            offset: place * unit,
            length: if command == Command::FLUSH { 0 } else { length },
        };
        if !self.engine.has_room(&request) {
            return;
        }
        let carries = matches!(command, Command::READ | Command::WRITE);
        let buffer = carries.then(|| {
            let buffer = u32::try_from(self.cookies).unwrap();
            self.buffers.insert(buffer, request.length);
            BufferId(buffer)
        });
        self.owed.insert(self.cookies, request);
        self.engine.kernel_request(request, buffer);
    }

    fn come(&mut self) {
        let style = STYLES[usize::from(self.byte() % 3)];
        self.up(style);
    }

    fn up(&mut self, style: HeaderStyle) {
        if let Ok(session) = self.engine.session_up(offer(style)) {
            assert!(self.links.iter().all(|link| link.session != session));
            self.links.push(Link {
                session,
                style,
                requests: Vec::new(),
                closed: false,
            });
        }
    }

    fn go(&mut self) {
        let which = usize::from(self.byte());
        if !self.links.is_empty() {
            let link = self.links.remove(which % self.links.len());
            self.engine.session_down(link.session);
        }
    }

    /// A server answers one of its requests, as it should or with an error.
    fn answer(&mut self) {
        let (which, request, error) = (self.byte(), self.byte(), self.byte());
        let count = self.links.len().max(1);
        let which = usize::from(which) % count;
        let Some(link) = self.links.get_mut(which) else {
            return;
        };
        if link.requests.is_empty() {
            return;
        }
        let request = usize::from(request) % link.requests.len();
        let request = link.requests.swap_remove(request);
        match error {
            0..200 => self.good(which, &request),
            200..210 => self.bad(which, &request, ErrorCode::ESHUTDOWN),
            _ => self.bad(which, &request, ErrorCode::EIO),
        }
    }

    fn good(&mut self, which: usize, request: &Request) {
        let read = request.command == Command::READ;
        let mut hole = request.offset.to_be_bytes().to_vec();
        hole.extend(u32::try_from(request.length).unwrap_or(0).to_be_bytes());
        let kind = if read {
            ChunkType::OFFSET_HOLE
        } else {
            ChunkType::NONE
        };
        self.reply(
            which,
            request,
            kind,
            if read { &hole } else { &[] },
            ErrorCode(0),
        );
    }

    fn bad(&mut self, which: usize, request: &Request, error: ErrorCode) {
        let mut payload = error.0.to_be_bytes().to_vec();
        payload.extend([0, 0]);
        self.reply(which, request, ChunkType::ERROR, &payload, error);
    }

    fn reply(
        &mut self,
        which: usize,
        request: &Request,
        kind: ChunkType,
        payload: &[u8],
        error: ErrorCode,
    ) {
        let cookie = request.cookie;
        let length = payload.len();
        let header = match self.links[which].style {
            HeaderStyle::Compact => ReplyHeader::Simple(SimpleReply { error, cookie }),
            HeaderStyle::Structured => ReplyHeader::Structured(StructuredChunk {
                flags: ChunkFlags::DONE,
                kind,
                cookie,
                length: u32::try_from(length).unwrap(),
            }),
            HeaderStyle::Extended => ReplyHeader::Extended(ExtendedChunk {
                flags: ChunkFlags::DONE,
                kind,
                cookie,
                offset: request.offset,
                length: length as u64,
            }),
        };
        self.feed(which, &header, payload);
    }

    /// A server sends what the input has.
    fn lie(&mut self) {
        let which = usize::from(self.byte());
        if self.links.is_empty() {
            return;
        }
        let which = which % self.links.len();
        let style = self.links[which].style;
        let bytes = self.input;
        let Ok(length) = header_len(style, bytes) else {
            return;
        };
        let Some((header, rest)) = bytes.split_at_checked(length) else {
            return;
        };
        self.input = rest;
        if let Ok(header) = ReplyHeader::parse(style, header) {
            let payload = &rest[..rest.len().min(64)];
            self.feed(which, &header, payload);
        }
    }

    /// What a pump does with one message; what is missing of it comes as zeroes.
    fn feed(&mut self, which: usize, header: &ReplyHeader, mut payload: &[u8]) {
        let session = self.links[which].session;
        let mut step = self.engine.reply(session, header);
        loop {
            step = match step {
                Step::Header | Step::Over => return,
                Step::Prefix(chunk) => {
                    let length = chunk.prefix_len();
                    let mut prefix = payload[..length.min(payload.len())].to_vec();
                    payload = &payload[prefix.len()..];
                    prefix.resize(length, 0);
                    self.engine.reply_prefix(session, chunk, &prefix)
                }
                Step::Data(place, ending) | Step::Zeroes(place, ending) => {
                    let has = self.buffers[&place.buffer.0];
                    assert!(place.at + place.length <= has, "{place:?} of {has}");
                    self.engine.reply_end(session, ending)
                }
            };
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Send {
                    session,
                    request,
                    data,
                } => self.sent(session, &request, data),
                Action::Answer { cookie, data, .. } => {
                    let request = self.owed.remove(&cookie);
                    let request = request.expect("each request is answered once");
                    if let Some((buffer, length)) = data {
                        assert_eq!(length, request.length);
                        let had = self.buffers.remove(&buffer.0);
                        assert!(had.is_some_and(|had| had >= length));
                    }
                }
                Action::Release(buffer) => {
                    assert!(self.buffers.remove(&buffer.0).is_some(), "{buffer:?} twice");
                }
                Action::Close { session, .. } => {
                    let mut links = self.links.iter_mut();
                    let link = links.find(|link| link.session == session).unwrap();
                    assert!(!std::mem::replace(&mut link.closed, true), "closed twice");
                }
                Action::Trouble { .. } => {}
                Action::Finish => {
                    assert!(!std::mem::replace(&mut self.finished, true));
                    assert!(self.owed.is_empty());
                }
            }
        }
        let figures = self.engine.figures();
        assert_eq!(figures.asked, self.owed.len());
        assert!(figures.asked <= LIMITS.depth && figures.logged <= LIMITS.log.entries);
        let most = LIMITS.log.bytes.max(LONGEST.into());
        assert!(figures.logged_bytes <= most, "{figures:?}");
        let cookies: BTreeSet<u64> = self
            .links
            .iter()
            .flat_map(|link| &link.requests)
            .map(|it| it.cookie)
            .collect();
        let all: usize = self.links.iter().map(|link| link.requests.len()).sum();
        assert_eq!(cookies.len(), all, "a cookie of ours came twice");
    }

    fn sent(&mut self, session: SessionId, request: &Request, data: Option<(BufferId, u64)>) {
        let mut links = self.links.iter_mut();
        let Some(link) = links.find(|link| link.session == session) else {
            return;
        };
        assert!(!link.closed, "nothing is sent to what was closed");
        assert!(request.encode(link.style).is_ok(), "{request:?}");
        assert!(request.offset + request.length <= SIZE);
        let carried = data.map_or(0, |(buffer, at)| {
            let has = self.buffers[&buffer.0];
            assert!(at + request.length <= has, "{request:?} from {at} of {has}");
            request.length
        });
        assert_eq!(carried, request.payload_len());
        link.requests.push(*request);
    }
}

/// What every server here offers, and the device was made of.
fn offer(style: HeaderStyle) -> Offer {
    let flags = [
        TransmissionFlags::SEND_FLUSH,
        TransmissionFlags::SEND_FUA,
        TransmissionFlags::SEND_TRIM,
        TransmissionFlags::SEND_WRITE_ZEROES,
        TransmissionFlags::CAN_MULTI_CONN,
    ];
    Offer {
        terms: Terms {
            style,
            max_payload: LONGEST,
        },
        size: SIZE,
        flags: flags
            .into_iter()
            .fold(TransmissionFlags::HAS_FLAGS, TransmissionFlags::with),
        minimum_block: 512,
    }
}
