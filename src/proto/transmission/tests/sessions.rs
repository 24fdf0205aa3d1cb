//! The rules of simple replies, cookies, styles, and the end of a session.

use super::*;

#[test]
fn simple_replies_carry_data_only_for_a_good_read() {
    let start = || {
        let mut replies = session(HeaderStyle::Compact);
        replies
            .begin(Command::READ, CommandFlags::NONE, 5, 40)
            .unwrap();
        replies
            .begin(Command::WRITE, CommandFlags::NONE, 5, 40)
            .unwrap();
        replies
            .begin(Command::READ, CommandFlags::NONE, 5, 40)
            .unwrap();
        replies
    };
    let of = |cookie, error| {
        SimpleReply {
            error: ErrorCode(error),
            cookie,
        }
        .encode()
    };
    let stream = [&of(2, 0)[..], &of(3, 1234), &of(1, 0), &data_at(5, 40)].concat();
    let (events, result) = feed(start, &stream);
    assert_eq!(result, Ok(()));
    let error = Event::Error {
        code: ErrorCode(1234),
        message: String::new(),
        offset: None,
    };
    assert_eq!(
        events,
        [
            (2, good()),
            (3, error),
            (3, Event::Done(Outcome::Failed(ErrorCode::EINVAL))),
            (
                1,
                Event::Data {
                    offset: 5,
                    bytes: data_at(5, 40)
                }
            ),
            (1, good()),
        ]
    );
}

#[test]
fn structured_sessions_allow_simple_replies_to_all_but_reads() {
    let style = HeaderStyle::Structured;
    let one = |command, length, before: &[u8], error| {
        let mut replies = session(style);
        let request = replies
            .begin(command, CommandFlags::NONE, 0, length)
            .unwrap();
        let stream = [before, &simple(&request, error)].concat();
        feed(
            || {
                let mut replies = session(style);
                replies
                    .begin(command, CommandFlags::NONE, 0, length)
                    .unwrap();
                replies
            },
            &stream,
        )
    };
    for command in [
        Command::WRITE,
        Command::TRIM,
        Command::WRITE_ZEROES,
        Command::CACHE,
    ] {
        assert_eq!(one(command, 1, &[], 0), (vec![(1, good())], Ok(())));
        assert_eq!(one(command, 1, &[], 5).0.len(), 2);
    }
    assert_eq!(one(Command::FLUSH, 0, &[], 0).1, Ok(()));
    assert_eq!(one(Command::READ, 1, &[], 22).1, Err(Fault::SimpleRead));
    assert_eq!(one(Command::READ, 1, &[], 0).1, Err(Fault::SimpleRead));
    assert_eq!(one(Command::BLOCK_STATUS, 1, &[], 22).1, Ok(()));
    assert_eq!(
        one(Command::BLOCK_STATUS, 1, &[], 0).1,
        Err(Fault::ContextMissing(7))
    );
    let request = session(style)
        .begin(Command::TRIM, CommandFlags::NONE, 0, 1)
        .unwrap();
    let before = chunk(
        style,
        &request,
        ChunkType::ERROR,
        MORE,
        &error_payload(5, "", &[]),
    );
    assert_eq!(one(Command::TRIM, 1, &before, 5).1, Err(Fault::Mixed));
}

#[test]
fn a_style_that_was_not_agreed_is_a_fault_by_name() {
    for style in STYLES {
        let request = session(style)
            .begin(Command::TRIM, CommandFlags::NONE, 0, 1)
            .unwrap();
        for other in STYLES {
            let reply = match other {
                HeaderStyle::Compact => simple(&request, 0),
                _ => chunk(other, &request, ChunkType::NONE, DONE, &[]),
            };
            let mut replies = session(style);
            replies
                .begin(Command::TRIM, CommandFlags::NONE, 0, 1)
                .unwrap();
            let result = replies.handle_input(&reply);
            let allowed = style == other
                || (style == HeaderStyle::Structured && other == HeaderStyle::Compact);
            assert_eq!(result.is_ok(), allowed, "{other:?} in {style:?}");
            if let Err(fault) = result {
                assert!(matches!(fault, Fault::WrongStyle { .. }), "{fault}");
            }
        }
    }
}

#[test]
fn an_extended_chunk_repeats_the_requests_offset() {
    let mut replies = session(HeaderStyle::Extended);
    let request = replies
        .begin(Command::TRIM, CommandFlags::NONE, 7, 1)
        .unwrap();
    let moved = Request {
        offset: 8,
        ..request
    };
    let reply = chunk(HeaderStyle::Extended, &moved, ChunkType::NONE, DONE, &[]);
    let fault = Fault::WrongOffset { got: 8, asked: 7 };
    assert_eq!(replies.handle_input(&reply), Err(fault.clone()));
    // A session that is over stays over.
    assert_eq!(replies.handle_input(&[]), Err(fault.clone()));
    assert_eq!(replies.handle_eof(), Err(fault));
}

#[test]
fn a_reply_that_nothing_waits_for_is_a_fault_by_name() {
    for style in CHUNKED {
        let start = || {
            let mut replies = session(style);
            let first = replies
                .begin(Command::TRIM, CommandFlags::NONE, 0, 1)
                .unwrap();
            let second = replies
                .begin(Command::TRIM, CommandFlags::NONE, 0, 1)
                .unwrap();
            replies
                .handle_input(&chunk(style, &first, ChunkType::NONE, DONE, &[]))
                .unwrap();
            (replies, first, second)
        };
        let (_, first, second) = start();
        let stranger = Request {
            cookie: 99,
            ..first
        };
        let again = |request: &Request, kind, flags| {
            let stream = chunk(style, request, kind, flags, &error_payload(5, "", &[]));
            feed(|| start().0, &stream).1
        };
        let cookie = first.cookie;
        let repeated = again(&first, ChunkType::ERROR, DONE);
        assert_eq!(repeated, Err(Fault::RepeatedDone { cookie }));
        let kind = ChunkType::ERROR;
        assert_eq!(
            again(&first, kind, MORE),
            Err(Fault::AfterDone { cookie, kind })
        );
        assert_eq!(
            again(&stranger, kind, DONE),
            Err(Fault::UnknownCookie { cookie: 99 })
        );
        let (mut idle, ..) = start();
        idle.handle_input(&chunk(style, &second, ChunkType::NONE, DONE, &[]))
            .unwrap();
        assert_eq!(idle.handle_eof(), Ok(()));
        let (mut idle, ..) = start();
        idle.handle_input(&chunk(style, &second, ChunkType::NONE, DONE, &[]))
            .unwrap();
        let unasked = idle.handle_input(&chunk(style, &stranger, ChunkType::NONE, DONE, &[]));
        assert_eq!(unasked, Err(Fault::Unasked { cookie: 99 }));
    }
}

#[test]
fn a_closed_connection_leaves_no_request_without_an_end() {
    let mut replies = session(HeaderStyle::Compact);
    assert_eq!(replies.handle_eof(), Ok(()));
    replies
        .begin(Command::FLUSH, CommandFlags::NONE, 0, 0)
        .unwrap();
    assert_eq!(replies.handle_eof(), Err(Fault::Closed { outstanding: 1 }));
    assert_eq!(replies.outstanding().collect::<Vec<_>>(), [1]);
}

#[test]
fn what_cannot_be_asked_is_not_counted_as_outstanding() {
    let mut replies = session(HeaderStyle::Compact);
    let none = CommandFlags::NONE;
    assert_eq!(
        replies.begin(Command::DISC, none, 0, 0),
        Err(RequestError::Unanswered(Command::DISC))
    );
    assert_eq!(
        replies.begin(Command::BLOCK_STATUS, none, 0, 1),
        Err(RequestError::NeedsChunks)
    );
    let mut without = Replies::new(terms(HeaderStyle::Extended), &[]);
    assert_eq!(
        without.begin(Command::BLOCK_STATUS, none, 0, 1),
        Err(RequestError::NoContext)
    );
    for _ in 0..MAX_OUTSTANDING {
        replies.begin(Command::FLUSH, none, 0, 0).unwrap();
    }
    assert!(matches!(
        replies.begin(Command::FLUSH, none, 0, 0),
        Err(RequestError::TooManyOutstanding { .. })
    ));
    assert_eq!(replies.outstanding().count(), MAX_OUTSTANDING);
}
