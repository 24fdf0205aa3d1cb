//! Attaching and detaching, often, twice and all at once.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::thread;

use crate::machine::Machine;
use crate::server;

/// Everything that can be read in a device's queue/.
fn queue(index: u32) -> BTreeMap<String, String> {
    let folder = format!("/sys/block/nbd{index}/queue");
    let entries = fs::read_dir(Path::new(&folder)).unwrap();
    entries
        .map(|entry| entry.unwrap())
        .filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            Some((name, fs::read_to_string(entry.path()).ok()?))
        })
        .collect()
}

/// What CONNECT itself sets, by the server's flags, and DISCONNECT leaves as it
/// is on some kernels. The next CONNECT sets it again, and to write it would
/// bind that: a limit of the user's for discards outlives the device's own.
const KERNELS_OWN: &[&str] = &[
    "write_cache",
    "fua",
    "stable_writes",
    "discard_granularity",
    "discard_max_bytes",
    "discard_max_hw_bytes",
    "write_zeroes_max_bytes",
];

fn assert_queue_is(index: u32, before: &BTreeMap<String, String>) {
    let mut after = queue(index);
    let mut before = before.clone();
    for name in KERNELS_OWN {
        after.remove(*name);
        before.remove(*name);
    }
    assert_eq!(after, before);
}

newest!(two_hundred_cycles_leave_nothing, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let before = queue(0);
    // All of them at full length only: they take minutes on 6.1.
    let few = env::var_os("NBDCTL_FULL_LENGTH").is_none();
    for _ in 0..if few { 50 } else { 200 } {
        assert_eq!(machine.attach(&[&server.uri()]), "/dev/nbd0");
        machine.detach("/dev/nbd0");
    }
    assert_queue_is(0, &before);
    let sockets = machine.sh("ss -Htn state established | wc -l");
    assert_eq!(sockets, "0", "connections are left");
    machine.assert_clean();
});

newest!(twenty_four_at_once_are_alike, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let before = queue(0);
    let uri = server.uri();
    let mut devices: Vec<String> = thread::scope(|scope| {
        let attaching: Vec<_> = (0..24)
            .map(|number| {
                let name = format!("disk{number}");
                let uri = &uri;
                scope.spawn(move || machine.attach(&[uri, "--name", &name]))
            })
            .collect();
        attaching
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect()
    });
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), 24, "each has a device of its own");
    let first = queue(0);
    assert_eq!(first["io_timeout"].trim(), "1000");
    for index in 1..24 {
        assert_eq!(queue(index), first, "nbd{index}");
    }
    let table = machine.nbdctl(&["status"]);
    assert_eq!(table.stdout.lines().count(), 25, "{table:?}");
    assert!(table.stdout.lines().all(|line| line.chars().count() <= 80));
    let all = machine.nbdctl(&["detach", "--all"]);
    assert_eq!((all.status, all.stdout.lines().count()), (0, 24), "{all:?}");
    for index in 0..24 {
        assert_queue_is(index, &before);
    }
    machine.assert_clean();
});

scenario!(attaching_again_finds_the_same_device, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let uri = server.uri();
    let devices: Vec<String> = thread::scope(|scope| {
        let attaching: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| machine.attach(&[&uri])))
            .collect();
        attaching
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect()
    });
    assert_eq!(devices, ["/dev/nbd0"; 6]);
    assert_eq!(machine.nbdctl(&["status"]).stdout.lines().count(), 2);
    attached_otherwise(machine, &uri);
    machine.detach("/dev/nbd0");
    machine.assert_clean();
});

/// It is attached for writing, at nbd0, under the name that its URI gives.
fn attached_otherwise(machine: &Machine, uri: &str) {
    let read_only = machine.nbdctl(&["attach", uri, "--read-only"]);
    assert_eq!(read_only.status, 1);
    assert!(
        read_only
            .stderr
            .contains("attached already as /dev/nbd0, for writing")
    );
    let elsewhere = machine.nbdctl(&["attach", uri, "--device", "/dev/nbd3"]);
    assert_eq!(elsewhere.status, 1, "{elsewhere:?}");
    let same_name = machine.nbdctl(&[
        "attach",
        "nbd://127.0.0.1:10900/other",
        "--name",
        "127.0.0.1-10900-disk",
    ]);
    assert_eq!(same_name.status, 1);
    assert!(
        same_name.stderr.contains("choose another with --name"),
        "{same_name:?}"
    );
    let taken = machine.nbdctl(&["attach", uri, "--name", "second", "--device", "nbd0"]);
    assert_eq!(taken.status, 5);
    assert!(
        taken
            .stderr
            .contains("/dev/nbd0 is taken by \"127.0.0.1-10900-disk\""),
        "{taken:?}"
    );
}

scenario!(
    a_device_can_be_chosen_even_one_that_does_not_exist_yet,
    |machine| {
        let image = machine.image("image", 4 << 20);
        let server = server::nbdkit(&image, 10900, &[], &[]);
        for device in ["/dev/nbd7", "/dev/nbd40"] {
            assert_eq!(machine.attach(&[&server.uri(), "--device", device]), device);
            let timeout = machine.sh(&format!("cat /sys/block/{}/queue/io_timeout", &device[5..]));
            assert_eq!(timeout, "1000");
            machine.detach(device);
            let timeout = machine.sh(&format!("cat /sys/block/{}/queue/io_timeout", &device[5..]));
            assert_eq!(timeout, "30000");
        }
        let beyond = machine.nbdctl(&["attach", &server.uri(), "--device", "/dev/nbd4000000"]);
        assert_eq!(beyond.status, 5, "{beyond:?}");
        machine.assert_clean();
    }
);

scenario!(a_device_that_is_only_held_open_is_passed_over, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    machine.sh("sleep 60 </dev/nbd0 >/dev/null 2>&1 & echo $! >pid");
    let before = queue(0);
    assert_eq!(machine.attach(&[&server.uri()]), "/dev/nbd1");
    assert_queue_is(0, &before);
    machine.detach("/dev/nbd1");
    let busy = machine.nbdctl(&["attach", &server.uri(), "--device", "/dev/nbd0"]);
    assert_eq!(busy.status, 5, "{busy:?}");
    assert!(
        busy.stderr.contains("another program uses the device"),
        "{busy:?}"
    );
    machine.sh("kill $(cat pid)");
    machine.assert_clean();
});

newest!(status_tells_when_the_server_is_gone, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let device = machine.attach(&[&server.uri()]);
    let state = |text: &str| {
        machine
            .nbdctl(&["status", "--json"])
            .stdout
            .contains(&format!("\"state\": \"{text}\""))
    };
    assert!(state("connected"));
    server.kill();
    machine.sh("sleep 0.3");
    assert!(
        state("reconnecting"),
        "{:?}",
        machine.nbdctl(&["status", "--json"])
    );
    let doctor = machine.nbdctl(&["doctor"]);
    assert_eq!(doctor.status, 1);
    assert!(doctor.stdout.contains("reconnecting"), "{doctor:?}");
    let table = machine.nbdctl(&["status", &device]).stdout;
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    machine.detach(&device);
    machine.assert_clean();
});
