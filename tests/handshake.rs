//! The handshake against every kind of server, without a socket: each
//! conversation is fed whole, byte by byte, and cut at every length.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

mod common;

use common::fake::{
    ERROR, OPT_EXPORT_NAME, OPT_GO, REP_ACK, REP_INFO, block_size_info, export_info, greeting,
    oldstyle_greeting, reply,
};
use nbdctl::proto::{
    BlockSizes, Error, Event, Export, Handshake, HeaderStyle, Lack, OptionCode, ReplyType,
    TransmissionFlags, Violation, Wanted,
};
use proptest::prelude::*;

const SIZE: u64 = 1 << 40;
const FLAGS: u16 = 0b1_0000_1101;

fn handshake() -> Handshake {
    Handshake::new(Wanted::compact("vm1").unwrap())
}

/// Feeds `server` in pieces of at most `piece` bytes; the export, or the error.
fn converse(server: &[u8], piece: usize) -> Result<Option<Export>, Error> {
    let mut handshake = handshake();
    let mut export = None;
    for bytes in server.chunks(piece) {
        handshake.handle_input(bytes)?;
        if let Some(Event::Ready(negotiated)) = handshake.poll_event() {
            assert_eq!(negotiated.header_style(), HeaderStyle::Compact);
            export = Some(negotiated.export().clone());
        }
    }
    Ok(export)
}

/// The same whole and byte by byte; nothing that is cut short is an export.
fn outcome(server: &[u8]) -> Result<Option<Export>, Error> {
    let whole = converse(server, server.len());
    assert_eq!(converse(server, 1), whole, "byte by byte");
    assert_eq!(converse(server, 7), whole, "in sevens");
    for length in 0..server.len() {
        match converse(&server[..length], length.max(1)) {
            Ok(None) => {}
            Ok(Some(_)) => panic!("an export at {length} of {} bytes", server.len()),
            Err(error) => assert_eq!(Err(error), whole, "cut at {length}"),
        }
    }
    whole
}

fn go_answer(infos: &[&[u8]]) -> Vec<u8> {
    let mut server = greeting(0b11);
    for info in infos {
        server.extend(reply(OPT_GO, REP_INFO, info));
    }
    server.extend(reply(OPT_GO, REP_ACK, &[]));
    server
}

fn violation(server: &[u8]) -> Violation {
    match outcome(server) {
        Err(Error::Violation(violation)) => violation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn go_gives_size_flags_and_block_sizes() {
    let server = go_answer(&[
        &export_info(SIZE, FLAGS),
        &block_size_info(512, 4096, 1 << 20),
        b"\0\x01vm1",
        b"\xab\xcdwhat is not known is ignored",
    ]);
    let export = outcome(&server).unwrap().unwrap();
    assert_eq!(export.size, SIZE);
    assert_eq!(export.flags, TransmissionFlags(FLAGS));
    assert_eq!(export.block_sizes.minimum, 512);
    assert_eq!(export.block_sizes.maximum_payload, 1 << 20);
}

#[test]
fn a_server_without_block_sizes_gets_the_defaults() {
    let server = go_answer(&[&export_info(SIZE, FLAGS)]);
    let export = outcome(&server).unwrap().unwrap();
    assert_eq!(export.block_sizes, BlockSizes::DEFAULT);
}

#[test]
fn a_client_says_what_it_must() {
    let mut handshake = handshake();
    assert_eq!(handshake.poll_transmit(), None, "the server speaks first");
    handshake.handle_input(&greeting(0b01)).unwrap();
    let sent = handshake.poll_transmit().unwrap();
    assert_eq!(sent[..4], [0, 0, 0, 1], "no NO_ZEROES that was not offered");
    assert_eq!(sent[4..16], *b"IHAVEOPT\0\0\0\x07");
    assert_eq!(sent[sent.len() - 4..], [0, 1, 0, 3], "asks for block sizes");
    handshake
        .handle_input(&reply(OPT_GO, ERROR + 1, b""))
        .unwrap();
    let sent = handshake.poll_transmit().unwrap();
    assert_eq!(sent, b"IHAVEOPT\0\0\0\x01\0\0\0\x03vm1");
}

#[test]
fn a_server_without_go_is_asked_by_name() {
    for (flags, zeroes) in [(0b11, 0), (0b01, 124)] {
        let server = [
            greeting(flags),
            reply(OPT_GO, ERROR + 1, b""),
            SIZE.to_be_bytes().to_vec(),
            FLAGS.to_be_bytes().to_vec(),
            vec![0; zeroes],
        ]
        .concat();
        let export = outcome(&server).unwrap().unwrap();
        assert_eq!((export.size, export.flags.0), (SIZE, FLAGS));
    }
}

#[test]
fn hanging_up_is_a_refusal_only_where_it_can_be_no_other() {
    let mut handshake = handshake();
    handshake.handle_input(&greeting(0b11)).unwrap();
    handshake
        .handle_input(&reply(OPT_GO, ERROR + 1, b""))
        .unwrap();
    let refusal = handshake.handle_eof().unwrap();
    assert_eq!(refusal.reply, ReplyType::ERR_UNKNOWN);
    assert_eq!(refusal.option, OptionCode::EXPORT_NAME);

    let mut handshake = self::handshake();
    handshake.handle_input(&greeting(0b11)).unwrap();
    assert_eq!(handshake.handle_eof(), None);
}

#[test]
fn every_refusal_is_told_with_its_code_and_its_text() {
    for code in 2..=11 {
        let server = [greeting(0b11), reply(OPT_GO, ERROR + code, b"sorry")].concat();
        match outcome(&server) {
            Err(Error::Refused(refusal)) => {
                assert_eq!(refusal.reply, ReplyType(ERROR + code));
                assert_eq!(refusal.message, "sorry");
                assert!(refusal.to_string().contains("sorry"));
            }
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[test]
fn other_handshakes_are_refused_by_name() {
    assert_eq!(
        outcome(&oldstyle_greeting()[..18]),
        Err(Error::Lacks(Lack::Oldstyle))
    );
    assert_eq!(
        outcome(&greeting(0)),
        Err(Error::Lacks(Lack::FixedNewstyle))
    );
    assert!(matches!(
        violation(b"HTTP/1.1 400 Bad Request\r\n"),
        Violation::NotNbd { greeting } if greeting == "HTTP/1.1"
    ));
}

#[test]
fn broken_answers_are_violations() {
    let after_greeting = |bytes: &[u8]| violation(&[&greeting(0b11), bytes].concat());
    assert_eq!(
        after_greeting(&[0; 20]),
        Violation::BadMagic {
            what: "an option reply",
            got: 0
        }
    );
    assert_eq!(
        after_greeting(&reply(OPT_EXPORT_NAME, REP_ACK, &[])),
        Violation::WrongOption {
            got: OptionCode::EXPORT_NAME,
            asked: OptionCode::GO
        }
    );
    assert_eq!(
        after_greeting(&reply(OPT_GO, 2, &[])),
        Violation::WrongReply {
            asked: OptionCode::GO,
            got: ReplyType::SERVER
        }
    );
    assert_eq!(
        after_greeting(&reply(OPT_GO, REP_ACK, &[])),
        Violation::NoExportInfo
    );
    assert!(matches!(
        after_greeting(&reply(OPT_GO, REP_INFO, &[0, 0, 1])),
        Violation::Truncated { .. }
    ));
    assert!(matches!(
        after_greeting(&reply(
            OPT_GO,
            REP_INFO,
            &[&export_info(1, 1)[..], &[0]].concat()
        )),
        Violation::Overlong { extra: 1, .. }
    ));
    assert_eq!(
        after_greeting(&reply(OPT_GO, REP_INFO, &export_info(1, 2))),
        Violation::NoFlags(2)
    );
    assert!(matches!(
        after_greeting(&reply(OPT_GO, REP_INFO, &block_size_info(3, 4096, 4096))),
        Violation::BlockSizes { minimum: 3, .. }
    ));
}

#[test]
fn a_reply_that_claims_gigabytes_is_refused_from_its_header() {
    let mut huge = reply(OPT_GO, REP_INFO, &[]);
    huge[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    let server = [greeting(0b11), huge].concat();
    assert!(matches!(
        violation(&server),
        Violation::TooLong {
            claimed: u32::MAX,
            ..
        }
    ));
}

#[test]
fn information_without_end_is_refused() {
    let mut server = greeting(0b11);
    for _ in 0..65 {
        server.extend(reply(OPT_GO, REP_INFO, &[0xff, 0xff]));
    }
    assert_eq!(violation(&server), Violation::TooManyInfos { limit: 64 });
}

#[test]
fn nothing_may_follow_the_end_of_the_handshake() {
    let mut server = go_answer(&[&export_info(SIZE, FLAGS)]);
    server.push(0);
    let mut handshake = handshake();
    assert_eq!(
        handshake.handle_input(&server),
        Err(Error::Violation(Violation::Unasked(1)))
    );
    assert_eq!(handshake.poll_event(), None, "there is no session then");
}

#[test]
fn a_session_of_another_style_could_not_become_a_kernel_socket() {
    let mut handshake = handshake();
    handshake
        .handle_input(&go_answer(&[&export_info(SIZE, FLAGS)]))
        .unwrap();
    let Some(Event::Ready(negotiated)) = handshake.poll_event() else {
        panic!("no session");
    };
    let compact = negotiated.into_compact("the stream").unwrap();
    assert_eq!(compact.export().size, SIZE);
    assert_eq!(compact.into_stream(), "the stream");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
        let mut begun = greeting(0b11);
        begun.extend(bytes);
        let _ = converse(&begun, piece);
    }

    #[test]
    fn one_flipped_bit_makes_it_neither_panic_nor_hang_on(bit in 0usize..8 * 70) {
        let mut server = go_answer(&[&export_info(SIZE, FLAGS), &block_size_info(512, 4096, 1 << 20)]);
        let position = bit / 8 % server.len();
        server[position] ^= 1 << (bit % 8);
        let _ = outcome(&server);
    }
}
