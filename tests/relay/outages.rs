//! Servers that die, forget and come back, under verified load.

use std::time::{Duration, Instant};

use nbdctl::relay::message::{Order, Promise, Standing};

use crate::begin;
use crate::driver::{READ, WRITE};
use crate::liar::{self, Config, Export, PowerLoss, Style};
use crate::load::{BLOCK, BLOCKS, Load};
use crate::rig::Relay;

const SIZE: u64 = 1 << 20;

fn server(style: Style) -> liar::Handle {
    liar::start(
        Config::new()
            .export(Export::new("disk", SIZE))
            .at_most(style),
    )
}

/// How often a fault comes.
fn times() -> u64 {
    100
}

#[test]
fn a_hundred_restarts_under_load_change_nothing() {
    for style in [Style::Extended, Style::Simple] {
        let server = server(style);
        let mut relay = Relay::start(begin(&server));
        let load = Load::run(&relay.driver, 12, 1);
        for _ in 0..times() / 2 {
            load.wait_for(40);
            server.restart();
        }
        load.wait_for(40);
        load.end(&relay.driver);
        let all = times() / 2;
        relay
            .monitor()
            .until("all are told", |report| report.outages >= all);
        assert_eq!(server.complaints(), [] as [String; 0]);
    }
}

#[test]
fn a_hundred_losses_of_power_lose_nothing() {
    let server = server(Style::Extended);
    let relay = Relay::start(begin(&server));
    let load = Load::run(&relay.driver, 12, 2);
    for seed in 0..times() {
        load.wait_for(40);
        server.stop();
        // What FLUSH and FUA promised is there without the relay, too.
        server.lose_power(if seed % 2 == 0 {
            PowerLoss::All
        } else {
            PowerLoss::Subset { seed }
        });
        load.judge(&server.peek_durable("disk", 0, BLOCKS * BLOCK));
        server.start();
    }
    load.wait_for(40);
    load.end(&relay.driver);
    assert_eq!(server.complaints(), [] as [String; 0]);
}

#[test]
fn several_connections_die_one_by_one_and_together() {
    let export = Export::new("disk", SIZE).with(1 << 8);
    let server = liar::start(Config::new().export(export));
    let mut orders = begin(&server);
    orders.connections = 3;
    let mut relay = Relay::start(orders);
    let three = relay
        .monitor()
        .until("three", |report| report.connections.len() == 3);
    assert_eq!(three.reconnects, 0, "{three:?}");
    let load = Load::run(&relay.driver, 12, 3);
    for _ in 0..times() / 4 {
        load.wait_for(40);
        server.restart();
    }
    load.wait_for(40);
    relay.monitor().until("three again", |report| {
        report.connections.len() == 3 && report.standing == Standing::Connected
    });
    load.end(&relay.driver);
    assert_eq!(server.complaints(), [] as [String; 0]);
}

#[test]
fn every_connection_leads_to_one_server() {
    let export = || Export::new("disk", SIZE);
    let first = liar::start(Config::new().export(export()));
    let second = liar::start(Config::new().export(export()));
    first.stop();
    let mut orders = begin(&second);
    orders.addresses.insert(0, first.address().to_string());
    orders.connections = 2;
    let mut relay = Relay::dial(orders);
    relay
        .monitor()
        .until("offered", |report| report.offered.is_some());
    // Its second connection could only be to the other.
    first.start();
    second.tell(liar::Lie::HangUp(liar::Phase::BeforeGreeting));
    relay.monitor().say(&Order::Serve(Promise {
        size: SIZE,
        flags: export().flags,
        block_size: 512,
        max_request: 1 << 20,
    }));
    relay.driver.write(0, &[1; 4096]).unwrap();
    relay.monitor().until("tried again", |report| {
        report.standing == Standing::Degraded && report.last_error.is_some()
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(first.requests().len(), 0);
    relay.monitor().say(&Order::Tell {});
    assert_eq!(relay.monitor().now().connections.len(), 1);
    // All of them may go elsewhere.
    second.stop();
    assert_eq!(relay.driver.read(0, 4096).unwrap(), [1; 4096]);
    relay
        .monitor()
        .until("there", |report| report.connections.len() == 2);
}

#[test]
fn what_is_said_again_comes_before_what_is_new() {
    let server = server(Style::Extended);
    let relay = Relay::start(begin(&server));
    for round in 0..times() {
        // Answered and not flushed; then in flight.
        relay.driver.write(0, &[1; 4096]).unwrap();
        relay.driver.write(8192, &[2; 4096]).unwrap();
        server.pause();
        let in_flight = relay.driver.ask(WRITE, 0, 16_384, 4096, &[3; 4096]);
        server.stop();
        server.clear_log();
        let fresh: Vec<_> = (8..16u64)
            .map(|n| relay.driver.ask(READ, 0, n * 4096, 4096, &[]))
            .collect();
        std::thread::sleep(Duration::from_millis(5));
        server.resume();
        server.start();
        assert_eq!(in_flight.answer(), Ok(Vec::new()));
        for one in fresh {
            assert!(one.answer().is_ok());
        }
        let seen: Vec<_> = server
            .requests()
            .into_iter()
            .map(|request| (request.kind, request.offset))
            .collect();
        let mut first = seen[..2].to_vec();
        first.sort_unstable();
        assert_eq!(first, [(1, 0), (1, 8192)], "round {round}: {seen:?}");
        let place = seen.iter().position(|one| *one == (1, 16_384));
        let reads = seen.iter().position(|(command, _)| *command == 0);
        assert!(place < reads, "round {round}: {seen:?}");
        relay.driver.flush().unwrap();
    }
}

#[test]
fn a_server_that_owes_a_flush_of_the_relays_own_is_cut_as_well() {
    let server = server(Style::Extended);
    let mut orders = begin(&server);
    orders.silence_timeout_ms = 1000;
    orders.log_bytes = 64 << 10;
    let mut relay = Relay::start(orders);
    // It learns that the server greets others.
    std::thread::sleep(Duration::from_secs(8));
    relay.driver.write(0, &[1; 32 << 10]).unwrap();
    server.pause();
    // It finds no room: what was answered is to be flushed first.
    let waits = relay.driver.ask(WRITE, 0, 65_536, 40 << 10, &[2; 40 << 10]);
    relay.monitor().until("cut", |report| {
        report.standing == Standing::Reconnecting && report.figures.in_flight == 0
    });
    server.resume();
    assert_eq!(waits.answer(), Ok(Vec::new()));
    assert!(server.peek("disk", 0, 512) == [1; 512]);
}

#[test]
fn patience_ends_while_a_server_greets_and_is_of_no_use() {
    let server = server(Style::Extended);
    let mut orders = begin(&server);
    orders.patience.dead_timeout_ms = Some(2500);
    let mut relay = Relay::start(orders);
    relay.driver.write(0, &[1; 4096]).unwrap();
    server.lose_power(PowerLoss::All);
    server.tell(liar::Lie::Fail {
        command: WRITE,
        error: 28,
    });
    server.start();
    let waits = relay.driver.ask(READ, 0, 0, 4096, &[]);
    let answer = waits.is_answered_within(Duration::from_secs(10));
    assert_eq!(answer, Some(Err(5)));
    relay.monitor().until("why", |report| {
        let why = report.last_error.as_deref().unwrap_or_default();
        why.contains("refuses to take 4096 bytes")
    });
    // What was answered is not given up.
    server.tell(None);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match relay.driver.read(0, 4096) {
            Ok(data) => break assert_eq!(data, [1; 4096]),
            Err(error) => assert_eq!(error, 5),
        }
        assert!(Instant::now() < until, "it is not taken back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_silent_server_is_cut_and_what_it_had_is_sent_again() {
    let server = server(Style::Extended);
    let mut orders = begin(&server);
    orders.silence_timeout_ms = 1000;
    let mut relay = Relay::start(orders);
    // It learns that the server greets others.
    std::thread::sleep(Duration::from_secs(8));
    server.tell(liar::Lie::StallTransmission);
    server.set(|config| config.lies.push(liar::Lie::StallGreeting));
    let waits = relay.driver.ask(WRITE, 0, 0, 512, &[5; 512]);
    relay.monitor().until("cut", |report| {
        report.standing == Standing::Reconnecting && report.last_error.is_some()
    });
    server.tell(None);
    assert_eq!(waits.answer(), Ok(Vec::new()));
    assert!(server.peek("disk", 0, 512) == [5; 512]);
}
