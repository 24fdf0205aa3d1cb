//! What the monitor of a root sees to beside what all do. A process beside it goes on in its
//! place: where the server is away when it dies, nobody could execute another. And where
//! who manages the network takes the way to the server away, it puts that back. (That all
//! else waits for the root, only a root can show: `tests/boot`.)

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::kept::{GENEROUS, Kept, SECOND};
use crate::machine::Machine;
use crate::network::Net;
use crate::server;

const PORT: u16 = 10900;
const URI: &str = "nbd://127.0.0.1:10900/disk";

/// It waits so long for a successor, and may be slow.
const TAKEN: Duration = Duration::from_secs(25);

/// As an initramfs without units does it.
fn as_root<'a>(machine: &'a Machine, image: &Path, uri: &str) -> Kept<'a> {
    machine.sh(&format!(
        "umask 077; mkdir -p /run/nbdctl; cat >/run/nbdctl/x.toml <<END
uri = \"{uri}\"
device = \"/dev/nbd0\"
root = true
silence_timeout = 3
END"
    ));
    let started = machine.nbdctl(&["boot", "start", "x"]);
    assert_eq!(started.status, 0, "{started:?}");
    let waited = machine.nbdctl(&["boot", "wait", "x", "--timeout", "20"]);
    assert_eq!(waited.status, 0, "{waited:?}");
    Kept::of_another(machine, image, uri)
}

/// The process that stands by, other than that one.
fn standby(machine: &Machine, other_than: u64) -> u64 {
    for _ in 0..400 {
        let found = machine.sh("pgrep -x nbdctl-standby || true");
        let mut pids = found.lines().map(|line| line.parse().unwrap());
        if let Some(pid) = pids.find(|pid| *pid != other_than) {
            return pid;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody stands by: {}", machine.sh("ps -e -o pid,comm,args"));
}

newest!(it_goes_on_when_the_monitor_dies_in_an_outage, |machine| {
    let image = machine.image("image", 64 << 20);
    let start_server = || server::nbdkit(&image, PORT, &[], &[]);
    let server = start_server();
    let kept = as_root(machine, &image, URI).loaded();
    let first = standby(machine, 0);
    let down = kept.mark();
    server.kill();
    thread::sleep(SECOND);
    kept.kill_monitor();
    kept.wait(TAKEN, "taken over", |status| status["monitor_pid"] == first);
    let server = start_server();
    let back = kept.mark();
    kept.resumes(down, back, GENEROUS, GENEROUS);
    // It is a monitor as good as any: somebody stands by for it.
    let second = standby(machine, first);

    // Whoever is executed comes first.
    kept.kill_monitor();
    let program = env!("CARGO_BIN_EXE_nbdctl");
    machine.sh(&format!(
        "setsid {program} monitor x </dev/null >/dev/null 2>&1 &"
    ));
    kept.wait(TAKEN, "monitored", |status| status["monitor_pid"].is_u64());
    let third = standby(machine, second);
    let monitor = kept.number("monitor_pid");
    assert!(
        monitor != second && monitor != third,
        "{first} {second} {third}, {monitor}"
    );
    machine.sh(&format!(
        "for i in $(seq 100); do kill -0 {second} 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    ));

    // One that is gone is replaced.
    machine.sh(&format!("kill -9 {third}"));
    standby(machine, third);
    kept.finish();
    drop(server);
    machine.sh("! pgrep -l nbdctl");
});

newest!(it_goes_on_whatever_the_monitor_dies_of, |machine| {
    let image = machine.image("image", 64 << 20);
    let start_server = || server::nbdkit(&image, PORT, &[], &[]);
    let mut server = start_server();
    let kept = as_root(machine, &image, URI).loaded();
    // Whatever takes cores is a program, which would be executed, and waited for.
    machine.sh(
        "printf '#!/bin/sh\\ncat >/dev/null; : >%s/core\\n' $PWD >cores; chmod +x cores
        echo \"|$PWD/cores\" >/proc/sys/kernel/core_pattern
        (ulimit -c 0; sleep 9 & kill -ABRT $!; wait $! || true) 2>/dev/null
        for i in $(seq 50); do [ -e core ] && break; sleep 0.1; done; rm core",
    );
    let mut first = standby(machine, 0);
    for die in ["ABRT $monitor", "TERM $monitor $standby"] {
        let down = kept.mark();
        server.kill();
        thread::sleep(SECOND);
        let monitor = kept.number("monitor_pid");
        machine.sh(&format!("monitor={monitor} standby={first}; kill -{die}"));
        kept.wait(TAKEN, die, |status| status["monitor_pid"] == first);
        server = start_server();
        let back = kept.mark();
        kept.resumes(down, back, GENEROUS, GENEROUS);
        first = standby(machine, first);
    }
    assert!(!machine.path("core").exists());
    kept.finish();
    drop(server);
});

newest!(
    a_way_to_the_server_that_is_taken_away_is_put_back,
    |machine| {
        let image = machine.image("image", 64 << 20);
        let net = Net::new(machine);
        // Behind a router.
        machine.sh("ip -n server addr add 10.78.0.1/32 dev lo
        ip route add default via 10.77.0.2");
        let server = net.nbdkit(&image, PORT, &[], &[]);
        let kept = as_root(machine, &image, "nbd://10.78.0.1:10900/disk").loaded();
        let down = kept.mark();
        // As dhcpcd does it when the carrier is lost.
        machine.sh("ip -4 addr flush dev to-server");
        assert_eq!(machine.sh("ip -4 route show default"), "");
        let back = kept.mark();
        // Silence, a while for somebody else to do it, settle_time.
        let limit = Duration::from_secs(3 + 10 + 5) + 2 * GENEROUS;
        kept.resumes(down, back, limit, limit);
        let address = machine.sh("ip -4 addr show dev to-server");
        assert!(address.contains("inet 10.77.0.1/24"), "{address}");
        let route = machine.sh("ip -4 route show default");
        assert!(
            route.starts_with("default via 10.77.0.2 dev to-server"),
            "{route}"
        );
        assert!(
            route.contains("metric 4294967295"),
            "any other comes first: {route}"
        );
        kept.finish();
        drop(server);
    }
);
