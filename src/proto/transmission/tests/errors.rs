//! The rules of error chunks, in both styles that have them.

use super::*;

#[test]
fn only_the_end_makes_a_read_good() {
    for style in CHUNKED {
        let all = data(1000, 100, MORE);
        let (events, result) = read(style, std::slice::from_ref(&all));
        assert_eq!((events.len(), result), (1, Ok(())));
        let (events, result) = read(style, &[all.clone(), error(5, DONE)]);
        assert_eq!(result, Ok(()));
        assert_eq!(events.last().cloned(), failed(ErrorCode::EIO));
        // More content may follow an error, and what is missing is forgiven.
        let (events, result) = read(style, &[error(5, MORE), data(1000, 10, MORE), none()]);
        assert_eq!(result, Ok(()));
        assert_eq!(events.last().cloned(), failed(ErrorCode::EIO));
    }
}

#[test]
fn errors_have_a_message_and_a_place() {
    for style in CHUNKED {
        let (events, result) = read(
            style,
            &[
                data(1000, 50, MORE),
                error_at(28, 1020, MORE),
                error_at(5, 1099, DONE),
            ],
        );
        assert_eq!(result, Ok(()));
        let message = "bad sector".to_owned();
        assert_eq!(
            events[1..],
            [
                Event::Error {
                    code: ErrorCode::ENOSPC,
                    message: message.clone(),
                    offset: Some(1020)
                },
                Event::Error {
                    code: ErrorCode::EIO,
                    message,
                    offset: Some(1099)
                },
                Event::Done(Outcome::Failed(ErrorCode::ENOSPC)),
            ]
        );
    }
}

#[test]
fn an_error_chunk_that_makes_no_sense_is_a_fault() {
    let overrun = |kind, length, message| Fault::MessageOverrun {
        kind,
        length,
        message,
    };
    let (error, offset) = (ChunkType::ERROR, ChunkType::ERROR_OFFSET);
    let cases = [
        (error, error_payload(0, "", &[]), Fault::ErrorZero(error)),
        (
            error,
            vec![0; 5],
            Fault::ChunkLength {
                kind: error,
                length: 5,
            },
        ),
        (
            offset,
            vec![0; 13],
            Fault::ChunkLength {
                kind: offset,
                length: 13,
            },
        ),
        (
            error,
            vec![0; MAX_PREFIX + 1],
            Fault::ChunkLength {
                kind: error,
                length: 8193,
            },
        ),
        (error, vec![0, 0, 0, 5, 0, 2, b'x'], overrun(error, 7, 2)),
        (
            offset,
            [&[0, 0, 0, 5, 0, 1][..], &[0; 8]].concat(),
            overrun(offset, 14, 1),
        ),
        (
            error,
            error_payload(5, &"x".repeat(4097), &[]),
            Fault::MessageTooLong(4097),
        ),
        (
            offset,
            error_payload(5, "", &999u64.to_be_bytes()),
            Fault::ErrorOutside { offset: 999 },
        ),
        (
            offset,
            error_payload(5, "", &1100u64.to_be_bytes()),
            Fault::ErrorOutside { offset: 1100 },
        ),
        (
            ChunkType(0x8077),
            vec![0; 4],
            Fault::ChunkLength {
                kind: ChunkType(0x8077),
                length: 4,
            },
        ),
    ];
    for style in CHUNKED {
        for (kind, payload, fault) in &cases {
            let result = read(style, &[(*kind, DONE, payload.clone())]).1;
            assert_eq!(result, Err(fault.clone()), "{style:?}");
        }
    }
}

#[test]
fn content_must_not_follow_an_error_at_its_place() {
    for style in CHUNKED {
        let pieces = [error_at(5, 1010, MORE), data(1000, 50, MORE)];
        let fault = Fault::Overlap {
            offset: 1000,
            length: 50,
        };
        assert_eq!(read(style, &pieces).1, Err(fault));
        let pieces = [
            error_at(5, 1010, MORE),
            data(1000, 10, MORE),
            data(1011, 20, DONE),
        ];
        assert_eq!(read(style, &pieces).1, Ok(()));
    }
}

#[test]
fn an_unknown_error_type_is_skipped_and_fails_the_reply() {
    for style in CHUNKED {
        let unknown = (
            ChunkType(0x8123),
            MORE,
            error_payload(77, "odd", &[1, 2, 3]),
        );
        let (events, result) = read(style, &[unknown, data(1000, 100, DONE)]);
        assert_eq!(result, Ok(()));
        let event = Event::Error {
            code: ErrorCode(77),
            message: "odd".to_owned(),
            offset: None,
        };
        assert_eq!(events.first(), Some(&event));
        assert_eq!(events.last().cloned(), failed(ErrorCode::EINVAL));
    }
}

#[test]
fn errors_without_end_are_a_fault() {
    let mut replies = session(HeaderStyle::Extended);
    let request = replies
        .begin(Command::TRIM, CommandFlags::NONE, 0, 1)
        .unwrap();
    let one = chunk(
        HeaderStyle::Extended,
        &request,
        ChunkType::ERROR,
        MORE,
        &error_payload(5, "", &[]),
    );
    let result = (0..5000).try_for_each(|_| replies.handle_input(&one));
    assert_eq!(result, Err(Fault::TooManyErrors { limit: 4096 }));
}
