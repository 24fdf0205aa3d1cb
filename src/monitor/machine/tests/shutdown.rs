//! The machine goes down, or was to.

use super::*;

#[test]
fn shutting_down_shortens_patience_also_in_an_outage() {
    let mut world = World::patient_for(None);
    world.die(Server::Refuses);
    world.run(60 * SECOND);
    world.event(Event::ShuttingDown);
    world.run(SECOND);
    assert!(world.is(Standing::Dead));
}

#[test]
fn a_shutdown_that_is_called_off_leaves_patience_as_it_was() {
    let mut world = World::patient_for(None);
    world.event(Event::ShuttingDown);
    world.event(Event::GoesOn);
    world.die(Server::Refuses);
    world.run(600 * SECOND);
    assert!(world.is(Standing::Reconnecting));
}
