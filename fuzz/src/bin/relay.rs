//! The relay's engine: the input chooses what the kernel asks, what servers answer,
//! right and wrong, when they come and go, and when patience ends.
//!
//! Whatever comes: no panic, and what `owed` says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nbdctl_fuzz::owed::World;

fuzz_target!(|data: &[u8]| {
    let mut world = World::new(data);
    while world.step() {}
    world.end();
});
