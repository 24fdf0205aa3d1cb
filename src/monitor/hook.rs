//! Where a test has the monitor die: at each step of what it does, as SIGKILL
//! would have it. In a release there is nothing of it. `tests/kernel/steps.rs` has them all.

/// `NBDCTL_TEST_DIE_AT=STEP[:N]`: at the Nth time that the step is reached.
#[cfg(debug_assertions)]
pub(super) fn reached(step: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static REACHED: AtomicU32 = AtomicU32::new(0);

    let Ok(wish) = std::env::var("NBDCTL_TEST_DIE_AT") else {
        return;
    };
    let (name, count) = wish.split_once(':').unwrap_or((&wish, "1"));
    if name != step {
        return;
    }
    let nth = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
    if count.parse() == Ok(nth) {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn reached(_: &str) {}
