//! Two servers of one name: they may have a cache each.

use super::*;

fn dialled(world: &World) -> Vec<PlaceId> {
    let dials = world.log.iter().filter_map(|(_, action)| match action {
        Action::Dial { place, .. } => Some(*place),
        _ => None,
    });
    dials.collect()
}

fn two_servers() -> World {
    let mut world = World::new(policy(), 2);
    let both = [PlaceId(1), PlaceId(2)];
    world.event(Event::Places(both.to_vec()));
    world
        .machine
        .lead(&[(LinkId(0), PlaceId(2)), (LinkId(1), PlaceId(2))]);
    world
}

#[test]
fn while_a_link_lives_only_its_server_gets_another() {
    let mut world = two_servers();
    world.server = Server::Refuses;
    world.die_one(LinkId(0), Event::Died);
    world.run(10 * SECOND);
    let dials = dialled(&world);
    assert!(dials.len() > 20, "{dials:?}");
    assert!(dials.iter().all(|place| *place == PlaceId(2)), "{dials:?}");
    // When none is left, any will do; and what it leads to is where the next one goes.
    world.log.clear();
    world.server = Server::Up;
    world.die_one(LinkId(1), Event::Died);
    world.run(SECOND);
    assert!(world.is(Standing::Connected));
    assert_eq!(dialled(&world), [PlaceId(1), PlaceId(1)]);
}

#[test]
fn a_session_with_another_server_is_of_no_use_to_a_link_that_lives_after_all() {
    let mut world = two_servers();
    world
        .machine
        .links
        .iter_mut()
        .for_each(|link| link.unseen = true);
    world.event(Event::DiedUnseen);
    world.run(MS);
    world.machine.settling = Settling::Ungreeted;
    world.event(Event::Places(vec![PlaceId(1)]));
    world.run(SECOND);
    assert!(world.machine.waiting.is_some());
    world.machine.unseen_live(world.now);
    world.die_one(LinkId(0), Event::Died);
    assert_eq!(world.count(hands_over), 0);
    assert!(world.machine.waiting.is_none());
}
