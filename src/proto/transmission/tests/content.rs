//! The rules of content chunks, in both styles that have them.

use super::*;

#[test]
fn a_read_is_good_when_all_came_in_any_order() {
    for style in CHUNKED {
        let (events, result) = read(
            style,
            &[
                data(1050, 30, MORE),
                hole(1080, 20, MORE),
                data(1000, 50, MORE),
                none(),
            ],
        );
        assert_eq!(result, Ok(()));
        assert_eq!(
            events,
            [
                Event::Data {
                    offset: 1050,
                    bytes: data_at(1050, 30)
                },
                Event::Hole {
                    offset: 1080,
                    length: 20
                },
                Event::Data {
                    offset: 1000,
                    bytes: data_at(1000, 50)
                },
                good(),
            ]
        );
        let (events, result) = read(style, &[hole(1000, 100, DONE)]);
        assert_eq!((events.len(), result), (2, Ok(())));
    }
}

#[test]
fn a_read_that_is_not_what_was_asked_for_is_a_fault() {
    let cases = [
        (vec![none()], Fault::Gap { offset: 1000 }),
        (vec![data(1000, 99, DONE)], Fault::Gap { offset: 1099 }),
        (vec![data(1001, 99, DONE)], Fault::Gap { offset: 1000 }),
        (
            vec![data(1000, 60, MORE), data(1050, 50, DONE)],
            Fault::Overlap {
                offset: 1050,
                length: 50,
            },
        ),
        (
            vec![hole(1000, 100, MORE), hole(1000, 100, DONE)],
            Fault::Overlap {
                offset: 1000,
                length: 100,
            },
        ),
        (
            vec![data(999, 50, MORE)],
            Fault::OutsideRequest {
                offset: 999,
                length: 50,
            },
        ),
        (
            vec![data(1051, 50, MORE)],
            Fault::OutsideRequest {
                offset: 1051,
                length: 50,
            },
        ),
        (
            vec![hole(1001, 100, MORE)],
            Fault::OutsideRequest {
                offset: 1001,
                length: 100,
            },
        ),
        (
            vec![hole(u64::MAX, u32::MAX, MORE)],
            Fault::OutsideRequest {
                offset: u64::MAX,
                length: u64::from(u32::MAX),
            },
        ),
        (
            vec![data(1000, 101, MORE)],
            Fault::DataTooLong {
                length: 101,
                limit: 100,
            },
        ),
        (
            vec![data(1000, 0, MORE)],
            Fault::ChunkLength {
                kind: ChunkType::OFFSET_DATA,
                length: 8,
            },
        ),
        (vec![hole(1000, 0, MORE)], Fault::EmptyHole),
        (
            vec![(ChunkType::OFFSET_DATA, MORE, vec![0; 3])],
            Fault::ChunkLength {
                kind: ChunkType::OFFSET_DATA,
                length: 3,
            },
        ),
        (
            vec![(ChunkType::OFFSET_HOLE, MORE, vec![0; 13])],
            Fault::ChunkLength {
                kind: ChunkType::OFFSET_HOLE,
                length: 13,
            },
        ),
        (
            vec![(ChunkType::NONE, DONE, vec![0])],
            Fault::ChunkLength {
                kind: ChunkType::NONE,
                length: 1,
            },
        ),
        (
            vec![(ChunkType::NONE, MORE, vec![])],
            Fault::NoneWithoutDone,
        ),
        (
            vec![(ChunkType(3), MORE, vec![])],
            Fault::UnknownChunk(ChunkType(3)),
        ),
    ];
    for style in CHUNKED {
        for (pieces, fault) in &cases {
            assert_eq!(read(style, pieces).1, Err(fault.clone()), "{style:?}");
        }
    }
}

#[test]
fn one_reply_is_not_in_too_many_places_at_a_time() {
    let mut replies = session(HeaderStyle::Extended);
    let request = replies
        .begin(Command::READ, CommandFlags::NONE, 0, MIB)
        .unwrap();
    let result = (0..5000).try_for_each(|place| {
        let payload = hole_payload(1 + 2 * place, 1);
        let one = chunk(
            HeaderStyle::Extended,
            &request,
            ChunkType::OFFSET_HOLE,
            MORE,
            &payload,
        );
        replies.handle_input(&one)
    });
    assert_eq!(result, Err(Fault::Scattered { limit: 4096 }));
}

#[test]
fn dont_fragment_allows_one_content_chunk_beside_others() {
    for style in CHUNKED {
        let df =
            |pieces: &[Piece]| ask(style, Command::READ, CommandFlags::DF, (1000, 100), pieces).1;
        assert_eq!(df(&[data(1000, 100, MORE), none()]), Ok(()));
        assert_eq!(df(&[data(1000, 50, MORE), error(5, DONE)]), Ok(()));
        assert_eq!(
            df(&[data(1000, 50, MORE), data(1050, 50, DONE)]),
            Err(Fault::Fragmented)
        );
    }
}

#[test]
fn a_chunk_must_belong_to_its_command() {
    for style in CHUNKED {
        let status = status_chunk(style, NARROW.id, &[(10, 0)]);
        for command in [
            Command::WRITE,
            Command::TRIM,
            Command::WRITE_ZEROES,
            Command::CACHE,
        ] {
            for (kind, payload) in [
                (ChunkType::OFFSET_DATA, data_payload(0, 1)),
                (ChunkType::OFFSET_HOLE, hole_payload(0, 1)),
                status.clone(),
            ] {
                let pieces = [(kind, DONE, payload)];
                let result = ask(style, command, CommandFlags::NONE, (0, 10), &pieces).1;
                assert_eq!(result, Err(Fault::WrongChunk { command, kind }));
            }
            let (events, result) = ask(style, command, CommandFlags::NONE, (0, 10), &[none()]);
            assert_eq!((events, result), (vec![good()], Ok(())));
            let pieces = [error_at(5, 9, DONE)];
            let (events, result) = ask(style, command, CommandFlags::NONE, (0, 10), &pieces);
            assert_eq!((events.len(), result), (2, Ok(())));
        }
        let pieces = [error_at(5, 1 << 40, DONE)];
        let (events, result) = ask(style, Command::FLUSH, CommandFlags::NONE, (0, 0), &pieces);
        assert_eq!(result, Ok(()));
        assert!(matches!(events[0], Event::Error { offset: None, .. }));
    }
}
