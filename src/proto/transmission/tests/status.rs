//! The rules of block status ("`NBD_CMD_BLOCK_STATUS`").

use super::*;

/// Asks for 1000 bytes at 100 and feeds these chunks in every way.
fn ask(
    style: HeaderStyle,
    flags: CommandFlags,
    pieces: &[(ChunkType, ChunkFlags, Vec<u8>)],
) -> (Vec<Event>, Result<(), Fault>) {
    let begin = || {
        let mut replies = session(style);
        let request = replies
            .begin(Command::BLOCK_STATUS, flags, 100, 1000)
            .unwrap();
        (replies, request)
    };
    let request = begin().1;
    let stream: Vec<u8> = pieces
        .iter()
        .flat_map(|(kind, flags, payload)| chunk(style, &request, *kind, *flags, payload))
        .collect();
    let (events, result) = feed(|| begin().0, &stream);
    (events.into_iter().map(|(_, event)| event).collect(), result)
}

fn status(
    style: HeaderStyle,
    context: u32,
    extents: &[(u64, u64)],
    flags: ChunkFlags,
) -> (ChunkType, ChunkFlags, Vec<u8>) {
    let (kind, payload) = status_chunk(style, context, extents);
    (kind, flags, payload)
}

#[test]
fn each_context_is_answered_once_in_any_order() {
    for style in CHUNKED {
        let (events, result) = ask(
            style,
            CommandFlags::NONE,
            &[
                status(style, 9, &[(5, 1)], MORE),
                status(style, 7, &[(400, 0), (500, 0), (4000, 3)], DONE),
            ],
        );
        assert_eq!(result, Ok(()));
        let extents = |list: &[(u64, u64)]| {
            list.iter()
                .map(|&(length, status)| Extent { length, status })
                .collect()
        };
        assert_eq!(
            events,
            [
                Event::Extents {
                    context: 9,
                    extents: extents(&[(5, 1)])
                },
                Event::Extents {
                    context: 7,
                    extents: extents(&[(900, 0), (4000, 3)])
                },
                Event::Done(Outcome::Good),
            ]
        );
    }
}

#[test]
fn contexts_that_are_missing_strange_or_repeated_are_faults() {
    for style in CHUNKED {
        let ask = |contexts: &[(u32, ChunkFlags)]| {
            let pieces: Vec<_> = contexts
                .iter()
                .map(|&(context, flags)| status(style, context, &[(1, 0)], flags))
                .collect();
            ask(style, CommandFlags::NONE, &pieces).1
        };
        assert_eq!(ask(&[(9, DONE)]), Err(Fault::ContextMissing(7)));
        assert_eq!(ask(&[(7, MORE), (8, MORE)]), Err(Fault::ContextUnasked(8)));
        assert_eq!(ask(&[(7, MORE), (7, MORE)]), Err(Fault::ContextTwice(7)));
        assert_eq!(ask(&[(7, MORE), (9, DONE)]), Ok(()));
    }
}

#[test]
fn an_error_forgives_contexts_that_are_missing() {
    for style in CHUNKED {
        let error = (ChunkType::ERROR, DONE, error_payload(12, "", &[]));
        let (events, result) = ask(
            style,
            CommandFlags::NONE,
            &[status(style, 7, &[(1, 0)], MORE), error],
        );
        assert_eq!(result, Ok(()));
        let end = Event::Done(Outcome::Failed(ErrorCode::ENOMEM));
        assert_eq!(events.last(), Some(&end));
    }
}

#[test]
fn extents_that_cannot_be_are_faults() {
    for style in CHUNKED {
        let ask = |extents: &[(u64, u64)]| {
            let pieces = [status(style, 7, extents, MORE)];
            ask(style, CommandFlags::NONE, &pieces).1
        };
        assert_eq!(ask(&[(10, 0), (0, 1)]), Err(Fault::EmptyExtent));
        let behind = |at| Err(Fault::ExtentBehindEnd { at, length: 1000 });
        assert_eq!(ask(&[(1000, 0), (1, 1)]), behind(1000));
        assert_eq!(ask(&[(3000, 0), (1, 1)]), behind(3000));
        assert_eq!(ask(&[(999, 0), (3000, 1)]), Ok(()));
    }
}

#[test]
fn req_one_is_one_extent_within_the_request() {
    for style in CHUNKED {
        let ask = |extents: &[(u64, u64)]| {
            let pieces = [status(style, 7, extents, MORE)];
            ask(style, CommandFlags::REQ_ONE, &pieces).1
        };
        assert_eq!(ask(&[(1000, 0)]), Ok(()));
        assert_eq!(ask(&[(1001, 0)]), Err(Fault::ExtentTooLong(1001)));
        assert_eq!(ask(&[(1, 0), (2, 1)]), Err(Fault::NotOneExtent(2)));
    }
}

#[test]
fn only_wide_contexts_of_extended_headers_have_64_bits() {
    let style = HeaderStyle::Extended;
    let ask = |context, extent| {
        let pieces = [status(style, context, &[extent], MORE)];
        ask(style, CommandFlags::NONE, &pieces).1
    };
    assert_eq!(ask(9, (1 << 40, 1 << 63)), Ok(()));
    assert_eq!(ask(7, (1 << 40, u64::from(u32::MAX))), Ok(()));
    let fault = Fault::WideStatus {
        context: 7,
        status: 1 << 32,
    };
    assert_eq!(ask(7, (1, 1 << 32)), Err(fault));
    let longest = u64::MAX - 100;
    assert_eq!(ask(7, (longest, 0)), Ok(()));
    assert_eq!(
        ask(7, (longest + 1, 0)),
        Err(Fault::ExtentTooLong(longest + 1))
    );
}

#[test]
fn each_style_has_its_own_status_chunk() {
    for (style, other) in [
        (HeaderStyle::Structured, HeaderStyle::Extended),
        (HeaderStyle::Extended, HeaderStyle::Structured),
    ] {
        let piece = status(other, 7, &[(1, 0)], MORE);
        let fault = Fault::WrongChunk {
            command: Command::BLOCK_STATUS,
            kind: piece.0,
        };
        assert_eq!(ask(style, CommandFlags::NONE, &[piece]).1, Err(fault));
    }
}

#[test]
fn the_number_of_extents_is_known_before_any_is_read() {
    let style = HeaderStyle::Extended;
    let (kind, mut payload) = status_chunk(style, 7, &[(1, 0), (2, 1)]);
    payload[7] = 3;
    let result = ask(style, CommandFlags::NONE, &[(kind, MORE, payload)]).1;
    assert_eq!(result, Err(Fault::ExtentCount { count: 3, room: 2 }));
    for (style, lengths) in [
        (HeaderStyle::Structured, [0, 3, 4, 11, 13, 19]),
        (HeaderStyle::Extended, [0, 4, 8, 16, 23, 39]),
    ] {
        for length in lengths {
            let pieces = [(status_chunk(style, 7, &[]).0, MORE, vec![0; length])];
            let result = ask(style, CommandFlags::NONE, &pieces).1;
            let fault = matches!(result, Err(Fault::ChunkLength { .. }));
            assert!(fault, "{length}");
        }
    }
    let mut replies = session(style);
    let request = replies
        .begin(Command::BLOCK_STATUS, CommandFlags::NONE, 0, 1)
        .unwrap();
    let header = ExtendedChunk {
        flags: MORE,
        kind,
        cookie: request.cookie,
        offset: 0,
        length: 8 + 16 * ((1 << 20) + 1),
    };
    let fault = Fault::TooManyExtents {
        count: (1 << 20) + 1,
        limit: 1 << 20,
    };
    assert_eq!(replies.handle_input(&header.encode()), Err(fault));
}

#[test]
fn the_payload_form_asks_for_some_contexts_and_gets_those() {
    let style = HeaderStyle::Extended;
    let mut replies = session(style);
    let (request, payload) = replies
        .begin_status(CommandFlags::REQ_ONE, 100, 1 << 40, &[9])
        .unwrap();
    assert_eq!(request.length, 12);
    assert_eq!(parse_status_payload(&payload), Ok((1 << 40, vec![9])));
    let (kind, payload) = status_chunk(style, 9, &[(1 << 40, 5)]);
    let stream = chunk(style, &request, kind, DONE, &payload);
    assert_eq!(replies.handle_input(&stream), Ok(()));
    assert_eq!(events(&mut replies).len(), 2);
    let mut begin = |contexts: &[u32]| {
        replies
            .begin_status(CommandFlags::NONE, 0, 1, contexts)
            .map(|_| ())
    };
    assert_eq!(begin(&[1]), Err(RequestError::BadContext(1)));
    assert_eq!(begin(&[7, 7]), Err(RequestError::BadContext(7)));
    assert_eq!(begin(&[]), Err(RequestError::NoContext));
    let refused = session(HeaderStyle::Structured).begin_status(CommandFlags::NONE, 0, 1, &[7]);
    assert!(matches!(refused, Err(RequestError::PayloadFlag { .. })));
}
