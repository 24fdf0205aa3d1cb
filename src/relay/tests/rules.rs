//! One rule of the engine each, step by step: answers, limits, ends.

use super::super::{Action, BufferId, Offer, Reason, Step};
use super::bench::{Bench, NONE, answer, failure, offer, shape};
use super::request;
use crate::proto::TransmissionFlags;
use crate::proto::transmission::{Command, ErrorCode};

#[test]
fn a_read_gets_its_data_at_its_end() {
    let mut bench = Bench::new();
    bench.up();
    let cookie = bench.ask(Command::READ, NONE, 8, 16);
    let sent = bench.one();
    let answered = bench.good(sent);
    let data = Some((BufferId(1), 16));
    let error = ErrorCode(0);
    assert_eq!(
        answered,
        [Action::Answer {
            cookie,
            error,
            data
        }]
    );
}

#[test]
fn what_the_device_does_not_take_is_answered_at_once() {
    let mut bench = Bench::new();
    let cookie = bench.ask(Command::WRITE, NONE, 512, 8);
    let refused = failure(cookie, ErrorCode::ENOSPC);
    assert_eq!(bench.actions(), [refused, Action::Release(BufferId(1))]);
}

#[test]
fn a_flush_gives_the_data_back_and_then_is_answered() {
    let mut bench = Bench::new();
    bench.up();
    bench.written(0, NONE);
    assert_eq!(bench.engine.figures().logged_bytes, 8);
    let flush = bench.ask(Command::FLUSH, NONE, 0, 0);
    let sent = bench.one();
    assert_eq!(
        bench.good(sent),
        [Action::Release(BufferId(1)), answer(flush)]
    );
    assert_eq!(bench.engine.figures().logged, 0);
}

#[test]
fn when_the_log_is_full_it_flushes_and_the_kernel_waits() {
    let mut bench = Bench::new();
    bench.up();
    for offset in 0..4 {
        bench.written(offset * 8, NONE);
    }
    bench.ask(Command::WRITE, NONE, 256, 32);
    let sent = bench.sent();
    let [full, own] = sent[..] else {
        panic!("{sent:?}");
    };
    assert!(!bench.engine.has_room(&request(Command::WRITE, NONE, 0, 8)));
    assert_eq!(bench.sent(), [], "one is enough");
    assert_eq!(own.1.command, Command::FLUSH);
    let released = bench.good(own);
    assert_eq!(released.len(), 4, "and nobody is answered: {released:?}");
    assert!(bench.engine.has_room(&request(Command::WRITE, NONE, 0, 8)));
    bench.good(full);
}

#[test]
fn a_request_that_is_long_gets_room_before_the_log_is_half_full() {
    let mut bench = Bench::new();
    bench.up();
    bench.written(0, NONE);
    let long = request(Command::WRITE, NONE, 0, 64);
    assert!(!bench.engine.has_room(&long));
    let own = bench.one();
    bench.good(own);
    assert!(bench.engine.has_room(&long));
}

#[test]
fn a_server_that_goes_down_is_left_and_its_refusals_are_asked_again() {
    let mut bench = Bench::new();
    let first = bench.up();
    let cookie = bench.write(0);
    let sent = bench.one();
    assert!(matches!(bench.reply(sent, 108), Step::Over));
    let actions = bench.actions();
    assert!(
        actions.contains(&Action::Close {
            session: first,
            reason: Reason::Shutdown
        }),
        "{actions:?}"
    );
    bench.engine.session_down(first);
    bench.up();
    let again = bench.one();
    assert_eq!(bench.good(again), [answer(cookie)]);
}

#[test]
fn a_fault_closes_the_session_and_the_kernel_never_sees_it() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.write(0);
    let (session, mut asked) = bench.one();
    asked.cookie += 1;
    assert!(matches!(bench.reply((session, asked), 0), Step::Over));
    let actions = bench.actions();
    assert!(matches!(
        actions[..],
        [Action::Close {
            reason: Reason::Fault(_),
            ..
        }]
    ));
    assert!(matches!(bench.reply((session, asked), 0), Step::Over));
    bench.engine.session_down(first);
    bench.up();
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn when_the_patience_is_over_all_fails_until_a_server_is_there() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.written(8, NONE);
    let cookie = bench.write(0);
    bench.sent();
    bench.engine.give_up();
    assert_eq!(bench.actions(), [], "there is a session");
    bench.engine.session_down(first);
    bench.engine.give_up();
    let failed = [
        failure(cookie, ErrorCode::EIO),
        Action::Release(BufferId(2)),
    ];
    assert_eq!(bench.actions(), failed);
    let late = bench.ask(Command::READ, NONE, 0, 8);
    assert!(bench.actions().contains(&failure(late, ErrorCode::EIO)));
    bench.up();
    assert_eq!(shape(&bench.one()), (Command::WRITE, 8, 8), "kept");
}

#[test]
fn when_the_patience_is_over_a_full_log_holds_nothing_up() {
    let mut bench = Bench::new();
    let first = bench.up();
    for offset in 0..4 {
        bench.written(offset * 8, NONE);
    }
    bench.engine.session_down(first);
    let long = request(Command::WRITE, NONE, 256, 40);
    assert!(!bench.engine.has_room(&long), "32 of 64 bytes are lost");
    bench.engine.give_up();
    bench.actions();
    let refused = bench.ask(Command::WRITE, NONE, 256, 40);
    let failed = failure(refused, ErrorCode::EIO);
    assert_eq!(bench.actions()[0], failed);
    bench.up();
    assert_eq!(bench.sent().len(), 4, "what was answered is kept");
    assert!(!bench.engine.has_room(&long));
}

#[test]
fn a_drain_that_is_called_off_is_none() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.written(0, NONE);
    bench.engine.wind_down();
    assert_eq!(bench.one().1.command, Command::FLUSH);
    bench.engine.session_down(first);
    assert!(bench.engine.go_on());
    bench.up();
    let again = bench.one();
    assert_eq!(bench.good(again), [], "no flush, and no end");
    bench.engine.wind_down();
    let flush = bench.one();
    let actions = bench.good(flush);
    assert!(actions.contains(&Action::Finish), "{actions:?}");
    assert!(!bench.engine.go_on(), "it has ended");
}

#[test]
fn the_end_comes_when_all_is_answered_and_durable() {
    let mut bench = Bench::new();
    bench.up();
    bench.written(0, NONE);
    bench
        .engine
        .kernel_request(request(Command::DISC, NONE, 0, 0), None);
    let flush = bench.one();
    assert!(bench.good(flush).contains(&Action::Finish));
    bench.engine.wind_down();
    assert_eq!(bench.actions(), [], "once");
}

#[test]
fn a_second_connection_needs_a_server_that_shares() {
    let mut bench = Bench::new();
    bench.up();
    let alone = Offer {
        flags: TransmissionFlags(offer().flags.0 & !TransmissionFlags::CAN_MULTI_CONN.0),
        ..offer()
    };
    assert!(bench.engine.session_up(alone).is_err());
}
