//! What makes the relay worth the hop: what a server forgot is told it again, and holes
//! are not transferred. And what it must not cost: a machine that is short of memory.

use std::fs;
use std::thread;

use crate::kept::{SECOND, span};
use crate::liar::{self, PowerLoss};
use crate::server;

const PORT: u16 = 10900;
const URI: &str = "nbd://127.0.0.1:10900/disk";

scenario!(
    what_was_answered_survives_a_servers_power_over_the_relay_alone,
    |machine| {
        for (path, survives) in [("kernel", false), ("relay", true)] {
            let server = liar::start(liar::Config::new());
            let device = machine.attach(&[&server.uri("disk"), "--name", "x", "--path", path]);
            machine.sh(&format!(
                "head -c 64k /dev/urandom >piece
                 dd if=piece of={device} bs=64k oflag=direct conv=notrunc status=none"
            ));
            assert!(server.unflushed("disk") > 0, "{path}");
            server.lose_power(PowerLoss::All);
            server.start();
            // It succeeds on both: the new server knows of nothing to flush.
            machine.sh(&format!("sync {device}"));
            let read = format!("dd if={device} bs=64k count=1 iflag=direct status=none");
            let same = machine.sh(&format!("{read} | cmp -s - piece && echo yes || echo no"));
            assert_eq!(same == "yes", survives, "over the {path}");
            let piece = fs::read(machine.path("piece")).unwrap();
            assert!((server.peek_durable("disk", 0, 65_536) == piece) == survives);
            machine.detach("x");
            machine.assert_clean();
        }
    }
);

newest!(holes_are_not_transferred, |machine| {
    let size = span(1, 4).as_secs() << 30;
    let image = machine.image("sparse", size);
    let server = server::qemu_nbd(&image, PORT, &[]);
    let device = machine.attach(&[URI, "--name", "x", "--path", "relay"]);
    machine.sh(&format!(
        "dd if={device} of=/dev/null bs=1M iflag=direct status=none"
    ));
    let status = machine.nbdctl(&["status", "x", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let received = status[0]["connections"][0]["bytes_received"]
        .as_u64()
        .unwrap();
    println!("{received} bytes on the wire for {size} of holes");
    assert!(received > 0 && received < size / 100, "{received}");
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

newest!(a_machine_short_of_memory_gets_its_server_back, |machine| {
    const SIZE: u64 = 48 << 20;
    let image = machine.image("image", SIZE);
    // What the image takes is taken before.
    fs::write(&image, vec![1; usize::try_from(SIZE).unwrap()]).unwrap();
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let server = start();
    let device = machine.attach(&[URI, "--name", "x", "--path", "relay"]);
    // The log may have 64 MiB of what is left, and dirty pages the rest.
    machine.sh(
        "awk '/MemAvailable/ { print $2 - 150000 }' /proc/meminfo >left
         mkdir ballast; mount -t tmpfs -o size=1G ballast ballast
         head -c $(cat left)k /dev/zero >ballast/file",
    );
    let writing = format!(
        "for round in 1 2 3 4 5 6; do
             tr '\\0' $round </dev/zero | dd of={device} bs=64k count=768 iflag=fullblock \
                 conv=notrunc status=none
         done; sync {device}"
    );
    thread::scope(|scope| {
        let writer = scope.spawn(|| machine.sh(&writing));
        thread::sleep(SECOND);
        server.kill();
        thread::sleep(3 * SECOND);
        let _server = start();
        writer.join().unwrap();
        let ones = machine.sh(&format!(
            "dd if={device} bs=1M iflag=direct status=none | tr -d 6 | wc -c"
        ));
        assert_eq!(ones, "0");
        machine.detach("x");
    });
    machine.sh("umount ballast");
    machine.assert_clean();
});
