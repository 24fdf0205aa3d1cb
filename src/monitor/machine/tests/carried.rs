//! A link that bears outages of its own server itself: what it tells of them.

use super::*;

#[test]
fn a_living_link_may_tell_that_its_export_has_grown() {
    let mut world = World::new(
        Policy {
            resize_live: true,
            ..policy()
        },
        1,
    );
    let offer = |size| {
        Event::Offers(Offer {
            size,
            device_size: 1 << 20,
        })
    };
    // Not while requests wait.
    world.sample.in_flight = 1;
    world.event(offer(1 << 21));
    world.run(20 * SECOND);
    assert_eq!(world.machine.larger(), Some(1 << 21));
    world.sample.in_flight = 0;
    world.run(20 * SECOND);
    assert_eq!(world.count(|action| matches!(action, Action::Resize(_))), 1);
    assert_eq!(world.machine.larger(), None);
    world.event(offer(1 << 20));
    assert_eq!(world.machine.larger(), None);
}

#[test]
fn what_a_link_bore_by_itself_is_remembered() {
    let mut world = World::patient_for(None);
    world.die(Server::Refuses);
    world.run(SECOND);
    world.server = Server::Up;
    world.run(SECOND);
    let before = world.machine.history().clone();
    let mut past = History {
        reconnects: 3,
        outages: 2,
        last_outage_ms: Some(77),
        last_error: Some("refused".to_owned()),
    };
    world.machine.remember(&past);
    let after = world.machine.history().clone();
    assert_eq!(after.reconnects, before.reconnects + 3);
    assert_eq!(after.outages, before.outages + 2);
    assert_eq!(after.last_outage_ms, Some(77));
    // One that bore nothing changes nothing of it.
    past = History::default();
    world.machine.remember(&past);
    assert_eq!(*world.machine.history(), after);
}
