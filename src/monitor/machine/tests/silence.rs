//! Links that live and say nothing, and exports that grow.

use super::*;

fn waiting_requests(progress: u64) -> Sample {
    Sample {
        in_flight: 8,
        progress,
        links: vec![(
            LinkId(0),
            Acks {
                since: 10 * MS,
                unanswered: 0,
            },
        )],
    }
}

#[test]
fn a_slow_server_is_never_cut() {
    for greets_others in [true, false] {
        let mut world = World::new(policy(), 1);
        world.greets_others = greets_others;
        for round in 0..200 {
            // An answer every 45 s, and every window full.
            world.sample = waiting_requests(round);
            world.run(45 * SECOND);
        }
        assert_eq!(world.count(cuts), 0);
        assert!(world.is(Standing::Connected));
    }
}

#[test]
fn a_stopped_server_is_cut_if_it_greeted_others_before() {
    for greets_others in [true, false] {
        let mut world = World::new(policy(), 1);
        world.greets_others = greets_others;
        world.run(60 * SECOND);
        world.sample = waiting_requests(7);
        world.server = Server::Stalls;
        world.run(100 * SECOND);
        assert_eq!(world.count(cuts), usize::from(greets_others));
        assert_eq!(world.machine.cannot_tell(world.now), !greets_others);
    }
}

#[test]
fn a_network_that_acknowledges_nothing_is_cut_and_one_with_a_closed_window_is_not() {
    let acks = |since, unanswered| Sample {
        in_flight: 1,
        progress: 1,
        links: vec![(LinkId(0), Acks { since, unanswered })],
    };
    let mut world = World::new(policy(), 1);
    // The pauses between probes of a closed window grow to minutes.
    world.sample = acks(60 * SECOND, 1);
    world.run(100 * SECOND);
    assert_eq!(world.count(cuts), 0);
    world.sample = acks(29 * SECOND, 9);
    world.run(10 * SECOND);
    assert_eq!(world.count(cuts), 0);
    world.sample = acks(30 * SECOND, 3);
    world.run(5 * SECOND);
    assert_eq!(world.count(cuts), 1);
}

#[test]
fn an_idle_device_is_looked_at_less_than_once_a_second() {
    let mut world = World::new(policy(), 1);
    world.run(20 * SECOND);
    let before = world.machine.next_sample;
    world.run(SECOND);
    assert!(before + SECOND < world.machine.next_sample || before > world.now);
    assert!(world.machine.silence.interval() > SECOND);
}

#[test]
fn a_larger_export_is_told_and_used_only_where_that_is_wanted() {
    for resize_live in [false, true] {
        let mut world = World::new(
            Policy {
                resize_live,
                ..policy()
            },
            1,
        );
        world.size = 2 << 20;
        world.die(Server::Up);
        world.sample = waiting_requests(1);
        world.run(60 * SECOND);
        assert_eq!(world.machine.larger(), Some(2 << 20));
        let resizes = |world: &World| world.count(|action| matches!(action, Action::Resize(_)));
        assert_eq!(resizes(&world), 0, "requests are in flight");
        world.sample = Sample::default();
        world.run(60 * SECOND);
        assert_eq!(resizes(&world), usize::from(resize_live));
        assert_eq!(world.machine.larger().is_none(), resize_live);
    }
}

/// As `qemu-nbd --shared=2` with two connections.
#[test]
fn several_links_say_nothing_of_a_client_more() {
    for greets_others in [true, false] {
        let mut world = World::new(policy(), 2);
        world.greets_others = greets_others;
        world.run(60 * SECOND);
        // Links that are as slow as they may be.
        world.sample = waiting_requests(7);
        world.server = Server::Stalls;
        world.run(100 * SECOND);
        assert_eq!(world.count(cuts), if greets_others { 2 } else { 0 });
    }
}

#[test]
fn a_server_that_greeted_nobody_once_is_asked_again_and_seldom() {
    let mut world = World::new(policy(), 1);
    world.greets_others = false;
    let probes = |world: &World| world.count(|action| matches!(action, Action::Probe { .. }));
    world.run(60 * SECOND);
    assert_eq!(probes(&world), 1);
    world.run(24 * 3600 * SECOND);
    assert!((5..=9).contains(&probes(&world)), "{}", probes(&world));
    // It was busy only.
    world.greets_others = true;
    world.run(48 * 3600 * SECOND);
    world.sample = waiting_requests(7);
    world.server = Server::Stalls;
    world.run(100 * SECOND);
    assert_eq!(world.count(cuts), 1);
}

/// Another server at the same place need not greet others as the last one did.
#[test]
fn what_was_learned_of_a_server_is_not_held_against_the_next() {
    let mut world = World::new(policy(), 1);
    world.run(60 * SECOND);
    world.die(Server::Up);
    world.run(SECOND);
    world.greets_others = false;
    world.sample = waiting_requests(1);
    world.run(600 * SECOND);
    assert_eq!(world.count(cuts), 0);
}
