//! Links that die, and what comes of it.

use super::*;

#[test]
fn a_server_that_is_back_gets_its_device_within_half_a_second() {
    for connections in [1, 4] {
        let mut world = World::new(policy(), connections);
        world.run(SECOND);
        world.die(Server::Refuses);
        assert!(world.is(Standing::Reconnecting));
        assert_eq!(world.dials(), [SECOND], "at once");
        world.run(SECOND);
        world.server = Server::Up;
        world.run(500 * MS);
        assert!(world.is(Standing::Connected));
        assert_eq!(world.count(hands_over), connections);
        let history = world.machine.history();
        assert_eq!(history.reconnects, connections as u64);
        assert_eq!(history.outages, 1);
        let lasted = history.last_outage_ms.unwrap();
        assert!((1000..1500).contains(&lasted), "{lasted}");
        world.run(60 * SECOND);
        assert_eq!(world.count(hands_over), connections, "and that is that");
    }
}

#[test]
fn packets_that_are_lost_delay_nothing_once_they_are_not() {
    let mut world = World::new(policy(), 1);
    world.die(Server::Lost);
    world.run(30 * SECOND);
    world.server = Server::Up;
    world.run(400 * MS);
    assert!(world.is(Standing::Connected));
}

#[test]
fn attempts_slow_down_after_two_minutes_and_never_end() {
    let mut world = World::patient_for(None);
    world.die(Server::Refuses);
    world.run(120 * SECOND);
    let early = world.dials().len();
    assert!((430..540).contains(&early), "{early}");
    world.run(3600 * SECOND);
    let late = world.dials().len() - early;
    assert!((3300..3900).contains(&late), "{late}");
    assert_eq!(world.count(gives_up), 0, "infinity is infinity");
}

#[test]
fn a_server_that_takes_and_stalls_is_given_time_and_no_crowd() {
    let mut world = World::new(policy(), 1);
    world.die(Server::Stalls);
    world.run(60 * SECOND);
    // What took the first may be a proxy: another every two seconds.
    let dials = world.dials().len();
    assert!((15..=31).contains(&dials), "{dials}");
    // A way that is merely long is gone in the end.
    world.latency = 7 * SECOND;
    world.server = Server::Up;
    world.run(20 * SECOND);
    assert!(world.is(Standing::Connected));
}

#[test]
fn a_server_that_is_slow_to_greet_comes_back_as_it_came_first() {
    for (connect_timeout, latency) in [(60, 35), (2, 7)] {
        let connect_timeout = connect_timeout * SECOND;
        let mut world = World::new(
            Policy {
                connect_timeout,
                ..policy()
            },
            1,
        );
        world.latency = latency * SECOND;
        world.die(Server::Up);
        world.run(180 * SECOND);
        assert!(world.is(Standing::Connected), "{latency} s");
    }
}

#[test]
fn a_server_that_flaps_costs_an_attempt_each_time() {
    let mut world = World::new(policy(), 1);
    for _ in 0..1000 {
        world.die(Server::Refuses);
        world.run(20 * MS);
        world.server = Server::Up;
        world.run(400 * MS);
        assert!(world.is(Standing::Connected));
    }
    assert_eq!(world.machine.history().outages, 1000);
    assert_eq!(world.count(hands_over), 1000);
}

#[test]
fn a_link_that_dies_again_at_once_does_not_make_a_storm() {
    let mut world = World::new(policy(), 1);
    world.die(Server::Up);
    for _ in 0..200 {
        // The server greets, and hangs up as soon as the kernel has the link.
        world.run(50 * MS);
        if world.is(Standing::Connected) {
            world.die(Server::Up);
        }
    }
    let dials = world.dials().len();
    assert!(dials <= 60, "{dials} attempts in 10 s");
}

#[test]
fn another_disk_is_refused_and_tried_again() {
    let mut world = World::new(policy(), 1);
    world.die(Server::Weaker);
    world.run(10 * SECOND);
    assert!(world.is(Standing::Reconnecting));
    assert_eq!(world.count(hands_over), 0);
    let error = world.machine.history().last_error.clone();
    assert_eq!(error.as_deref(), Some("it is smaller now"));
    world.server = Server::Up;
    world.run(SECOND);
    assert!(world.is(Standing::Connected));
}

#[test]
fn patience_ends_once_and_a_late_server_revives_the_device() {
    let mut world = World::patient_for(Some(5 * SECOND));
    for round in 1..=2 {
        world.die(Server::Refuses);
        let died = world.now;
        world.run(4900 * MS);
        assert_eq!(world.count(gives_up), round - 1);
        world.run(3600 * SECOND);
        assert_eq!(world.count(gives_up), round, "once");
        let given_up = world.log.iter().rfind(|(_, action)| gives_up(action));
        assert_eq!(given_up.unwrap().0, died + 5 * SECOND);
        assert!(world.is(Standing::Dead));
        world.server = Server::Up;
        world.run(2 * SECOND);
        assert!(world.is(Standing::Connected));
    }
}

#[test]
fn a_session_that_waits_is_worth_more_than_patience() {
    let mut world = World::patient_for(Some(5 * SECOND));
    world.event(Event::Retry { cut: true });
    world.server = Server::Refuses;
    world.run(3 * SECOND);
    world.server = Server::Up;
    world.run(10 * SECOND);
    assert_eq!(world.count(gives_up), 0);
    assert!(world.is(Standing::Connected));
}

#[test]
fn after_a_cut_the_new_session_waits_and_after_a_death_it_does_not() {
    let mut world = World::new(policy(), 1);
    world.run(SECOND);
    world.event(Event::Retry { cut: true });
    let cut = world.now;
    world.run(4900 * MS);
    assert_eq!(world.count(hands_over), 0);
    world.run(200 * MS);
    assert!(world.is(Standing::Connected));
    assert!(world.now >= cut + 5 * SECOND);
    // It holds for that outage only.
    world.run(SECOND);
    world.die(Server::Up);
    world.run(100 * MS);
    assert!(world.is(Standing::Connected));
}

#[test]
fn the_wait_begins_anew_with_another_greeting() {
    let mut world = World::new(policy(), 1);
    world.event(Event::Retry { cut: true });
    world.run(3 * SECOND);
    let dial = world.log.iter().rev().find_map(|(_, action)| match action {
        Action::Dial { attempt, .. } => Some(*attempt),
        _ => None,
    });
    world.event(Event::OfferDied(dial.unwrap()));
    world.run(4900 * MS);
    assert_eq!(world.count(hands_over), 0);
    world.run(SECOND);
    assert!(world.is(Standing::Connected));
}

#[test]
fn a_link_that_nobody_sees_is_believed_to_the_kernel() {
    let mut world = World::new(policy(), 1);
    world.machine = Machine::new(policy(), &[Seen::Unknown], Moment::ZERO);
    world.event(Event::Places(vec![PlaceId(0)]));
    // A false alarm: the kernel drops the session.
    world.event(Event::DiedUnseen);
    world.run(SECOND);
    assert!(world.is(Standing::Connected));
    assert_eq!(world.machine.history().reconnects, 0);
    // A true one.
    world.kernel = vec![false];
    world.event(Event::DiedUnseen);
    world.run(SECOND);
    assert!(world.is(Standing::Connected));
    assert_eq!(world.machine.history().reconnects, 1);
}

#[test]
fn a_successor_goes_on_where_the_last_one_was() {
    let mut world = World::patient_for(Some(60 * SECOND));
    world.die(Server::Refuses);
    world.run(40 * SECOND);
    let legacy = world.machine.legacy(world.now);
    world.machine = Machine::new(world.machine.policy.clone(), &[Seen::Dead], world.now);
    world.machine.inherit(world.now, legacy);
    world.event(Event::Places(vec![PlaceId(0)]));
    world.run(19 * SECOND);
    assert_eq!(world.count(gives_up), 0);
    world.run(2 * SECOND);
    assert_eq!(world.count(gives_up), 1, "after 60 s in all");
}

#[test]
fn addresses_that_are_no_more_are_not_taken_from() {
    let mut world = World::new(
        Policy {
            resolves: true,
            ..policy()
        },
        1,
    );
    world.latency = 500 * MS;
    world.die(Server::Up);
    world.run(10 * MS);
    // The resolver names another while the old one negotiates.
    world.event(Event::Places(vec![PlaceId(1)]));
    world.run(2 * SECOND);
    assert!(world.is(Standing::Connected));
    let places: Vec<_> = world
        .log
        .iter()
        .filter_map(|(_, action)| match action {
            Action::Dial { place, .. } => Some(place.0),
            _ => None,
        })
        .collect();
    assert_eq!(places, [0, 1]);
    assert_eq!(world.count(|action| matches!(action, Action::Drop(_))), 1);
    assert_eq!(world.count(hands_over), 1);
}

#[test]
fn a_thousand_clients_spread_after_their_servers_reboot() {
    let mut arrivals = Vec::new();
    for seed in 0..1000 {
        let mut world = World::new(Policy { seed, ..policy() }, 1);
        world.die(Server::Refuses);
        world.run(45 * SECOND);
        world.server = Server::Up;
        let back = world.now;
        world.run(SECOND);
        assert!(world.is(Standing::Connected));
        let first = world.dials().into_iter().find(|at| *at > back).unwrap();
        arrivals.push((first - back).as_millis());
    }
    for begin in (0..250).step_by(25) {
        let crowd = arrivals
            .iter()
            .filter(|at| (begin..begin + 25).contains(*at));
        let crowd = crowd.count();
        assert!(
            crowd < 200,
            "{crowd} of 1000 within 25 ms from {begin} ms on"
        );
    }
}

/// A command that came back late: the kernel has a link that nobody else knows.
#[test]
fn a_kernel_that_holds_that_no_link_is_dead_is_believed_in_the_end() {
    let mut world = World::new(policy(), 1);
    world.die(Server::Up);
    world.kernel = vec![true];
    world.run(5 * SECOND);
    assert!(world.is(Standing::Connected));
    assert_eq!(world.machine.unseen().count(), 1);
    let tried = world.count(hands_over);
    assert!(tried <= 8, "{tried}");
    // And when it dies in truth, that is seen on the kernel's word, too.
    world.kernel = vec![false];
    world.event(Event::DiedUnseen);
    world.run(SECOND);
    assert!(world.is(Standing::Connected));
    assert_eq!(world.machine.history().reconnects, 1);
}

#[test]
fn a_successor_waits_for_what_was_cut_to_settle_also_where_a_link_is_left() {
    let inheritance = Inheritance {
        settles: true,
        ..Inheritance::default()
    };
    for seen in [[Seen::Dead, Seen::Alive], [Seen::Unknown, Seen::Unknown]] {
        let mut world = World::new(policy(), 2);
        world.machine = Machine::new(policy(), &seen, Moment::ZERO);
        world.machine.lose_unseen(Moment::ZERO);
        world.machine.inherit(Moment::ZERO, inheritance.clone());
        world.kernel = vec![false, seen[1] == Seen::Alive];
        world.event(Event::Places(vec![PlaceId(0)]));
        world.run(4900 * MS);
        assert_eq!(world.count(hands_over), 0);
        world.run(SECOND);
        assert!(world.is(Standing::Connected));
    }
}

#[test]
fn several_links_settle_together() {
    let mut world = World::new(policy(), 4);
    for link in world.machine.links().collect::<Vec<_>>() {
        world.machine.handle(Moment::ZERO, Event::Died(link));
    }
    world.kernel = vec![false; 4];
    world.machine.settling = Settling::Ungreeted;
    world.event(Event::Retry { cut: false });
    world.run(6 * SECOND);
    assert!(world.is(Standing::Connected));
}

#[test]
fn a_session_that_waits_is_dropped_when_the_outage_ends_without_it() {
    let mut world = World::new(policy(), 1);
    world.machine = Machine::new(policy(), &[Seen::Unknown], Moment::ZERO);
    world.machine.settling = Settling::Ungreeted;
    world.event(Event::Places(vec![PlaceId(0)]));
    world.kernel = vec![true];
    world.event(Event::DiedUnseen);
    world.run(2 * SECOND);
    assert!(world.machine.waiting.is_some());
    world.machine.busy = Some(Busy::GiveUp);
    world.event(Event::GaveUp(Ok(false)));
    assert!(world.is(Standing::Connected));
    assert_eq!(world.count(|action| matches!(action, Action::Drop(_))), 1);
    // Nothing is due in the past.
    assert!(world.machine.wake().unwrap() >= world.now);
}

#[test]
fn a_kernel_that_does_not_come_back_is_told_about() {
    let mut world = World::new(policy(), 1);
    world.die(Server::Up);
    world.kernel_hangs = true;
    world.run(9 * SECOND);
    assert_eq!(world.machine.stuck_for(world.now), None);
    world.run(2 * SECOND);
    let stuck = world.machine.stuck_for(world.now).unwrap();
    assert!(stuck >= 10 * SECOND, "{stuck:?}");
    world.event(Event::HandedOver(HandedOver::Taken));
    assert_eq!(world.machine.stuck_for(world.now), None);
}

#[test]
fn a_successor_makes_use_of_what_the_export_has_grown_to() {
    let policy = Policy {
        resize_live: true,
        ..policy()
    };
    let mut world = World::new(policy.clone(), 1);
    world.machine = Machine::new(policy, &[Seen::Alive], Moment::ZERO);
    let inheritance = Inheritance {
        larger: Some(2 << 20),
        ..Inheritance::default()
    };
    world.machine.inherit(Moment::ZERO, inheritance.clone());
    assert_eq!(world.machine.legacy(Moment::ZERO), inheritance);
    let grows = |action: &Action| matches!(action, Action::Resize(size) if *size == 2 << 20);
    world.run(60 * SECOND);
    assert_eq!(world.count(grows), 1);
    assert_eq!(world.machine.larger(), None);
}
