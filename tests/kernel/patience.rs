//! The end of patience: I/O fails, and a server that comes back all the same revives the
//! device.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::kept::{GENEROUS, Kept, SECOND, Times, is_full_length, span};
use crate::machine::Machine;
use crate::outages::restart_timed;
use crate::server;

const PORT: u16 = 10900;
const URI: &str = "nbd://127.0.0.1:10900/disk";

fn image(machine: &Machine) -> PathBuf {
    machine.image("image", 64 << 20)
}

/// Reads a block, or writes one, and leaves dd's exit status in a file of that name.
fn in_background(machine: &Machine, name: &str, dd: &str) {
    machine.sh(&format!(
        "(s=0; dd {dd} bs=4k count=1 status=none 2>{name}.error || s=$?
          echo $s >{name}.new; mv {name}.new {name}) >/dev/null 2>&1 &"
    ));
}

fn patience_ends(machine: &Machine, extra: &[&str], rounds: u64) {
    const READ: &str = "if=/dev/nbd0 of=/dev/null iflag=direct skip=";
    const WRITE: &str = "if=/dev/zero of=/dev/nbd0 oflag=direct seek=";
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let mut server = start();
    let kept = Kept::attach(
        machine,
        &image,
        URI,
        &[&["--dead-timeout", "5"], extra].concat(),
    );
    let limit = 10 * SECOND
        + if is_full_length() {
            Duration::ZERO
        } else {
            GENEROUS
        };
    for round in 1..=rounds {
        server.stop();
        in_background(machine, "flying-read", &format!("{READ}1"));
        in_background(machine, "flying-write", &format!("{WRITE}2"));
        thread::sleep(SECOND / 2);
        server.kill();
        let down = Instant::now();
        in_background(machine, "fresh-read", &format!("{READ}3"));
        in_background(machine, "fresh-write", &format!("{WRITE}4"));
        let mut all = vec!["flying-read", "flying-write", "fresh-read", "fresh-write"];
        while !all.is_empty() {
            let took = down.elapsed();
            assert!(took < limit, "{all:?} are not over");
            all.retain(|name| {
                let Ok(status) = fs::read_to_string(machine.path(name)) else {
                    return true;
                };
                let error = fs::read_to_string(machine.path(&format!("{name}.error"))).unwrap();
                println!("{name}: {took:.1?}");
                assert!(error.contains("Input/output error"), "{name}: {error}");
                assert_eq!(status, "1\n", "{name}");
                assert!(took >= 4 * SECOND, "{name}: {took:?}");
                fs::remove_file(machine.path(name)).unwrap();
                false
            });
            thread::sleep(Duration::from_millis(20));
        }
        kept.wait_for("dead", GENEROUS);
        let status = machine.nbdctl(&["status", "x"]);
        assert_eq!(status.status, 1, "a dead device is no success");
        assert!(
            status.stdout.contains("I/O fails until it is back"),
            "{status:?}"
        );
        assert_eq!(machine.sh("ps -eo stat= | grep -c ^D || true"), "0");
        server = start();
        kept.wait_for("connected", GENEROUS);
        machine.sh("dd if=/dev/nbd0 of=/dev/null bs=4k skip=99 count=1 iflag=direct status=none");
        assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "1000");
        assert_eq!(kept.number("outages"), round);
    }
    // A dead one is detached like any other.
    server.kill();
    kept.wait_for("dead", 10 * SECOND);
    machine.detach("x");
    machine.assert_clean();
}

scenario!(
    patience_ends_softly_and_a_late_server_revives_the_device,
    |machine| patience_ends(machine, &[], 2)
);

newest!(
    patience_with_several_connections_ends_as_softly,
    |machine| {
        // The driver's own time-out is 30 s then, unless told otherwise, and what was in
        // flight waits for that.
        let extra = ["--connections", "3", "--io-timeout", "1000"];
        patience_ends(machine, &extra, 1);
    }
);

newest!(
    an_outage_is_as_short_after_a_revival_or_an_adoption,
    |machine| {
        let image = image(machine);
        let start = || server::nbdkit(&image, PORT, &[], &[]);
        let (mut revived, mut adopted) = (Times::default(), Times::default());
        for _ in 0..span(1, 8).as_secs() {
            let server = start();
            let kept = Kept::attach(machine, &image, URI, &["--dead-timeout", "3"]);
            server.kill();
            kept.wait_for("dead", 10 * SECOND);
            let server = start();
            kept.wait_for("connected", GENEROUS);
            let kept = kept.loaded();
            let server = restart_timed(&kept, server, SECOND, start, &mut revived);
            kept.kill_monitor();
            kept.again();
            let server = restart_timed(&kept, server, SECOND, start, &mut adopted);
            kept.finish();
            drop(server);
            // The next one verifies from zeroes on.
            fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        }
        revived.assert("after a revival");
        adopted.assert("after an adoption");
    }
);
