//! The storage: sizes that cost nothing, a cache that forgets exactly what was
//! not flushed, and a server that dies and comes back.

use std::time::{Duration, Instant};

use crate::liar::wire::*;
use crate::liar::{self, Config, Export, Handle, PowerLoss, Style};
use crate::probe::Probe;

const SECTOR: u64 = 4096;

fn fill(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

fn first_bytes(server: &Handle, sectors: u64) -> Vec<u8> {
    let byte = |sector| server.peek("disk", sector * SECTOR, 1)[0];
    (0..sectors).map(byte).collect()
}

#[test]
fn sixteen_tebibytes_in_one_request() {
    let server = liar::start(Config::new().export(Export::new("disk", i64::MAX as u64)));
    let start = Instant::now();
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.write(0, 1 << 40, &fill(7));
    probe.do_request(CMD_TRIM, 0, 0, 16 << 40);
    assert_eq!(probe.read(1 << 40, 4096), fill(0));
    probe.write(0, 1 << 40, &fill(7));
    let everything = i64::MAX as u64;
    probe.do_request(CMD_WRITE_ZEROES, CMD_FLAG_NO_HOLE, 0, everything);
    assert_eq!(probe.read(1 << 40, 4096), fill(0));
    probe.do_request(CMD_CACHE, 0, 0, everything);
    probe.do_request(CMD_FLUSH, 0, 0, 0);
    assert!(start.elapsed() < Duration::from_secs(1));
    let requests = server.requests();
    let trims: Vec<_> = requests.iter().filter(|one| one.kind == CMD_TRIM).collect();
    assert_eq!(trims.len(), 1);
    assert_eq!((trims[0].length, trims[0].payload), (16 << 40, 0));
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
fn power_loss_forgets_exactly_the_unflushed() {
    let server = liar::start(Config::new());
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.write(0, 0, &[fill(1), fill(1), fill(1), fill(1)].concat());
    probe.do_request(CMD_FLUSH, 0, 0, 0);
    probe.write(0, 0, &[fill(2), fill(2)].concat());
    probe.write(CMD_FLAG_FUA, SECTOR, &[fill(3), fill(3)].concat());
    probe.do_request(CMD_WRITE_ZEROES, 0, 3 * SECTOR, SECTOR);
    assert_eq!(probe.read(0, 16_384)[..4096], fill(2));
    assert_eq!(first_bytes(&server, 4), [2, 3, 3, 0], "visible at once");
    assert_eq!(server.unflushed("disk"), 2);
    server.lose_power(PowerLoss::All);
    assert!(probe.rest().is_empty(), "the connection is gone");
    server.start();
    let mut probe = Probe::go(&server, Style::Simple, &[]);
    let data = probe.read(0, 16_384);
    let firsts: Vec<u8> = data.iter().step_by(4096).copied().collect();
    assert_eq!(firsts, [1, 3, 3, 1]);
    assert_eq!(server.unflushed("disk"), 0);
}

/// What FUA made durable does not go back to an older write at FLUSH.
#[test]
fn a_flush_keeps_the_order_of_writes() {
    let server = liar::start(Config::new());
    let mut probe = Probe::go(&server, Style::Structured, &[]);
    probe.write(0, 0, &[fill(1), fill(1), fill(1)].concat());
    probe.write(CMD_FLAG_FUA, SECTOR, &fill(2));
    probe.write(0, 2 * SECTOR, &fill(3));
    probe.do_request(CMD_FLUSH, 0, 0, 0);
    server.lose_power(PowerLoss::All);
    assert_eq!(first_bytes(&server, 3), [1, 2, 3]);
}

#[test]
fn a_random_part_survives_the_same_for_the_same_seed() {
    let survivors = |seed| {
        let server = liar::start(Config::new());
        let mut probe = Probe::go(&server, Style::Extended, &[]);
        probe.write(CMD_FLAG_FUA, 64 * SECTOR, &fill(9));
        let all: Vec<u8> = (0..64).flat_map(|_| fill(1)).collect();
        probe.write(0, 0, &all);
        server.lose_power(PowerLoss::Subset { seed });
        assert_eq!(
            server.peek("disk", 64 * SECTOR, 1),
            [9],
            "durable is durable"
        );
        first_bytes(&server, 64)
    };
    let once = survivors(42);
    assert_eq!(once, survivors(42));
    assert_ne!(once, survivors(43));
    let kept = once.iter().filter(|byte| **byte == 1).count();
    assert!((10..55).contains(&kept), "{kept} of 64");
}

#[test]
fn it_dies_and_comes_back_on_its_port() {
    let server = liar::start(Config::new());
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    probe.write(0, 0, &fill(5));
    server.stop();
    assert!(probe.rest().is_empty());
    assert!(std::net::TcpStream::connect(server.address()).is_err());
    server.start();
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    assert_eq!(
        probe.read(0, 4096),
        fill(5),
        "a process died, not the machine"
    );
    server.cut();
    assert!(probe.rest().is_empty());
    Probe::go(&server, Style::Extended, &[]);
    assert_eq!(server.connections().len(), 3);
}

/// What was sent to a paused server is done when it resumes, even if its
/// client has gone: a ghost write.
#[test]
fn a_paused_server_is_silent_and_then_does_it() {
    let server = liar::start(Config::new());
    let mut probe = Probe::go(&server, Style::Extended, &[]);
    server.pause();
    probe.write_request(0, 0, &fill(6));
    assert!(probe.is_silent());
    assert_eq!(server.requests(), []);
    assert_eq!(server.peek("disk", 0, 1), [0]);
    drop(probe);
    server.resume();
    server.wait_until("the ghost write", |server| server.peek("disk", 0, 1) == [6]);
}

/// Neither a pause nor a delay keeps a test from ending.
#[test]
fn it_stops_at_once_whatever_it_waits_for() {
    let start = Instant::now();
    let server = liar::start(Config::new());
    let mut paused = Probe::go(&server, Style::Extended, &[]);
    let mut delayed = Probe::go(&server, Style::Extended, &[]);
    server.set(|config| config.delay = Duration::from_secs(60));
    delayed.read_request(0, 512);
    server.wait_until("a request", |server| !server.requests().is_empty());
    server.pause();
    paused.read_request(0, 512);
    assert!(paused.is_silent());
    drop(server);
    assert!(paused.rest().is_empty() && delayed.rest().is_empty());
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn connections_share_one_cache() {
    let server = liar::start(Config::new());
    let mut one = Probe::go(&server, Style::Extended, &[]);
    let mut two = Probe::go(&server, Style::Simple, &[]);
    one.write(0, 0, &fill(1));
    assert_eq!(two.read(0, 4096), fill(1));
    two.do_request(CMD_FLUSH, 0, 0, 0);
    assert_eq!(server.unflushed("disk"), 0);
    assert_eq!(server.live(), 2);
}

/// Another size, flags, or read-only at the next connection; the one there is
/// keeps what it was told.
#[test]
fn the_next_connection_may_see_another_export() {
    let server = liar::start(Config::new());
    let mut before = Probe::go(&server, Style::Extended, &[]);
    server.set(|config| {
        config.exports[0].size = 1 << 30;
        config.exports[0].flags |= READ_ONLY;
    });
    let end = (1 << 30) - SECTOR;
    assert_eq!(before.failure(CMD_TRIM, 0, end, SECTOR), EINVAL);
    let mut after = Probe::go(&server, Style::Extended, &[]);
    assert_eq!(after.failure(CMD_TRIM, 0, end, SECTOR), EPERM);
    assert_eq!(after.read(end, 4096), fill(0));
    before.write(0, 0, &fill(1));
}
