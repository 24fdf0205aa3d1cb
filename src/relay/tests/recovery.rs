//! One rule of the engine each, step by step: what is said again, and what waits.

use super::super::{Action, Step};
use super::bench::{Bench, FUA, NONE, Sent, answer, shape};
use crate::proto::transmission::Command;

#[test]
fn a_flush_after_an_outage_waits_for_the_replay_and_is_sent_then() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.written(0, NONE);
    bench.engine.session_down(first);
    let flush = bench.ask(Command::FLUSH, NONE, 0, 0);
    assert_eq!(bench.sent(), []);
    bench.up();
    let replayed = bench.one();
    assert_eq!(shape(&replayed), (Command::WRITE, 0, 8));
    let next = bench.good(replayed);
    let [
        Action::Send {
            session, request, ..
        },
    ] = next[..]
    else {
        panic!("{next:?}");
    };
    assert_eq!(request.command, Command::FLUSH);
    assert!(bench.good((session, request)).contains(&answer(flush)));
}

#[test]
fn what_overlaps_the_replay_waits_and_what_does_not_goes_at_once() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.written(0, NONE);
    bench.engine.session_down(first);
    bench.up();
    let replayed = bench.one();
    bench.ask(Command::READ, NONE, 0, 16);
    bench.write(0);
    assert_eq!(bench.sent(), []);
    bench.ask(Command::READ, NONE, 8, 8);
    assert_eq!(shape(&bench.one()), (Command::READ, 8, 8));
    assert_eq!(bench.good(replayed).len(), 2);
}

#[test]
fn the_newest_of_each_byte_is_replayed_before_what_was_under_way() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.ask(Command::WRITE, NONE, 0, 24);
    let sent = bench.one();
    bench.good(sent);
    bench.written(8, NONE);
    bench.write(64);
    bench.sent();
    bench.engine.session_down(first);
    bench.up();
    let sent: Vec<_> = bench.sent().iter().map(shape).collect();
    let write = |offset| (Command::WRITE, offset, 8);
    assert_eq!(sent, [write(0), write(16), write(8), write(64)]);
}

#[test]
fn nothing_is_sent_over_a_durable_write_that_was_newer() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.written(0, NONE);
    bench.written(0, FUA);
    bench.engine.session_down(first);
    bench.up();
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.engine.figures().logged_bytes, 8);
}

#[test]
fn a_write_that_was_under_way_does_not_undo_a_newer_one() {
    let mut bench = Bench::new();
    let first = bench.up();
    let old = bench.ask(Command::WRITE, FUA, 0, 16);
    bench.sent();
    bench.written(8, NONE);
    bench.engine.session_down(first);
    bench.up();
    let newer = bench.one();
    assert_eq!(shape(&newer), (Command::WRITE, 8, 8));
    let next = bench.good(newer);
    let [
        Action::Send {
            session, request, ..
        },
    ] = next[..]
    else {
        panic!("{next:?}");
    };
    assert_eq!((request.offset, request.length), (0, 8));
    // FUA holds for all of it: the newer part needs a FLUSH.
    let next = bench.good((session, request));
    let [
        Action::Send {
            session, request, ..
        },
    ] = next[..]
    else {
        panic!("{next:?}");
    };
    assert_eq!(request.command, Command::FLUSH);
    assert!(bench.good((session, request)).contains(&answer(old)));
}

#[test]
fn a_second_connection_carries_nothing_before_the_first_one_flushed() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.up();
    let proof = bench.one();
    assert_eq!((proof.0, proof.1.command), (first, Command::FLUSH));
    for offset in [0, 8] {
        bench.write(offset);
        assert_eq!(bench.one().0, first);
    }
    bench.good(proof);
    bench.write(16);
    assert_ne!(bench.one().0, first);
}

#[test]
fn of_a_connection_that_dies_only_what_was_under_way_is_sent_again() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.up();
    let proof = bench.one();
    bench.good(proof);
    bench.written(0, NONE);
    bench.write(8);
    let under_way = bench.one();
    assert_eq!(under_way.0, first);
    bench.engine.session_down(first);
    let again = bench.one();
    assert_eq!(shape(&again), shape(&under_way));
    assert_ne!(again.1.cookie, under_way.1.cookie);
    bench.ask(Command::READ, NONE, 8, 8);
    assert_eq!(bench.sent(), [], "it waits for what was sent again");
    assert_eq!(bench.good(again).len(), 2);
}

#[test]
fn a_replay_that_is_refused_is_kept_for_the_next_server() {
    let mut bench = Bench::new();
    let first = bench.up();
    bench.written(0, NONE);
    bench.engine.session_down(first);
    let second = bench.up();
    let piece = bench.one();
    assert!(matches!(bench.reply(piece, 28), Step::Over));
    bench.actions();
    bench.engine.session_down(second);
    bench.up();
    assert_eq!(shape(&bench.one()), shape(&piece));
}

/// The one request that follows from a good reply.
fn next(bench: &mut Bench, sent: Sent) -> Sent {
    let actions = bench.good(sent);
    let [
        Action::Send {
            session, request, ..
        },
    ] = actions[..]
    else {
        panic!("{actions:?}");
    };
    (session, request)
}

#[test]
fn parts_that_a_gone_server_did_are_done_again() {
    let mut bench = Bench::new();
    let first = bench.up();
    let old = bench.ask(Command::WRITE, NONE, 0, 24);
    bench.sent();
    bench.written(8, NONE);
    bench.engine.session_down(first);
    for last in [false, true] {
        let session = bench.up();
        let newer = bench.one();
        assert_eq!(shape(&newer), (Command::WRITE, 8, 8));
        let part = next(&mut bench, newer);
        assert_eq!(shape(&part), (Command::WRITE, 0, 8));
        let part = next(&mut bench, part);
        assert_eq!(shape(&part), (Command::WRITE, 16, 8));
        if last {
            assert!(bench.good(part).contains(&answer(old)));
        } else {
            bench.engine.session_down(session);
        }
    }
}
