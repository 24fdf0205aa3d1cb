//! A process of its own for what waits on a device: opening, reading, closing.
//!
//! Such a wait is uninterruptible and as long as the server's silence. A thread
//! would keep this process from ending, and its locks with it; a child holds
//! neither, and ends when the device is taken down.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::sysfs::Device;

/// What a child found, by its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Done.
    Done = 0,
    /// It failed, and said why on standard error.
    Failed = 1,
    /// Something has claimed the device, or a partition, exclusively.
    Claimed = 10,
    /// Somebody has it open.
    InUse = 11,
    /// It is another device by now, or none.
    Other = 12,
}

/// The verb that runs in a child; hidden from users.
pub const VERB: &str = "on-device";

/// How often a child, and whatever may make it pointless, is looked at.
const TICK: Duration = Duration::from_millis(10);

/// Runs this program anew as `on-device JOB DEVICE [BACKEND]` and waits for it, until
/// `pointless` says that there is no use in it.
pub(super) fn run(
    job: &str,
    device: &Device,
    backend: Option<&str>,
    what: &str,
    allowed: Duration,
    pointless: impl FnMut() -> Option<Error>,
) -> Result<Verdict, Error> {
    let child = Command::new("/proc/self/exe")
        .args([VERB, job, &device.name()])
        .args(backend)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A ^C is for us, who know what to do about it.
        .process_group(0)
        .spawn()
        .map_err(Error::file("/proc/self/exe"))?;
    wait(child, what, allowed, pointless)
}

fn wait(
    mut child: Child,
    what: &str,
    allowed: Duration,
    mut pointless: impl FnMut() -> Option<Error>,
) -> Result<Verdict, Error> {
    let until = Instant::now() + allowed;
    loop {
        let ended = child.try_wait().map_err(Error::file("a child process"))?;
        if let Some(status) = ended {
            return match status.code() {
                Some(0) => Ok(Verdict::Done),
                Some(code) if code == Verdict::Claimed as i32 => Ok(Verdict::Claimed),
                Some(code) if code == Verdict::InUse as i32 => Ok(Verdict::InUse),
                Some(code) if code == Verdict::Other as i32 => Ok(Verdict::Other),
                _ => Err(Error::Device(said(&mut child))),
            };
        }
        let late = Instant::now() >= until;
        if let Some(error) = pointless().or_else(|| {
            late.then(|| Error::Stuck {
                what: what.to_owned(),
                allowed,
            })
        }) {
            let _ = child.kill();
            reap(child);
            return Err(error);
        }
        thread::sleep(TICK);
    }
}

/// Waits for a child that ends when its device lets it. Such a wait keeps no process
/// from ending, and nothing else is to wait for it.
fn reap(mut child: Child) {
    let reaper = thread::Builder::new().name("reap".to_owned());
    if let Err(error) = reaper.spawn(move || child.wait()) {
        tracing::debug!("a child is left: {error}");
    }
}

/// The last words of a child that ended.
fn said(child: &mut Child) -> String {
    /// One line, and a path in it.
    const MAX: u64 = 8192;
    let mut text = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX).read_to_string(&mut text);
    }
    let line = text.trim().trim_start_matches("nbdctl: ");
    if line.is_empty() {
        "a helper process ended without a word".to_owned()
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_given_up_on_leaves_no_zombie() {
        let long = Duration::from_secs(60);
        for (allowed, pointless) in [(long, true), (Duration::ZERO, false)] {
            let child = Command::new("sleep").arg("60").spawn().unwrap();
            let process = format!("/proc/{}", child.id());
            let why = || pointless.then_some(Error::LinkLost);
            assert!(wait(child, "a nap", allowed, why).is_err());
            let until = Instant::now() + Duration::from_secs(10);
            while std::path::Path::new(&process).exists() {
                assert!(Instant::now() < until, "{process} is still there");
                thread::sleep(TICK);
            }
        }
    }
}
