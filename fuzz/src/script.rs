//! Sessions made from a fuzzer's input.
//!
//! Bytes alone would hardly ever be a reply. So the input chooses requests, and
//! for each message of the server what it answers and how; a small encoder
//! writes it, right, and knows which events it stands for. Some choices make
//! mischief: bytes of the input, a message with a byte changed, cut short, sent
//! twice, or with fields that are not to be. From there on nothing is known.

use crate::proto::HeaderStyle;
use crate::proto::transmission::{
    ChunkFlags, ChunkType, Command, CommandFlags, ErrorCode, Event, ExtendedChunk, Extent, Outcome,
    Replies, Request, SelectedContext, SimpleReply, StructuredChunk, Terms, push_merged,
};

/// Bytes of a server in one session.
const MAX_STREAM: usize = 8 * 1024;
/// Requests in one session.
const MAX_REQUESTS: usize = 32;
/// Bytes of data in one message.
const MAX_DATA: u64 = 600;

/// The fuzzer's input, which ends in zeroes.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        u64::from(self.byte()) << 8 | u64::from(self.byte())
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// One of the choices, each as likely as another.
    fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}

/// A request that was begun, as its caller knows it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub request: Request,
    /// Also where the header has a payload's.
    pub effect: u64,
    pub contexts: Vec<SelectedContext>,
}

/// What happens next in a session.
#[derive(Debug, Clone)]
pub enum Action {
    Begin {
        command: Command,
        flags: CommandFlags,
        offset: u64,
        length: u64,
        /// Whether it names its contexts, and how many.
        named: Option<usize>,
    },
    Bytes(Vec<u8>),
}

/// A whole session.
#[derive(Debug)]
pub struct Script {
    pub terms: Terms,
    pub contexts: Vec<SelectedContext>,
    pub actions: Vec<Action>,
    pub asked: Vec<Asked>,
    /// What must be told first, by cookie.
    pub expected: Vec<(u64, Event)>,
    /// Whether nothing else is to be told, and no fault.
    pub right: bool,
    /// Whether every request is answered.
    pub finished: bool,
    /// How the server's bytes are cut.
    pub cuts: [usize; 2],
}

/// Begins a request, as both the encoder and the drivers do.
pub fn begin(
    replies: &mut Replies,
    selected: &[SelectedContext],
    action: &Action,
) -> Option<Asked> {
    let Action::Begin {
        command,
        flags,
        offset,
        length,
        named,
    } = action
    else {
        return None;
    };
    let contexts = match (*command, named) {
        (Command::BLOCK_STATUS, Some(count)) => &selected[..(*count).min(selected.len())],
        (Command::BLOCK_STATUS, None) => selected,
        _ => &[],
    };
    let request = match (*command, named) {
        (Command::BLOCK_STATUS, Some(_)) => {
            let ids: Vec<_> = contexts.iter().map(|context| context.id).collect();
            replies
                .begin_status(*flags, *offset, *length, &ids)
                .map(|(request, _)| request)
        }
        _ => replies.begin(*command, *flags, *offset, *length),
    };
    Some(Asked {
        request: request.ok()?,
        effect: *length,
        contexts: contexts.to_vec(),
    })
}

/// What a right server knows of a request that it answers.
struct Open {
    asked: Asked,
    /// Of a READ, what is not there yet, from the request's start.
    missing: Vec<(u64, u64)>,
    begun: bool,
    content: bool,
    failed: Option<ErrorCode>,
    answered: usize,
}

impl Open {
    fn complete(&self) -> bool {
        self.failed.is_some()
            || (self.missing.is_empty() && self.answered == self.asked.contexts.len())
    }
}

/// The byte at an offset of the export.
pub fn data_byte(offset: u64) -> u8 {
    offset
        .wrapping_mul(31)
        .wrapping_add(offset >> 8)
        .to_le_bytes()[0]
}

struct Encoder<'a> {
    input: Input<'a>,
    script: Script,
    replies: Replies,
    open: Vec<Open>,
    last: Vec<u8>,
    sent: usize,
}

impl Script {
    pub fn new(input: &[u8]) -> Self {
        let mut input = Input::new(input);
        let style = input.choose(&[
            HeaderStyle::Compact,
            HeaderStyle::Structured,
            HeaderStyle::Extended,
        ]);
        let terms = Terms {
            style,
            max_payload: input.choose(&[32 << 20, u32::MAX, 4096, 1 << 20]),
        };
        let all = [
            SelectedContext::named(0, "base:allocation"),
            SelectedContext::named(7, "x-zone:type"),
            SelectedContext::named(u32::MAX, "x-other:y"),
        ];
        let contexts = all[..usize::from(input.byte() % 4)].to_vec();
        let cuts = [input.byte(), input.byte()].map(|cut| usize::from(cut % 64) + 1);
        let mut encoder = Encoder {
            replies: Replies::new(terms, &contexts),
            input,
            script: Self {
                terms,
                contexts,
                actions: Vec::new(),
                asked: Vec::new(),
                expected: Vec::new(),
                right: true,
                finished: false,
                cuts,
            },
            open: Vec::new(),
            last: Vec::new(),
            sent: 0,
        };
        encoder.run();
        encoder.script
    }
}

impl Encoder<'_> {
    fn run(&mut self) {
        while !self.input.0.is_empty() && self.sent < MAX_STREAM {
            self.action();
        }
        // Most sessions are to have an end.
        if self.script.cuts[0] % 4 != 0 {
            while let Some(open) = self.open.first() {
                if open.complete() && self.script.terms.style != HeaderStyle::Compact {
                    self.chunk(0, ChunkType::NONE, true, &[], None);
                } else {
                    self.error(0, ErrorCode::EIO, true);
                }
            }
            self.script.finished = self.script.right;
        }
    }

    fn action(&mut self) {
        let what = self.input.byte();
        if what % 16 == 0 || self.open.is_empty() && what % 16 < 12 {
            return self.begin();
        }
        let which = if self.open.is_empty() {
            0
        } else {
            usize::from(self.input.byte()) % self.open.len()
        };
        let done = what & 0x80 != 0;
        match what % 16 {
            1..=3 => self.content(which, done, false),
            4 => self.content(which, done, true),
            5 | 6 => self.status(which, done),
            7 => {
                let code = self
                    .input
                    .choose(&[5, 1, 12, 22, 28, 75, 95, 108, 99, u32::MAX]);
                self.error(which, ErrorCode(code), done);
            }
            8 | 9 => self.end(which),
            10 | 11 => self.simple(which),
            12 => {
                let count = usize::from(self.input.byte() % 48);
                let raw = self.input.bytes(count).to_vec();
                self.mischief(raw);
            }
            13 => {
                let mut again = self.last.clone();
                if let Some(byte) = self.input.0.first().and(again.first()).copied() {
                    let at = usize::from(self.input.byte()) % again.len();
                    again[at] = byte ^ self.input.byte();
                }
                self.mischief(again);
            }
            14 => {
                let length = usize::from(self.input.byte());
                let short = self.last.iter().copied().take(length).collect();
                self.mischief(short);
            }
            _ => self.wild(which),
        }
    }

    fn begin(&mut self) {
        if self.script.asked.len() >= MAX_REQUESTS {
            return;
        }
        let command = self.input.choose(&[0, 0, 0, 7, 7, 1, 3, 4, 5, 6, 2, 8]);
        let flags = self
            .input
            .choose(&[0, 0, 0, 1, 2, 4, 8, 16, 9, 18, 32, 0xffff]);
        let named = self.input.byte();
        let length = self.input.choose(&[
            512,
            1,
            16,
            100,
            4096,
            1 << 20,
            0xffff_ffff,
            1 << 33,
            u64::MAX - 4096,
            0,
        ]);
        let offset = self
            .input
            .choose(&[0, 4096, 1 << 40, u64::MAX - 4096, u64::MAX, 1]);
        let no_range = command == 3;
        let action = Action::Begin {
            command: Command(command),
            flags: CommandFlags(flags),
            offset: if no_range { 0 } else { offset },
            length: if no_range { 0 } else { length },
            named: (named & 1 == 1).then_some(usize::from(named >> 1 & 3)),
        };
        if let Some(asked) = begin(&mut self.replies, &self.script.contexts, &action) {
            let read = asked.request.command == Command::READ;
            self.open.push(Open {
                missing: if read {
                    vec![(0, asked.effect)]
                } else {
                    Vec::new()
                },
                begun: false,
                content: false,
                failed: None,
                answered: 0,
                asked: asked.clone(),
            });
            self.script.asked.push(asked);
        }
        self.script.actions.push(action);
    }

    fn bytes(&mut self, bytes: Vec<u8>) {
        self.sent += bytes.len();
        self.last.clone_from(&bytes);
        match self.script.actions.last_mut() {
            Some(Action::Bytes(last)) => last.extend(bytes),
            _ => self.script.actions.push(Action::Bytes(bytes)),
        }
    }

    fn mischief(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.script.right = false;
            self.bytes(bytes);
        }
    }

    fn expect(&mut self, cookie: u64, event: Event) {
        if self.script.right {
            self.script.expected.push((cookie, event));
        }
    }

    fn header(&self, asked: &Asked, kind: ChunkType, done: bool, length: u64) -> Vec<u8> {
        let flags = if done {
            ChunkFlags::DONE
        } else {
            ChunkFlags::NONE
        };
        let cookie = asked.request.cookie;
        if self.script.terms.style == HeaderStyle::Extended {
            let offset = asked.request.offset;
            ExtendedChunk {
                flags,
                kind,
                cookie,
                offset,
                length,
            }
            .encode()
            .to_vec()
        } else {
            let length = length as u32;
            StructuredChunk {
                flags,
                kind,
                cookie,
                length,
            }
            .encode()
            .to_vec()
        }
    }

    /// One chunk, and the event that it stands for.
    fn chunk(
        &mut self,
        which: usize,
        kind: ChunkType,
        done: bool,
        payload: &[u8],
        event: Option<Event>,
    ) {
        let open = &mut self.open[which];
        open.begun = true;
        let asked = open.asked.clone();
        let failed = open.failed;
        let mut bytes = self.header(&asked, kind, done, payload.len() as u64);
        bytes.extend(payload);
        self.bytes(bytes);
        if let Some(event) = event {
            self.expect(asked.request.cookie, event);
        }
        if done {
            self.done(which, failed);
        }
    }

    fn done(&mut self, which: usize, failed: Option<ErrorCode>) {
        let open = self.open.remove(which);
        let outcome = failed.map_or(Outcome::Good, |code| Outcome::Failed(code.effective()));
        self.expect(open.asked.request.cookie, Event::Done(outcome));
    }

    fn is_chunked(&self) -> bool {
        self.script.terms.style != HeaderStyle::Compact
    }

    /// Data or a hole, somewhere in what is missing.
    fn content(&mut self, which: usize, done: bool, hole: bool) {
        let chunked = self.is_chunked();
        let (word, place) = (self.input.word(), self.input.byte());
        let Some(open) = self.open.get_mut(which) else {
            return;
        };
        let one_only = open.asked.request.flags.contains(CommandFlags::DF);
        if !chunked || open.missing.is_empty() || open.content && one_only {
            return;
        }
        let gap = usize::from(place >> 2) % open.missing.len();
        let (start, end) = open.missing.swap_remove(gap);
        let rest = end - start;
        let most = if hole { u64::from(u32::MAX) } else { MAX_DATA };
        let length = if word % 4 == 0 { rest } else { word };
        let length = length.clamp(1, most).min(rest);
        // At its front, in its midst, or at its back.
        let at = start + (rest - length) * u64::from(place % 3) / 2;
        for (start, end) in [(start, at), (at + length, end)] {
            if start < end {
                open.missing.push((start, end));
            }
        }
        open.content = true;
        let complete = open.complete();
        let last = done && (complete || place & 0x80 != 0);
        let offset = open.asked.request.offset + at;
        if last && !complete {
            self.script.right = false;
        }
        let mut payload = offset.to_be_bytes().to_vec();
        if hole {
            payload.extend((length as u32).to_be_bytes());
            let event = Event::Hole { offset, length };
            self.chunk(which, ChunkType::OFFSET_HOLE, last, &payload, Some(event));
        } else {
            let bytes: Vec<u8> = (offset..offset + length).map(data_byte).collect();
            payload.extend(&bytes);
            let event = Event::Data { offset, bytes };
            self.chunk(which, ChunkType::OFFSET_DATA, last, &payload, Some(event));
        }
    }

    fn status(&mut self, which: usize, done: bool) {
        let long = self.script.terms.style == HeaderStyle::Extended;
        let how = self.input.byte();
        let Some(open) = self.open.get_mut(which) else {
            return;
        };
        let again = how & 0x40 != 0 && open.answered > 0;
        let index = open.answered - usize::from(again);
        let Some(context) = open.asked.contexts.get(index).copied() else {
            return;
        };
        if again {
            self.script.right = false;
            open.answered = index;
        }
        open.answered += 1;
        let last = done && open.complete();
        let Asked {
            request, effect, ..
        } = open.asked.clone();
        let one_only = request.flags.contains(CommandFlags::REQ_ONE);
        let beyond = how & 0x80 != 0;
        let count = if one_only && !beyond { 1 } else { how % 12 + 1 };
        let mut told = 0;
        let mut extents = Vec::new();
        let mut payload = Vec::new();
        let mut sent: u32 = 0;
        for _ in 0..count {
            if told >= effect || one_only && sent > 0 {
                if !beyond {
                    break;
                }
                self.script.right = false;
            }
            let most = if one_only {
                effect
            } else {
                (u64::MAX - request.offset).saturating_sub(told)
            };
            let most = if long {
                most
            } else {
                most.min(u64::from(u32::MAX))
            };
            let length = match self.input.byte() {
                0 => most,
                1 => effect.saturating_sub(told),
                other => u64::from(other) << (other % 24),
            };
            let length = length.clamp(1, most.max(1));
            let mut status = u64::from(self.input.byte() % 4);
            if long && context.wide && status == 3 {
                status = u64::MAX;
            }
            if long {
                payload.extend(length.to_be_bytes());
                payload.extend(status.to_be_bytes());
            } else {
                payload.extend((length as u32).to_be_bytes());
                payload.extend((status as u32).to_be_bytes());
            }
            push_merged(&mut extents, Extent { length, status });
            told = told.saturating_add(length);
            sent += 1;
        }
        let mut head = context.id.to_be_bytes().to_vec();
        let kind = if long {
            head.extend(sent.to_be_bytes());
            ChunkType::BLOCK_STATUS_EXT
        } else {
            ChunkType::BLOCK_STATUS
        };
        head.extend(payload);
        let event = Event::Extents {
            context: context.id,
            extents,
        };
        self.chunk(which, kind, last, &head, Some(event));
    }

    fn error(&mut self, which: usize, code: ErrorCode, done: bool) {
        if !self.is_chunked() {
            return self.simple_reply(which, code);
        }
        let how = self.input.byte();
        let Some(open) = self.open.get_mut(which) else {
            return;
        };
        open.failed = open.failed.or(Some(code));
        let Asked {
            request, effect, ..
        } = open.asked.clone();
        let message = "it is broken"[..usize::from(how % 13)].trim().to_owned();
        let mut payload = code.0.to_be_bytes().to_vec();
        payload.extend((message.len() as u16).to_be_bytes());
        payload.extend(message.as_bytes());
        let (kind, offset) = match how / 13 % 3 {
            1 if effect > 0 => {
                // Nothing more is said of the data.
                open.missing.clear();
                let at = u64::from(how).min(effect - 1);
                (ChunkType::ERROR_OFFSET, Some(request.offset + at))
            }
            2 => (ChunkType(0x8000 | u16::from(how) + 3), None),
            _ => (ChunkType::ERROR, None),
        };
        if let Some(offset) = offset {
            payload.extend(offset.to_be_bytes());
        } else {
            payload.extend(vec![9; usize::from(how % 7)]);
        }
        // Nothing may stand behind a plain error's message but what is unknown.
        let event = Event::Error {
            code,
            message,
            offset,
        };
        self.chunk(which, kind, done, &payload, Some(event));
    }

    fn end(&mut self, which: usize) {
        let chunked = self.is_chunked();
        if self
            .open
            .get(which)
            .is_some_and(|open| chunked && open.complete())
        {
            self.chunk(which, ChunkType::NONE, true, &[], None);
        }
    }

    /// A simple reply, where there may be one.
    fn simple(&mut self, which: usize) {
        let code = self.input.choose(&[0, 0, 0, 5, 22, 77]);
        let Some(open) = self.open.get(which) else {
            return;
        };
        let read = open.asked.request.command == Command::READ;
        let fits = match self.script.terms.style {
            HeaderStyle::Compact => code != 0 || !read || open.asked.effect <= MAX_DATA,
            HeaderStyle::Structured => {
                !read && !open.begun && (code != 0 || open.asked.contexts.is_empty())
            }
            HeaderStyle::Extended => false,
        };
        if fits {
            self.simple_reply(which, ErrorCode(code));
        }
    }

    fn simple_reply(&mut self, which: usize, error: ErrorCode) {
        let Some(open) = self.open.get(which) else {
            return;
        };
        let Asked {
            request, effect, ..
        } = open.asked.clone();
        let cookie = request.cookie;
        let mut bytes = SimpleReply { error, cookie }.encode().to_vec();
        let offset = request.offset;
        let event = if error.is_error() {
            Some(Event::Error {
                code: error,
                message: String::new(),
                offset: None,
            })
        } else if request.command == Command::READ {
            let data: Vec<u8> = (offset..offset + effect).map(data_byte).collect();
            bytes.extend(&data);
            Some(Event::Data {
                offset,
                bytes: data,
            })
        } else {
            None
        };
        self.bytes(bytes);
        if let Some(event) = event {
            self.expect(cookie, event);
        }
        self.done(which, error.is_error().then_some(error));
    }

    /// Data anywhere in the first bytes of a request, be they there or not.
    fn scatter(&mut self, asked: &Asked) {
        let at = u64::from(self.input.byte());
        let length = self.input.byte() % 64 + 1;
        let offset = asked.request.offset.wrapping_add(at);
        let mut bytes = self.header(asked, ChunkType::OFFSET_DATA, false, 8 + u64::from(length));
        bytes.extend(offset.to_be_bytes());
        bytes.extend(vec![length; usize::from(length)]);
        self.mischief(bytes);
    }

    /// A header of any kind, with a payload that may fit it.
    fn wild(&mut self, which: usize) {
        let kind = self
            .input
            .choose(&[0, 1, 2, 5, 6, 0x8001, 0x8002, 0x8003, 3, 4, 0xffff]);
        let length = self.input.choose(&[
            0,
            1,
            8,
            9,
            12,
            24,
            14,
            20,
            6,
            40,
            600,
            8192,
            1 << 24,
            (32 << 20) + 9,
            0xffff_ffff,
        ]);
        let how = self.input.byte();
        let asked = match self.open.get(which) {
            Some(open) if how & 1 == 0 => open.asked.clone(),
            _ => match self.script.asked.get(usize::from(how >> 4)) {
                Some(asked) => asked.clone(),
                None => return,
            },
        };
        if how & 8 != 0 && self.is_chunked() {
            return self.scatter(&asked);
        }
        let mut bytes = if how & 2 == 0 && !self.is_chunked() {
            let error = ErrorCode(u32::from(how >> 4));
            SimpleReply {
                error,
                cookie: asked.request.cookie,
            }
            .encode()
            .to_vec()
        } else {
            self.header(&asked, ChunkType(kind), how & 4 != 0, length)
        };
        let mut payload = Vec::new();
        match kind {
            1 | 2 => {
                let at = self.input.word() % 700;
                payload.extend(asked.request.offset.wrapping_add(at).to_be_bytes());
                payload.extend((self.input.word() as u32 % 700).to_be_bytes());
            }
            5 | 6 => {
                let id = self.input.choose(&[0, 7, u32::MAX, 3]);
                payload.extend(id.to_be_bytes());
                payload.extend(u32::from(self.input.byte() % 4).to_be_bytes());
            }
            _ => payload.extend(self.input.word().to_be_bytes()),
        }
        let fill = usize::try_from(length.min(700)).unwrap_or(0);
        while payload.len() < fill {
            payload.extend([0, 0, 0, self.input.byte()]);
        }
        payload.truncate(fill);
        bytes.extend(payload);
        self.mischief(bytes);
    }
}
