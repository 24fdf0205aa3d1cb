//! Outages under a virtual clock: hours of them in a moment.

use std::time::Duration;

use super::super::message::{Patience, Standing};
use super::{Due, Gain, Loss, Reconnect, Terms};

const SECOND: Duration = Duration::from_secs(1);

const TERMS: Terms = Terms {
    connections: 1,
    settle_time: Duration::from_secs(5),
    seed: 7,
};

fn patience(seconds: Option<u64>) -> Patience {
    Patience {
        dead_timeout_ms: seconds.map(|seconds| seconds * 1000),
        shutdown_timeout_ms: 5000,
        going_down: false,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One that is connected, and lost its server after a minute; the outage begins then.
fn away(terms: Terms, seconds: Option<u64>, left: bool) -> Reconnect {
    let mut it = Reconnect::new(terms, patience(seconds));
    it.linked(at(0), false, 0);
    assert_eq!(it.due(at(59)), None);
    assert_eq!(it.standing(), Standing::Connected);
    let loss = it.lost(at(60), left, 9);
    assert_eq!(
        loss,
        Loss {
            outage: true,
            go_on: false
        }
    );
    it
}

/// Goes on to a moment; each attempt on the way fails after 100 ms.
fn fails_until(it: &mut Reconnect, from: Duration, until: Duration) -> (u32, Vec<Due>) {
    let (mut now, mut dialled, mut others) = (from, 0, Vec::new());
    while now <= until {
        match it.due(now) {
            Some(Due::Dial { .. }) => {
                dialled += 1;
                now += Duration::from_millis(100);
                it.failed(now, false);
            }
            Some(other) => others.push(other),
            None => now = it.wake().unwrap_or(until + SECOND),
        }
    }
    (dialled, others)
}

#[test]
fn attempts_begin_at_once_and_never_end() {
    let mut it = away(TERMS, None, false);
    assert!(matches!(it.due(at(60)), Some(Due::Dial { .. })));
    it.failed(at(60), false);
    let (quick, none) = fails_until(&mut it, at(60), at(180));
    assert!((280..480).contains(&quick), "{quick} in two minutes");
    assert_eq!(none, []);
    let (steady, none) = fails_until(&mut it, at(180), at(180) + 10_000 * SECOND);
    assert!((8_000..10_100).contains(&steady), "{steady} in 10,000 s");
    assert_eq!(none, []);
    assert_eq!(it.standing(), Standing::Reconnecting);
}

#[test]
fn patience_ends_once_and_a_server_revives_it() {
    let mut it = away(TERMS, Some(600), false);
    let (_, before) = fails_until(&mut it, at(60), at(659));
    assert_eq!(before, []);
    let (_, after) = fails_until(&mut it, at(659), at(3000));
    assert_eq!(after, [Due::GiveUp]);
    assert_eq!(it.standing(), Standing::Dead);
    assert!(it.greeted(at(3000), false));
    let gain = it.linked(at(3000), false, 9);
    assert_eq!(gain.lasted, Some(at(3000 - 60)));
    assert_eq!(it.standing(), Standing::Connected);
    assert_eq!(it.wake(), None);
}

#[test]
fn a_server_that_greets_and_is_of_no_use_ends_no_outage() {
    let mut it = away(TERMS, Some(10), false);
    let mut gave_up = false;
    for half in 121..160 {
        let now = SECOND / 2 * half;
        while let Some(due) = it.due(now) {
            gave_up |= due == Due::GiveUp;
        }
        it.greeted(now, false);
        it.linked(now, false, 9);
        let loss = it.lost(now, false, 9);
        assert!(!loss.outage, "it is the same one");
        assert_eq!(gave_up, now >= at(70), "{now:?}");
    }
    // One that answers a thing is of use.
    it.greeted(at(100), false);
    it.linked(at(100), false, 9);
    assert!(it.lost(at(101), false, 10).outage);
    assert_eq!(it.fails_at(), Some(at(111)));
}

#[test]
fn after_a_server_was_left_its_successor_waits_and_is_waited_for() {
    let mut it = away(TERMS, Some(3), true);
    assert!(matches!(it.due(at(60)), Some(Due::Dial { .. })));
    assert!(!it.greeted(at(61), false));
    // Patience would be over at 63.
    assert_eq!(it.due(at(65)), None);
    assert_eq!(it.due(at(66)), Some(Due::Admit));
    assert_eq!(it.linked(at(66), false, 9).lasted, Some(at(6)));
    assert!(it.greeted(at(70), false), "that is over");
}

#[test]
fn one_that_is_left_while_a_session_settles_has_its_own_time() {
    let terms = Terms {
        connections: 2,
        ..TERMS
    };
    let mut it = Reconnect::new(terms, patience(None));
    it.linked(at(0), true, 0);
    it.linked(at(0), true, 0);
    it.lost(at(60), true, 9);
    assert!(!it.greeted(at(61), false));
    it.lost(at(64), true, 9);
    assert_eq!(it.due(at(68)), None);
    assert_eq!(it.due(at(69)), Some(Due::Admit));
}

#[test]
fn a_session_that_comes_before_the_end_of_the_one_that_was_left_is_told_waits_too() {
    let terms = Terms {
        connections: 2,
        ..TERMS
    };
    let mut it = Reconnect::new(terms, patience(None));
    it.linked(at(0), true, 0);
    assert!(matches!(it.due(at(1)), Some(Due::Dial { .. })));
    assert!(!it.greeted(at(2), true));
}

#[test]
fn a_shutdown_shortens_what_is_left() {
    let mut it = away(TERMS, None, false);
    assert_eq!(it.fails_at(), None);
    it.going_down();
    assert_eq!(it.fails_at(), Some(at(65)));
    it.set_patience(patience(Some(1)));
    assert_eq!(it.fails_at(), Some(at(61)));
    it.going_down();
    assert_eq!(it.fails_at(), Some(at(61)), "it is no longer than it was");
}

#[test]
fn a_drain_is_called_off_when_the_server_goes_and_an_end_is_not() {
    let mut it = Reconnect::new(TERMS, patience(None));
    it.linked(at(0), false, 0);
    it.drain();
    assert!(it.lost(at(60), false, 9).go_on);
    let (_, none) = fails_until(&mut it, at(60), at(1000));
    assert_eq!(none, [], "what it holds is kept");
    it.linked(at(1000), false, 9);
    it.drain();
    it.kernel_gone(at(1001));
    assert!(!it.lost(at(1002), false, 10).go_on);
    assert_eq!(it.wake(), Some(at(1002)), "it dials for the last changes");
    let (_, none) = fails_until(&mut it, at(1002), at(1061));
    assert_eq!(none, []);
    assert_eq!(it.due(at(1062)), Some(Due::End));
}

#[test]
fn several_are_wanted_where_they_are_allowed() {
    let terms = Terms {
        connections: 3,
        ..TERMS
    };
    let mut it = Reconnect::new(terms, patience(None));
    let first = Gain {
        lasted: None,
        replaces: false,
    };
    assert_eq!(it.linked(at(0), true, 0), first);
    assert_eq!(it.standing(), Standing::Degraded);
    assert_eq!(it.linked(at(0), true, 0), first, "nothing was lost");
    it.linked(at(0), true, 0);
    assert_eq!(it.standing(), Standing::Connected);
    let loss = it.lost(at(60), false, 5);
    assert!(!loss.outage);
    assert_eq!(it.standing(), Standing::Degraded);
    assert!(it.linked(at(61), true, 6).replaces);
    // A server that allows one only.
    it.lost(at(70), false, 7);
    it.linked(at(71), false, 7);
    assert_eq!(it.standing(), Standing::Connected);
}

#[test]
fn a_handshake_that_stalls_gets_more_time_and_a_short_life_costs_a_pause() {
    let mut it = away(TERMS, None, false);
    let mut now = at(60);
    let mut given = Vec::new();
    while given.len() < 6 {
        match it.due(now) {
            Some(Due::Dial { handshake }) => {
                given.push(handshake.as_secs());
                it.failed(now, true);
            }
            Some(other) => panic!("{other:?}"),
            None => now = it.wake().unwrap(),
        }
    }
    assert_eq!(given, [1, 2, 4, 8, 10, 10]);
    it.linked(now, false, 9);
    it.lost(now, false, 10);
    assert_eq!(it.due(now), None);
    assert!(it.wake().unwrap() > now + SECOND / 10);
}
