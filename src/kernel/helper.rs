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
    thread::Builder::new()
        .name("kernel-helper".to_owned())
        .spawn(move || {
            // The caller may have given up.
            let _ = sender.send(job());
        })
        .map_err(Error::file("a helper thread"))?;
    receiver
        .recv_timeout(allowed)
        .unwrap_or(Err(Error::Stuck { what, allowed }))
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
