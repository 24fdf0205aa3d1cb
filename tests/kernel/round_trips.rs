//! What attaching costs in round trips and time, beside the reference client
//! and libnbd's nbdinfo, in one run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::server;

/// One way; a round trip takes two.
const DELAY_MS: u32 = 100;

/// Rounds of each, in turn; the median counts.
const ROUNDS: usize = 4;

/// And how often more, where the machine may have been too busy.
const MORE: usize = 3;

/// From the start of a client until the kernel has its sockets, which it shows
/// in the same moment.
fn until_connected(machine: &Machine, device: &str, command: &[&str], undo: &[&str]) -> Duration {
    let pid = format!("/sys/block/{device}/pid");
    let begun = Instant::now();
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::fs::metadata(&pid).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{command:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed();
    child.wait().unwrap();
    machine.sh(&undo.join(" "));
    took
}

/// From start to end: nbdinfo attaches nothing.
fn until_done(command: &[&str]) -> Duration {
    let begun = Instant::now();
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}");
    begun.elapsed()
}

fn quickest(times: Vec<Duration>) -> Duration {
    times.into_iter().min().unwrap()
}

/// The quickest: nbdctl, nbd-client, nbdinfo.
fn measure(machine: &Machine, connections: &str) -> [Duration; 3] {
    // The one that users have: the debug one takes as long to start as the rest.
    let nbdctl = env!("CARGO_BIN_EXE_nbdctl").replace("/debug/", "/release/");
    let nbdctl = nbdctl.as_str();
    assert!(
        Path::new(nbdctl).exists(),
        "run cargo build --release first"
    );
    let uri = "nbd://127.0.0.1:10900/disk";
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(until_connected(
            machine,
            "nbd0",
            &[nbdctl, "attach", uri, "--connections", connections],
            &[nbdctl, "detach", "nbd0"],
        ));
        times[1].push(until_connected(
            machine,
            "nbd1",
            &[
                "nbd-client",
                "-N",
                "disk",
                "127.0.0.1",
                "10900",
                "/dev/nbd1",
                "-C",
                connections,
            ],
            &["nbd-client", "-d", "/dev/nbd1", ">/dev/null"],
        ));
        times[2].push(until_done(&["nbdinfo", "--size", uri]));
    }
    times.map(quickest)
}

/// In what attach, nbd-client and nbdinfo took, as it was without a delay, too: what is
/// wrong with the first.
///
/// Without a delay it is the programs' own start and the guest's dear system calls that
/// count (attach starts the device's monitor), on a machine that others share: a factor
/// tells a mistake there. What a delay adds is round trips, and a half of one tells one
/// too many.
fn excess(now: &[Duration; 3], before: Option<&[Duration; 3]>, delay: u32) -> Option<String> {
    let [ours, client, info] = *now;
    let Some(before) = before else {
        let slow = ours > 6 * client || ours > 6 * info;
        return slow.then(|| "attach takes six times what others do".to_owned());
    };
    let half = Duration::from_millis(delay.into());
    let added = |which: usize| now[which].saturating_sub(before[which]);
    let peers = [(1, "nbd-client"), (2, "nbdinfo")];
    let (which, name) = peers
        .into_iter()
        .find(|(which, _)| added(0) > added(*which) + half)?;
    let (ours, theirs) = (added(0), added(which));
    Some(format!("a delay adds {ours:?}, and {theirs:?} to {name}"))
}

newest!(attach_is_never_slower_than_its_peers, |machine| {
    let image = machine.image("image", 4 << 20);
    let _server = server::qemu_nbd(&image, 10900, &[]);
    println!("delay  connections  nbdctl  nbd-client  nbdinfo   (ms, the quickest of {ROUNDS})");
    let mut undelayed = std::collections::BTreeMap::new();
    for delay in [0, DELAY_MS] {
        if delay > 0 {
            machine.sh(&format!("tc qdisc add dev lo root netem delay {delay}ms"));
        }
        for connections in ["1", "4"] {
            let before = undelayed.get(connections).copied();
            let mut measured = measure(machine, connections);
            for _ in 0..MORE {
                if excess(&measured, before.as_ref(), delay).is_none() {
                    break;
                }
                // On a machine that others share all was too slow, perhaps; nothing is
                // ever too quick.
                let again = measure(machine, connections);
                measured = [0, 1, 2].map(|which| measured[which].min(again[which]));
            }
            let [ours, client, info] = measured;
            println!(
                "{:>5}  {connections:>11}  {:>6}  {:>10}  {:>7}",
                2 * delay,
                ours.as_millis(),
                client.as_millis(),
                info.as_millis()
            );
            let excess = excess(&measured, before.as_ref(), delay);
            assert_eq!(excess, None, "{measured:?}");
            undelayed.entry(connections).or_insert(measured);
        }
    }
    machine.sh("tc qdisc del dev lo root");
    machine.assert_clean();
});
