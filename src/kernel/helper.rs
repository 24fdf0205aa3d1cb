//! A thread for what may never come back.
//!
//! A netlink command of this family runs inside sendmsg(2), uninterruptibly;
//! so can an open of a device or a write to its queue/. Whoever waits for one
//! does so with a deadline, and leaves the thread behind when it passes.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::error::Error;

/// Runs a job in a thread of its own and waits for it.
///
/// # Errors
///
/// [`Error::Stuck`] when it is not done within `allowed`; the job goes on, and
/// owns everything that it needs.
pub(super) fn run<T: Send + 'static>(
    what: impl Into<String>,
    allowed: Duration,
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let what = what.into();
    let (sender, receiver) = mpsc::channel();
    let late = lateness(&what);
    thread::Builder::new()
        .name("kernel-helper".to_owned())
        .spawn(move || {
            thread::sleep(late);
            // The caller may have given up.
            let _ = sender.send(job());
        })
        .map_err(Error::file("a helper thread"))?;
    receiver
        .recv_timeout(allowed)
        .unwrap_or(Err(Error::Stuck { what, allowed }))
}

/// Where a test has the kernel be slow: `NBDCTL_TEST_SLOW=MILLISECONDS:WHAT`, for
/// what begins so. In a release there is nothing of it.
#[cfg(debug_assertions)]
fn lateness(what: &str) -> Duration {
    let wish = std::env::var("NBDCTL_TEST_SLOW").unwrap_or_default();
    let (late, slow) = wish.split_once(':').unwrap_or_default();
    let applies = !slow.is_empty() && what.starts_with(slow);
    let late = late.parse().ok().filter(|_| applies);
    late.map_or(Duration::ZERO, Duration::from_millis)
}

#[cfg(not(debug_assertions))]
fn lateness(_: &str) -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_hangs_is_left_behind_at_its_deadline() {
        let result = run("a nap", Duration::from_millis(20), || {
            thread::sleep(Duration::from_secs(5));
            Ok(())
        });
        assert!(matches!(result, Err(Error::Stuck { what, .. }) if what == "a nap"));
    }
}
