//! What was written is read, in every header style, however the server cuts and orders
//! its chunks.

use crate::begin;
use crate::driver::{Driver, FUA, READ, TRIM, WRITE, ZEROES};
use crate::liar::{self, Config, Export, Lie, Style};
use crate::rig::Relay;

const SIZE: u64 = 64 << 20;

fn pattern(seed: u32, length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|n| (n.wrapping_mul(seed) >> 7) as u8)
        .collect()
}

fn write_and_read(relay: &Relay<Driver>, server: &liar::Handle) {
    let driver = &relay.driver;
    for (n, length) in [512usize, 4096, 65_536, 1 << 20, 1280 << 10]
        .into_iter()
        .enumerate()
    {
        let (offset, data) = ((n as u64) << 22, pattern(n as u32 + 77, length));
        driver.write(offset, &data).unwrap();
        assert!(server.peek("disk", offset, length as u64) == data);
        assert!(driver.read(offset, length as u32).unwrap() == data);
    }
    let zeroes = driver.ask(ZEROES, 0, 4 << 20, 512, &[]);
    assert_eq!(zeroes.answer(), Ok(Vec::new()));
    assert_eq!(driver.read(4 << 20, 512).unwrap(), [0; 512]);
    let trim = driver.ask(TRIM, 0, 8 << 20, 1 << 20, &[]);
    assert_eq!(trim.answer(), Ok(Vec::new()));
    let data = pattern(3, 4096);
    let durable = driver.ask(WRITE, FUA, 32 << 20, 4096, &data);
    assert_eq!(durable.answer(), Ok(Vec::new()));
    assert!(server.peek_durable("disk", 32 << 20, 4096) == data);
    driver.write(33 << 20, &data).unwrap();
    driver.flush().unwrap();
    assert_eq!(server.unflushed("disk"), 0);
    assert_eq!(server.complaints(), [] as [String; 0]);
}

#[test]
fn data_passes_in_every_style() {
    for (style, word) in [
        (Style::Simple, "compact"),
        (Style::Structured, "structured"),
        (Style::Extended, "extended"),
    ] {
        let export = Export::new("disk", SIZE);
        let server = liar::start(Config::new().export(export).at_most(style));
        let mut relay = Relay::start(begin(&server));
        write_and_read(&relay, &server);
        let report = relay.monitor().now();
        assert_eq!(report.offered.unwrap().headers, word);
        assert_eq!(report.connections.len(), 1);
    }
}

#[test]
fn chunks_may_come_as_they_like() {
    for lie in [
        Lie::ShuffleChunks,
        Lie::SplitChunks(700),
        Lie::InterleaveReplies,
        Lie::ReorderReplies,
        Lie::DoneApart,
        Lie::NoHoles,
    ] {
        for style in [Style::Structured, Style::Extended] {
            let config = Config::new()
                .export(Export::new("disk", SIZE))
                .at_most(style);
            let server = liar::start(config.lie(Lie::SplitChunks(4096)).lie(lie));
            let relay = Relay::start(begin(&server));
            write_and_read(&relay, &server);
            let asked: Vec<_> = (0..32u64)
                .map(|n| relay.driver.ask(READ, 0, (1 << 20) + n * 8192, 65_536, &[]))
                .collect();
            for one in asked {
                assert_eq!(one.answer().map(|data| data.len()), Ok(65_536));
            }
        }
    }
}

#[test]
fn an_error_after_all_of_the_data_is_an_error() {
    for lie in [Lie::ErrorAfterData, Lie::ErrorOffsetAfterData] {
        let server = liar::start(Config::new().export(Export::new("disk", SIZE)).lie(lie));
        let relay = Relay::start(begin(&server));
        assert!(relay.driver.read(0, 65_536).is_err());
        relay.driver.write(0, &[1; 512]).unwrap();
    }
}

#[test]
fn what_no_server_would_do_is_refused_without_one() {
    let server = liar::start(Config::new().export(Export::new("disk", SIZE)));
    let relay = Relay::start(begin(&server));
    let before = server.requests().len();
    assert!(relay.driver.read(SIZE, 512).is_err());
    assert!(relay.driver.write(SIZE, &[0; 512]).is_err());
    assert!(relay.driver.read(100, 512).is_err());
    assert!(relay.driver.read(0, 2 << 20).is_err());
    assert!(relay.driver.read(0, u32::MAX).is_err());
    assert!(relay.driver.write(0, &vec![0; 2 << 20]).is_err());
    assert!(relay.driver.ask(99, 0, 0, 512, &[]).answer().is_err());
    assert_eq!(server.requests().len(), before);
    relay.driver.write(0, &[1; 512]).unwrap();
}
