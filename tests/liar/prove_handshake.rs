//! The handshake, honest and not, as raw bytes.

use std::time::{Duration, Instant};

use crate::liar::wire::*;
use crate::liar::{self, BlockSize, Config, Context, Export, Lie, Phase, Place, Style};
use crate::probe::{OptionReply, Probe};

fn go_data() -> Vec<u8> {
    info_request("disk", &[INFO_BLOCK_SIZE])
}

#[test]
fn every_option_is_answered() {
    let server = liar::start(Config::new().export(Export::new("disk", 4096).description("d")));
    let mut probe = Probe::greet(&server);
    let list = probe.option(OPT_LIST, &[]);
    assert_eq!(list[0].data, b"\0\0\0\x04diskd");
    assert_eq!(probe.verdict(OPT_LIST, &[1]), REP_ERR_INVALID);
    assert_eq!(probe.verdict(99, &[]), REP_ERR_UNSUP);
    assert_eq!(probe.verdict(OPT_STARTTLS, &[]), REP_ERR_UNSUP);
    let unknown = info_request("nothing", &[]);
    assert_eq!(probe.verdict(OPT_GO, &unknown), REP_ERR_UNKNOWN);
    assert_eq!(probe.verdict(OPT_GO, &[0, 0]), REP_ERR_INVALID);
    let meta = meta_request("disk", &["base:allocation"]);
    assert_eq!(probe.verdict(OPT_SET_META_CONTEXT, &meta), REP_ERR_INVALID);
    assert_eq!(probe.verdict(OPT_EXTENDED_HEADERS, &[]), REP_ACK);
    let structured = probe.verdict(OPT_STRUCTURED_REPLY, &[]);
    assert_eq!(structured, REP_ERR_EXT_HEADER_REQD);
    let info = probe.option(OPT_INFO, &go_data());
    assert_eq!(info.len(), 3);
    assert_eq!(info[0].data[..10], [0, 0, 0, 0, 0, 0, 0, 0, 16, 0]);
    assert_eq!(probe.verdict(OPT_ABORT, &[]), REP_ACK);
    assert!(probe.rest().is_empty());
    let options: Vec<u32> = server.options().iter().map(|seen| seen.option).collect();
    assert_eq!(options, [3, 3, 99, 5, 7, 7, 10, 11, 8, 6, 2]);
}

#[test]
fn contexts_are_listed_and_set() {
    let server = liar::start(Config::new());
    let names = |replies: &[OptionReply]| -> Vec<String> {
        let contexts = replies
            .iter()
            .filter(|reply| reply.kind == REP_META_CONTEXT);
        let names = contexts.map(|reply| String::from_utf8(reply.data[4..].to_vec()).unwrap());
        names.collect()
    };
    let (all, base) = (meta_request("disk", &[]), meta_request("disk", &["base:"]));
    let wide = meta_request("disk", &["x-liar:zones", "other:thing"]);
    let mut probe = Probe::greet(&server);
    probe.option(OPT_STRUCTURED_REPLY, &[]);
    let listed = probe.option(OPT_LIST_META_CONTEXT, &all);
    assert_eq!(
        names(&listed),
        ["base:allocation"],
        "64-bit values need extended headers"
    );
    assert_eq!(probe.verdict(OPT_SET_META_CONTEXT, &wide), REP_ACK);
    probe.option(OPT_EXTENDED_HEADERS, &[]);
    let listed = probe.option(OPT_LIST_META_CONTEXT, &all);
    assert_eq!(names(&listed), ["base:allocation", "x-liar:zones"]);
    let listed = probe.option(OPT_LIST_META_CONTEXT, &base);
    assert_eq!(names(&listed), ["base:allocation"]);
    assert!(names(&probe.option(OPT_SET_META_CONTEXT, &base)).is_empty());
    assert_eq!(
        names(&probe.option(OPT_SET_META_CONTEXT, &wide)),
        ["x-liar:zones"]
    );
    server.set(|config| config.refuse_wide_contexts = true);
    let mut probe = Probe::greet(&server);
    probe.option(OPT_STRUCTURED_REPLY, &[]);
    let verdict = probe.verdict(OPT_SET_META_CONTEXT, &wide);
    assert_eq!(verdict, REP_ERR_EXT_HEADER_REQD);
}

#[test]
fn requirements_are_enforced() {
    let server = liar::start(Config::new());
    server.set(|config| config.require_extended_headers = true);
    let mut probe = Probe::greet(&server);
    assert_eq!(probe.verdict(OPT_GO, &go_data()), REP_ERR_EXT_HEADER_REQD);
    probe.option(OPT_EXTENDED_HEADERS, &[]);
    assert_eq!(probe.verdict(OPT_GO, &go_data()), REP_ACK);
    server.set(|config| {
        config.require_extended_headers = false;
        config.require_block_size = true;
    });
    let mut probe = Probe::greet(&server);
    let replies = probe.option(OPT_GO, &info_request("disk", &[]));
    assert_eq!(replies[0].data[..2], [0, 3]);
    assert_eq!(replies[1].kind, REP_ERR_BLOCK_SIZE_REQD);
    assert_eq!(probe.verdict(OPT_GO, &go_data()), REP_ACK);
    server.set(|config| config.require_tls = true);
    let mut probe = Probe::greet(&server);
    assert_eq!(probe.verdict(OPT_LIST, &[]), REP_ERR_TLS_REQD);
    assert_eq!(probe.verdict(OPT_GO, &go_data()), REP_ERR_TLS_REQD);
    assert_eq!(probe.verdict(OPT_STARTTLS, &[]), REP_ACK);
    probe.send(b"client hello");
    drop(probe);
    server.wait_until("what follows STARTTLS", |server| {
        server.heard_after_starttls() == b"client hello"
    });
}

/// A round trip costs the delay; options that are sent together share one.
#[test]
fn the_delay_counts_round_trips() {
    let delay = Duration::from_millis(100);
    let server = liar::start(Config::new().delay(delay));
    let start = Instant::now();
    let mut probe = Probe::greet(&server);
    let both = [
        option_request(OPT_EXTENDED_HEADERS, &[]),
        option_request(OPT_GO, &go_data()),
    ];
    probe.send(&both.concat());
    probe.option_replies();
    probe.option_replies();
    let took = start.elapsed();
    assert!(took >= 2 * delay && took < 3 * delay, "{took:?}");
    assert_eq!(server.totals().round_trips, 2);
    probe.style = Style::Extended;
    let start = Instant::now();
    for _ in 0..8 {
        probe.read_request(0, 512);
    }
    for _ in 0..8 {
        probe.reply(0);
    }
    let took = start.elapsed();
    assert!(took >= delay && took < 2 * delay, "{took:?}");
    assert_eq!(server.totals().round_trips, 3);
}

#[test]
fn it_hangs_up_in_every_phase_of_the_handshake() {
    let heard = |phase| {
        let server = liar::start(Config::new().lie(Lie::HangUp(phase)));
        let mut probe = Probe::connect(&server);
        if matches!(phase, Phase::OnOption | Phase::InOptionReply) {
            probe.take(18);
            probe.send(&[0, 0, 0, 3]);
            probe.send(&option_request(OPT_LIST, &[]));
        }
        probe.rest().len()
    };
    assert_eq!(heard(Phase::BeforeGreeting), 0);
    assert_eq!(heard(Phase::InGreeting), 12);
    assert_eq!(heard(Phase::AfterGreeting), 18);
    assert_eq!(heard(Phase::OnOption), 0);
    assert_eq!(heard(Phase::InOptionReply), 10);
}

#[test]
fn it_stalls_and_drips() {
    let server = liar::start(Config::new().lie(Lie::StallGreeting));
    assert!(Probe::connect(&server).is_silent());
    server.tell(Lie::StallOptions);
    let mut probe = Probe::greet(&server);
    probe.send(&option_request(OPT_LIST, &[]));
    assert!(probe.is_silent());
    server.tell(Lie::StallInOptionReply);
    let mut probe = Probe::greet(&server);
    probe.send(&option_request(OPT_LIST, &[]));
    probe.take(10);
    assert!(probe.is_silent());
    server.tell(Lie::Drip);
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    assert_eq!(probe.read(0, 512), [0; 512]);
}

#[test]
fn lies_of_the_greeting() {
    let greeting = |lie| {
        let server = liar::start(Config::new().lie(lie));
        Probe::connect(&server).take(18)
    };
    let magic = |lie| greeting(lie)[..16].to_vec();
    assert_eq!(magic(Lie::WrongMagic(Place::Greeting)), b"NBDMAGIBIHAVEOPT");
    assert_eq!(
        magic(Lie::WrongMagic(Place::GreetingOption)),
        b"NBDMAGICIHAVEOPU"
    );
    assert_eq!(greeting(Lie::NotFixed)[16..], [0, 2]);
    assert_eq!(greeting(Lie::Oldstyle)[8..16], OLDSTYLE.to_be_bytes());
}

/// What GO is answered with one lie, reply for reply.
fn go_with(lie: Lie) -> Vec<OptionReply> {
    let server = liar::start(Config::new().lie(lie));
    Probe::greet(&server).option(OPT_GO, &go_data())
}

#[test]
fn lies_of_info() {
    let kinds = |lie| -> Vec<u32> { go_with(lie).iter().map(|reply| reply.kind).collect() };
    let info = |lie| go_with(lie)[0].data.clone();
    assert_eq!(go_with(Lie::WrongOptionEchoed)[0].option, OPT_INFO);
    let unasked = go_with(Lie::UnaskedReply);
    assert_eq!((unasked[0].option, unasked.len()), (OPT_LIST, 1));
    assert_eq!(kinds(Lie::ExportInfoMissing), [REP_INFO, REP_ACK]);
    assert_eq!(info(Lie::ExportInfoMissing)[1], 3);
    assert_eq!(
        kinds(Lie::ExportInfoTwice),
        [REP_INFO, REP_INFO, REP_INFO, REP_ACK]
    );
    assert_eq!(info(Lie::ExportInfoShort).len(), 11);
    assert_eq!(info(Lie::NoHasFlags)[11] & 1, 0);
    assert_eq!(info(Lie::ClaimSize(u64::MAX))[2..10], [0xff; 8]);
    assert_eq!(info(Lie::UnknownInfo)[..2], [0x4c, 0x49]);
    assert_eq!(go_with(Lie::LongErrorMessage(5000))[0].data.len(), 5000);
    let sizes = BlockSize {
        minimum: 3,
        preferred: 1,
        maximum: 0,
    };
    let said = go_with(Lie::BlockSizes(sizes))[1].data.clone();
    assert_eq!(said[2..], [0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn lies_of_length_and_without_end() {
    let server = liar::start(Config::new().lie(Lie::HugeOptionReply));
    let mut probe = Probe::greet(&server);
    probe.send(&option_request(OPT_GO, &go_data()));
    assert_eq!(probe.take(20)[16..], [0xff; 4]);
    server.tell(Lie::ServerNameLength);
    let list = Probe::greet(&server).option(OPT_LIST, &[]);
    assert_eq!(list[0].data, b"\0\0\0\x08disk");
    for (lie, option, data) in [
        (Lie::EndlessInfo, OPT_GO, go_data()),
        (Lie::EndlessList, OPT_LIST, Vec::new()),
    ] {
        server.tell(lie);
        let mut probe = Probe::greet(&server);
        probe.send(&option_request(option, &data));
        for _ in 0..100_000 {
            assert!(matches!(probe.option_reply().kind, REP_INFO | REP_SERVER));
        }
    }
}

#[test]
fn plaintext_comes_behind_starttls() {
    let mut config = Config::new().lie(Lie::PlaintextBehindStartTls);
    config.starttls = true;
    let server = liar::start(config);
    let mut probe = Probe::greet(&server);
    assert_eq!(probe.verdict(OPT_STARTTLS, &[]), REP_ACK);
    assert_eq!(probe.option_reply().option, OPT_STRUCTURED_REPLY);
}

#[test]
fn lies_of_contexts() {
    let set = |lie| {
        let mut config = Config::new().lie(lie);
        config.contexts = vec![Context::allocation()];
        let server = liar::start(config);
        let mut probe = Probe::greet(&server);
        probe.option(OPT_EXTENDED_HEADERS, &[]);
        let data = meta_request("disk", &["base:allocation"]);
        probe.option(OPT_SET_META_CONTEXT, &data)
    };
    let twice = set(Lie::ContextIdTwice);
    assert_eq!(twice[0].data[..4], twice[1].data[..4]);
    assert_eq!(set(Lie::ContextUnasked)[1].data[4..], *b"x-liar:unasked");
}
