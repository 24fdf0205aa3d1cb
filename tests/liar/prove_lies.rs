//! Lies in transmission: as raw bytes, and as qemu judges them: legal ones it
//! puts up with, broken ones it does not swallow.

use std::process::Command;

use crate::liar::wire::*;
use crate::liar::{self, Config, Export, Handle, Lie, Phase, Place, Style};
use crate::probe::{Message, Probe};

/// A server with data, a hole and data, and one lie.
fn server(style: Style, lie: Lie) -> Handle {
    let config = Config::new().export(Export::new("disk", 1 << 20));
    let server = liar::start(config.at_most(style).lie(lie));
    server.poke("disk", 0, &[7; 65_536]);
    server.poke("disk", 131_072, &[8; 65_536]);
    server
}

/// The bytes of a READ from 0 that are expected.
fn content() -> Vec<u8> {
    [[7; 65_536], [0; 65_536], [8; 65_536]].concat()
}

/// The reply to a READ of all of that.
fn read_reply(style: Style, lie: Lie) -> Vec<Message> {
    let server = server(style, lie);
    let mut probe = Probe::go(&server, style, &[]);
    probe.read_request(0, 196_608);
    probe.reply(196_608)
}

/// Whether qemu-io reads it right.
fn qemu_reads(server: &Handle) -> bool {
    let commands = ["read -P 7 0 64k", "read -P 0 64k 64k", "read 0 192k"];
    let mut qemu = Command::new("timeout");
    qemu.args(["--kill-after=1", "10", "qemu-io", "-r", "-f", "raw"]);
    qemu.arg(server.uri("disk"));
    commands.iter().for_each(|command| {
        qemu.args(["-c", *command]);
    });
    let output = qemu.output().unwrap();
    assert_ne!(output.status.code(), Some(127), "install qemu-io");
    assert_ne!(output.status.code(), Some(124), "it took too long");
    output.status.success()
}

#[test]
fn qemu_puts_up_with_what_is_legal() {
    for lie in [
        Lie::ShuffleChunks,
        Lie::SplitChunks(4096),
        Lie::SplitChunks(1000),
        Lie::InterleaveReplies,
        Lie::ReorderReplies,
        Lie::DoneApart,
        Lie::NoHoles,
        Lie::SimpleWhereAllowed,
        Lie::ExtentPastRequest,
        Lie::UnknownInfo,
    ] {
        for style in [Style::Structured, Style::Extended] {
            assert!(qemu_reads(&server(style, lie)), "{lie:?}, {style:?}");
        }
    }
}

#[test]
fn qemu_does_not_swallow_broken_replies() {
    // It does swallow `StructuredInExtended` and `WrongOffset`.
    let lies = [
        Lie::SimpleInExtended,
        Lie::UnknownCookie,
        Lie::WrongMagic(Place::Reply),
        Lie::UnknownChunk,
        Lie::UnknownErrorChunk,
        Lie::NoneWithPayload,
        Lie::NoneWithoutDone,
        Lie::ErrorAfterData,
        Lie::ErrorOffsetAfterData,
        Lie::ErrorZero,
        Lie::ErrorShort,
        Lie::ErrorMessageTooLong,
        Lie::DataOutside,
        Lie::DataPastRequest,
        Lie::DataTooLong,
        Lie::DataEmpty,
        Lie::DataShort,
        Lie::HoleEmpty,
        Lie::HolePastRequest,
        Lie::ClaimLength(1 << 32),
        Lie::HangUp(Phase::OnRequest),
        Lie::HangUp(Phase::InReplyPayload),
    ];
    let mut swallowed = lies.to_vec();
    swallowed.retain(|lie| qemu_reads(&server(Style::Extended, *lie)));
    assert_eq!(swallowed, []);
}

#[test]
fn legal_lies_keep_the_data_right() {
    for lie in [
        Lie::ShuffleChunks,
        Lie::SplitChunks(1000),
        Lie::DoneApart,
        Lie::NoHoles,
        Lie::InterleaveReplies,
        Lie::ReorderReplies,
    ] {
        for style in [Style::Simple, Style::Structured, Style::Extended] {
            let server = server(style, lie);
            let mut probe = Probe::go(&server, style, &[]);
            assert!(probe.read(0, 196_608) == content(), "{lie:?}, {style:?}");
        }
    }
    let split = read_reply(Style::Extended, Lie::SplitChunks(4096));
    assert_eq!(split.len(), 48);
    let offsets = |message: &Message| Bytes(&message.payload).u64().unwrap();
    let seed = |seed| {
        let server = server(Style::Extended, Lie::SplitChunks(32_768));
        server.set(|config| {
            config.lies.push(Lie::ShuffleChunks);
            config.seed = seed;
        });
        let mut probe = Probe::go(&server, Style::Extended, &[]);
        probe.read_request(0, 196_608);
        probe.reply(0).iter().map(offsets).collect::<Vec<_>>()
    };
    assert_ne!(seed(1), seed(2));
    assert_eq!(seed(1), seed(1));
}

#[test]
fn replies_are_reordered_and_interleaved() {
    let cookies = |lie| {
        let server = server(Style::Extended, lie);
        let mut probe = Probe::go(&server, Style::Extended, &[]);
        probe.read_request(0, 196_608);
        probe.read_request(0, 196_608);
        let messages = (0..6).map(|_| probe.message(0).cookie);
        messages.collect::<Vec<_>>()
    };
    assert_eq!(cookies(Lie::DoneApart), [1, 1, 1, 1, 2, 2]);
    assert_eq!(cookies(Lie::ReorderReplies), [2, 2, 2, 1, 1, 1]);
    assert_eq!(cookies(Lie::InterleaveReplies), [1, 2, 1, 2, 1, 2]);
}

#[test]
fn lies_of_headers() {
    let first = |lie| {
        let server = server(Style::Extended, lie);
        let mut probe = Probe::go(&server, Style::Extended, &[]);
        probe.read_request(0, 196_608);
        probe.message(0)
    };
    assert_eq!(first(Lie::SimpleInExtended).style, Style::Simple);
    assert_eq!(first(Lie::StructuredInExtended).style, Style::Structured);
    assert_eq!(first(Lie::UnknownCookie).cookie, !1);
    assert_eq!(first(Lie::WrongOffset).offset, 4096);
    assert_eq!(first(Lie::UnknownChunk).kind, 0x4c49);
    assert_eq!(first(Lie::ClaimLength(1 << 32)).length, 1 << 32);
    assert_eq!(first(Lie::UnknownErrorChunk).kind >> 15, 1);
    let simple = read_reply(Style::Structured, Lie::SimpleRead);
    assert_eq!(simple[0].style, Style::Simple);
    let unasked = read_reply(Style::Structured, Lie::ExtendedUnasked);
    assert_eq!(unasked[0].style, Style::Extended);
    let length = |lie| {
        let server = server(Style::Extended, lie);
        let mut probe = Probe::go(&server, Style::Extended, &[]);
        probe.read_request(0, 512);
        Bytes(&probe.take(32)[24..]).u64().unwrap()
    };
    assert_eq!(length(Lie::LengthTooLarge), 512 + 8 + 4096);
    assert_eq!(length(Lie::LengthTooSmall), 512 + 8 - 1);
}

#[test]
fn lies_about_the_end() {
    let dones = |lie, count: usize| {
        let server = server(Style::Extended, lie);
        let mut probe = Probe::go(&server, Style::Extended, &[]);
        probe.read_request(0, 512);
        let messages = (0..count)
            .map(|_| probe.message(0).done)
            .collect::<Vec<_>>();
        assert!(probe.is_silent());
        messages
    };
    assert_eq!(dones(Lie::NoHoles, 1), [true]);
    assert_eq!(dones(Lie::RepeatedReply, 2), [true, true]);
    assert_eq!(dones(Lie::ChunkAfterDone, 2), [true, false]);
    assert_eq!(dones(Lie::DoneMissing, 1), [false]);
    assert!(dones(Lie::StallTransmission, 0).is_empty());
    let server = server(Style::Extended, Lie::StallInReply);
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.read_request(0, 512);
    assert_eq!(probe.take(276)[..4], EXTENDED_REPLY_MAGIC.to_be_bytes());
    assert!(probe.is_silent());
}

/// Offset and length of the content chunks of a READ of 192 KiB from 0.
#[test]
fn lies_of_content() {
    let content = |lie| -> Vec<(u64, u64)> {
        let reply = read_reply(Style::Extended, lie);
        let chunks = reply.iter().filter(|message| message.kind != CHUNK_NONE);
        let chunk = |message: &Message| {
            let mut payload = Bytes(&message.payload);
            let offset = payload.u64().unwrap();
            let length = match message.kind {
                CHUNK_OFFSET_HOLE => payload.u32().unwrap().into(),
                _ => u64::try_from(payload.0.len()).unwrap(),
            };
            (offset, length)
        };
        chunks.map(chunk).collect()
    };
    let page = |number: u64| (number * 65_536, 65_536);
    let honest = [page(0), page(1), page(2)];
    assert_eq!(content(Lie::DoneApart), honest);
    assert_eq!(content(Lie::DataOutside)[3], (196_608, 512));
    assert_eq!(content(Lie::DataPastRequest), [(0, 196_608 + 512)]);
    assert_eq!(
        content(Lie::DataOverlap),
        [page(0), page(0), page(1), page(2)]
    );
    assert_eq!(content(Lie::DataGap), [(32_768, 32_768), page(1), page(2)]);
    assert_eq!(content(Lie::DataMissing), []);
    assert_eq!(content(Lie::DataTooLong), [(0, (32 << 20) + 1)]);
    assert_eq!(content(Lie::DataEmpty)[0], (0, 0));
    assert_eq!(content(Lie::HoleEmpty)[0], (0, 0));
    assert_eq!(content(Lie::HolePastRequest), [(0, 196_608 + 512)]);
    let server = server(Style::Extended, Lie::FragmentedDespiteDf);
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.request(CMD_READ, CMD_FLAG_DF, 0, 1024, &[]);
    assert_eq!(probe.reply(0).len(), 2);
}

#[test]
fn lies_of_errors() {
    let payload = |lie| {
        let reply = read_reply(Style::Extended, lie);
        let error = reply.last().unwrap();
        assert_eq!((error.kind >> 15, error.done), (1, true));
        error.payload.clone()
    };
    assert_eq!(payload(Lie::ErrorAfterData), b"\0\0\0\x05\0\x05a lie");
    let at = payload(Lie::ErrorOffsetAfterData);
    assert_eq!(at, b"\0\0\0\x05\0\x05a lie\0\0\0\0\0\x01\x80\0");
    assert_eq!(payload(Lie::ErrorMessageTooLong), b"\0\0\0\x05\0\x06a lie");
    assert_eq!(payload(Lie::ErrorZero), b"\0\0\0\0\0\x05a lie");
    assert_eq!(payload(Lie::ErrorShort), b"\0\0\0\x05\0");
    let (command, error) = (CMD_FLUSH, ENOSPC);
    for style in [Style::Simple, Style::Extended] {
        let server = server(style, Lie::Fail { command, error });
        let mut probe = Probe::go(&server, style, &[]);
        assert_eq!(probe.failure(CMD_FLUSH, 0, 0, 0), ENOSPC);
        probe.write(0, 0, &[1]);
    }
}

/// The status chunks for 64 KiB of data before a hole, with `REQ_ONE` or not.
#[test]
fn lies_of_status() {
    let ask = |style, lie, flags| {
        let server = server(style, lie);
        let mut probe = Probe::go(&server, style, &["base:allocation"]);
        probe.request(CMD_BLOCK_STATUS, flags, 0, 131_072, &[]);
        probe.reply(0)
    };
    let wide = |lie, flags| ask(Style::Extended, lie, flags)[0].payload.clone();
    let said = |extents: &[(u64, u64)]| {
        let put = Put::new().u32(0x4c49_4152);
        let put = put.u32(extents.len().try_into().unwrap());
        let extents = extents.iter();
        extents
            .fold(put, |put, extent| put.u64(extent.0).u64(extent.1))
            .0
    };
    let (data, hole) = ((65_536, 0), (65_536, 3));
    assert_eq!(wide(Lie::NoHoles, 0), said(&[data, hole]));
    assert_eq!(wide(Lie::ExtentEmpty, 0), said(&[(0, 0), data, hole]));
    let one = CMD_FLAG_REQ_ONE;
    assert_eq!(
        wide(Lie::ExtentPastReqOne, one),
        said(&[(131_072 + 65_536, 0)])
    );
    assert_eq!(
        wide(Lie::ExtentsDespiteReqOne, one),
        said(&[(32_768, 0), (32_768, 1)])
    );
    assert_eq!(wide(Lie::ExtentPastRequest, 0), said(&[data, (131_072, 3)]));
    assert_eq!(wide(Lie::ExtentsMissing, 0), said(&[]));
    assert_eq!(wide(Lie::DescriptorCount, 0)[7], 3);
    assert_eq!(wide(Lie::DescriptorCut, 0).len(), 8 + 32 - 4);
    assert_eq!(wide(Lie::StatusHighBit, 0)[16], 0x80);
    let chunks = |lie| ask(Style::Extended, lie, 0);
    let twice = chunks(Lie::ContextTwice);
    assert_eq!((twice.len(), &twice[0].payload), (2, &twice[1].payload));
    assert_eq!(
        chunks(Lie::ContextNotSelected)[1].payload[..4],
        [0, 0, 0xde, 0xad]
    );
    assert_eq!(chunks(Lie::ContextMissing)[0].kind, CHUNK_NONE);
    assert_eq!(chunks(Lie::NarrowStatus)[0].kind, CHUNK_BLOCK_STATUS);
    let structured = ask(Style::Structured, Lie::WideStatus, 0);
    assert_eq!(structured[0].kind, CHUNK_BLOCK_STATUS_EXT);
}

#[test]
fn it_hangs_up_in_every_phase_of_transmission() {
    let heard = |phase| {
        let server = server(Style::Extended, Lie::HangUp(phase));
        let mut probe = Probe::go(&server, Style::Extended, &[]);
        probe.write_request(0, 0, &[1]);
        let heard = probe.rest().len();
        (heard, server.peek("disk", 0, 1)[0])
    };
    assert_eq!(heard(Phase::OnRequest), (0, 7), "not done");
    assert_eq!(heard(Phase::BeforeReply), (0, 1), "done, not answered");
    assert_eq!(heard(Phase::InReplyHeader), (16, 1));
    let server = server(Style::Extended, Lie::HangUp(Phase::InReplyPayload));
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.read_request(0, 512);
    assert_eq!(probe.rest().len(), 32 + 260);
}

#[test]
fn a_lie_can_come_late_and_end() {
    let server = server(Style::Extended, Lie::HangUp(Phase::OnRequest));
    server.set(|config| {
        config.lie_after = 2;
        config.lie_connections = 1;
    });
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.write(0, 0, &[1]);
    probe.write(0, 1, &[2]);
    probe.write_request(0, 2, &[3]);
    assert!(probe.rest().is_empty());
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    for _ in 0..4 {
        assert_eq!(probe.read(0, 3), [1, 2, 7]);
    }
}

#[test]
fn lies_of_durability() {
    let server = server(Style::Extended, Lie::FlushForgets);
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.write(0, 0, &[1]);
    probe.do_request(CMD_FLUSH, 0, 0, 0);
    assert_eq!(server.peek_durable("disk", 0, 1), [7]);
    server.tell(Lie::FuaForgets);
    probe.write(CMD_FLAG_FUA, 0, &[2]);
    assert_eq!(server.peek_durable("disk", 0, 1), [7]);
    server.tell(None);
    probe.do_request(CMD_FLUSH, 0, 0, 0);
    assert_eq!(server.peek_durable("disk", 0, 1), [2]);
}
