//! What happens to a device when nbdctl itself is killed, or two of them meet.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::fake::{self, Client};
use crate::machine::Machine;
use crate::server;

/// A server whose device never answers its first read.
fn silent() -> String {
    let address = fake::server(|client: &mut Client| {
        client.go(1 << 20, 1)?;
        client.stay_silent()
    });
    format!("nbd://{address}/vm1")
}

/// An attach that is waiting for the first read.
fn attaching(machine: &Machine, uri: &str) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
        .args(["attach", uri, "--name", "x"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    machine.sh("while ! test -e /sys/block/nbd0/pid; do sleep 0.05; done; sleep 0.3");
    child
}

newest!(a_killed_attach_takes_its_device_with_it, |machine| {
    let mut child = attaching(machine, &silent());
    child.kill().unwrap();
    let begun = Instant::now();
    child.wait().unwrap();
    // Its monitor sees that nobody waits for the device any more.
    machine.sh("while test -e /sys/block/nbd0/pid; do sleep 0.05; done");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    machine.assert_clean();
    assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "30000");
});

newest!(a_killed_monitor_leaves_what_force_detaches, |machine| {
    let mut child = attaching(machine, &silent());
    machine.sh("pkill -9 -f 'monitor x'");
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1), "attach says that it died");
    let begun = Instant::now();
    // An ordinary detach cannot open it, and does not wait for ever for that.
    let forced = machine.nbdctl(&["detach", "x", "--force"]);
    assert_eq!(
        (forced.status, forced.stdout.as_str()),
        (0, "/dev/nbd0"),
        "{forced:?}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "30000");
    machine.assert_clean();
});

newest!(an_interrupted_attach_takes_its_device_with_it, |machine| {
    for signal in ["INT", "TERM", "HUP"] {
        let mut child = attaching(machine, &silent());
        machine.sh(&format!("kill -{signal} {}", child.id()));
        let begun = Instant::now();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(1), "{signal}");
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        machine.sh("sleep 0.3");
        machine.assert_clean();
    }
});

newest!(
    a_half_made_device_is_finished_by_the_next_attach,
    |machine| {
        let image = machine.image("image", 4 << 20);
        let server = server::nbdkit(&image, 10900, &["--filter=delay"], &["delay-read=2"]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
            .args(["attach", &server.uri(), "--name", "x"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        machine.sh("while ! test -e /sys/block/nbd0/pid; do sleep 0.02; done");
        machine.sh("pkill -9 -f 'monitor x'");
        child.wait().unwrap();
        assert_eq!(machine.attach(&[&server.uri(), "--name", "x"]), "/dev/nbd0");
        for (name, value) in [
            ("io_timeout", "1000"),
            ("max_sectors_kb", "1280"),
            ("read_ahead_kb", "4096"),
        ] {
            assert_eq!(
                machine.sh(&format!("cat /sys/block/nbd0/queue/{name}")),
                value,
                "{name}"
            );
        }
        machine.detach("x");
        machine.assert_clean();
    }
);

newest!(a_device_without_its_server_is_not_announced, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let uri = server.uri();
    machine.attach(&[&uri, "--name", "x"]);
    server.kill();
    machine.sh("sleep 0.3");
    // With its monitor, and without one before.
    for _ in 0..2 {
        let attach = ["attach", &uri, "--name", "x", "--connect-timeout", "1"];
        let again = machine.nbdctl(&attach);
        assert_eq!((again.status, again.stdout.as_str()), (6, ""), "{again:?}");
        assert!(again.stderr.contains("its server is away"), "{again:?}");
        machine.sh("pkill -9 -f 'monitor x'");
    }
    let forced = machine.nbdctl(&["detach", "x", "--force"]);
    assert_eq!(forced.status, 0, "{forced:?}");
    machine.assert_clean();
});

newest!(
    a_server_that_dies_during_attach_is_named_at_once,
    |machine| {
        let address = fake::server(|client: &mut Client| {
            client.go(1 << 20, 1)?;
            client.request().map(drop)
        });
        let begun = Instant::now();
        let ran = machine.nbdctl(&["attach", &format!("nbd://{address}/vm1")]);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(
            ran.stderr.contains("the server closed the connection"),
            "{ran:?}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        machine.assert_clean();
    }
);

newest!(
    attach_and_detach_at_once_never_touch_each_others_device,
    |machine| {
        let image = machine.image("image", 4 << 20);
        let small = server::nbdkit(
            &image,
            10900,
            &["--filter=blocksize-policy"],
            &[
                "blocksize-minimum=1",
                "blocksize-preferred=4096",
                "blocksize-maximum=64k",
            ],
        );
        let large = server::nbdkit(&image, 10901, &[], &[]);
        let (small, large) = (small.uri(), large.uri());
        let settings = "grep . /sys/block/nbd[0-3]/queue/{io_timeout,max_sectors_kb,read_ahead_kb}";
        let before = machine.sh(settings);
        thread::scope(|scope| {
            for (name, uri, kb) in [
                ("a", &large, "1280"),
                ("b", &small, "64"),
                ("c", &small, "64"),
            ] {
                scope.spawn(move || {
                    for _ in 0..12 {
                        let device = machine.attach(&[uri, "--name", name]);
                        let queue = format!("/sys/block/{}/queue", &device[5..]);
                        let settings = machine.sh(&format!(
                            "sleep 0.05; cat {queue}/io_timeout {queue}/max_sectors_kb"
                        ));
                        assert_eq!(settings, format!("1000\n{kb}"), "{name} on {device}");
                        machine.detach(name);
                    }
                });
            }
        });
        machine.assert_clean();
        assert_eq!(machine.sh(settings), before, "every queue is as it was");
        for _ in 0..5 {
            machine.attach(&[&large, "--name", "x"]);
            let both: Vec<i32> = thread::scope(|scope| {
                let detaching: Vec<_> = (0..2)
                    .map(|_| scope.spawn(|| machine.nbdctl(&["detach", "x"]).status))
                    .collect();
                detaching
                    .into_iter()
                    .map(|one| one.join().unwrap())
                    .collect()
            });
            assert!(
                both.contains(&0) && both.iter().all(|status| [0, 3].contains(status)),
                "{both:?}"
            );
            machine.assert_clean();
        }
    }
);

newest!(a_stopped_server_does_not_stop_the_machine, |machine| {
    let image = machine.image("image", 64 << 20);
    let stuck = server::nbdkit(&image, 10900, &[], &[]);
    machine.sh("echo 4096 16384 16384 | tee /proc/sys/net/ipv4/tcp_wmem /proc/sys/net/ipv4/tcp_rmem >/dev/null");
    machine.attach(&[&stuck.uri(), "--name", "stuck"]);
    let healthy = server::qemu_nbd(&image, 10901, &["--read-only"]);
    machine.sh("pkill -STOP -x nbdkit
        dd if=/dev/zero of=/dev/nbd0 bs=4M count=1 oflag=direct >/dev/null 2>&1 & sleep 0.5");
    let begun = Instant::now();
    let forced = machine.nbdctl(&["detach", "stuck", "--force"]);
    // Cut and gone, where the kernel can; refused, where it cannot.
    match forced.status {
        0 => println!("the connection was cut"),
        5 => assert!(
            forced.stderr.contains("end the server, or wait"),
            "{forced:?}"
        ),
        _ => panic!("{forced:?}"),
    }
    machine.attach(&[&healthy.uri(), "--name", "healthy"]);
    machine.detach("healthy");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    machine.sh("pkill -CONT -x nbdkit; sleep 1");
    if forced.status != 0 {
        machine.detach("stuck");
    }
    machine.assert_clean();
});

newest!(
    a_connect_that_is_late_makes_one_device_and_a_known_one,
    |machine| {
        let image = machine.image("image", 4 << 20);
        let server = server::nbdkit(&image, 10900, &[], &[]);
        machine.sh(&format!(
            "mkdir -p /etc/nbdctl; echo 'uri = \"{}\"' >/etc/nbdctl/late.toml",
            server.uri()
        ));
        let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
        // The first attempt is given up on after 10 s, and another begins.
        let ran = machine.try_sh(&format!(
            "NBDCTL_TEST_SLOW=14000:NBD_CMD_CONNECT timeout 30 {nbdctl} monitor late"
        ));
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.stderr.contains("has come up after all"), "{ran:?}");
        machine.sh("test -e /run/nbdctl/late/state.json");
        let late = Command::new(nbdctl).args(["monitor", "late"]).spawn();
        machine.sh("until test -S /run/nbdctl/late/control.sock; do sleep 0.05; done; sleep 1");
        let status = machine.nbdctl(&["status", "late"]);
        assert!(status.stdout.contains("connected"), "{status:?}");
        let devices = machine.sh("grep -l nbdctl1:late: /sys/block/nbd*/backend | wc -l");
        assert_eq!(devices, "1");
        machine.detach("late");
        assert!(late.unwrap().wait().unwrap().success());
        machine.sh("rm /etc/nbdctl/late.toml");
        drop(server);
        machine.assert_clean();
    }
);

newest!(a_lost_state_costs_only_what_it_held, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    for ruin in ["rm -r /run/nbdctl/x", "echo '{' >/run/nbdctl/x/state.json"] {
        machine.attach(&[&server.uri(), "--name", "x"]);
        machine.sh("pkill -9 -x nbdctl; sleep 0.1");
        machine.sh(ruin);
        let status = machine.nbdctl(&["status", "x"]);
        assert!(status.stdout.contains('?'), "{status:?}");
        machine.sh("echo 64 >/sys/block/nbd0/queue/max_sectors_kb");
        let again = machine.nbdctl(&["attach", &server.uri(), "--name", "x"]);
        assert_eq!(again.stdout, "/dev/nbd0", "{again:?}");
        assert!(
            again.stderr.contains("has lost it") || again.stderr.contains("cannot be used"),
            "{again:?}"
        );
        assert!(again.stderr.contains("nothing reconnects it"), "{again:?}");
        let kb = machine.sh("cat /sys/block/nbd0/queue/max_sectors_kb");
        assert_eq!(kb, "64", "a device that may be in use is left as it is");
        let ran = machine.nbdctl(&["detach", "x"]);
        assert_eq!(
            (ran.status, ran.stdout.as_str()),
            (0, "/dev/nbd0"),
            "{ran:?}"
        );
        assert!(
            ran.stderr.contains("earlier settings are not known"),
            "{ran:?}"
        );
        assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "30000");
        machine.assert_clean();
    }
});

newest!(a_node_that_is_not_the_devices_is_refused, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let broken = [
        "echo text >/dev/nbd0",
        "mknod /dev/nbd0 b 43 32",
        "ln -s nbd1 /dev/nbd0",
    ];
    for wrong in broken {
        machine.sh(&format!("mv /dev/nbd0 /dev/right; {wrong}"));
        let ran = machine.nbdctl(&["attach", &server.uri(), "--device", "nbd0"]);
        assert_eq!(ran.status, 1, "{wrong}: {ran:?}");
        machine.sh("mv -f /dev/right /dev/nbd0");
        machine.assert_clean();
    }
});
