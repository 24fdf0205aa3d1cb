//! Transmission without lies, as raw bytes: what the outside clients do not
//! ask for, and what they get wrong on purpose never.

use crate::liar::wire::*;
use crate::liar::{self, Config, Export, Handle, Style};
use crate::probe::{Message, Probe};

const ALLOCATION: u32 = 0x4c49_4152;
const ZONES: u32 = ALLOCATION + 1;
const BOTH: [&str; 2] = ["base:allocation", "x-liar:zones"];

fn server(size: u64) -> Handle {
    liar::start(Config::new().export(Export::new("disk", size)))
}

/// Context id and extents of a 64-bit status chunk.
fn extents(message: &Message) -> (u32, Vec<(u64, u64)>) {
    assert_eq!(message.kind, CHUNK_BLOCK_STATUS_EXT);
    let mut payload = Bytes(&message.payload);
    let (id, count) = (payload.u32().unwrap(), payload.u32().unwrap());
    let extent = |_| (payload.u64().unwrap(), payload.u64().unwrap());
    let extents = (0..count).map(extent).collect();
    assert!(payload.0.is_empty());
    (id, extents)
}

#[test]
fn every_style_reads_data_and_holes() {
    let server = server(1 << 20);
    server.poke("disk", 65_536, &[7; 65_536]);
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        let mut probe = Probe::go(&server, style, &[]);
        let data = probe.read(0, 196_608);
        assert_eq!(data[65_535..=65_536], [0, 7]);
        assert_eq!(data[131_071..=131_072], [7, 0]);
        let offset = 4096;
        probe.read_request(offset, 131_072);
        let reply = probe.reply(131_072);
        assert!(reply.iter().all(|message| message.style == style));
        if style != Style::Simple {
            let kinds: Vec<u16> = reply.iter().map(|message| message.kind).collect();
            assert_eq!(
                kinds,
                [CHUNK_OFFSET_HOLE, CHUNK_OFFSET_DATA, CHUNK_OFFSET_HOLE]
            );
        }
        if style == Style::Extended {
            assert!(reply.iter().all(|message| message.offset == offset));
        }
    }
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.request(CMD_READ, CMD_FLAG_DF, 0, 131_072, &[]);
    assert_eq!(probe.reply(0).len(), 1, "not fragmented");
}

#[test]
fn every_error_is_the_right_one() {
    let config = Config::new()
        .export(Export::new("disk", 1 << 20).without(SEND_TRIM | SEND_FAST_ZERO))
        .export(Export::new("other", 1 << 20));
    let server = liar::start(config);
    server.set(|config| config.exports[0].block.minimum = 512);
    let end = 1 << 20;
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        let mut probe = Probe::go(&server, style, &[]);
        assert_eq!(probe.failure(CMD_READ, 0, end, 512), EINVAL);
        assert_eq!(probe.failure(CMD_READ, 0, u64::MAX - 511, 1024), EINVAL);
        assert_eq!(probe.failure(CMD_READ, 0, 0, 100), EINVAL);
        assert_eq!(probe.failure(CMD_READ, 0, 0, 64 << 20), EINVAL);
        assert_eq!(probe.failure(CMD_WRITE_ZEROES, 0, end, 512), ENOSPC);
        assert_eq!(
            probe.failure(CMD_WRITE_ZEROES, CMD_FLAG_FAST_ZERO, 0, 512),
            EINVAL
        );
        assert_eq!(probe.failure(CMD_TRIM, 0, 0, 512), EINVAL);
        assert_eq!(probe.failure(CMD_BLOCK_STATUS, 0, 0, 512), EINVAL);
        assert_eq!(probe.failure(77, 0, 0, 512), EINVAL);
        let cookie = probe.write_request(0, end, &[1; 512]);
        assert_eq!(probe.error_of(cookie), ENOSPC);
        probe.write(0, 0, &[1; 512]);
        assert_eq!(probe.read(0, 512), [1; 512], "in step after every error");
    }
    assert_eq!(server.complaints().len(), 3 * 10);
}

#[test]
fn reads_beyond_the_maximum_payload_are_too_big() {
    let server = server(1 << 30);
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    assert_eq!(probe.failure(CMD_READ, 0, 0, 64 << 20), EOVERFLOW);
    assert!(server.complaints().is_empty());
    probe.request(CMD_WRITE, CMD_FLAG_PAYLOAD_LEN, 0, 64 << 20, &[]);
    assert!(probe.rest().is_empty());
    assert_eq!(server.complaints().len(), 1);
}

#[test]
fn extended_status_has_64_bits() {
    let server = server(1 << 40);
    let mut probe = Probe::go(&server, Style::Extended, &BOTH);
    probe.request(CMD_BLOCK_STATUS, 0, 1 << 33, 1 << 34, &[]);
    let reply = probe.reply(0);
    let zone = |number: u64| (1 << 33, (1 << 63) | number);
    assert_eq!(extents(&reply[0]), (ALLOCATION, vec![(1 << 34, 3)]));
    assert_eq!(extents(&reply[1]), (ZONES, vec![zone(1), zone(2)]));
    assert_eq!(reply.len(), 2);
    probe.request(CMD_BLOCK_STATUS, CMD_FLAG_REQ_ONE, 0, 1 << 34, &[]);
    let reply = probe.reply(0);
    assert_eq!(extents(&reply[1]), (ZONES, vec![zone(0)]));
}

#[test]
fn a_payload_selects_contexts() {
    let server = server(1 << 40);
    let mut probe = Probe::go(&server, Style::Extended, &BOTH);
    let mut ask = |ids: &[u32]| {
        let put = ids
            .iter()
            .fold(Put::new().u64(4096), |put, id| put.u32(*id));
        let length = put.0.len().try_into().unwrap();
        probe.request(CMD_BLOCK_STATUS, CMD_FLAG_PAYLOAD_LEN, 0, length, &put.0);
        probe.reply(0)
    };
    let reply = ask(&[ZONES]);
    assert_eq!(reply.len(), 1);
    assert_eq!(extents(&reply[0]), (ZONES, vec![(4096, 1 << 63)]));
    assert_eq!(ask(&[ZONES, ALLOCATION]).len(), 2);
    assert_eq!(ask(&[ZONES, ZONES])[0].kind, CHUNK_ERROR);
    assert_eq!(ask(&[1])[0].kind, CHUNK_ERROR);
    assert_eq!(ask(&[ALLOCATION]).len(), 1, "in step after an error");
}

#[test]
fn narrow_extents_stay_below_4_gib() {
    let server = server(1 << 40);
    let mut probe = Probe::go(&server, Style::Structured, &BOTH);
    let length = u64::from(u32::MAX);
    probe.request(CMD_BLOCK_STATUS, 0, 0, length, &[]);
    let reply = probe.reply(0);
    assert_eq!(reply.len(), 1, "zones are for extended headers");
    let put = Put::new().u32(ALLOCATION).u32(0xffff_0000).u32(3);
    assert_eq!(reply[0].payload, put.u32(0xffff).u32(3).0);
}

/// Bytes are counted, connections numbered, payloads recognized.
#[test]
fn the_log_tells_what_came() {
    let server = server(1 << 20);
    drop(Probe::greet(&server));
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    let before = server.connections();
    probe.write(CMD_FLAG_FUA, 4096, &[9; 100]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let seen = &requests[0];
    assert_eq!(
        (seen.connection, seen.kind, seen.flags),
        (1, CMD_WRITE, 0x21)
    );
    assert_eq!((seen.offset, seen.length, seen.payload), (4096, 100, 100));
    assert_eq!(seen.head, [9; 16]);
    let after = server.connections();
    assert_eq!(after[1].received - before[1].received, 132);
    assert_eq!(after[1].sent - before[1].sent, 32);
    server.clear_log();
    assert!(server.requests().is_empty() && server.connections().len() == 2);
}
