//! A relay that is this test program: it speaks, and carries nothing.

use std::cell::Cell;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use super::start::{NoRelay, Offering, wait};
use super::*;
use crate::monitor::state::tests::state;
use crate::relay::message::{Failed, Promise, Standing};

/// What it is to do; unset in all other runs.
const FAKE: &str = "NBDCTL_FAKE_RELAY";

fn fake(what: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "monitor::relay::tests::the_fake", "--nocapture"])
        .env(FAKE, what);
    command
}

#[test]
fn the_fake() {
    if let Ok(what) = env::var(FAKE) {
        let listener = io::stdin().as_fd().try_clone_to_owned().unwrap();
        Fake::default().run(&what, &UnixListener::from(listener));
        // Without a word of the test's own.
        std::process::exit(0);
    }
}

#[derive(Default)]
struct Fake {
    report: Report,
    deaf: bool,
}

impl Fake {
    fn run(mut self, what: &str, listener: &UnixListener) {
        self.report.version = env!("CARGO_PKG_VERSION").to_owned();
        self.report.pid = std::process::id();
        match what {
            "ends" => return,
            "fails" => {
                self.report.failed = Some(Failed {
                    why: "no server".to_owned(),
                    exit: 4,
                    stalled: false,
                });
            }
            "old" => self.report.version = "0.0.1".to_owned(),
            _ => {}
        }
        if what != "fails" && what != "mute" {
            self.report.standing = Standing::Connected;
            self.report.offered = Some(offered());
        }
        while let Ok((stream, _)) = listener.accept() {
            let begun = self.report.device_size.is_some();
            if begun {
                self.tell(&stream);
            }
            if !self.listen(&stream, what) || self.report.device_size.is_none() {
                return;
            }
        }
    }

    /// One monitor; false where it said that this is to end.
    fn listen(&mut self, stream: &UnixStream, what: &str) -> bool {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            match serde_json::from_str(&line).unwrap() {
                Order::Begin(begin) => {
                    // So that a test sees what it was told.
                    self.report.last_error =
                        Some(format!("{} {}", begin.uri, begin.addresses.join(" ")));
                    if what == "mute" {
                        continue;
                    }
                }
                Order::Serve(promise) => self.report.device_size = Some(promise.size),
                Order::Grow { size } => self.report.device_size = Some(size),
                Order::Drain {} => return false,
                Order::Retry { .. } => self.deaf = true,
                _ => {}
            }
            if !self.deaf {
                self.tell(stream);
            }
        }
        true
    }

    fn tell(&self, mut stream: &UnixStream) {
        let line = serde_json::to_string(&self.report).unwrap();
        let _ = stream.write_all(format!("{line}\n").as_bytes());
    }
}

fn offered() -> Offered {
    Offered {
        size: 1 << 20,
        flags: 0b1101,
        minimum: 1,
        preferred: 4096,
        maximum_payload: 1 << 25,
        headers: "extended".to_owned(),
    }
}

const PROMISE: Promise = Promise {
    size: 1 << 20,
    flags: 0b1101,
    block_size: 512,
    max_request: 1 << 20,
};

struct Rig {
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Rig {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            settings: state().settings,
        }
    }

    fn start(&self) -> Start<'_> {
        Start {
            settings: &self.settings,
            addresses: vec!["10.0.0.1:10809".to_owned()],
            socket: self.folder.path().join("new"),
            going_down: false,
            allowed: Duration::from_secs(30),
        }
    }

    fn offering(&self, what: &str) -> Offering {
        let begun = Cell::new(false);
        let offering = self
            .start()
            .run_as(fake(what), || begun.set(true), &|| false)
            .unwrap();
        assert!(begun.get());
        offering
    }

    fn installed(&self, what: &str) -> (Offering, PathBuf) {
        let mut offering = self.offering(what);
        let path = self.folder.path().join("relay.sock");
        offering.relay.install(&path).unwrap();
        offering.relay.order(&Order::Serve(PROMISE));
        hear(&mut offering.relay, |report| report.device_size.is_some());
        (offering, path)
    }
}

fn hear(relay: &mut Relay, done: impl Fn(&Report) -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !relay.report().is_some_and(&done) {
        assert_ne!(relay.hear_within(Duration::from_secs(1)), Heard::End);
        assert!(Instant::now() < until, "{:?}", relay.report());
    }
}

fn ends(relay: &Relay) {
    assert!(relay.process.ends_within(Duration::from_secs(20)));
}

#[test]
fn a_relay_is_told_where_to_dial_and_says_what_it_found() {
    let rig = Rig::new();
    let offering = rig.offering("offers");
    assert_eq!(offering.offered, offered());
    let report = offering.relay.report().unwrap();
    assert_eq!(
        report.last_error.as_deref(),
        Some("nbd://h/x 10.0.0.1:10809")
    );
    assert_eq!(report.pid, offering.relay.id().pid);
    assert_eq!(export(&offering.offered).size, 1 << 20);
    assert!(!offering.socket.is_hung_up());
}

#[test]
fn one_that_is_of_no_use_is_killed_and_nothing_is_left_of_it() {
    let rig = Rig::new();
    let offering = rig.offering("offers");
    let (id, socket) = (offering.relay.id(), offering.socket);
    drop(offering.relay);
    let until = Instant::now() + Duration::from_secs(20);
    while Process::find(id).is_some() || !socket.is_hung_up() {
        assert!(Instant::now() < until, "a copy of its end is left");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 0);
}

#[test]
fn why_there_is_no_session_is_told() {
    let rig = Rig::new();
    let run = |what| {
        rig.start()
            .run_as(fake(what), || {}, &|| false)
            .unwrap_err()
    };
    let NoRelay::Failed(failed) = run("fails") else {
        panic!("it failed otherwise");
    };
    assert_eq!((failed.why.as_str(), failed.exit), ("no server", 4));
    assert!(matches!(run("ends"), NoRelay::Lost(_)));
    let stopped = rig.start().run_as(fake("mute"), || {}, &|| true);
    assert!(matches!(stopped, Err(NoRelay::Stopped)));
    let missing = rig
        .start()
        .run_as(Command::new("/no/such/program"), || {}, &|| false);
    assert!(matches!(missing, Err(NoRelay::Lost(_))));
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 0);
}

#[test]
fn one_that_never_has_a_session_is_given_up() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let us = Process::of(std::process::id()).unwrap();
    // Kept, or it would be killed in the end.
    let nowhere = Path::new("/nonexistent");
    let mut relay = Relay::new(Line::new(ours).unwrap(), us, nowhere, false);
    let none = wait(&mut relay, Duration::from_millis(1), &|| false).unwrap_err();
    let failure = crate::monitor::machine::Failure::from(none);
    assert!(failure.stalled && failure.why.contains("no session"));
}

#[test]
fn one_that_hangs_up_and_lives_is_connected_to_anew_and_not_killed() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("relay.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let child = Command::new("sleep").arg("60").spawn();
    let mut child = child.unwrap();
    let process = Process::of(child.id()).unwrap();
    let line = Line::new(UnixStream::connect(&path).unwrap()).unwrap();
    let mut relay = Relay::new(line, process, &path, false);
    drop(listener.accept().unwrap());
    assert_eq!(relay.hear(), Heard::Nothing);
    let (mut anew, _) = listener.accept().unwrap();
    anew.write_all(b"{\"version\":\"0.2\",\"pid\":7,\"unheard-of\":[]}\n")
        .unwrap();
    assert_eq!(relay.hear(), Heard::News);
    assert_eq!(relay.report().map(|report| report.pid), Some(7));
    drop(anew);
    assert_eq!(relay.hear(), Heard::End, "twice is once too often");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_successor_takes_it_over_and_it_outlives_its_first_monitor() {
    let rig = Rig::new();
    let (mut offering, path) = rig.installed("offers");
    offering.relay.keep();
    let id = offering.relay.id();
    drop(offering.relay);
    assert!(ask(&path, Duration::from_secs(20)).is_some());
    let mut second = Relay::adopt(&path, id).unwrap();
    hear(&mut second, |report| report.device_size == Some(1 << 20));
    second.order(&Order::Grow { size: 1 << 21 });
    hear(&mut second, |report| report.device_size == Some(1 << 21));
    assert!(second.is_current());
    second.order(&Order::Drain {});
    ends(&second);
    assert_eq!(second.hear_within(Duration::from_secs(20)), Heard::End);
    assert!(Relay::adopt(&path, id).is_none());
    assert!(ask(&path, Duration::from_secs(1)).is_none());
}

#[test]
fn one_that_takes_nobody_is_ended() {
    let rig = Rig::new();
    let (mut offering, path) = rig.installed("offers");
    offering.relay.keep();
    std::fs::remove_file(&path).unwrap();
    assert!(Relay::adopt(&path, offering.relay.id()).is_none());
    ends(&offering.relay);
}

#[test]
fn one_of_another_version_is_told() {
    let rig = Rig::new();
    let (offering, _) = rig.installed("old");
    assert!(!offering.relay.is_current());
}

#[test]
fn silence_is_told_from_having_nothing_to_say() {
    let rig = Rig::new();
    let (mut offering, _) = rig.installed("offers");
    let relay = &mut offering.relay;
    let begun = Instant::now();
    let mut answers = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        assert!(!relay.is_stuck(Duration::from_secs(8)));
        let heard = relay.hear_within(Duration::from_millis(20));
        answers += u32::from(heard == Heard::News);
    }
    assert!((1..=3).contains(&answers), "{answers}");
    let timeout = Duration::from_millis(200);
    relay.order(&Order::Retry { cut: false });
    let until = Instant::now() + Duration::from_secs(20);
    while !relay.is_stuck(timeout) {
        let _ = relay.hear_within(Duration::from_millis(20));
        assert!(Instant::now() < until);
    }
}

#[test]
fn one_whose_device_is_gone_is_seen_off() {
    let rig = Rig::new();
    let (offering, _) = rig.installed("offers");
    let id = offering.relay.id();
    // The fake one does not look at its end of the pair.
    see_off(id);
    ends(&offering.relay);
    see_off(id);
}
