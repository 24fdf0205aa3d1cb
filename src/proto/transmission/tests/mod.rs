//! Tests of the whole module: replies written by a server made for it, read by
//! [`Replies`]. One file each for headers, the rules of content, errors, block
//! status, sessions and pumps, and random streams, legal and not.

mod content;
mod errors;
mod headers;
mod pump;
mod sessions;
mod status;
mod streams;

use super::super::HeaderStyle;
use super::*;

pub(super) const STYLES: [HeaderStyle; 3] = [
    HeaderStyle::Compact,
    HeaderStyle::Structured,
    HeaderStyle::Extended,
];

pub(super) const DONE: ChunkFlags = ChunkFlags::DONE;
pub(super) const MORE: ChunkFlags = ChunkFlags::NONE;
/// The styles whose replies are chunks.
pub(super) const CHUNKED: [HeaderStyle; 2] = [HeaderStyle::Structured, HeaderStyle::Extended];

pub(super) const MIB: u64 = 1024 * 1024;

pub(super) fn terms(style: HeaderStyle) -> Terms {
    Terms {
        style,
        max_payload: 32 * 1024 * 1024,
    }
}

pub(super) const NARROW: SelectedContext = SelectedContext { id: 7, wide: false };
pub(super) const WIDE: SelectedContext = SelectedContext { id: 9, wide: true };

pub(super) fn session(style: HeaderStyle) -> Replies {
    Replies::new(terms(style), &[NARROW, WIDE])
}

/// One message of a server, in the style of its chunks.
pub(super) fn chunk(
    style: HeaderStyle,
    request: &Request,
    kind: ChunkType,
    flags: ChunkFlags,
    payload: &[u8],
) -> Vec<u8> {
    let cookie = request.cookie;
    let mut out = if style == HeaderStyle::Extended {
        ExtendedChunk {
            flags,
            kind,
            cookie,
            offset: request.offset,
            length: payload.len() as u64,
        }
        .encode()
        .to_vec()
    } else {
        StructuredChunk {
            flags,
            kind,
            cookie,
            length: u32::try_from(payload.len()).unwrap(),
        }
        .encode()
        .to_vec()
    };
    out.extend_from_slice(payload);
    out
}

pub(super) fn simple(request: &Request, error: u32) -> Vec<u8> {
    SimpleReply {
        error: ErrorCode(error),
        cookie: request.cookie,
    }
    .encode()
    .to_vec()
}

/// What stands at an offset of the export.
pub(super) fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8 | 1
}

pub(super) fn data_at(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(byte_at).collect()
}

pub(super) fn data_payload(offset: u64, length: u64) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &data_at(offset, length)].concat()
}

pub(super) fn hole_payload(offset: u64, length: u32) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &length.to_be_bytes()].concat()
}

pub(super) fn error_payload(code: u32, message: &str, tail: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [
        &code.to_be_bytes()[..],
        &length.to_be_bytes(),
        message.as_bytes(),
        tail,
    ]
    .concat()
}

/// The payload and type of a status chunk.
pub(super) fn status_chunk(
    style: HeaderStyle,
    context: u32,
    extents: &[(u64, u64)],
) -> (ChunkType, Vec<u8>) {
    let mut out = context.to_be_bytes().to_vec();
    if style == HeaderStyle::Extended {
        out.extend(u32::try_from(extents.len()).unwrap().to_be_bytes());
        for (length, status) in extents {
            out.extend(length.to_be_bytes());
            out.extend(status.to_be_bytes());
        }
        return (ChunkType::BLOCK_STATUS_EXT, out);
    }
    for (length, status) in extents {
        out.extend(u32::try_from(*length).unwrap().to_be_bytes());
        out.extend(u32::try_from(*status).unwrap().to_be_bytes());
    }
    (ChunkType::BLOCK_STATUS, out)
}

/// All events, with data of one request that follow each other put together,
/// so that it does not matter how the input was cut.
pub(super) fn events(replies: &mut Replies) -> Vec<(u64, Event)> {
    let mut out: Vec<(u64, Event)> = Vec::new();
    while let Some((cookie, event)) = replies.poll_event() {
        if let (
            Some((last_cookie, Event::Data { offset, bytes })),
            Event::Data {
                offset: next,
                bytes: more,
            },
        ) = (out.last_mut(), &event)
        {
            if *last_cookie == cookie && *offset + bytes.len() as u64 == *next {
                bytes.extend_from_slice(more);
                continue;
            }
        }
        out.push((cookie, event));
    }
    out
}

/// Feeds a stream whole, byte by byte, and cut in two at every length (at
/// some, where it is long); all must give the same.
pub(super) fn feed(
    start: impl Fn() -> Replies,
    stream: &[u8],
) -> (Vec<(u64, Event)>, Result<(), Fault>) {
    let whole = run(start(), &[stream]);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(run(start(), &bytes), whole, "byte by byte");
    let step = 1 + stream.len() / 400;
    for cut in (0..=stream.len()).step_by(step) {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(run(start(), &[head, tail]), whole, "cut at {cut}");
        cut_short(start(), head, &whole.1);
    }
    whole
}

fn run(mut replies: Replies, pieces: &[&[u8]]) -> (Vec<(u64, Event)>, Result<(), Fault>) {
    let mut result = Ok(());
    for piece in pieces {
        result = replies.handle_input(piece);
    }
    (events(&mut replies), result)
}

/// A stream that ends early ends in a fault, unless nothing is owed.
fn cut_short(mut replies: Replies, head: &[u8], whole: &Result<(), Fault>) {
    let result = replies.handle_input(head);
    if result.is_err() {
        assert_eq!(&result, whole, "a fault that a longer stream does not have");
    }
    let owed = replies.outstanding().count();
    let end = replies.handle_eof();
    if result.is_ok() && owed > 0 {
        assert_eq!(end, Err(Fault::Closed { outstanding: owed }));
    }
    assert!(owed == 0 || end.is_err());
}

/// A chunk of the request: type, flags, payload.
pub(super) type Piece = (ChunkType, ChunkFlags, Vec<u8>);

/// Asks once and feeds these chunks in every way.
pub(super) fn ask(
    style: HeaderStyle,
    command: Command,
    flags: CommandFlags,
    (offset, length): (u64, u64),
    pieces: &[Piece],
) -> (Vec<Event>, Result<(), Fault>) {
    let start = || {
        let mut replies = session(style);
        replies.begin(command, flags, offset, length).unwrap();
        replies
    };
    let request = session(style)
        .begin(command, flags, offset, length)
        .unwrap();
    let stream: Vec<u8> = pieces
        .iter()
        .flat_map(|(kind, flags, payload)| chunk(style, &request, *kind, *flags, payload))
        .collect();
    let (events, result) = feed(start, &stream);
    let of_one = events.into_iter().map(|(cookie, event)| {
        assert_eq!(cookie, request.cookie);
        event
    });
    (of_one.collect(), result)
}

pub(super) fn read(style: HeaderStyle, pieces: &[Piece]) -> (Vec<Event>, Result<(), Fault>) {
    ask(
        style,
        Command::READ,
        CommandFlags::NONE,
        (1000, 100),
        pieces,
    )
}

pub(super) fn data(offset: u64, length: u64, flags: ChunkFlags) -> Piece {
    (ChunkType::OFFSET_DATA, flags, data_payload(offset, length))
}

pub(super) fn hole(offset: u64, length: u32, flags: ChunkFlags) -> Piece {
    (ChunkType::OFFSET_HOLE, flags, hole_payload(offset, length))
}

pub(super) fn none() -> Piece {
    (ChunkType::NONE, DONE, Vec::new())
}

pub(super) fn error(code: u32, flags: ChunkFlags) -> Piece {
    (ChunkType::ERROR, flags, error_payload(code, "no luck", &[]))
}

pub(super) fn error_at(code: u32, offset: u64, flags: ChunkFlags) -> Piece {
    let payload = error_payload(code, "bad sector", &offset.to_be_bytes());
    (ChunkType::ERROR_OFFSET, flags, payload)
}

pub(super) fn good() -> Event {
    Event::Done(Outcome::Good)
}

pub(super) fn failed(code: ErrorCode) -> Option<Event> {
    Some(Event::Done(Outcome::Failed(code)))
}
