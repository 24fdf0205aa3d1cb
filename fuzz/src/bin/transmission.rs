//! A session's replies: requests that the input chooses, and a server that is
//! right up to where the input makes it wrong (`script`).
//!
//! Whatever comes: no panic, no memory for lengths that are merely claimed, and
//! what `model` says. The same bytes tell the same whole, cut, byte by byte, and
//! to a pump of `Pending`s. A server that did no wrong gets every answer through
//! as it was meant.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nbdctl_fuzz::script::Script;
use nbdctl_fuzz::{drive, model};

fuzz_target!(|data: &[u8]| {
    let script = Script::new(data);
    let whole = drive::replies(&script, [usize::MAX; 2]);
    model::check(&script, &whole);
    let cut = drive::replies(&script, script.cuts);
    assert_eq!(cut, whole, "cut otherwise");
    let (events, fault) = drive::pump(&script);
    assert_eq!(events, whole.events, "to a pump");
    assert_eq!(fault, whole.fault, "to a pump");
});
