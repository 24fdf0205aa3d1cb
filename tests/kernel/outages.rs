//! The promise, where servers die and come back.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::kept::{GENEROUS, Kept, SECOND, Times, span};
use crate::machine::Machine;
use crate::network::Net;
use crate::server::{self, Server};

const PORT: u16 = 10900;
const URI: &str = "nbd://127.0.0.1:10900/disk";

/// io_timeout and the timer's rounding.
const IN_FLIGHT: Duration = Duration::from_millis(2300);

fn image(machine: &Machine) -> std::path::PathBuf {
    machine.image("image", 64 << 20)
}

/// Kills it under load, and starts it again after a while.
#[must_use]
fn restart(kept: &Kept<'_>, server: Server, after: Duration, start: impl Fn() -> Server) -> Server {
    restart_timed(kept, server, after, start, &mut Times::default())
}

pub fn restart_timed(
    kept: &Kept<'_>,
    server: Server,
    after: Duration,
    start: impl Fn() -> Server,
    times: &mut Times,
) -> Server {
    server.kill();
    let down = kept.mark();
    thread::sleep(after);
    let server = start();
    let back = kept.mark();
    times.add(kept.resumes(down, back, GENEROUS, IN_FLIGHT + GENEROUS));
    server
}

scenario!(a_killed_server_that_comes_back_is_no_error, |machine| {
    let image = image(machine);
    for (name, start) in server::ALL {
        let mut server = start(machine, &image, PORT);
        let kept = Kept::attach(machine, &image, URI, &[]).loaded();
        let times = span(3, 20).as_secs();
        let mut took = Times::default();
        for _ in 0..times {
            let again = || start(machine, &image, PORT);
            server = restart_timed(&kept, server, SECOND, again, &mut took);
        }
        took.assert(name);
        let status = kept.status();
        println!("{name}: {status:#}");
        assert_eq!(status["state"], "connected");
        assert_eq!(status["outages"], times);
        assert_eq!(status["reconnects"], times);
        let outage = status["last_outage_ms"].as_u64().unwrap();
        assert!((900..8000).contains(&outage), "{outage}");
        assert!(status["last_error"].is_string());
        kept.finish();
        // The next one verifies from zeroes on.
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    }
});

scenario!(several_connections_come_back_all, |machine| {
    let image = image(machine);
    let start = || server::qemu_nbd(&image, PORT, &[]);
    let mut server = start();
    let extra = ["--connections", "3", "--io-timeout", "2000"];
    let kept = Kept::attach(machine, &image, URI, &extra).loaded();
    for _ in 0..2 {
        server = restart(&kept, server, SECOND, start);
        kept.wait_for("connected", GENEROUS);
    }
    assert_eq!(kept.number("reconnects"), 6);
    assert_eq!(kept.status()["connections"].as_array().unwrap().len(), 3);
    kept.finish();
});

newest!(a_unix_socket_comes_back, |machine| {
    let image = image(machine);
    let socket = machine.path("sock");
    let start = || {
        machine.sh(&format!(
            "rm -f {0} pid; nbdkit -P pid -U {0} file {1}
             for _ in $(seq 100); do ! test -s pid || break; sleep 0.05; done",
            socket.display(),
            image.display()
        ));
    };
    start();
    let uri = format!("nbd+unix:///disk?socket={}", socket.display());
    let kept = Kept::attach(machine, &image, &uri, &[]).loaded();
    // The second time it is another monitor's, that has no descriptor of it.
    for round in 0..3 {
        machine.sh("kill -9 $(cat pid)");
        let down = kept.mark();
        thread::sleep(SECOND);
        start();
        let back = kept.mark();
        kept.resumes(down, back, GENEROUS, IN_FLIGHT + GENEROUS);
        assert_eq!(kept.number("reconnects"), round + 1);
        kept.kill_monitor();
        kept.again();
    }
    kept.finish();
    machine.sh("kill $(cat pid)");
});

newest!(a_minute_without_a_server_is_no_error, |machine| {
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let server = start();
    let kept = Kept::attach(machine, &image, URI, &[]).loaded();
    let server = restart(&kept, server, span(20, 60), start);
    kept.finish();
    drop(server);
});

newest!(
    a_server_at_another_address_of_its_name_is_found,
    |machine| {
        let image = image(machine);
        let net = Net::new(machine);
        net.add_address("10.77.0.3");
        machine.name_is("disk.test", &["10.77.0.2"]);
        let at = |address: &str| {
            let address = address.to_owned();
            net.nbdkit(&image, PORT, &["-i", &address], &[])
        };
        let server = at("10.77.0.2");
        let kept = Kept::attach(machine, &image, "nbd://disk.test:10900/disk", &[]).loaded();
        server.kill();
        let down = kept.mark();
        thread::sleep(SECOND);
        machine.name_is("disk.test", &["10.77.0.3"]);
        let server = at("10.77.0.3");
        let back = kept.mark();
        // The name is looked up anew every ten seconds.
        kept.resumes(down, back, 10 * SECOND + GENEROUS, 12 * SECOND + GENEROUS);
        let peer = kept.status()["connections"][0]["peer"].clone();
        assert_eq!(peer, "10.77.0.3:10900");
        kept.finish();
        drop(server);
    }
);

newest!(
    a_weaker_server_is_refused_until_the_right_one_is_back,
    |machine| {
        let image = image(machine);
        let small = machine.image("small", 32 << 20);
        let start = || server::nbdkit(&image, PORT, &[], &[]);
        let server = start();
        let kept = Kept::attach(machine, &image, URI, &[]).loaded();
        server.kill();
        let down = kept.mark();
        let said = |word: &str| {
            kept.wait(GENEROUS, word, |status| {
                status["last_error"]
                    .as_str()
                    .is_some_and(|error| error.contains(word))
            });
            assert_eq!(kept.status()["state"], "reconnecting");
        };
        let wrong = server::nbdkit(&small, PORT, &[], &[]);
        said("33554432 bytes now, less than the device's 67108864");
        wrong.kill();
        let wrong = server::nbdkit(&image, PORT, &["-r"], &[]);
        said("read-only now");
        wrong.kill();
        let server = start();
        let back = kept.mark();
        kept.resumes(down, back, GENEROUS, IN_FLIGHT + GENEROUS);
        kept.finish();
        drop(server);
    }
);

newest!(another_disk_is_refused_by_its_identity, |machine| {
    let image = image(machine);
    let uuid = "12345678-1234-4234-8234-123456789abc";
    machine.sh(&format!(
        "mkfs.ext4 -q -U {uuid} image; cp image good; mkfs.ext4 -q -F -U random image"
    ));
    let server = server::nbdkit(&image, PORT, &[], &[]);
    let upper = uuid.to_uppercase();
    let refused = machine.nbdctl(&["attach", URI, "--name", "x", "--identity", &upper]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("is not the disk with identity"),
        "{refused:?}"
    );
    machine.assert_clean();
    server.kill();
    let good = machine.path("good");
    let server = server::nbdkit(&good, PORT, &[], &[]);
    let kept = Kept::attach(machine, &good, URI, &["--identity", uuid]);
    server.kill();
    let server = server::nbdkit(&image, PORT, &[], &[]);
    kept.wait(GENEROUS, "refused", |status| {
        status["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("identity"))
    });
    server.kill();
    let server = server::nbdkit(&good, PORT, &[], &[]);
    kept.wait_for("connected", GENEROUS);
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

newest!(
    a_grown_export_is_told_and_used_where_that_is_wanted,
    |machine| {
        for (resize, grows) in [("next-attach", false), ("live", true)] {
            let image = machine.image("image", 32 << 20);
            let server = server::nbdkit(&image, PORT, &[], &[]);
            let extra = ["--resize", resize, "--silence-timeout", "4"];
            let kept = Kept::attach(machine, &image, URI, &extra);
            server.kill();
            machine.image("image", 64 << 20);
            let server = server::nbdkit(&image, PORT, &[], &[]);
            kept.wait(GENEROUS, "reconnected", |status| status["reconnects"] == 1);
            if grows {
                kept.wait(GENEROUS, "larger", |status| {
                    status["size_bytes"] == 64 << 20
                });
                machine.sh("dd if=/dev/nbd0 of=/dev/null bs=1M skip=60 iflag=direct status=none");
            } else {
                let status = kept.status();
                assert_eq!(status["size_bytes"], 32 << 20);
                assert_eq!(status["larger_size_bytes"], 64 << 20);
            }
            // It never shrinks: what was, is refused.
            server.kill();
            machine.sh("truncate -s 16M image");
            let server = server::nbdkit(&image, PORT, &[], &[]);
            kept.wait(GENEROUS, "refused", |status| {
                status["last_error"]
                    .as_str()
                    .is_some_and(|error| error.contains("less than"))
            });
            let forced = machine.nbdctl(&["detach", "x", "--force"]);
            assert_eq!(forced.status, 0, "{forced:?}");
            machine.assert_clean();
            drop(server);
        }
    }
);

newest!(a_dead_device_delays_no_healthy_one, |machine| {
    let image = machine.image("image", 32 << 20);
    let other = machine.image("other", 64 << 20);
    let server = server::nbdkit(&image, PORT, &[], &[]);
    let start = || server::nbdkit(&other, PORT + 1, &[], &[]);
    let mut healthy_server = start();
    let extra = [
        "--resize",
        "live",
        "--dead-timeout",
        "2",
        "--silence-timeout",
        "4",
    ];
    machine.attach(&[&[URI, "--name", "dying"], &extra[..]].concat());
    let kept = Kept::attach(machine, &other, "nbd://127.0.0.1:10901/disk", &[]).loaded();
    // It is never quiet, and has grown: the change of its size is pending.
    machine.sh("for n in 1 2 3; do
            (while dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null
             do :; done) >/dev/null 2>&1 &
        done");
    server.kill();
    machine.image("image", 48 << 20);
    let server = server::nbdkit(&image, PORT, &["--filter=delay"], &["rdelay=1"]);
    let until = Instant::now() + GENEROUS;
    while !machine
        .nbdctl(&["status", "dying", "--json"])
        .stdout
        .contains("\"larger_size_bytes\": 50331648")
    {
        assert!(Instant::now() < until, "the change is not pending");
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(3 * SECOND);
    server.kill();
    machine.sh("sleep 4");
    let begun = Instant::now();
    let status = machine.nbdctl(&["status", "dying"]);
    assert!(status.stdout.contains("dead"), "{status:?}");
    assert!(begun.elapsed() < GENEROUS, "{:?}", begun.elapsed());
    healthy_server = restart(&kept, healthy_server, SECOND, start);
    kept.finish_beside();
    let forced = machine.nbdctl(&["detach", "dying", "--force"]);
    assert_eq!(forced.status, 0, "{forced:?}");
    machine.assert_clean();
    drop(healthy_server);
});
