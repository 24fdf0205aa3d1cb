//! A monitor that dies at each step of what it does, as SIGKILL would have it, and the
//! one that comes after it. The steps are `hook::reached` in `src/monitor`; relays have
//! theirs in `relay.rs`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::kept::{GENEROUS, Kept, SECOND};
use crate::machine::Machine;
use crate::monitors::saying;
use crate::server;

const PORT: u16 = 10900;
const URI: &str = "nbd://127.0.0.1:10900/disk";
const IN_FLIGHT: Duration = Duration::from_millis(2300);

fn image(machine: &Machine) -> PathBuf {
    machine.image("image", 64 << 20)
}

/// Attaches with a monitor that dies at a step, now or when it comes to it.
fn doomed(step: &str) {
    doomed_with(step, &["--connect-timeout", "1"]);
}

fn doomed_with(step: &str, extra: &[&str]) {
    let attach = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
        .args(["attach", URI, "--name", "x"])
        .args(extra)
        .env("NBDCTL_TEST_DIE_AT", step)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // It may be dead by the time that attach asks.
    let _ = attach.unwrap();
}

/// The doomed one comes as far as its step.
fn assert_died(machine: &Machine, step: &str, limit: Duration) {
    let tries = limit.as_millis() / 50;
    let left = machine.try_sh(&format!(
        "for _ in $(seq {tries}); do pgrep -x nbdctl >/dev/null || exit 0; sleep 0.05; done
         pgrep -lx nbdctl"
    ));
    assert_eq!(left.stdout, "", "the monitor did not die at \"{step}\"");
}

scenario!(a_monitor_may_die_at_every_step, |machine| {
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let mut server = start();
    let kept = Kept::attach(machine, &image, URI, &[]).loaded();
    for step in [
        "dial",
        "dial:3",
        "offered",
        "offer-stored",
        "hand-over",
        "taken",
        "linked",
    ] {
        kept.kill_monitor();
        doomed(step);
        server.kill();
        let down = kept.mark();
        thread::sleep(SECOND);
        server = start();
        // The one that dies comes as far as its step.
        thread::sleep(Duration::from_millis(700));
        let left = machine.try_sh("pgrep -x nbdctl").stdout;
        assert_eq!(left, "", "the monitor did not die at \"{step}\"");
        let back = kept.mark();
        kept.again();
        kept.resumes(down, back, GENEROUS, IN_FLIGHT + GENEROUS);
        println!("{step}: it goes on");
    }
    kept.finish();
});

newest!(a_monitor_may_die_while_it_cuts_or_gives_up, |machine| {
    let image = image(machine);
    // nbdkit may abort when a connection is reset.
    let start = || server::qemu_nbd(&image, PORT, &[]);
    let mut server = start();
    let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
    for step in ["cut-stored", "cut"] {
        machine.sh(&format!(
            "NBDCTL_TEST_DIE_AT={step} {nbdctl} attach {URI} --name x --settle-time 2"
        ));
        let kept = Kept::of_another(machine, &image, URI).loaded();
        // It answers nobody any more.
        machine.try_sh(&saying("{\"request\":\"reconnect\",\"cut\":true}"));
        let down = kept.mark();
        machine.sh("sleep 0.5");
        let left = machine.try_sh("pgrep -x nbdctl").stdout;
        assert_eq!(left, "", "the monitor did not die at \"{step}\"");
        let back = kept.mark();
        machine.sh(&format!("{nbdctl} attach {URI} --name x --settle-time 2"));
        let settled = 2 * SECOND + GENEROUS;
        kept.resumes(down, back, settled, settled + IN_FLIGHT);
        // A cut that was done and not settled is the successor's to settle.
        let waited = kept.number("last_outage_ms");
        assert!(step == "cut-stored" || waited >= 2000, "{waited}");
        kept.finish();
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    }
    for step in ["give-up", "gave-up-half"] {
        let kept = Kept::attach(machine, &image, URI, &["--dead-timeout", "2"]);
        kept.kill_monitor();
        doomed(step);
        server.kill();
        assert_died(machine, step, 4 * SECOND + GENEROUS);
        // Its successor gives up anew, and wholly; attach may wait for that, and say so.
        let ran = machine.nbdctl(&["attach", URI, "--name", "x", "--dead-timeout", "2"]);
        assert!([0, 6].contains(&ran.status), "{step}: {ran:?}");
        kept.wait_for("dead", 4 * SECOND + GENEROUS);
        let failed =
            machine.try_sh("timeout 20 dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct");
        assert!(
            failed.stderr.contains("Input/output error"),
            "{step}: {failed:?}"
        );
        server = start();
        kept.wait_for("connected", GENEROUS);
        works_and_goes(machine, step);
    }
    drop(server);
});

/// What a device must do again, and that it goes without a trace.
fn works_and_goes(machine: &Machine, step: &str) {
    machine.sh("dd if=/dev/nbd0 of=/dev/null bs=4k skip=7 count=1 iflag=direct status=none");
    machine.detach("x");
    machine.assert_clean();
    let io_timeout = machine.sh("cat /sys/block/nbd0/queue/io_timeout");
    assert_eq!(io_timeout, "30000", "{step}");
    println!("{step}: it is whole");
}

newest!(a_monitor_may_die_while_it_makes_its_device, |machine| {
    let image = image(machine);
    let server = server::nbdkit(&image, PORT, &[], &[]);
    for step in ["connect-stored", "connected", "queue-set", "usable"] {
        doomed_with(step, &[]);
        assert_died(machine, step, GENEROUS);
        // What is there of it is finished, or made.
        machine.attach(&[URI, "--name", "x"]);
        works_and_goes(machine, step);
    }
    // And so may the one that finishes what another left half-made.
    doomed_with("connected", &[]);
    doomed_with("finish", &[]);
    assert_died(machine, "finish", GENEROUS);
    machine.attach(&[URI, "--name", "x"]);
    works_and_goes(machine, "finish");
    drop(server);
});

newest!(a_monitor_may_die_while_it_takes_a_device_over, |machine| {
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let mut server = start();
    let kept = Kept::attach(machine, &image, URI, &[]).loaded();
    for step in ["adopt", "adopted"] {
        for outage in [false, true] {
            kept.kill_monitor();
            if outage {
                server.kill();
                doomed(step);
                server = start();
            } else {
                doomed(step);
            }
            let down = kept.mark();
            assert_died(machine, step, GENEROUS);
            let back = kept.mark();
            kept.again();
            kept.resumes(down, back, GENEROUS, IN_FLIGHT + GENEROUS);
            println!("{step}, an outage: {outage}: it goes on");
        }
    }
    kept.finish();
    drop(server);
});

newest!(a_monitor_may_die_while_it_detaches, |machine| {
    let image = image(machine);
    let server = server::nbdkit(&image, PORT, &[], &[]);
    for step in ["detach", "released"] {
        doomed(step);
        let first = machine.nbdctl(&["detach", "x"]);
        assert_died(machine, step, GENEROUS);
        println!("{step}: {first:?}");
        // What is left of it, another does; or there is nothing left (3).
        let second = machine.nbdctl(&["detach", "x"]);
        assert!([0, 3].contains(&second.status), "{step}: {second:?}");
        machine.assert_clean();
        let io_timeout = machine.sh("cat /sys/block/nbd0/queue/io_timeout");
        assert_eq!(io_timeout, "30000", "{step}");
        machine.attach(&[URI, "--name", "x"]);
        works_and_goes(machine, step);
    }
    drop(server);
});

newest!(a_monitor_may_die_while_its_device_grows, |machine| {
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let extra = ["--resize", "live", "--silence-timeout", "4"];
    for (step, size) in [("resize-stored", 96u64), ("resized", 128)] {
        let server = start();
        doomed_with(step, &extra);
        server.kill();
        machine.image("image", size << 20);
        let server = start();
        assert_died(machine, step, 10 * SECOND);
        let kept = Kept::attach(machine, &image, URI, &extra);
        kept.wait_for("connected", GENEROUS);
        let sectors = || {
            machine
                .sh("cat /sys/block/nbd0/size")
                .parse::<u64>()
                .unwrap()
        };
        let until = Instant::now() + 2 * GENEROUS;
        while sectors() != size << 11 {
            assert!(Instant::now() < until, "{step}: {}", sectors());
            thread::sleep(Duration::from_millis(50));
        }
        machine.sh(
            "dd if=/dev/nbd0 of=/dev/null bs=1M count=1 iflag=direct status=none \
             skip=$(($(cat /sys/block/nbd0/size) / 2048 - 1))",
        );
        works_and_goes(machine, step);
        drop(server);
    }
});
