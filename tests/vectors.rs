//! What real servers sent, captured once (`vectors/capture.py`), against the
//! machines that read it: whole, byte by byte, cut at every length, and with
//! bytes behind the end. What nbdctl sends is held against what the captured
//! client sent, byte for byte.
//!
//! What the servers' bytes mean is written here by hand, from what the disk
//! behind them was: data, a hole, data, a hole, 64 KiB each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

use std::fs;

use nbdctl::proto::transmission::{
    Command, CommandFlags, ErrorCode, Event as Told, Extent, Fault, Outcome, Replies, Request,
    SelectedContext, Terms,
};
use nbdctl::proto::{
    Ask, BlockSizes, Context, Error, Event, Export, Handshake, HeaderStyle, Negotiated, OptionCode,
    Refusal, ReplyType, TransmissionFlags, Violation, Wanted,
};

const KIB: u64 = 1024;
const SIZE: u64 = 256 * KIB;
const MAX_PAYLOAD: u32 = 32 << 20;
const SEND_DF: TransmissionFlags = TransmissionFlags(1 << 7);
const SEND_CACHE: TransmissionFlags = TransmissionFlags(1 << 10);
const STATUS_PAYLOAD: TransmissionFlags = TransmissionFlags(1 << 12);

// --- the servers, by hand -----------------------------------------------------

/// A file of vectors, and what its server is known to do.
struct Server {
    file: &'static str,
    style: HeaderStyle,
    flags: u16,
    read_only_flags: u16,
    read_only_export: &'static str,
    contexts: &'static [(u32, &'static str)],
    /// All that it has, as a list tells them.
    listed: &'static [(u32, &'static str)],
    /// How a WRITE past the end fails, and a WRITE to a read-only export.
    past_end: ErrorCode,
    read_only: ErrorCode,
}

const BASE: (u32, &str) = (0, "base:allocation");

const QEMU_EXTENDED: Server = Server {
    file: "qemu-nbd-extended",
    style: HeaderStyle::Extended,
    flags: 0x1ded,
    read_only_flags: 0x058f,
    read_only_export: "vm1",
    contexts: &[BASE, (1, "qemu:allocation-depth")],
    listed: &[BASE, (0, "qemu:allocation-depth")],
    // Not ENOSPC and not EPERM, as the specification would have it.
    past_end: ErrorCode::EINVAL,
    read_only: ErrorCode::EINVAL,
};

const QEMU_STRUCTURED: Server = Server {
    file: "qemu-nbd-structured",
    style: HeaderStyle::Structured,
    flags: 0x0ded,
    contexts: &[BASE],
    ..QEMU_EXTENDED
};

const QEMU_SIMPLE: Server = Server {
    file: "qemu-nbd-simple",
    style: HeaderStyle::Compact,
    flags: 0x0d6d,
    read_only_flags: 0x050f,
    contexts: &[],
    ..QEMU_EXTENDED
};

const NBDKIT_STRUCTURED: Server = Server {
    file: "nbdkit-structured",
    style: HeaderStyle::Structured,
    flags: 0x05ed,
    read_only_flags: 0x0587,
    read_only_export: "vm1",
    contexts: &[(1, "base:allocation")],
    listed: &[BASE],
    past_end: ErrorCode::ENOSPC,
    read_only: ErrorCode::EPERM,
};

const NBDKIT_SIMPLE: Server = Server {
    file: "nbdkit-simple",
    style: HeaderStyle::Compact,
    flags: 0x056d,
    read_only_flags: 0x0507,
    contexts: &[],
    ..NBDKIT_STRUCTURED
};

const NBD_SERVER: Server = Server {
    file: "nbd-server-simple",
    style: HeaderStyle::Compact,
    flags: 0x016d,
    read_only_flags: 0x0143,
    read_only_export: "ro",
    contexts: &[],
    listed: &[],
    past_end: ErrorCode::ENOSPC,
    read_only: ErrorCode::EPERM,
};

const SERVERS: [Server; 6] = [
    QEMU_EXTENDED,
    QEMU_STRUCTURED,
    QEMU_SIMPLE,
    NBDKIT_STRUCTURED,
    NBDKIT_SIMPLE,
    NBD_SERVER,
];

impl Server {
    fn is_qemu(&self) -> bool {
        self.file.starts_with("qemu")
    }

    fn is_nbd_server(&self) -> bool {
        self.file.starts_with("nbd-server")
    }

    /// What GO tells of an export.
    fn export(&self, flags: u16) -> Export {
        Export {
            size: SIZE,
            flags: TransmissionFlags(flags),
            block_sizes: BlockSizes {
                minimum: 1,
                preferred: 4096,
                maximum_payload: MAX_PAYLOAD,
            },
            told_block_sizes: self.is_qemu(),
            canonical_name: None,
            // Unasked; qemu-nbd always tells it.
            description: self.is_qemu().then(|| "the first".to_owned()),
        }
    }

    /// What INFO tells of vm1.
    fn info(&self) -> Export {
        if self.is_nbd_server() {
            return Export {
                // It has not opened the file yet.
                size: 0,
                ..self.export(self.flags)
            };
        }
        Export {
            canonical_name: Some("vm1".to_owned()),
            description: Some("the first".to_owned()),
            ..self.export(self.flags)
        }
    }

    /// How it refuses an export that it has not.
    fn unknown(&self, option: OptionCode) -> Refusal {
        let message = if self.is_qemu() {
            "export 'nope' not present"
        } else if self.is_nbd_server() {
            "Export unknown"
        } else {
            ""
        };
        refusal(option, ReplyType::ERR_UNKNOWN, message)
    }

    fn asks(&self, mut rest: Vec<Ask>) -> Vec<Ask> {
        match self.style {
            HeaderStyle::Compact => {}
            HeaderStyle::Structured => rest.insert(0, Ask::StructuredReply),
            HeaderStyle::Extended => {
                rest.splice(0..0, [Ask::StructuredReply, Ask::ExtendedHeaders]);
            }
        }
        rest
    }

    /// What the styles of [`Self::asks`] are answered.
    fn styles(&self) -> Vec<Event> {
        match self.style {
            HeaderStyle::Compact => vec![],
            HeaderStyle::Structured => vec![granted(HeaderStyle::Structured)],
            HeaderStyle::Extended => vec![
                granted(HeaderStyle::Structured),
                granted(HeaderStyle::Extended),
            ],
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            style: self.style,
            max_payload: MAX_PAYLOAD,
        }
    }
}

fn refusal(option: OptionCode, reply: ReplyType, message: &str) -> Refusal {
    Refusal {
        option,
        reply,
        message: message.to_owned(),
    }
}

fn granted(style: HeaderStyle) -> Event {
    Event::Style(style, Ok(()))
}

fn contexts(list: &[(u32, &str)]) -> Vec<Context> {
    list.iter()
        .map(|&(id, name)| Context {
            id,
            name: name.to_owned(),
        })
        .collect()
}

fn vm1() -> String {
    "vm1".to_owned()
}

fn nope() -> String {
    "nope".to_owned()
}

// --- the files ----------------------------------------------------------------

/// What both sides sent in one phase of one connection.
#[derive(Default)]
struct Conversation {
    client: Vec<u8>,
    /// Message by message.
    server: Vec<Vec<u8>>,
}

impl Conversation {
    fn stream(&self) -> Vec<u8> {
        self.server.concat()
    }

    /// How many of the first `length` bytes are whole messages.
    fn whole_messages(&self, length: usize) -> usize {
        let ends = self.server.iter().scan(0, |end, message| {
            *end += message.len();
            Some(*end)
        });
        ends.take_while(|end| *end <= length).last().unwrap_or(0)
    }
}

fn conversation(server: &Server, name: &str) -> Conversation {
    let path = format!("tests/vectors/{}.txt", server.file);
    let text = fs::read_to_string(&path).unwrap();
    let mut found = Conversation::default();
    let mut here = false;
    let mut of_server = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix('[') {
            here = heading.strip_suffix(']') == Some(name);
            continue;
        }
        let Some((mark, fields)) = line.split_at_checked(1).filter(|(mark, _)| *mark != "#") else {
            continue;
        };
        if !here {
            continue;
        }
        match mark {
            "<" => {
                of_server = true;
                found.server.push(Vec::new());
            }
            ">" => of_server = false,
            " " => {}
            _ => panic!("{path}: {line}"),
        }
        let bytes = if of_server {
            found.server.last_mut().unwrap()
        } else {
            &mut found.client
        };
        bytes.extend(hex(fields));
    }
    assert!(!found.server.is_empty(), "{path} has no [{name}]");
    found
}

fn hex(fields: &str) -> Vec<u8> {
    let digits: Vec<_> = fields
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).expect("hex")).unwrap())
        .collect();
    assert_eq!(digits.len() % 2, 0, "{fields}");
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

// --- the handshake ------------------------------------------------------------

/// What came of a handshake.
#[derive(Debug, PartialEq)]
struct Heard {
    events: Vec<Event>,
    sent: Vec<u8>,
    error: Option<Error>,
}

fn hear<'a>(asks: &[Ask], pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let mut handshake = Handshake::new(Wanted::questions(asks.to_vec()).unwrap());
    let mut heard = Heard {
        events: Vec::new(),
        sent: Vec::new(),
        error: None,
    };
    for piece in pieces {
        heard.error = handshake.handle_input(piece).err();
        heard
            .events
            .extend(std::iter::from_fn(|| handshake.poll_event()));
        heard
            .sent
            .extend(handshake.poll_transmit().unwrap_or_default());
        if heard.error.is_some() {
            break;
        }
    }
    heard
}

/// The outcome, which no cut changes and nothing behind it spoils unseen.
fn handshake(server: &Server, name: &str, asks: &[Ask]) -> Heard {
    let conversation = conversation(server, name);
    let stream = conversation.stream();
    let whole = hear(asks, conversation.server.iter().map(Vec::as_slice));
    assert_eq!(whole.sent, conversation.client, "{name}: what is sent");
    assert_eq!(hear(asks, stream.chunks(1)), whole, "{name}: byte by byte");
    for length in 0..=stream.len() {
        let (head, tail) = stream.split_at(length);
        let cut = hear(asks, [head, tail]);
        assert_eq!(cut.events, whole.events, "{name}: cut at {length}");
        assert_eq!(cut.error, whole.error, "{name}: cut at {length}");
        // Of a failed handshake, what was not sent before is not sent at all.
        assert!(whole.sent.ends_with(&cut.sent), "{name}: cut at {length}");
        assert!(whole.error.is_some() || whole.sent == cut.sent);

        let boundary = conversation.whole_messages(length);
        let part = hear(asks, [head]);
        let before = hear(asks, [&head[..boundary]]);
        assert_eq!(part, before, "{name}: premature at {length}");
        assert!(whole.events.starts_with(&part.events), "{name}: {length}");
    }
    if whole.error.is_none() && !asks.ends_with(&[Ask::Abort]) {
        let late = hear(asks, [&stream, b"x".as_slice()]);
        assert_eq!(late.error, Some(Violation::Unasked(1).into()), "{name}");
        let with = hear(asks, [[&stream, b"x".as_slice()].concat().as_slice()]);
        assert_eq!(with.error, Some(Violation::Unasked(1).into()), "{name}");
        assert_eq!(with.events, [], "{name}: a session in spite of a fault");
    }
    whole
}

/// A handshake that must end in a session.
fn session(server: &Server, name: &str, asks: &[Ask], before: &[Event]) -> Negotiated {
    let mut heard = handshake(server, name, asks);
    assert_eq!(heard.error, None);
    let Some(Event::Ready(negotiated)) = heard.events.pop() else {
        panic!("{name}: no session: {heard:?}");
    };
    assert_eq!(heard.events, before, "{name}");
    assert_eq!(negotiated.header_style(), server.style);
    negotiated
}

#[test]
fn questions_are_answered_as_each_server_answers_them() {
    for server in &SERVERS {
        let mut asks = vec![
            Ask::List,
            Ask::Info { export: vm1() },
            Ask::Info { export: nope() },
        ];
        let listed = |name: &str, description: &str| Event::Listed {
            name: name.to_owned(),
            description: description.to_owned(),
        };
        let mut expected = if server.is_nbd_server() {
            vec![listed("vm1", ""), listed("ro", "")]
        } else {
            vec![listed("vm1", "the first")]
        };
        expected.extend([
            Event::ListEnded(Ok(())),
            Event::Info {
                export: vm1(),
                answer: Ok(server.info()),
            },
            Event::Info {
                export: nope(),
                answer: Err(server.unknown(OptionCode::INFO)),
            },
        ]);
        match server.style {
            HeaderStyle::Compact => {}
            HeaderStyle::Structured => {
                asks.insert(0, Ask::StructuredReply);
                expected.insert(0, granted(HeaderStyle::Structured));
            }
            // In the order that has the second refused.
            HeaderStyle::Extended => {
                asks.splice(0..0, [Ask::ExtendedHeaders, Ask::StructuredReply]);
                let refused = refusal(
                    OptionCode::STRUCTURED_REPLY,
                    ReplyType::ERR_EXT_HEADER_REQD,
                    "extended headers already negotiated",
                );
                let refused = Event::Style(HeaderStyle::Structured, Err(refused));
                expected.splice(0..0, [granted(HeaderStyle::Extended), refused]);
            }
        }
        if server.style != HeaderStyle::Compact {
            let list = |export| Ask::ListContexts {
                export,
                queries: Vec::new(),
            };
            let unknown = Ask::SetContexts {
                export: vm1(),
                queries: vec!["x-nobody:knows".to_owned()],
            };
            asks.extend([list(vm1()), list(nope()), unknown]);
            let of_unknown = if server.is_qemu() {
                Err(server.unknown(OptionCode::LIST_META_CONTEXT))
            } else {
                // nbdkit does not look at the name here.
                Ok(contexts(server.listed))
            };
            expected.extend([
                Event::Contexts(Ok(contexts(server.listed))),
                Event::Contexts(of_unknown),
                Event::Contexts(Ok(Vec::new())),
            ]);
        }
        asks.push(Ask::Abort);
        // nbd-server just hangs up.
        expected.extend((!server.is_nbd_server()).then_some(Event::Ended));
        let heard = handshake(server, "questions", &asks);
        assert_eq!(heard.error, None, "{}", server.file);
        assert_eq!(heard.events, expected, "{}", server.file);
    }
}

#[test]
fn styles_are_what_each_server_has() {
    for server in [QEMU_SIMPLE, NBDKIT_SIMPLE, NBD_SERVER] {
        let asks = [Ask::StructuredReply, Ask::ExtendedHeaders, Ask::Abort];
        let unsupported = |option| {
            let message = if server.is_nbd_server() {
                "The given option is unknown to this server implementation"
            } else {
                ""
            };
            Err(refusal(option, ReplyType::ERR_UNSUP, message))
        };
        let (structured, extended) = if server.is_qemu() {
            (Ok(()), Ok(()))
        } else if server.is_nbd_server() {
            (
                unsupported(OptionCode::STRUCTURED_REPLY),
                unsupported(OptionCode::EXTENDED_HEADERS),
            )
        } else {
            (Ok(()), unsupported(OptionCode::EXTENDED_HEADERS))
        };
        let mut expected = vec![
            Event::Style(HeaderStyle::Structured, structured),
            Event::Style(HeaderStyle::Extended, extended),
        ];
        expected.extend((!server.is_nbd_server()).then_some(Event::Ended));
        assert_eq!(handshake(&server, "styles", &asks).events, expected);
    }
}

#[test]
fn an_unknown_export_is_refused_and_the_client_takes_its_leave() {
    for server in &SERVERS {
        let heard = handshake(server, "refused", &[Ask::Go { export: nope() }]);
        let refusal = server.unknown(OptionCode::GO);
        assert_eq!(heard.error, Some(refusal.into()), "{}", server.file);
        assert_eq!(heard.events, []);
    }
}

#[test]
fn a_session_is_negotiated_with_what_the_server_tells() {
    for server in &SERVERS {
        let mut rest = vec![Ask::Go { export: vm1() }];
        let mut before = server.styles();
        if !server.contexts.is_empty() {
            let queries = server.contexts.iter().map(|(_, name)| (*name).to_owned());
            rest.insert(
                0,
                Ask::SetContexts {
                    export: vm1(),
                    queries: queries.collect(),
                },
            );
            before.push(Event::Contexts(Ok(contexts(server.contexts))));
        }
        let negotiated = session(server, "session", &server.asks(rest), &before);
        assert_eq!(*negotiated.export(), server.export(server.flags));
        assert_eq!(negotiated.contexts(), contexts(server.contexts));

        let export = server.read_only_export.to_owned();
        let asks = server.asks(vec![Ask::Go { export }]);
        let negotiated = session(server, "read-only", &asks, &server.styles());
        assert_eq!(*negotiated.export(), server.export(server.read_only_flags));
        assert!(negotiated.export().is_read_only());
    }
}

// --- transmission ---------------------------------------------------------------

/// What a request is answered.
#[derive(Debug, PartialEq)]
enum Answer {
    Good,
    Data(Vec<u8>),
    /// Of each context.
    Extents(Vec<(u32, Vec<Extent>)>),
    Failed(ErrorCode, String),
}

struct Step {
    command: Command,
    flags: CommandFlags,
    offset: u64,
    length: u64,
    payload: Vec<u8>,
    /// For a `BLOCK_STATUS` of some contexts.
    chosen: Option<u32>,
    answer: Answer,
}

fn step(command: Command, offset: u64, length: u64, answer: Answer) -> Step {
    Step {
        command,
        flags: CommandFlags::NONE,
        offset,
        length,
        payload: Vec::new(),
        chosen: None,
        answer,
    }
}

fn read(offset: u64, length: u64, data: Vec<u8>) -> Step {
    step(Command::READ, offset, length, Answer::Data(data))
}

fn write(offset: u64, payload: Vec<u8>, answer: Answer) -> Step {
    Step {
        payload: payload.clone(),
        ..step(Command::WRITE, offset, payload.len() as u64, answer)
    }
}

impl Step {
    fn with(self, flags: CommandFlags) -> Self {
        Self { flags, ..self }
    }
}

/// The disk as it was made.
fn disk(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length)
        .map(|i| {
            let is_data = i / (64 * KIB) % 2 == 0;
            let byte = (i * 31 + (i >> 8)) % 255 + 1;
            if is_data {
                u8::try_from(byte).unwrap()
            } else {
                0
            }
        })
        .collect()
}

fn payload() -> Vec<u8> {
    (1..=100).collect()
}

fn extents(list: &[(u64, u64)]) -> Vec<Extent> {
    list.iter()
        .map(|&(kib, status)| Extent {
            length: kib * KIB,
            status,
        })
        .collect()
}

/// The requests of `transmission` in capture.py.
fn script(server: &Server) -> Vec<Step> {
    let flags = TransmissionFlags(server.flags);
    let chunks = server.style != HeaderStyle::Compact;
    let failed = |code, text: &str| {
        let text = if chunks && server.is_qemu() { text } else { "" };
        Answer::Failed(code, text.to_owned())
    };
    // Of the hole's status: it is one, and reads as zeroes.
    let of_all = [(64, 0), (64, 3), (64, 0), (64, 3)];
    let status = |of_base: &[(u64, u64)], of_depth: &[(u64, u64)]| {
        let ids = server.contexts.iter().map(|(id, _)| *id);
        let all = ids.zip([extents(of_base), extents(of_depth)]);
        Answer::Extents(all.collect())
    };
    let mut steps = vec![
        read(1000, 300, disk(1000, 300)),
        read(64 * KIB - 256, 512, disk(64 * KIB - 256, 512)),
    ];
    if chunks && flags.contains(SEND_DF) {
        let whole = read(64 * KIB - 256, 512, disk(64 * KIB - 256, 512));
        steps.push(whole.with(CommandFlags::DF));
    }
    if chunks {
        let all = status(&of_all, &[(256, 1)]);
        steps.push(step(Command::BLOCK_STATUS, 0, SIZE, all));
        let one = status(&[(32, 0)], &[(64, 1)]);
        let one = step(Command::BLOCK_STATUS, 32 * KIB, 64 * KIB, one);
        steps.push(one.with(CommandFlags::REQ_ONE));
    }
    if flags.contains(STATUS_PAYLOAD) {
        let answer = Answer::Extents(vec![(1, extents(&[(96, 1)]))]);
        steps.push(Step {
            chosen: Some(1),
            ..step(Command::BLOCK_STATUS, 4096, 96 * KIB, answer)
        });
    }
    let zeroes_then_data = [vec![0; 100], disk(136 * KIB, 100)].concat();
    let overwritten = [disk(4000, 96), payload(), disk(4196, 104)].concat();
    steps.extend([
        write(4096, payload(), Answer::Good).with(CommandFlags::FUA),
        read(4000, 300, overwritten),
        step(Command::FLUSH, 0, 0, Answer::Good),
        step(Command::TRIM, 128 * KIB, 4096, Answer::Good),
        step(Command::WRITE_ZEROES, 132 * KIB, 4096, Answer::Good).with(CommandFlags::NO_HOLE),
        read(136 * KIB - 100, 200, zeroes_then_data),
    ]);
    if flags.contains(SEND_CACHE) {
        steps.push(step(Command::CACHE, 0, 4096, Answer::Good));
    }
    let past_end = failed(
        ErrorCode::EINVAL,
        "operation past EOF; From: 262016, Len: 256, Size: 262144",
    );
    steps.extend([
        step(Command::READ, SIZE - 128, 256, past_end),
        write(
            SIZE - 50,
            payload(),
            failed(
                server.past_end,
                "operation past EOF; From: 262094, Len: 100, Size: 262144",
            ),
        ),
        // From here on in one write.
        read(0, 200, disk(0, 200)),
        read(200 * KIB, 200, disk(200 * KIB, 200)),
        write(8192, payload(), Answer::Good),
        step(Command::FLUSH, 0, 0, Answer::Good),
        read(150 * KIB, 200, disk(150 * KIB, 200)),
    ]);
    steps
}

fn read_only_script(server: &Server) -> Vec<Step> {
    let text = if server.is_qemu() && server.style != HeaderStyle::Compact {
        "Export is read-only"
    } else {
        ""
    };
    let refused = Answer::Failed(server.read_only, text.to_owned());
    vec![
        read(0, 16, disk(0, 16)),
        write(0, b"oops".to_vec(), refused),
    ]
}

/// A session with every request of a script outstanding; and what it sends.
fn begin(server: &Server, steps: &[Step]) -> (Replies, Vec<u8>) {
    let selected: Vec<_> = server
        .contexts
        .iter()
        .map(|&(id, name)| SelectedContext::named(id, name))
        .collect();
    let mut replies = Replies::new(server.terms(), &selected);
    let mut sent = Vec::new();
    for step in steps {
        let (request, payload) = match step.chosen {
            Some(id) => replies
                .begin_status(step.flags, step.offset, step.length, &[id])
                .unwrap(),
            None => {
                let request = replies.begin(step.command, step.flags, step.offset, step.length);
                (request.unwrap(), step.payload.clone())
            }
        };
        assert_eq!(request.payload_len(), payload.len() as u64);
        sent.extend(request.encode(server.style).unwrap().as_slice());
        sent.extend(payload);
    }
    let end = Request {
        command: Command::DISC,
        flags: CommandFlags::NONE,
        cookie: steps.len() as u64 + 1,
        offset: 0,
        length: 0,
    };
    sent.extend(end.encode(server.style).unwrap().as_slice());
    (replies, sent)
}

/// Takes all events; data that came in several pieces are put together.
fn take(replies: &mut Replies, events: &mut Vec<(u64, Told)>) {
    while let Some((cookie, event)) = replies.poll_event() {
        if let (
            Some((last_cookie, Told::Data { offset, bytes })),
            Told::Data {
                offset: at,
                bytes: more,
            },
        ) = (events.last_mut(), &event)
        {
            if *last_cookie == cookie && *offset + bytes.len() as u64 == *at {
                bytes.extend(more);
                continue;
            }
        }
        events.push((cookie, event));
    }
}

fn without_data(events: &[(u64, Told)]) -> Vec<&(u64, Told)> {
    let is_data = |event: &Told| matches!(event, Told::Data { .. });
    events.iter().filter(|(_, event)| !is_data(event)).collect()
}

fn done(events: &[(u64, Told)]) -> usize {
    let is_done = |event: &Told| matches!(event, Told::Done(_));
    events.iter().filter(|(_, event)| is_done(event)).count()
}

/// What the events of one request come to.
fn answer(step: &Step, cookie: u64, events: &[(u64, Told)]) -> Answer {
    let mut data = vec![None; usize::try_from(step.length).unwrap()];
    let mut fill = |offset: u64, bytes: &[u8]| {
        let at = usize::try_from(offset - step.offset).unwrap();
        for (place, byte) in data[at..at + bytes.len()].iter_mut().zip(bytes) {
            assert_eq!(place.replace(*byte), None, "{cookie}: a byte came twice");
        }
    };
    let mut lists = Vec::new();
    let mut text = None;
    let mut outcome = None;
    for (_, event) in events.iter().filter(|(of, _)| *of == cookie) {
        assert_eq!(outcome, None, "{cookie}: {event:?} after the end");
        match event {
            Told::Data { offset, bytes } => fill(*offset, bytes),
            Told::Hole { offset, length } => {
                fill(*offset, &vec![0; usize::try_from(*length).unwrap()]);
            }
            Told::Extents { context, extents } => lists.push((*context, extents.clone())),
            Told::Error { message, .. } => text = Some(message.clone()),
            Told::Done(end) => outcome = Some(*end),
        }
    }
    match outcome.unwrap_or_else(|| panic!("{cookie}: no end")) {
        Outcome::Failed(code) => Answer::Failed(code, text.unwrap()),
        Outcome::Good if step.command == Command::READ => {
            Answer::Data(data.into_iter().collect::<Option<_>>().expect("all data"))
        }
        Outcome::Good if step.command == Command::BLOCK_STATUS => Answer::Extents(lists),
        Outcome::Good => Answer::Good,
    }
}

/// Feeds one phase in every way there is.
fn transmission(server: &Server, name: &str, steps: &[Step]) {
    let conversation = conversation(server, &format!("{name} transmission"));
    let stream = conversation.stream();
    let what = format!("{} [{name}]", server.file);

    let (mut replies, sent) = begin(server, steps);
    assert_eq!(sent, conversation.client, "{what}: what is sent");
    let mut whole = Vec::new();
    replies.handle_input(&stream).unwrap();
    take(&mut replies, &mut whole);
    assert_eq!(replies.handle_eof(), Ok(()), "{what}");
    for (cookie, step) in (1..).zip(steps) {
        let answer = answer(step, cookie, &whole);
        assert_eq!(answer, step.answer, "{what}: request {cookie}");
    }

    let (mut replies, _) = begin(server, steps);
    let mut events = Vec::new();
    for byte in stream.chunks(1) {
        replies.handle_input(byte).unwrap();
        take(&mut replies, &mut events);
    }
    assert_eq!(events, whole, "{what}: byte by byte");

    let mut at_boundary = (usize::MAX, Vec::new());
    for length in 0..stream.len() {
        let (head, tail) = stream.split_at(length);
        let (mut replies, _) = begin(server, steps);
        let mut events = Vec::new();
        replies.handle_input(head).unwrap();
        take(&mut replies, &mut events);
        let boundary = conversation.whole_messages(length);
        if boundary != at_boundary.0 {
            assert_eq!(boundary, length);
            at_boundary = (boundary, events.clone());
        }
        assert_eq!(
            without_data(&events),
            without_data(&at_boundary.1),
            "{what}: premature at {length}"
        );
        assert_eq!(replies.outstanding().count(), steps.len() - done(&events));

        replies.handle_input(tail).unwrap();
        take(&mut replies, &mut events);
        assert_eq!(events, whole, "{what}: cut at {length}");

        let (mut replies, _) = begin(server, steps);
        replies.handle_input(head).unwrap();
        let outstanding = replies.outstanding().count();
        assert_eq!(replies.handle_eof(), Err(Fault::Closed { outstanding }));
    }
    trailing(server, steps, &conversation, &whole);
}

/// Bytes behind the last reply are a fault with a name, and spoil nothing that
/// was told before.
fn trailing(server: &Server, steps: &[Step], conversation: &Conversation, whole: &[(u64, Told)]) {
    let last = conversation.server.last().unwrap();
    let mut stranger = last.clone();
    // In every style.
    let cookie = 8..16;
    let again = u64::from_be_bytes(last[cookie.clone()].try_into().unwrap());
    stranger[cookie].fill(0xff);
    for (tail, fault) in [
        (vec![0; 4], Fault::BadMagic(0)),
        (last.clone(), Fault::RepeatedDone { cookie: again }),
        (stranger, Fault::Unasked { cookie: u64::MAX }),
    ] {
        let (mut replies, _) = begin(server, steps);
        let mut events = Vec::new();
        let all = [conversation.stream(), tail].concat();
        assert_eq!(replies.handle_input(&all), Err(fault.clone()));
        take(&mut replies, &mut events);
        assert_eq!(events, whole);
        assert_eq!(replies.handle_input(&[]), Err(fault.clone()), "for ever");
        assert_eq!(replies.handle_eof(), Err(fault), "for ever");
    }
}

#[test]
fn qemu_nbd_is_understood_in_all_styles() {
    for server in [QEMU_EXTENDED, QEMU_STRUCTURED, QEMU_SIMPLE] {
        transmission(&server, "session", &script(&server));
    }
}

#[test]
fn nbdkit_is_understood_in_both_its_styles() {
    for server in [NBDKIT_STRUCTURED, NBDKIT_SIMPLE] {
        transmission(&server, "session", &script(&server));
    }
}

#[test]
fn nbd_server_is_understood() {
    transmission(&NBD_SERVER, "session", &script(&NBD_SERVER));
}

#[test]
fn a_write_to_a_read_only_export_fails_and_the_session_lives() {
    for server in &SERVERS {
        transmission(server, "read-only", &read_only_script(server));
    }
}
