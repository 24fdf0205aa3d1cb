//! Servers that may still be at what they had read when their link was cut.

use super::*;

fn unanswered(link: u32) -> Sample {
    let acks = Acks {
        since: 60 * SECOND,
        unanswered: 5,
    };
    Sample {
        links: vec![(LinkId(link), acks)],
        ..Sample::default()
    }
}

fn first(world: &World, which: fn(&Action) -> bool) -> Option<Moment> {
    let mut log = world.log.iter();
    log.find(|(_, action)| which(action)).map(|(at, _)| *at)
}

fn last(world: &World, which: fn(&Action) -> bool) -> Option<Moment> {
    let mut log = world.log.iter().rev();
    log.find(|(_, action)| which(action)).map(|(at, _)| *at)
}

#[test]
fn a_session_that_settles_does_so_anew_when_another_link_is_cut() {
    let mut world = World::new(policy(), 2);
    world.sample = unanswered(0);
    world.run(SECOND);
    assert!(world.machine.waiting.is_some());
    world.sample = unanswered(1);
    world.run(20 * SECOND);
    assert_eq!(world.count(cuts), 2);
    let (cut, taken) = (last(&world, cuts), first(&world, hands_over));
    assert!(
        taken >= cut.map(|cut| cut + 5 * SECOND),
        "{cut:?} {taken:?}"
    );
    assert!(world.is(Standing::Connected));
    // What had been greeted before is of no use.
    assert_eq!(world.count(|action| matches!(action, Action::Drop(_))), 1);
}

#[test]
fn a_cut_that_finds_nothing_to_cut_hurries_nothing() {
    let mut world = World::new(policy(), 1);
    world.event(Event::Retry { cut: true });
    world.run(3 * SECOND);
    world.event(Event::Retry { cut: true });
    assert_eq!(world.count(hands_over), 0);
    world.run(1900 * MS);
    assert_eq!(world.count(hands_over), 0);
    world.run(SECOND);
    assert!(world.is(Standing::Connected));
}

/// As one is that only the driver's own timer can cut.
#[test]
fn a_link_that_is_cut_again_and_again_holds_up_no_other() {
    let mut world = World::new(policy(), 2);
    world.die_one(LinkId(0), Event::Died);
    world.sample = unanswered(1);
    world.cuts_nothing = true;
    world.run(20 * SECOND);
    assert!(world.count(cuts) > 2);
    assert_eq!(world.count(hands_over), 1);
}

#[test]
fn a_link_that_somebody_else_cut_settles_and_one_that_its_server_closed_does_not() {
    for (died, settles) in [
        (Event::Died as fn(_) -> _, false),
        (Event::DiedAtWork, true),
    ] {
        let mut world = World::new(policy(), 2);
        world.run(SECOND);
        world.die_one(LinkId(0), died);
        world.run(500 * MS);
        assert_eq!(world.count(hands_over), usize::from(!settles));
        world.run(4300 * MS);
        assert_eq!(world.count(hands_over), usize::from(!settles));
        world.run(SECOND);
        assert!(world.is(Standing::Connected));
    }
}

#[test]
fn a_death_that_is_told_of_twice_settles_once() {
    let mut world = World::new(policy(), 2);
    world.die_one(LinkId(0), Event::DiedAtWork);
    world.run(4 * SECOND);
    world.event(Event::DiedAtWork(LinkId(0)));
    world.run(1100 * MS);
    assert!(world.is(Standing::Connected));
}
