//! How a relay begins and ends, and what it gives up.

use std::thread;
use std::time::Duration;

use nbdctl::relay::message::{Order, Patience, Standing};

use crate::begin;
use crate::driver::{READ, WRITE};
use crate::liar::{self, Config, Export, PowerLoss};
use crate::rig::Relay;

const SIZE: u64 = 64 << 20;

fn server() -> liar::Handle {
    liar::start(Config::new().export(Export::new("disk", SIZE)))
}

#[test]
fn it_says_why_there_is_no_first_session() {
    let server = server();
    let mut orders = begin(&server);
    orders.uri = server.uri("another");
    let mut relay = Relay::dial(orders);
    let report = relay
        .monitor()
        .until("failed", |report| report.failed.is_some());
    let failed = report.failed.unwrap();
    assert_eq!(failed.exit, 3, "{failed:?}");
    assert!(failed.why.contains("another"), "{failed:?}");
    relay.lose_monitor();
    assert_eq!(relay.ended().code(), Some(3));
}

#[test]
fn it_ends_with_a_monitor_that_ends_before_there_is_a_device() {
    let server = server();
    let mut relay = Relay::dial(begin(&server));
    relay
        .monitor()
        .until("offered", |report| report.offered.is_some());
    relay.lose_monitor();
    assert_eq!(relay.ended().code(), Some(1));
}

#[test]
fn it_ends_with_manners_when_the_kernel_disconnects() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    relay.driver.write(0, &[7; 4096]).unwrap();
    relay.driver.disconnect();
    assert_eq!(relay.ended().code(), Some(0));
    assert!(relay.driver.is_over());
    server.wait_until("DISC", |server| server.requests().last().unwrap().kind == 2);
    // What was answered is on the disk, though nobody asked for it.
    assert!(server.peek_durable("disk", 0, 4096) == [7; 4096]);
}

#[test]
fn it_flushes_when_the_kernel_hangs_up() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    relay.driver.write(0, &[7; 4096]).unwrap();
    relay.driver.hang_up();
    assert_eq!(relay.ended().code(), Some(0));
    assert!(server.peek_durable("disk", 0, 4096) == [7; 4096]);
}

#[test]
fn a_drain_leaves_nothing_unanswered() {
    let server = server();
    server.set(|config| config.slowness = Duration::from_millis(20));
    let mut relay = Relay::start(begin(&server));
    let asked: Vec<_> = (0..64u64)
        .map(|n| relay.driver.ask(WRITE, 0, n * 4096, 4096, &[n as u8; 4096]))
        .collect();
    thread::sleep(Duration::from_millis(30));
    relay.monitor().say(&Order::Drain {});
    assert_eq!(relay.ended().code(), Some(0));
    for (n, one) in asked.into_iter().enumerate() {
        if let Some(answer) = one.is_answered_within(Duration::from_millis(100)) {
            assert_eq!(answer, Ok(Vec::new()));
            let stored = server.peek_durable("disk", n as u64 * 4096, 4096);
            assert!(stored == [n as u8; 4096]);
        }
    }
    // What it took was answered; the rest is for a successor.
    assert_eq!(server.complaints(), [] as [String; 0]);
}

#[test]
fn a_drain_is_called_off_when_the_server_goes_away() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    relay.driver.write(0, &[1; 4096]).unwrap();
    // It cannot flush, and so does not end.
    server.pause();
    relay.monitor().say(&Order::Drain {});
    thread::sleep(Duration::from_millis(100));
    let waits = relay.driver.ask(READ, 0, 0, 4096, &[]);
    server.lose_power(PowerLoss::All);
    relay
        .monitor()
        .until("away", |report| report.standing == Standing::Reconnecting);
    server.resume();
    server.start();
    assert_eq!(
        waits.answer(),
        Ok(vec![1; 4096]),
        "what was forgotten is back"
    );
    relay.driver.write(4096, &[2; 4096]).unwrap();
    relay.monitor().say(&Order::Drain {});
    assert_eq!(relay.ended().code(), Some(0));
    assert!(server.peek_durable("disk", 0, 8192)[..4097] == [&[1; 4096][..], &[2]].concat());
    assert_eq!(server.complaints(), [] as [String; 0]);
}

#[test]
fn a_relay_that_cannot_answer_has_the_kernel_ask_another() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    relay.driver.write(0, &[1; 4096]).unwrap();
    relay.driver.go_deaf();
    let _unheard = relay.driver.ask(READ, 0, 0, 4096, &[]);
    assert_eq!(relay.ended().code(), Some(0));
    assert!(relay.driver.is_over());
    assert!(server.peek_durable("disk", 0, 4096) == [1; 4096]);
}

#[test]
fn an_order_that_is_unknown_is_passed_over() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    let before = relay.monitor().now().pid;
    relay
        .monitor()
        .say_line("{\"of-another-version\":{\"x\":1}}");
    relay.monitor().say(&Order::Tell {});
    assert_eq!(relay.monitor().now().pid, before);
}

#[test]
fn patience_ends_though_the_log_is_full() {
    let server = server();
    let mut orders = begin(&server);
    orders.log_bytes = 64 << 10;
    orders.patience.dead_timeout_ms = Some(500);
    let mut relay = Relay::start(orders);
    relay.driver.write(0, &[1; 32 << 10]).unwrap();
    server.stop();
    // No room for the first; the other is behind it.
    let write = relay.driver.ask(WRITE, 0, 65_536, 40 << 10, &[2; 40 << 10]);
    let read = relay.driver.ask(READ, 0, 0, 512, &[]);
    assert_eq!(write.answer(), Err(5));
    assert_eq!(read.answer(), Err(5));
    relay
        .monitor()
        .until("dead", |report| report.standing == Standing::Dead);
    server.start();
    relay
        .monitor()
        .until("connected", |report| report.standing == Standing::Connected);
    assert_eq!(relay.driver.read(0, 512).unwrap(), [1; 512]);
}

#[test]
fn io_goes_on_without_a_monitor_and_a_successor_is_told() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    relay.driver.write(0, &[1; 512]).unwrap();
    relay.lose_monitor();
    server.restart();
    relay.driver.write(512, &[2; 512]).unwrap();
    assert_eq!(relay.driver.read(0, 512).unwrap(), [1; 512]);
    let report = relay.new_monitor().until("connected", |report| {
        report.standing == Standing::Connected && report.reconnects == 1
    });
    assert_eq!(report.outages, 1);
    let why = report.last_error.unwrap();
    assert!(why.contains("hung up") || why.contains("broke"), "{why}");
    assert!(report.last_outage_ms.is_some());
    assert_eq!(report.pid, relay.child.id());
}

#[test]
fn one_that_has_nothing_to_say_answers_all_the_same() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    let first = relay
        .monitor()
        .until("connections", |report| !report.connections.is_empty());
    assert_eq!(first.device_size, Some(SIZE));
    for _ in 0..3 {
        relay.monitor().say(&Order::Tell {});
        assert_eq!(relay.monitor().now().pid, first.pid);
    }
}

#[test]
fn an_outage_is_told_as_it_is_by_then() {
    let server = server();
    let mut orders = begin(&server);
    orders.patience.dead_timeout_ms = Some(60_000);
    let mut relay = Relay::start(orders);
    server.stop();
    relay.monitor().until("reconnecting", |report| {
        report.standing == Standing::Reconnecting
    });
    relay.lose_monitor();
    thread::sleep(Duration::from_millis(1200));
    let report = relay.new_monitor().now();
    assert!(report.out_for_ms.unwrap() >= 1200, "{report:?}");
    assert!(report.patience_left_ms.unwrap() <= 58_800, "{report:?}");
    relay.monitor().say(&Order::GoingDown {});
    relay.monitor().until("hurried", |report| {
        report.patience_left_ms.is_none_or(|left| left <= 1000)
    });
}

#[test]
fn when_patience_ends_io_fails_until_a_server_is_back() {
    let server = server();
    let mut orders = begin(&server);
    orders.patience.dead_timeout_ms = Some(700);
    let mut relay = Relay::start(orders);
    server.stop();
    let waits = relay.driver.ask(WRITE, 0, 0, 512, &[1; 512]);
    assert_eq!(waits.is_answered_within(Duration::from_millis(300)), None);
    assert_eq!(waits.answer(), Err(5));
    assert_eq!(relay.driver.read(0, 512), Err(5));
    let report = relay
        .monitor()
        .until("dead", |report| report.standing == Standing::Dead);
    assert!(
        report.out_for_ms.is_some_and(|out| out >= 700),
        "{report:?}"
    );
    server.start();
    relay
        .monitor()
        .until("connected", |report| report.standing == Standing::Connected);
    relay.driver.write(0, &[2; 512]).unwrap();
}

#[test]
fn a_shutdown_shortens_the_patience() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    server.stop();
    let waits = relay.driver.ask(WRITE, 0, 0, 512, &[1; 512]);
    assert_eq!(waits.is_answered_within(Duration::from_millis(1500)), None);
    relay.monitor().say(&Order::GoingDown {});
    assert_eq!(
        waits.is_answered_within(Duration::from_secs(5)),
        Some(Err(5))
    );
    relay
        .monitor()
        .until("dead", |report| report.standing == Standing::Dead);
    // And what is called off is called off.
    relay.monitor().say(&Order::Patience(Patience {
        dead_timeout_ms: None,
        shutdown_timeout_ms: 1000,
        going_down: false,
    }));
    server.start();
    relay
        .monitor()
        .until("connected", |report| report.standing == Standing::Connected);
    server.stop();
    let waits = relay.driver.ask(WRITE, 0, 0, 512, &[1; 512]);
    assert_eq!(waits.is_answered_within(Duration::from_millis(1500)), None);
    server.start();
    assert_eq!(waits.answer(), Ok(Vec::new()));
}

#[test]
fn a_device_grows_when_it_is_told_to() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    server.set(|config| config.exports[0].size = 2 * SIZE);
    server.restart();
    relay.monitor().until("larger", |report| {
        report
            .offered
            .as_ref()
            .is_some_and(|offered| offered.size == 2 * SIZE)
    });
    assert!(relay.driver.write(SIZE, &[1; 512]).is_err());
    relay.monitor().say(&Order::Grow { size: 2 * SIZE });
    // From then on the kernel may know of it.
    relay
        .monitor()
        .until("grown", |report| report.device_size == Some(2 * SIZE));
    relay.driver.write(SIZE, &[1; 512]).unwrap();
    assert_eq!(relay.driver.read(SIZE, 512).unwrap(), [1; 512]);
}

#[test]
fn it_gives_up_what_it_does_not_need() {
    let server = server();
    let relay = Relay::start(begin(&server));
    relay.driver.write(0, &[1; 512]).unwrap();
    assert_eq!(relay.status("NoNewPrivs"), "1");
    assert_eq!(relay.status("Seccomp"), "2");
    assert_eq!(relay.status("CapEff"), "0000000000000000");
    if nix::unistd::Uid::effective().is_root() {
        assert_eq!(relay.status("Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(relay.status("Groups"), "");
        let root = format!("/proc/{}/root", relay.child.id());
        assert_eq!(
            std::fs::read_link(root).unwrap().to_str(),
            Some("/run/nbdctl/.empty")
        );
    }
}

#[test]
fn what_it_holds_is_bounded_when_a_server_does_not_answer() {
    let server = server();
    let mut relay = Relay::start(begin(&server));
    server.pause();
    let driver = relay.driver.clone();
    let asking = thread::spawn(move || {
        let data = vec![9; 1 << 20];
        let asked: Vec<_> = (0..256u64)
            .map(|n| driver.ask(WRITE, 0, (n % 32) << 20, 1 << 20, &data))
            .collect();
        asked.into_iter().all(|one| one.answer().is_ok())
    });
    let full = relay
        .monitor()
        .until("full", |report| report.figures.logged_bytes >= 63 << 20);
    thread::sleep(Duration::from_millis(500));
    let kib: u64 = relay
        .status("VmRSS")
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(kib < 110 << 10, "{kib} KiB, {full:?}");
    server.resume();
    assert!(asking.join().unwrap());
}
