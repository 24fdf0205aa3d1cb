//! Devices whose I/O a relay carries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::kept::{GENEROUS, Kept, SECOND, span};
use crate::liar;
use crate::load::Random;
use crate::machine::Machine;
use crate::network::Net;
use crate::server;

const PORT: u16 = 10900;
const URI: &str = "nbd://127.0.0.1:10900/disk";

/// io_timeout and the timer's rounding: for what a relay had taken that died.
const IN_FLIGHT: Duration = Duration::from_millis(2300);

fn image(machine: &Machine) -> PathBuf {
    machine.image("image", 64 << 20)
}

fn attach<'a>(machine: &'a Machine, image: &Path, extra: &[&str]) -> Kept<'a> {
    Kept::attach(machine, image, URI, &[&["--path", "relay"], extra].concat())
}

fn relay_pid(kept: &Kept<'_>) -> u64 {
    kept.status()["relay"]["pid"].as_u64().unwrap_or(0)
}

fn signal(kept: &Kept<'_>, signal: &str) {
    let pid = relay_pid(kept);
    assert_ne!(pid, 0, "{:#}", kept.status());
    kept.machine.sh(&format!("kill -{signal} {pid}"));
}

scenario!(a_relay_carries_data_to_every_server, |machine| {
    for ((name, start), headers) in server::ALL
        .iter()
        .zip(["extended", "structured", "compact"])
    {
        let image = image(machine);
        let server = start(machine, &image, PORT);
        let kept = attach(machine, &image, &[]);
        let device = kept.device.display();
        machine.sh(&format!(
            "head -c 64M /dev/urandom >expected
             dd if=expected of={device} bs=1M oflag=direct conv=notrunc status=none
             head -c 5120 /dev/urandom >piece
             for place in 1 77 4095 131062; do
                 dd if=piece of={device} bs=512 seek=$place oflag=direct conv=fsync,notrunc status=none
                 dd if=piece of=expected bs=512 seek=$place conv=notrunc status=none
             done
             blkdiscard -z -o 1M -l 3M {device}
             dd if=/dev/zero of=expected bs=1M seek=1 count=3 conv=notrunc status=none
             cmp {device} expected"
        ));
        // Zeroes are not flushed by whoever asks for them.
        assert!(kept.status()["relay"]["unflushed"].as_u64().unwrap() > 0);
        machine.sh(&format!("sync {device}"));
        let status = kept.status();
        println!("{name}: {status:#}");
        assert_eq!(status["path"], "relay");
        assert_eq!(status["headers"], *headers);
        assert_eq!(status["state"], "connected");
        let link = &status["connections"][0];
        assert_eq!(link["peer"], "127.0.0.1:10900");
        assert!(link["bytes_sent"].as_u64().unwrap() > 64 << 20);
        assert_eq!(status["relay"]["unflushed"], 0);
        assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "1000");
        let shown = machine.nbdctl(&["status", "x"]).stdout;
        assert!(shown.contains("  relay      process"), "{shown}");
        // Nobody else has a socket of its own, or its end would stay unseen; and it has
        // none of netlink.
        let monitor = status["monitor_pid"].as_u64().unwrap();
        machine.sh(&format!(
            "inodes() {{ ls -l /proc/$1/fd | grep -o 'socket:.*' | tr -dc '0-9\\n' | sort; }}
             inodes {} >relays; inodes {monitor} >monitors
             test $(wc -l <relays) -ge 4
             test -z \"$(comm -12 relays monitors)\"
             test -z \"$(awk 'NR > 1 {{ print $NF }}' /proc/net/netlink | sort | comm -12 relays -)\"",
            relay_pid(&kept)
        ));
        machine.detach("x");
        machine.assert_clean();
        machine.sh("cmp image expected");
        drop(server);
    }
});

newest!(a_server_that_dies_and_comes_back_is_no_error, |machine| {
    for (name, start) in server::ALL {
        let image = image(machine);
        let mut server = start(machine, &image, PORT);
        let kept = attach(machine, &image, &[]).loaded();
        let times = span(3, 20).as_secs();
        for _ in 0..times {
            server.kill();
            let down = kept.mark();
            thread::sleep(SECOND);
            server = start(machine, &image, PORT);
            let back = kept.mark();
            // What was in flight is sent again at once.
            kept.resumes(down, back, GENEROUS, GENEROUS);
        }
        kept.wait_for("connected", GENEROUS);
        let status = kept.status();
        println!("{name}: {status:#}");
        assert_eq!(status["outages"], times);
        assert_eq!(status["reconnects"], times);
        let outage = status["last_outage_ms"].as_u64().unwrap();
        assert!((900..8000).contains(&outage), "{outage}");
        assert!(status["last_error"].is_string());
        kept.finish();
    }
});

newest!(an_outage_is_told_and_its_end_is_no_replacement, |machine| {
    let image = image(machine);
    let start = || server::qemu_nbd(&image, PORT, &[]);
    let server = start();
    let kept = attach(machine, &image, &[]).loaded();
    let relay = relay_pid(&kept);
    server.kill();
    kept.wait_for("reconnecting", GENEROUS);
    thread::sleep(SECOND);
    let status = kept.status();
    println!("{status:#}");
    assert!(status["outage_ms"].as_u64().unwrap() >= 1000);
    assert_eq!(status["connections"][0]["alive"], false);
    let shown = machine.nbdctl(&["status", "x"]).stdout;
    assert!(shown.contains("I/O waits for it"), "{shown}");
    // Another attach waits for the server as on the other path.
    let again = machine.nbdctl(&["attach", URI, "--name", "x", "--connect-timeout", "1"]);
    assert_eq!(again.status, 6, "{again:?}");
    let server = start();
    kept.wait_for("connected", GENEROUS);
    assert_eq!(relay_pid(&kept), relay);
    kept.finish();
    drop(server);
});

newest!(
    io_goes_on_through_outages_while_no_monitor_lives,
    |machine| {
        let image = image(machine);
        let start = || server::qemu_nbd(&image, PORT, &[]);
        let mut server = start();
        let kept = attach(machine, &image, &[]).loaded();
        for round in 1..=3 {
            kept.kill_monitor();
            server.kill();
            let down = kept.mark();
            thread::sleep(SECOND);
            let away = machine.nbdctl(&["status", "x"]).stdout;
            assert!(away.contains("reconnecting"), "{away}");
            assert!(away.contains("no monitor watches its relay"), "{away}");
            server = start();
            let back = kept.mark();
            kept.resumes(down, back, GENEROUS, GENEROUS);
            let relay = relay_pid(&kept);
            kept.again();
            assert_eq!(relay_pid(&kept), relay, "it goes on with the same");
            assert_eq!(kept.number("outages"), round);
        }
        kept.finish();
        drop(server);
    }
);

scenario!(a_relay_that_is_killed_is_replaced, |machine| {
    let image = image(machine);
    let server = server::qemu_nbd(&image, PORT, &[]);
    let kept = attach(machine, &image, &[]).loaded();
    let mut random = Random(11);
    let times = span(10, 100).as_secs();
    let mut took = Vec::new();
    for round in 1..=times {
        thread::sleep(Duration::from_millis(random.below(1500)));
        signal(&kept, "9");
        let down = kept.mark();
        kept.resumes(down, down, GENEROUS, GENEROUS + IN_FLIGHT);
        kept.wait(GENEROUS, "replaced", |status| status["reconnects"] == round);
        took.push(kept.number("last_outage_ms"));
    }
    took.sort_unstable();
    println!("a new one has the device after, in ms: {took:?}");
    assert_eq!(kept.number("outages"), times);
    assert!(*took.last().unwrap() <= 5000);
    kept.finish();
    drop(server);
});

newest!(relay_and_server_die_together_and_come_back, |machine| {
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let mut server = start();
    let kept = attach(machine, &image, &[]).loaded();
    for first in ["relay", "server", "relay"] {
        if first == "relay" {
            signal(&kept, "9");
        }
        server.kill();
        if first == "server" {
            kept.wait_for("reconnecting", GENEROUS);
            signal(&kept, "9");
        }
        let down = kept.mark();
        thread::sleep(3 * SECOND);
        assert_eq!(kept.status()["state"], "reconnecting");
        server = start();
        let back = kept.mark();
        kept.resumes(down, back, GENEROUS, GENEROUS + IN_FLIGHT);
    }
    kept.finish();
    drop(server);
});

newest!(a_stuck_relay_is_killed_and_replaced, |machine| {
    let image = image(machine);
    let server = server::qemu_nbd(&image, PORT, &[]);
    let kept = attach(machine, &image, &["--silence-timeout", "2"]).loaded();
    let before = relay_pid(&kept);
    machine.sh(&format!("kill -STOP {before}"));
    let down = kept.mark();
    let noticed = 2 * SECOND + GENEROUS;
    kept.resumes(down, down, noticed, noticed + IN_FLIGHT);
    kept.wait_for("connected", GENEROUS);
    assert_ne!(relay_pid(&kept), before);
    // An idle one is no stuck one, and neither is one whose server is slow or away.
    let after = relay_pid(&kept);
    let mut kept = kept;
    kept.verify();
    thread::sleep(4 * SECOND);
    server.stop();
    thread::sleep(4 * SECOND);
    server.cont();
    assert_eq!(relay_pid(&kept), after);
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

newest!(
    a_server_that_requires_extended_headers_attaches,
    |machine| {
        let picky = liar::start(liar::Config {
            require_extended_headers: true,
            ..liar::Config::new()
        });
        let uri = picky.uri("disk");
        let refused = machine.nbdctl(&["attach", &uri, "--name", "x", "--path", "kernel"]);
        assert_eq!(refused.status, 4, "{refused:?}");
        assert!(refused.stderr.contains("--path relay"), "{refused:?}");
        let device = machine.attach(&[&uri, "--name", "x"]);
        machine.sh(&format!(
            "head -c 1M /dev/urandom >piece
         dd if=piece of={device} bs=64k oflag=direct conv=notrunc,fsync status=none
         cmp -n 1048576 piece {device}"
        ));
        let status = machine.nbdctl(&["status", "x", "--json"]).stdout;
        assert!(status.contains("\"path\": \"relay\""), "{status}");
        assert!(status.contains("\"headers\": \"extended\""), "{status}");
        machine.detach("x");
        machine.assert_clean();
        assert!(picky.complaints().is_empty(), "{:?}", picky.complaints());
        // One that has no objections is the kernel's.
        let plain = liar::start(liar::Config::new());
        machine.attach(&[&plain.uri("disk"), "--name", "x"]);
        let status = machine.nbdctl(&["status", "x", "--json"]).stdout;
        assert!(status.contains("\"path\": \"kernel\""), "{status}");
        machine.detach("x");
        machine.assert_clean();
    }
);

newest!(a_relay_goes_with_its_device, |machine| {
    let image = image(machine);
    let server = server::qemu_nbd(&image, PORT, &[]);
    // Without a monitor.
    let kept = attach(machine, &image, &[]).loaded();
    kept.kill_monitor();
    kept.finish();
    // By force, with a server that says nothing.
    let kept = attach(machine, &image, &[]);
    server.stop();
    machine.sh(
        "(dd if=/dev/zero of=/dev/nbd0 bs=64k count=9 oflag=direct || true) >/dev/null 2>&1 &
        sleep 0.5",
    );
    let forced = machine.nbdctl(&["detach", "x", "--force"]);
    assert_eq!(forced.status, 0, "{forced:?}");
    machine.assert_clean();
    server.cont();
    drop(kept);
    // Somebody else takes it down.
    let kept = attach(machine, &image, &["--silence-timeout", "2"]);
    machine.sh("nbd-client -d /dev/nbd0 >/dev/null; for _ in $(seq 200); do
        pgrep -x nbdctl >/dev/null || exit 0; sleep 0.05; done; exit 1");
    machine.assert_clean();
    drop(kept);
    // One that is in use stays as it is; what the first load wrote is no more.
    let image = self::image(machine);
    let kept = attach(machine, &image, &[]).loaded();
    let relay = relay_pid(&kept);
    assert_eq!(machine.nbdctl(&["detach", "x"]).status, 5);
    assert_eq!(relay_pid(&kept), relay);
    kept.load().wait_until_running();
    kept.finish();
    drop(server);
});

newest!(nothing_is_left_of_an_attach_that_fails, |machine| {
    let image = image(machine);
    let relay = ["attach", URI, "--name", "x", "--path", "relay"];
    let refused = machine.nbdctl(&relay);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("nothing listens there"),
        "{refused:?}"
    );
    machine.assert_clean();
    let server = server::qemu_nbd(&image, PORT, &[]);
    let wrong = [&relay[..1], &["nbd://127.0.0.1:10900/other"], &relay[2..]].concat();
    let refused = machine.nbdctl(&wrong);
    assert_eq!(refused.status, 3, "{refused:?}");
    machine.assert_clean();
    let taken = machine.attach(&[URI, "--name", "y"]);
    let refused = machine.nbdctl(&[&relay[..], &["--device", &taken]].concat());
    assert_eq!(refused.status, 5, "{refused:?}");
    machine.detach("y");
    machine.assert_clean();
    // A server that is stuck.
    server.stop();
    let refused = machine.nbdctl(&[&relay[..], &["--connect-timeout", "2"]].concat());
    assert_eq!(refused.status, 6, "{refused:?}");
    machine.assert_clean();
    drop(server);
});

/// Starts a monitor that dies at a step, on the device that is there.
fn doomed(step: &str) {
    let attach = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
        .args([
            "attach",
            URI,
            "--name",
            "x",
            "--path",
            "relay",
            "--connect-timeout",
            "1",
        ])
        .env("NBDCTL_TEST_DIE_AT", step)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // It may be dead by the time that attach asks.
    let _ = attach.unwrap();
}

newest!(
    a_monitor_may_die_at_every_step_of_a_replacement,
    |machine| {
        let image = image(machine);
        let server = server::qemu_nbd(&image, PORT, &[]);
        let kept = attach(machine, &image, &[]).loaded();
        for step in [
            "dial",
            "offered",
            "offer-stored",
            "hand-over",
            "taken",
            "linked",
        ] {
            let relay = relay_pid(&kept);
            kept.kill_monitor();
            machine.sh(&format!("kill -9 {relay}"));
            let down = kept.mark();
            doomed(step);
            thread::sleep(SECOND);
            let left = machine.try_sh("pgrep -x nbdctl").stdout;
            assert_eq!(left, "", "the monitor did not die at \"{step}\"");
            let back = kept.mark();
            kept.again();
            kept.resumes(down, back, GENEROUS, GENEROUS + IN_FLIGHT);
            let relays = machine.sh("pgrep -x nbdctl-relay | wc -l");
            assert_eq!(relays, "1", "{step}");
            println!("{step}: it goes on");
        }
        kept.finish();
        drop(server);
    }
);

newest!(
    an_upgrade_replaces_the_relay_and_nobody_notices,
    |machine| {
        let image = image(machine);
        let server = server::qemu_nbd(&image, PORT, &[]);
        let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
        machine.sh(&format!(
            "cp {nbdctl} nbdctl; ./nbdctl attach {URI} --name x --path relay"
        ));
        let kept = Kept::of_another(machine, &image, URI).loaded();
        let old = relay_pid(&kept);
        assert_ne!(old, 0);
        let down = kept.mark();
        kept.kill_monitor();
        machine.sh(&format!("{nbdctl} attach {URI} --name x --path relay"));
        kept.wait(3 * GENEROUS, "replaced", |status| {
            let pid = status["relay"]["pid"].as_u64();
            pid.is_some_and(|pid| pid != old)
        });
        kept.resumes(down, down, 3 * GENEROUS, 3 * GENEROUS + IN_FLIGHT);
        assert_eq!(machine.sh("pgrep -x nbdctl-relay | wc -l"), "1");
        kept.finish();
        drop(server);
    }
);

newest!(a_relay_finds_its_server_at_another_address, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    net.add_address("10.77.0.3");
    machine.name_is("disk.test", &["10.77.0.2"]);
    let at = |address: &str| {
        let address = address.to_owned();
        net.nbdkit(&image, PORT, &["-i", &address], &[])
    };
    let server = at("10.77.0.2");
    let uri = "nbd://disk.test:10900/disk";
    let kept = Kept::attach(machine, &image, uri, &["--path", "relay"]).loaded();
    let relay = relay_pid(&kept);
    server.kill();
    let down = kept.mark();
    thread::sleep(SECOND);
    machine.name_is("disk.test", &["10.77.0.3"]);
    let server = at("10.77.0.3");
    let back = kept.mark();
    let late = 10 * SECOND + GENEROUS;
    kept.resumes(down, back, late, late);
    kept.wait(GENEROUS, "there", |status| {
        status["connections"][0]["peer"] == "10.77.0.3:10900"
    });
    assert_eq!(relay_pid(&kept), relay);
    kept.finish();
    drop(server);
});

newest!(a_device_of_a_relay_grows_under_load, |machine| {
    for (resize, grows) in [("next-attach", false), ("live", true)] {
        let image = machine.image("image", 32 << 20);
        let start = || server::qemu_nbd(&image, PORT, &[]);
        let server = start();
        let extra = ["--resize", resize, "--silence-timeout", "4"];
        let kept = attach(machine, &image, &extra).loaded();
        let relay = relay_pid(&kept);
        let down = kept.mark();
        server.kill();
        machine.sh("truncate -s 64M image");
        let server = start();
        let back = kept.mark();
        kept.resumes(down, back, GENEROUS, GENEROUS);
        if grows {
            kept.wait(2 * GENEROUS, "larger", |status| {
                status["size_bytes"] == 64 << 20
            });
            machine.sh("dd if=/dev/nbd0 of=/dev/null bs=1M skip=60 iflag=direct status=none");
        } else {
            kept.wait(GENEROUS, "told", |status| {
                status["larger_size_bytes"] == 64 << 20 && status["size_bytes"] == 32 << 20
            });
        }
        assert_eq!(relay_pid(&kept), relay);
        kept.finish();
        drop(server);
    }
});

newest!(
    patience_ends_in_the_relay_and_a_server_revives_it,
    |machine| {
        let image = image(machine);
        let start = || server::qemu_nbd(&image, PORT, &[]);
        let server = start();
        let kept = attach(machine, &image, &["--dead-timeout", "3"]);
        server.kill();
        let begun = Instant::now();
        let failed =
            machine.try_sh("dd if=/dev/nbd0 of=/dev/null bs=4k skip=9 count=1 iflag=direct");
        assert!(failed.stderr.contains("Input/output error"), "{failed:?}");
        assert!(
            (2..9).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        kept.wait_for("dead", GENEROUS);
        let status = machine.nbdctl(&["status", "x"]);
        assert_eq!(status.status, 1, "{status:?}");
        assert!(
            status.stdout.contains("I/O fails until it is back"),
            "{status:?}"
        );
        let server = start();
        kept.wait_for("connected", GENEROUS);
        let kept = kept.loaded();
        // The machine goes down: a server that is away is not waited for.
        kept.finish();
        let kept = attach(machine, &image, &["--dead-timeout", "infinity"]);
        server.kill();
        kept.wait_for("reconnecting", GENEROUS);
        machine.nbdctl(&["shutting-down"]);
        kept.wait_for("dead", 5 * SECOND + GENEROUS);
        machine.detach("x");
        machine.assert_clean();
    }
);
