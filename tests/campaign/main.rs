//! A campaign: one device under a verifying load, and random faults of server,
//! network and monitor, one after the other. `make campaign` runs it.
//!
//!     campaign [seed=N] [faults=N] [server=nbdkit|qemu-nbd|nbd-server]
//!              [kernel=6.1|6.12] [path=kernel|relay] [only=FAULT,…]
//!
//! Each fault is followed by waiting until everything that it held up went on; a
//! device that does not go on ends the campaign. It fails when an operation did,
//! or a block was wrong. The same seed makes the same faults.
//!
//! It boots a guest, as the scenarios do, and is itself what runs there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    unused_macros,
    unreachable_pub,
    reason = "it is all tests"
)]

#[path = "../kernel/load/mod.rs"]
mod load;
#[path = "../kernel/machine.rs"]
mod machine;
#[path = "../kernel/network.rs"]
mod network;
#[path = "../kernel/reset.rs"]
mod reset;
#[path = "../kernel/server.rs"]
mod server;

mod faults;
mod table;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use faults::{Fault, Rig};
use load::{Load, Plan, Random};
use machine::Machine;
use table::Table;

/// After an outage everything must go on within this: the longest that a monitor
/// may wait between two tries, and what requests in flight take.
const RESUMES: Duration = Duration::from_secs(45);
/// What a fault takes at most, with what comes after it; for the guest's limit.
const FAULT_SECONDS: u32 = 20 + 45;
const AROUND: u32 = 120;

struct Settings {
    seed: u64,
    faults: u32,
    server: String,
    kernel: String,
    path: String,
    only: Vec<Fault>,
}

impl Settings {
    fn parse(args: impl Iterator<Item = String>) -> Self {
        let mut settings = Self {
            seed: 1,
            faults: 20,
            // nbdkit 1.32 may abort when a connection is reset, and ends a campaign.
            server: "qemu-nbd".to_owned(),
            kernel: "6.12".to_owned(),
            path: "kernel".to_owned(),
            only: Vec::new(),
        };
        for arg in args {
            let (name, value) = arg.split_once('=').expect("NAME=VALUE");
            match name {
                "seed" => settings.seed = value.parse().expect("a number"),
                "faults" => settings.faults = value.parse().expect("a number"),
                "server" => value.clone_into(&mut settings.server),
                "kernel" => value.clone_into(&mut settings.kernel),
                "path" => value.clone_into(&mut settings.path),
                "only" => settings.only = value.split(',').map(Fault::named).collect(),
                _ => panic!("{name}: unknown"),
            }
        }
        if settings.only.is_empty() {
            settings.only = Fault::of(&settings.path);
        }
        settings
    }
}

fn main() -> ExitCode {
    let settings = Settings::parse(env::args().skip(1));
    if env::var_os("NBDCTL_GUEST").is_some() {
        return campaign(&settings);
    }
    let args: Vec<String> = env::args().skip(1).collect();
    let limit = AROUND + settings.faults * FAULT_SECONDS;
    let status = machine::guest(&settings.kernel, limit).args(args).status();
    let good = status.unwrap().success();
    println!("{}", if good { "good" } else { "failed" });
    ExitCode::from(u8::from(!good))
}

fn campaign(settings: &Settings) -> ExitCode {
    let machine = Machine::new();
    let mut random = Random(settings.seed);
    let mut rig = Rig::new(&machine, &settings.server, &settings.path);
    let plan = Plan {
        seed: settings.seed,
        // So that several campaigns fit a machine.
        pace: Some(Duration::from_millis(3)),
        ..Plan::default()
    };
    let device = rig.attach().expect("the first attach");
    let load = Load::start(Path::new(&device), plan);
    let mut table = Table::default();
    let went_on = (1..=settings.faults).all(|number| {
        let pick = random.below(u64::try_from(settings.only.len()).unwrap());
        let fault = settings.only[usize::try_from(pick).unwrap()];
        println!("{number} of {}: {fault:?}", settings.faults);
        one(&mut rig, &load, fault, &mut random, &mut table)
    });
    let good = end(&rig, load, &table, went_on);
    ExitCode::from(u8::from(!good))
}

/// One fault and what comes of it; whether the campaign can go on.
fn one(
    rig: &mut Rig<'_>,
    load: &Load,
    fault: Fault,
    random: &mut Random,
    table: &mut Table,
) -> bool {
    load.wait_until_running();
    // Some time to read what the last fault may have done.
    thread::sleep(Duration::from_millis(500 + random.below(1500)));
    let before = load.counts();
    let begun = Instant::now();
    let (down, back) = match rig.inject(load, fault, random) {
        Ok(outage) => outage,
        Err(why) => {
            println!("  cannot be made: {why}");
            table.skipped(fault);
            return true;
        }
    };
    let went_on = load.wait_until_resumed(RESUMES);
    let resumed = load.resumed_after(down, back);
    let now = load.counts();
    table.add(
        fault,
        resumed,
        now.errors - before.errors,
        now.wrong - before.wrong,
    );
    println!("  after {:.1?}: {resumed:.3?}", begun.elapsed());
    if !went_on {
        println!("  I/O DID NOT GO ON within {RESUMES:?}");
    }
    went_on
}

/// Verifies, detaches, prints; whether all was good.
fn end(rig: &Rig<'_>, load: Load, table: &Table, went_on: bool) -> bool {
    let device = rig.device();
    let (report, wrong) = if went_on {
        let report = load.stop();
        let mut wrong = report.verify_device(Path::new(&device));
        println!("{}", rig.detach(&[]));
        wrong.extend(report.verify_file(&rig.image));
        (report, wrong)
    } else {
        // Nothing can be read of a dead device; without it the load can end.
        let report = thread::scope(|scope| {
            let ending = scope.spawn(|| load.stop());
            println!("{}", rig.detach(&["--force"]));
            ending.join().unwrap()
        });
        let wrong = report.verify_file(&rig.image);
        (report, wrong)
    };
    for error in report.errors.iter().take(20) {
        println!("error: {error}");
    }
    for wrong in report.wrong.iter().chain(&wrong).take(20) {
        println!("WRONG: {wrong}");
    }
    println!("{table}\n{:?}", report.operations);
    println!(
        "wrong at the end: {}, unfinished: {}",
        wrong.len(),
        report.unfinished.len()
    );
    let bad = report.operations.errors + report.operations.wrong;
    went_on && bad == 0 && wrong.is_empty() && report.unfinished.is_empty() && table.is_complete()
}
