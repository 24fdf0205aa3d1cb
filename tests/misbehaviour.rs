//! Every way in which a server can misbehave meets a named error, in time, within
//! a fixed amount of memory, and never a panic.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "it is all tests"
)]

#[path = "liar/mod.rs"]
mod liar;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbdctl::proto::transmission::{Command, CommandFlags, Replies, SelectedContext, Terms};
use nbdctl::proto::{self, Event, Handshake, Negotiated, Wanted};
use nbdctl::session::{Client, Deadline, Session};
use nbdctl::uri::Uri;

use liar::{BlockSize, Config, Export, Handle, Lie, Phase, Place, Style};

/// The deadline of what meets silence, which is awaited, and of all the rest, which no
/// machine is too busy for.
const SILENCE: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);

/// What may pass beyond it: `info` asks twice more for two seconds each.
const SLACK: Duration = Duration::from_secs(6);

/// What nbdctl may ever need, whatever a server sends: the longest list is 8 MiB
/// by its own count, and is kept in pieces.
const MAX_RSS_KIB: u64 = 48 * 1024;

fn server(style: Style, lie: Lie) -> Handle {
    let export = Export::new("disk", 1 << 20);
    let config = Config::new().export(export).at_most(style).lie(lie);
    let server = liar::start(config);
    server.poke("disk", 0, &[7; 65_536]);
    server.poke("disk", 131_072, &[8; 65_536]);
    server
}

/// Runs a verb; what it did, and the most memory that it had in KiB. (The usage
/// that wait gives counts what a child has of its parent before it is itself.)
fn nbdctl(verb: &str, server: &Handle, timeout: Duration) -> (Output, u64) {
    let timeout = timeout.as_secs().to_string();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nbdctl"));
    command.args([verb, &server.uri("disk"), "--timeout", &timeout]);
    if matches!(verb, "zero" | "discard") {
        command.args(["--request-timeout", &timeout]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    // Its few lines fit the pipes.
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        // A child has its parent's memory until a moment before it has its own name.
        let text = text.strip_prefix("Name:\tnbdctl\n").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        thread::sleep(Duration::from_millis(1));
    }
    (child.wait_with_output().unwrap(), peak)
}

/// What nbdctl says of it: its exit status, and a piece of its one line.
type Case = (Lie, i32, &'static str);

fn tell(style: Style, verb: &str, cases: &[Case]) {
    tell_within(TIMEOUT, style, verb, cases);
}

fn tell_within(timeout: Duration, style: Style, verb: &str, cases: &[Case]) {
    let mut most = 0;
    for (lie, status, piece) in cases {
        let server = server(style, *lie);
        let begun = Instant::now();
        let (output, peak) = nbdctl(verb, &server, timeout);
        most = most.max(peak);
        let took = begun.elapsed();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let what = format!("{style:?} {verb} {lie:?}: {:?} {stderr}", output.status);
        assert_eq!(output.status.code(), Some(*status), "{what}");
        assert!(stderr.contains(piece), "{piece:?} is not in {what}");
        assert!(stderr.lines().count() <= 1, "{what}");
        assert!(took < timeout + SLACK, "{took:?} for {what}");
    }
    println!("{style:?} {verb}: at most {most} KiB resident");
    assert!((1..MAX_RSS_KIB).contains(&most), "{most} KiB resident");
}

#[test]
fn silence_ends_at_the_deadline() {
    let no_answer = "no answer within 1 s";
    tell_within(
        SILENCE,
        Style::Extended,
        "info",
        &[
            (Lie::StallGreeting, 6, no_answer),
            (Lie::StallOptions, 6, no_answer),
            (Lie::StallInOptionReply, 6, no_answer),
        ],
    );
    let stalls = [
        (Lie::StallTransmission, 6, no_answer),
        (Lie::StallInReply, 6, no_answer),
        (Lie::DoneMissing, 6, no_answer),
    ];
    tell_within(SILENCE, Style::Extended, "map", &stalls);
    tell_within(SILENCE, Style::Extended, "zero", &stalls);
    tell_within(SILENCE, Style::Simple, "zero", &stalls[..2]);
}

#[test]
fn hanging_up_is_said_to_be_that() {
    let gone = |phase| {
        (
            Lie::HangUp(phase),
            1,
            "the server closed the connection before",
        )
    };
    tell(
        Style::Extended,
        "info",
        &[
            gone(Phase::BeforeGreeting),
            gone(Phase::InGreeting),
            gone(Phase::AfterGreeting),
            gone(Phase::OnOption),
            gone(Phase::InOptionReply),
        ],
    );
    let later = [
        gone(Phase::OnRequest),
        gone(Phase::BeforeReply),
        gone(Phase::InReplyHeader),
        gone(Phase::InReplyPayload),
    ];
    tell(Style::Extended, "map", &later);
    tell(Style::Structured, "map", &later);
    tell(Style::Simple, "zero", &later[..3]);
}

#[test]
fn lies_in_the_handshake_have_names() {
    let sizes = BlockSize {
        minimum: 3,
        preferred: 4096,
        maximum: 4096,
    };
    tell(
        Style::Extended,
        "info",
        &[
            (Lie::UnknownInfo, 0, ""),
            (Lie::WrongMagic(Place::Greeting), 1, "not an NBD server"),
            (
                Lie::WrongMagic(Place::GreetingOption),
                1,
                "the greeting's second half begins with",
            ),
            (
                Lie::WrongMagic(Place::OptionReply),
                1,
                "an option reply begins with",
            ),
            (Lie::Oldstyle, 4, "oldstyle handshake only"),
            (Lie::NotFixed, 4, "without its fixed form"),
            (
                Lie::WrongOptionEchoed,
                1,
                "when NBD_OPT_STRUCTURED_REPLY was asked",
            ),
            (
                Lie::UnaskedReply,
                1,
                "when NBD_OPT_STRUCTURED_REPLY was asked",
            ),
            (Lie::HugeOptionReply, 1, "claims 4294967295 bytes"),
            (Lie::LongErrorMessage(4096), 3, "xxx…\")"),
            (Lie::LongErrorMessage(100_000), 1, "claims 100000 bytes"),
            (Lie::EndlessInfo, 1, "more than 64 pieces of information"),
            (Lie::ExportInfoMissing, 1, "without telling its size"),
            (Lie::ExportInfoTwice, 1, "twice, and not the same"),
            (Lie::ExportInfoShort, 1, "NBD_REP_INFO ends too early"),
            (Lie::BlockSizes(sizes), 1, "its block sizes make no sense"),
            (Lie::NoHasFlags, 1, "lack HAS_FLAGS"),
            (Lie::ClaimSize(u64::MAX), 0, ""),
        ],
    );
    tell(
        Style::Extended,
        "list",
        &[
            (Lie::EndlessList, 1, "goes on beyond 8388608 bytes"),
            (Lie::ServerNameLength, 1, "NBD_REP_SERVER ends too early"),
        ],
    );
    tell(
        Style::Extended,
        "map",
        &[
            (
                Lie::ContextUnasked,
                1,
                "\"x-liar:unasked\", which was not asked for",
            ),
            (Lie::ContextIdTwice, 1, "which was not asked for"),
        ],
    );
}

#[test]
fn what_is_legal_is_put_up_with() {
    let fine = |lie| (lie, 0, "");
    tell(
        Style::Extended,
        "map",
        &[
            fine(Lie::Drip),
            fine(Lie::ShuffleChunks),
            fine(Lie::DoneApart),
            fine(Lie::InterleaveReplies),
            fine(Lie::ExtentPastRequest),
        ],
    );
    tell(
        Style::Structured,
        "map",
        &[fine(Lie::Drip), fine(Lie::SimpleWhereAllowed)],
    );
    tell(
        Style::Simple,
        "zero",
        &[fine(Lie::Drip), fine(Lie::ReorderReplies)],
    );
}

#[test]
fn errors_are_told_with_their_text() {
    tell(
        Style::Extended,
        "map",
        &[
            (
                Lie::Fail {
                    command: 7,
                    error: 5,
                },
                4,
                "NBD_EIO (it says: \"failed as configured\")",
            ),
            (Lie::UnknownErrorChunk, 4, "NBD_EIO (it says: \"a lie\")"),
        ],
    );
    let full = (
        Lie::Fail {
            command: 6,
            error: 28,
        },
        4,
        "NBD_CMD_WRITE_ZEROES with NBD_ENOSPC",
    );
    tell(
        Style::Extended,
        "zero",
        &[
            full,
            (
                Lie::Fail {
                    command: 6,
                    error: 75,
                },
                4,
                "NBD_EOVERFLOW",
            ),
            (
                Lie::ErrorMessageTooLong,
                1,
                "of 11 bytes with a message of 6 bytes",
            ),
            (Lie::ErrorZero, 1, "without an error in it"),
            (
                Lie::ErrorShort,
                1,
                "NBD_REPLY_TYPE_ERROR with a payload of 5 bytes",
            ),
        ],
    );
    tell(Style::Simple, "zero", &[full]);
}

#[test]
fn lies_in_any_reply_have_names() {
    let any: [Case; 5] = [
        (
            Lie::WrongMagic(Place::Reply),
            1,
            "where a reply has its magic number",
        ),
        (Lie::UnknownCookie, 1, "which no request had"),
        (Lie::RepeatedReply, 1, "ends its reply to cookie 0x1 twice"),
        (Lie::ChunkAfterDone, 1, "after the reply's end"),
        (Lie::NoneWithoutDone, 1, "without NBD_REPLY_FLAG_DONE"),
    ];
    tell(Style::Extended, "map", &any);
    tell(Style::Structured, "map", &any);
    tell(Style::Extended, "zero", &any[..3]);
    tell(Style::Simple, "zero", &any[..3]);
    tell(
        Style::Extended,
        "map",
        &[
            (
                Lie::SimpleInExtended,
                1,
                "a simple reply though extended headers",
            ),
            (
                Lie::StructuredInExtended,
                1,
                "a structured reply though extended headers",
            ),
            (Lie::WrongOffset, 1, "offset 0x1000 to a request at 0x0"),
            (Lie::UnknownChunk, 1, "a chunk of the unknown type"),
            (
                Lie::NoneWithPayload,
                1,
                "NBD_REPLY_TYPE_NONE with a payload of 4 bytes",
            ),
            (
                Lie::LengthTooLarge,
                1,
                "announces 4 extents in a chunk that has 260",
            ),
            (Lie::LengthTooSmall, 1, "with a payload of 71 bytes"),
            (
                Lie::ClaimLength(1 << 32),
                1,
                "with a payload of 4294967296 bytes",
            ),
            (
                Lie::ClaimLength(u64::MAX),
                1,
                "with a payload of 18446744073709551615 bytes",
            ),
        ],
    );
    tell(
        Style::Structured,
        "map",
        &[
            (
                Lie::ExtendedUnasked,
                1,
                "an extended reply though structured headers",
            ),
            (
                Lie::ClaimLength(0xffff_ffff),
                1,
                "with a payload of 4294967295 bytes",
            ),
        ],
    );
}

#[test]
fn lies_about_extents_have_names() {
    tell(
        Style::Extended,
        "map",
        &[
            (Lie::ExtentEmpty, 1, "an extent of no bytes"),
            (Lie::ExtentsMissing, 1, "with a payload of 8 bytes"),
            (
                Lie::DescriptorCount,
                1,
                "announces 5 extents in a chunk that has 4",
            ),
            (Lie::DescriptorCut, 1, "with a payload of 68 bytes"),
            (Lie::ContextNotSelected, 1, "57005, which was not asked for"),
            (Lie::ContextTwice, 1, "twice"),
            (Lie::ContextMissing, 1, "without the metadata context"),
            (Lie::NarrowStatus, 1, "with NBD_REPLY_TYPE_BLOCK_STATUS"),
            (Lie::StatusHighBit, 1, "which has 32 bits"),
        ],
    );
    let wide = (Lie::WideStatus, 1, "with NBD_REPLY_TYPE_BLOCK_STATUS_EXT");
    tell(Style::Structured, "map", &[wide]);
}

/// A READ of all that the server has, by the library: no verb reads.
fn read(server: &Handle) -> Result<Vec<u8>, String> {
    let uri = Uri::parse(&server.uri("disk")).unwrap();
    let session = Session::open_best(&uri, &[], Deadline::after(TIMEOUT)).unwrap();
    let mut client = Client::new(&uri, session, TIMEOUT);
    client.read_bytes(0, 196_608).map_err(|e| e.to_string())
}

#[test]
fn reads_are_right_however_they_are_cut() {
    let content = [[7; 65_536], [0; 65_536], [8; 65_536]].concat();
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        for lie in [
            Lie::Drip,
            Lie::ShuffleChunks,
            Lie::SplitChunks(1000),
            Lie::DoneApart,
            Lie::NoHoles,
        ] {
            let mut config = Config::new().export(Export::new("disk", 1 << 20));
            // A byte at a time, but all of them within the deadline.
            config.drip = Duration::ZERO;
            let server = liar::start(config.at_most(style).lie(lie));
            server.poke("disk", 0, &[7; 65_536]);
            server.poke("disk", 131_072, &[8; 65_536]);
            assert!(read(&server) == Ok(content.clone()), "{style:?} {lie:?}");
        }
    }
}

#[test]
fn lies_in_reads_have_names() {
    for (lie, piece) in [
        (Lie::SimpleRead, "a simple reply to NBD_CMD_READ"),
        (Lie::DataOutside, "not all within the request"),
        (
            Lie::DataPastRequest,
            "197120 bytes of data in a chunk that can have 196608",
        ),
        (Lie::DataOverlap, "for the second time"),
        (Lie::DataGap, "without the data at"),
        (Lie::DataMissing, "without the data at"),
        (Lie::DataEmpty, "NBD_REPLY_TYPE_OFFSET_DATA"),
        (Lie::DataShort, "NBD_REPLY_TYPE_OFFSET_DATA with a payload"),
        (Lie::HoleEmpty, "a hole of no bytes"),
        (Lie::HolePastRequest, "not all within the request"),
        (Lie::ErrorAfterData, "NBD_CMD_READ with NBD_EIO"),
        (Lie::ErrorOffsetAfterData, "NBD_CMD_READ with NBD_EIO"),
        (Lie::UnknownErrorChunk, "NBD_CMD_READ with NBD_EIO"),
    ] {
        let error = read(&server(Style::Structured, lie)).unwrap_err();
        assert!(
            error.contains(piece),
            "{lie:?}: {piece:?} is not in {error}"
        );
    }
}

/// The handshake over a plain socket: what no verb asks for.
fn converse(server: &Handle, wanted: Wanted) -> (TcpStream, Result<Negotiated, proto::Error>) {
    let address = server.uri("disk");
    let address = address.trim_start_matches("nbd://").split('/').next();
    let mut stream = TcpStream::connect(address.unwrap()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut handshake = Handshake::new(wanted);
    let mut buffer = [0; 4096];
    loop {
        while let Some(event) = handshake.poll_event() {
            if let Event::Ready(negotiated) = event {
                return (stream, Ok(negotiated));
            }
        }
        if let Some(bytes) = handshake.poll_transmit() {
            stream.write_all(&bytes).unwrap();
        }
        let count = stream.read(&mut buffer).unwrap();
        if let Err(error) = handshake.handle_input(&buffer[..count]) {
            return (stream, Err(error));
        }
    }
}

#[test]
fn plaintext_behind_starttls_is_an_attack() {
    let mut config = Config::new().export(Export::new("disk", 1 << 20));
    config.starttls = true;
    let server = liar::start(config.lie(Lie::PlaintextBehindStartTls));
    let (_, result) = converse(&server, Wanted::compact("disk").unwrap().with_tls());
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("in plaintext behind its consent to TLS"),
        "{error}"
    );
}

/// How one request with flags ends that no verb sets.
fn fault(style: Style, lie: Lie, command: Command, flags: CommandFlags) -> String {
    let server = server(style, lie);
    let contexts = ["base:allocation".to_owned()];
    let (mut stream, result) = converse(&server, Wanted::best("disk", &contexts).unwrap());
    let negotiated = result.unwrap();
    let terms = Terms {
        style: negotiated.header_style(),
        max_payload: negotiated.export().block_sizes.maximum_payload,
    };
    let selected = negotiated.contexts().iter();
    let selected: Vec<_> = selected
        .map(|context| SelectedContext::named(context.id, &context.name))
        .collect();
    let mut replies = Replies::new(terms, &selected);
    let request = replies.begin(command, flags, 0, 196_608).unwrap();
    let bytes = request.encode(terms.style).unwrap();
    stream.write_all(bytes.as_slice()).unwrap();
    let mut buffer = [0; 65_536];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if let Err(fault) = replies.handle_input(&buffer[..count]) {
            return fault.to_string();
        }
    }
}

#[test]
fn lies_about_what_no_verb_asks_have_names_too() {
    for style in [Style::Structured, Style::Extended] {
        for (lie, command, flags, piece) in [
            (
                Lie::FragmentedDespiteDf,
                Command::READ,
                CommandFlags::DF,
                "in one piece",
            ),
            (
                Lie::DataTooLong,
                Command::READ,
                CommandFlags::NONE,
                "bytes of data in a chunk that can have",
            ),
            (
                Lie::ExtentPastReqOne,
                Command::BLOCK_STATUS,
                CommandFlags::REQ_ONE,
                "extent",
            ),
            (
                Lie::ExtentsDespiteReqOne,
                Command::BLOCK_STATUS,
                CommandFlags::REQ_ONE,
                "extent",
            ),
        ] {
            let told = fault(style, lie, command, flags);
            assert!(
                told.contains(piece),
                "{style:?} {lie:?}: {piece:?} is not in {told}"
            );
        }
    }
}
