//! `tests/uml/run` does what the suites on the real driver lean on: it tells how a
//! command ended, and ends and explains a guest that does not. A harness that
//! hangs, or takes a dead guest for a passed test, would hide everything else.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "it is all tests"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A test for each kernel.
macro_rules! on_both {
    ($name:ident, $body:expr) => {
        mod $name {
            use super::*;

            const BODY: fn(&str) = $body;

            #[test]
            fn linux_6_1() {
                BODY("6.1");
            }

            #[test]
            fn linux_6_12() {
                BODY("6.12");
            }
        }
    };
}

on_both!(a_guest_that_hangs_is_ended_and_explained, |kernel| {
    let pieces = [
        "before\n",
        "run: the guest did not end within",
        "/tests/uml/init as init process",
        "init: out of time soon; processes",
        "S    sleep 100",
        "Show Blocked State",
    ];
    // It has this long, less two seconds and those it took to boot, to tell about itself;
    // on a machine that is busy with something else that may not do.
    let mut missing = Vec::new();
    for seconds in [5, 10, 20] {
        let begun = Instant::now();
        let guest = Guest::start(
            kernel,
            seconds,
            &["sh", "-c", "echo before; exec sleep 100"],
        );
        let output = guest.end();
        assert_eq!(output.status.code(), Some(124), "{output:?}");
        let limit = Duration::from_secs(seconds.into()) + Duration::from_secs(5);
        assert!(begun.elapsed() < limit, "{output:?}");
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        missing = pieces.iter().filter(|p| !said.contains(**p)).collect();
        if missing.is_empty() {
            break;
        }
        eprintln!("{said}");
    }
    assert!(missing.is_empty(), "{missing:?}");
});

on_both!(a_guest_that_dies_is_no_success, |kernel| {
    let output = end(
        kernel,
        &["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 9"],
    );
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert_said(&output, "run: the guest ended without a verdict");
    assert_said(&output, "/tests/uml/init as init process");
    assert_said(&output, "Kernel panic");
});

on_both!(arguments_output_and_status_pass_unchanged, |kernel| {
    let odd: &[&[u8]] = &[
        b"",
        b" two  words ",
        b"line\nline\r\n\ttab",
        b"'\"`$HOME$(id)\\",
        b"*?[a-z]{1,2}~",
        b"-n",
        b"--",
        b"a=b;c&d|e>f#g!",
        b"%s%n\x01\x1b[0m\x7f",
        "z\u{e4}hlen \u{2713}".as_bytes(),
        b"no \xff\xfe UTF-8",
    ];
    let script = "printf '[%s]' \"$@\"; echo error >&2; exit 7";
    let mut command: Vec<_> = ["bash", "-c", script, "bash"].map(OsStr::new).into();
    command.extend(odd.iter().map(|argument| OsStr::from_bytes(argument)));
    let output = end(kernel, &command);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let mut expected: Vec<u8> = Vec::new();
    for argument in odd {
        expected.extend([b"[", *argument, b"]"].concat());
    }
    expected.extend(b"error\n");
    assert_eq!(output.stdout, expected, "{output:?}");
    assert_eq!(text(&output.stderr), "");
});

#[test]
fn every_status_passes() {
    for (script, status) in [("exit 0", 0), ("exit 255", 255), ("kill -KILL $$", 137)] {
        let output = end("6.12", &["bash", "-c", script]);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn a_run_that_is_ended_leaves_nothing() {
    for (signal, status) in [("TERM", Some(143)), ("KILL", None)] {
        // Not before it is up, as it would then fail, and end, by itself.
        let script = "echo up >/dev/console; exec sleep 100";
        let mut guest = Guest::start("6.12", 60, &["sh", "-c", script]);
        while !guest.log().lines().any(|line| line.trim() == "up") {
            assert!(guest.look(), "it ended");
            thread::sleep(Duration::from_millis(20));
        }
        let pid = guest.pid.to_string();
        let kill = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(kill.unwrap().success());
        if status.is_none() {
            // Nobody is left to remove its folder but the next run.
            guest.wait();
            end("6.12", &["true"]);
        }
        assert_eq!(guest.end().status.code(), status, "{signal}");
    }
}

#[test]
fn what_cannot_be_is_told() {
    let output = end("6.99", &["true"]);
    assert_eq!(output.status.code(), Some(126));
    assert_said(&output, "User Mode Linux 6.99 is not installed");
    let output = end::<&str>("6.12", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert_said(&output, "usage: tests/uml/run");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_said(output: &Output, piece: &str) {
    let said = text(&output.stderr);
    assert!(said.contains(piece), "{piece:?} is not in:\n{said}");
}

fn end<S: AsRef<OsStr>>(kernel: &str, command: &[S]) -> Output {
    Guest::start(kernel, 60, command).end()
}

/// A run, and what was seen of it.
struct Guest {
    pid: u32,
    output: JoinHandle<Output>,
    /// Its working folder.
    folder: Option<PathBuf>,
    /// Its processes, those that are gone included, with their start times.
    processes: BTreeMap<u32, String>,
}

impl Guest {
    fn start<S: AsRef<OsStr>>(kernel: &str, limit: u32, command: &[S]) -> Self {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/run");
        let child = Command::new(run)
            .args(["--kernel", kernel, "--timeout", &limit.to_string(), "--"])
            .args(command)
            .env_remove("NBDCTL_KEEP")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            pid: child.id(),
            output: thread::spawn(|| child.wait_with_output().unwrap()),
            folder: None,
            processes: BTreeMap::new(),
        }
    }

    /// Takes a look at its processes; false once run has ended.
    fn look(&mut self) -> bool {
        let all: BTreeMap<_, _> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, process(pid)?)))
            .collect();
        for (&pid, (_, started)) in &all {
            let parent = |pid: &u32| all.get(pid).map(|(parent, _)| *parent);
            let mut line = std::iter::successors(Some(pid), parent);
            if line.any(|ancestor| ancestor == self.pid) {
                self.processes.insert(pid, started.clone());
            }
        }
        for pid in self.processes.keys() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if let Some((_, name)) = text(&line).split_once("umid=") {
                let name = name.split('\0').next().unwrap();
                self.folder = Some(Path::new("/dev/shm").join(name));
            }
        }
        // Not whether its output ended: what it left behind may hold that open.
        process(self.pid).is_some()
    }

    fn log(&self) -> String {
        let console = self.folder.as_ref().map(|folder| folder.join("console"));
        console.map_or_else(String::new, |file| {
            text(&fs::read(file).unwrap_or_default())
        })
    }

    fn wait(&mut self) {
        while self.look() {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end, of which nothing may be left.
    fn end(mut self) -> Output {
        self.wait();
        // A run that is killed does not live to see the end of its guest.
        let soon = Instant::now() + Duration::from_secs(2);
        loop {
            let same = |(&pid, started): (&u32, &String)| {
                process(pid).is_some_and(|(_, now)| now == *started)
            };
            let left: Vec<_> = self.processes.iter().filter(|p| same(*p)).collect();
            let folder = self.folder.iter().find(|folder| folder.exists());
            if left.is_empty() && folder.is_none() {
                break;
            }
            assert!(Instant::now() < soon, "left: {left:?}, {folder:?}");
            thread::sleep(Duration::from_millis(20));
        }
        self.output.join().unwrap()
    }
}

/// The parent and start time of a process that is no zombie.
fn process(pid: u32) -> Option<(u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have anything in it.
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let alive = !matches!(fields[0], "Z" | "X");
    alive.then(|| (fields[1].parse().unwrap(), fields[19].to_owned()))
}
