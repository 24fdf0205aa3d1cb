//! Headers: layouts by hand, round trips, lengths, and who may send what.

use proptest::prelude::*;

use super::super::super::Violation;
use super::*;

fn request(command: Command, flags: CommandFlags, offset: u64, length: u64) -> Request {
    Request {
        command,
        flags,
        cookie: 0x0102_0304_0506_0708,
        offset,
        length,
    }
}

#[test]
fn a_compact_request_has_the_specifications_layout() {
    let read = request(Command::WRITE_ZEROES, CommandFlags::NO_HOLE, 0x10, 0x20);
    let expected = [
        &[0x25, 0x60, 0x95, 0x13][..],
        &[0, 2],
        &[0, 6],
        &[1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 0, 0, 0, 0, 0, 0, 0x10],
        &[0, 0, 0, 0x20],
    ]
    .concat();
    for style in [HeaderStyle::Compact, HeaderStyle::Structured] {
        assert_eq!(read.encode(style).unwrap().as_slice(), expected);
    }
}

#[test]
fn an_extended_request_has_the_specifications_layout() {
    let trim = request(Command::TRIM, CommandFlags::FUA, 0x10, 1 << 40);
    let expected = [
        &[0x21, 0xe4, 0x1c, 0x71][..],
        &[0, 1],
        &[0, 4],
        &[1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 0, 0, 0, 0, 0, 0, 0x10],
        &[0, 0, 1, 0, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(
        trim.encode(HeaderStyle::Extended).unwrap().as_ref(),
        expected
    );
}

#[test]
fn replies_have_the_specifications_layouts() {
    let cookie = 0x0102_0304_0506_0708;
    let reply = SimpleReply {
        error: ErrorCode::EIO,
        cookie,
    };
    let expected = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(reply.encode(), expected);
    let chunk = StructuredChunk {
        flags: ChunkFlags::DONE,
        kind: ChunkType::ERROR_OFFSET,
        cookie,
        length: 14,
    };
    let expected = [
        0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 14,
    ];
    assert_eq!(chunk.encode(), expected);
    let chunk = ExtendedChunk {
        flags: ChunkFlags::NONE,
        kind: ChunkType::BLOCK_STATUS_EXT,
        cookie,
        offset: 9,
        length: 24,
    };
    let expected = [
        &[0x6e, 0x8a, 0x27, 0x8c, 0, 0, 0, 6, 1, 2, 3, 4, 5, 6, 7, 8][..],
        &[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 24],
    ]
    .concat();
    assert_eq!(chunk.encode().as_slice(), expected);
}

#[test]
fn a_length_that_a_style_has_no_room_for_is_the_callers_error() {
    let trim = request(Command::TRIM, CommandFlags::NONE, 0, 1 << 32);
    let error = RequestError::TooLong {
        command: Command::TRIM,
        length: 1 << 32,
        limit: u64::from(u32::MAX),
    };
    for style in [HeaderStyle::Compact, HeaderStyle::Structured] {
        assert_eq!(trim.encode(style), Err(error));
        assert_eq!(trim.check(terms(style)), Err(error));
    }
    assert_eq!(trim.check(terms(HeaderStyle::Extended)), Ok(()));
}

#[test]
fn payload_len_is_set_for_extended_writes_and_nowhere_in_other_styles() {
    let write = request(Command::WRITE, CommandFlags::FUA, 0, 512);
    let extended = write.for_style(HeaderStyle::Extended);
    assert!(extended.flags.contains(CommandFlags::PAYLOAD_LEN));
    assert_eq!(extended.for_style(HeaderStyle::Compact), write);
    assert_eq!(extended.payload_len(), 512);
    assert_eq!(write.payload_len(), 512);
    assert!(write.encode(HeaderStyle::Extended).is_err());
    assert!(extended.encode(HeaderStyle::Extended).is_ok());
    for style in [HeaderStyle::Compact, HeaderStyle::Structured] {
        assert!(extended.encode(style).is_err());
        assert!(write.encode(style).is_ok());
    }
    let read = request(Command::READ, CommandFlags::PAYLOAD_LEN, 0, 512);
    assert!(read.encode(HeaderStyle::Extended).is_err());
}

#[test]
fn each_flag_belongs_to_its_command() {
    let own = [
        (CommandFlags::NO_HOLE, Command::WRITE_ZEROES),
        (CommandFlags::FAST_ZERO, Command::WRITE_ZEROES),
        (CommandFlags::DF, Command::READ),
        (CommandFlags::REQ_ONE, Command::BLOCK_STATUS),
    ];
    let terms = terms(HeaderStyle::Extended);
    for command in (0..8).map(Command) {
        let length = u64::from(!matches!(command, Command::FLUSH | Command::DISC));
        let plain = request(command, CommandFlags::FUA, 0, length).for_style(terms.style);
        assert_eq!(plain.check(terms), Ok(()), "{command}");
        for (flag, owner) in own {
            let flags = plain.flags.with(flag);
            let result = Request { flags, ..plain }.check(terms);
            assert_eq!(result.is_ok(), command == owner, "{flag} with {command}");
        }
        let unknown = Request {
            flags: CommandFlags(1 << 6).with(plain.flags),
            ..plain
        };
        assert_eq!(
            unknown.check(terms),
            Err(RequestError::Flags {
                command,
                flags: CommandFlags(1 << 6)
            })
        );
    }
}

#[test]
fn what_the_specification_leaves_open_is_not_sent() {
    let terms = terms(HeaderStyle::Structured);
    let none = CommandFlags::NONE;
    let check = |command, offset, length| request(command, none, offset, length).check(terms);
    assert_eq!(
        check(Command::READ, 0, 0),
        Err(RequestError::ZeroLength(Command::READ))
    );
    assert_eq!(
        check(Command::FLUSH, 0, 1),
        Err(RequestError::NotZero(Command::FLUSH))
    );
    assert_eq!(
        check(Command::DISC, 1, 0),
        Err(RequestError::NotZero(Command::DISC))
    );
    let past = RequestError::PastEnd {
        offset: u64::MAX,
        length: 1,
    };
    assert_eq!(check(Command::TRIM, u64::MAX, 1), Err(past));
    assert_eq!(
        check(Command::RESIZE, 0, 1),
        Err(RequestError::UnknownCommand(Command::RESIZE))
    );
    let over = 32 * MIB + 1;
    assert!(check(Command::WRITE, 0, over).is_err());
    assert!(check(Command::READ, 0, over).is_ok());
    let compact = super::terms(HeaderStyle::Compact);
    assert!(
        request(Command::READ, none, 0, over)
            .check(compact)
            .is_err()
    );
    assert!(
        request(Command::READ, CommandFlags::DF, 0, 512)
            .check(compact)
            .is_err()
    );
    let status = request(Command::BLOCK_STATUS, none, 0, 512);
    assert_eq!(status.check(compact), Err(RequestError::NeedsChunks));
}

#[test]
fn a_request_names_the_transmission_flags_that_it_needs() {
    let zero = request(
        Command::WRITE_ZEROES,
        CommandFlags::FUA.with(CommandFlags::FAST_ZERO),
        0,
        1,
    );
    assert_eq!(zero.needs().0, (1 << 6) | (1 << 3) | (1 << 11));
    let status = request(Command::BLOCK_STATUS, CommandFlags::PAYLOAD_LEN, 0, 12);
    assert_eq!(status.needs().0, 1 << 12);
    assert_eq!(
        request(Command::READ, CommandFlags::NONE, 0, 1).needs().0,
        0
    );
}

#[test]
fn the_payload_of_a_block_status_is_its_length_and_its_contexts() {
    let payload = status_payload(1 << 40, &[3, 4]);
    assert_eq!(payload, [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4]);
    assert_eq!(parse_status_payload(&payload), Ok((1 << 40, vec![3, 4])));
    for length in [0, 7, 9, 10, 11, 15] {
        assert!(
            parse_status_payload(&payload[..length]).is_err(),
            "{length}"
        );
    }
}

#[test]
fn the_length_of_the_next_header_is_never_more_than_it_has() {
    let nothing = [
        HeaderStyle::Compact,
        HeaderStyle::Structured,
        HeaderStyle::Extended,
    ]
    .map(|style| header_len(style, &[0x66, 0x8e]).unwrap());
    assert_eq!(nothing, [16, 16, 32]);
    let request = request(Command::TRIM, CommandFlags::NONE, 0, 1);
    let structured = chunk(
        HeaderStyle::Structured,
        &request,
        ChunkType::NONE,
        ChunkFlags::DONE,
        &[],
    );
    let extended = chunk(
        HeaderStyle::Extended,
        &request,
        ChunkType::NONE,
        ChunkFlags::DONE,
        &[],
    );
    let simple = simple(&request, 0);
    assert_eq!(
        header_len(HeaderStyle::Structured, &structured[..4]),
        Ok(20)
    );
    assert_eq!(header_len(HeaderStyle::Structured, &simple[..4]), Ok(16));
    for (style, reply, ok) in [
        (HeaderStyle::Compact, &simple, true),
        (HeaderStyle::Compact, &structured, false),
        (HeaderStyle::Compact, &extended, false),
        (HeaderStyle::Structured, &extended, false),
        (HeaderStyle::Extended, &simple, false),
        (HeaderStyle::Extended, &structured, false),
        (HeaderStyle::Extended, &extended, true),
    ] {
        let result = header_len(style, &reply[..4]);
        match result {
            Ok(length) => assert!(ok && length == reply.len()),
            Err(fault) => assert!(!ok && matches!(fault, Fault::WrongStyle { .. })),
        }
    }
    assert_eq!(
        header_len(HeaderStyle::Compact, b"HTTP/1.1"),
        Err(Fault::BadMagic(0x4854_5450))
    );
    for length in 0..20 {
        let result = ReplyHeader::parse(HeaderStyle::Structured, &structured[..length]);
        assert!(
            matches!(result, Err(Fault::Malformed(_) | Fault::BadMagic(_))),
            "{length}"
        );
    }
}

#[test]
fn an_unknown_error_is_treated_as_einval() {
    assert_eq!(ErrorCode(9999).effective(), ErrorCode::EINVAL);
    assert_eq!(ErrorCode::ENOTSUP.effective(), ErrorCode::ENOTSUP);
    assert_eq!(ErrorCode(0).effective(), ErrorCode(0));
    assert_eq!(ErrorCode::ESHUTDOWN.to_string(), "NBD_ESHUTDOWN");
    assert!(ChunkType((1 << 15) + 77).is_error());
}

proptest! {
    #[test]
    fn requests_survive_the_wire(
        command: u16, flags: u16, cookie: u64, offset: u64, length: u64, style in 0usize..3,
    ) {
        let style = STYLES[style];
        let request = Request {
            command: Command(command % 9),
            flags: CommandFlags(flags).without(CommandFlags::PAYLOAD_LEN),
            cookie,
            offset,
            length: if style == HeaderStyle::Extended { length } else { length >> 32 },
        }
        .for_style(style);
        let encoded = request.encode(style).unwrap();
        let back = match encoded.as_slice().len() {
            COMPACT_REQUEST_LEN => Request::parse_compact(encoded.as_slice().first_chunk().unwrap()),
            _ => Request::parse_extended(encoded.as_slice().first_chunk().unwrap()),
        };
        prop_assert_eq!(back, Ok(request));
        let mut other = *encoded.as_slice().first_chunk::<28>().unwrap();
        other[0] ^= 1;
        let refused = Request::parse_compact(&other);
        let named = matches!(refused, Err(Violation::BadMagic { .. }));
        prop_assert!(named);
    }

    #[test]
    fn reply_headers_survive_the_wire(
        flags: u16, kind: u16, cookie: u64, offset: u64, length: u64, error: u32,
    ) {
        let (flags, kind) = (ChunkFlags(flags), ChunkType(kind));
        let simple = SimpleReply { error: ErrorCode(error), cookie };
        prop_assert_eq!(SimpleReply::parse(&simple.encode()), Ok(simple));
        let parsed = ReplyHeader::parse(HeaderStyle::Compact, &simple.encode());
        prop_assert_eq!(parsed, Ok(ReplyHeader::Simple(simple)));
        let chunk = StructuredChunk { flags, kind, cookie, length: error };
        prop_assert_eq!(StructuredChunk::parse(&chunk.encode()), Ok(chunk));
        let parsed = ReplyHeader::parse(HeaderStyle::Structured, &chunk.encode());
        prop_assert_eq!(parsed, Ok(ReplyHeader::Structured(chunk)));
        let chunk = ExtendedChunk { flags, kind, cookie, offset, length };
        prop_assert_eq!(ExtendedChunk::parse(&chunk.encode()), Ok(chunk));
        let parsed = ReplyHeader::parse(HeaderStyle::Extended, &chunk.encode());
        prop_assert_eq!(parsed, Ok(ReplyHeader::Extended(chunk)));
    }
}
