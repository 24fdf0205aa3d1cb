//! A device that its monitor keeps, under a verifying load.

use std::env;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::{Load, LoadReport, Plan, Resumed};
use crate::machine::Machine;

/// What CI allows where the design says half a second, or a second and a bit: the
/// machines are shared. `make campaign` prints what it is.
pub const GENEROUS: Duration = Duration::from_secs(5);

pub const SECOND: Duration = Duration::from_secs(1);

/// What the design says of a server that is back: requests that come then are served
/// with the RECONFIGURE, and those in flight after io_timeout and the timer's rounding.
const FRESH: Duration = Duration::from_millis(500);
const IN_FLIGHT: Duration = Duration::from_millis(2300);

/// By how much the worst of many may miss it: two cores are shared with others.
const SLACK: Duration = SECOND;

/// Whether this is `make outages`, which has the machine to itself.
pub fn is_full_length() -> bool {
    env::var_os("NBDCTL_FULL_LENGTH").is_some()
}

/// The length of an outage: short in CI, as it is meant with `make outages`.
pub fn span(short: u64, full: u64) -> Duration {
    Duration::from_secs(if is_full_length() { full } else { short })
}

/// How I/O went on after outages of one kind.
#[derive(Default)]
pub struct Times {
    fresh: Vec<Duration>,
    in_flight: Vec<Duration>,
}

impl Times {
    pub fn add(&mut self, resumed: Resumed) {
        self.fresh.extend(resumed.fresh);
        self.in_flight.extend(resumed.in_flight);
    }

    /// Prints them. With `make outages` most are as the design says, and none is much
    /// longer; in CI `resumes` has a bound for each.
    pub fn assert(mut self, what: &str) {
        let both = [
            ("new requests", &mut self.fresh, FRESH),
            ("in flight", &mut self.in_flight, IN_FLIGHT),
        ];
        for (kind, times, limit) in both {
            times.sort();
            let Some(most) = times.last().copied() else {
                continue;
            };
            let median = times[times.len() / 2];
            let count = times.len();
            println!("{what}, {kind}: median {median:.2?}, max {most:.2?} of {count}: {times:.2?}");
            if is_full_length() {
                assert!(median <= limit, "{what}, {kind}: {median:?}");
                assert!(most <= limit + SLACK, "{what}, {kind}: {most:?}");
            }
        }
    }
}

pub struct Kept<'a> {
    pub machine: &'a Machine,
    pub device: PathBuf,
    image: PathBuf,
    uri: String,
    extra: Vec<String>,
    load: Option<Load>,
}

impl<'a> Kept<'a> {
    /// Attaches it as `x`.
    pub fn attach(machine: &'a Machine, image: &Path, uri: &str, extra: &[&str]) -> Self {
        let mut kept = Self {
            machine,
            device: PathBuf::new(),
            image: image.to_owned(),
            uri: uri.to_owned(),
            extra: extra.iter().map(|text| (*text).to_owned()).collect(),
            load: None,
        };
        kept.device = machine.attach(&kept.args()).into();
        kept
    }

    /// One that was attached as `x` at the first device in some other way.
    pub fn of_another(machine: &'a Machine, image: &Path, uri: &str) -> Self {
        Self {
            machine,
            device: "/dev/nbd0".into(),
            image: image.to_owned(),
            uri: uri.to_owned(),
            extra: Vec::new(),
            load: None,
        }
    }

    /// Ends the load and detaches, whatever became of the data.
    pub fn abandon(mut self) {
        drop(self.load.take().map(Load::stop));
        self.machine.detach("x");
    }

    fn args(&self) -> Vec<&str> {
        let mut args = vec![self.uri.as_str(), "--name", "x"];
        args.extend(self.extra.iter().map(String::as_str));
        args
    }

    /// Attaches it again: its monitor is there afterwards.
    pub fn again(&self) {
        let device = self.machine.attach(&self.args());
        assert_eq!(Path::new(&device), self.device);
    }

    pub fn under(mut self, plan: Plan) -> Self {
        let load = Load::start(&self.device, plan);
        load.wait_until_running();
        self.load = Some(load);
        self
    }

    pub fn loaded(self) -> Self {
        self.under(Plan::default())
    }

    pub fn load(&self) -> &Load {
        self.load.as_ref().unwrap()
    }

    pub fn mark(&self) -> Instant {
        self.load().mark()
    }

    /// As `status --json` has it.
    pub fn status(&self) -> Value {
        let ran = self.machine.nbdctl(&["status", "x", "--json"]);
        let all: Value = serde_json::from_str(&ran.stdout).unwrap();
        all[0].clone()
    }

    pub fn number(&self, field: &str) -> u64 {
        self.status()[field].as_u64().unwrap_or(0)
    }

    pub fn wait_for(&self, state: &str, limit: Duration) {
        self.wait(limit, state, |status| status["state"] == state);
    }

    pub fn wait(&self, limit: Duration, what: &str, done: impl Fn(&Value) -> bool) {
        let until = Instant::now() + limit;
        loop {
            let status = self.status();
            if done(&status) {
                return;
            }
            assert!(Instant::now() < until, "it is not {what}: {status:#}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn kill_monitor(&self) {
        let pid = self.number("monitor_pid");
        assert_ne!(pid, 0, "it has a monitor");
        self.machine.sh(&format!("kill -9 {pid}"));
    }

    /// Waits until everything goes on, and checks how long it took from when it
    /// could.
    pub fn resumes(
        &self,
        down: Instant,
        back: Instant,
        fresh: Duration,
        in_flight: Duration,
    ) -> Resumed {
        let limit = fresh.max(in_flight) + GENEROUS;
        let went_on = self.load().wait_until_resumed(limit);
        let resumed = self.load().resumed_after(down, back);
        println!("{resumed:.3?}");
        let report = self.load().report();
        assert!(
            went_on,
            "it does not go on: {resumed:?}, {:#}\n{:?}",
            self.status(),
            report.unfinished
        );
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(report.wrong.is_empty(), "{:?}", report.wrong);
        // A reset is over before anything could begin in it.
        let took = resumed.fresh.or(resumed.waiting).expect("fresh requests");
        assert!(took <= fresh, "fresh requests: {took:?}");
        if let Some(took) = resumed.in_flight {
            assert!(took <= in_flight, "those in flight: {took:?}");
        }
        resumed
    }

    /// Ends the load, in which nothing failed and nothing was wrong.
    pub fn verify(&mut self) -> LoadReport {
        let report = self.load.take().unwrap().stop();
        report.assert_good();
        let wrong = report.verify_device(&self.device);
        assert!(wrong.is_empty(), "through the device: {wrong:?}");
        report
    }

    /// The same, and detaches it; the server's file is right, too.
    pub fn finish(self) {
        let machine = self.machine;
        self.finish_beside();
        machine.assert_clean();
    }

    /// The same, where other devices stay.
    pub fn finish_beside(mut self) {
        let report = self.verify();
        self.machine.detach("x");
        let wrong = report.verify_file(&self.image);
        assert!(wrong.is_empty(), "on the server: {wrong:?}");
    }
}
