//! What is written is what the server has, and what it has is what is read.

use crate::server::{self, ALL};

scenario!(
    /// Writes, flushes, discards and zeroes at odd places, compared with the
    /// server's own file, and read back through the device.
    written_data_is_what_the_server_stores,
    |machine| {
        for (number, (name, start)) in ALL.iter().enumerate() {
            let image = machine.image(name, 64 << 20);
            let port = 10900 + u16::try_from(number).unwrap();
            let server = start(machine, &image, port);
            let device = machine.attach(&[&server.uri()]);
            machine.sh(&format!(
                "head -c 64M /dev/urandom >expected
                 dd if=expected of={device} bs=1M oflag=direct conv=notrunc status=none
                 head -c 5120 /dev/urandom >piece
                 for place in 1 77 4095 131062; do
                     dd if=piece of={device} bs=512 seek=$place oflag=direct conv=fsync,notrunc status=none
                     dd if=piece of=expected bs=512 seek=$place conv=notrunc status=none
                 done
                 dd if=piece of={device} bs=1000 seek=33333 conv=fsync,notrunc status=none
                 dd if=piece of=expected bs=1000 seek=33333 conv=notrunc status=none
                 blkdiscard -z -o 1M -l 3M {device}
                 dd if=/dev/zero of=expected bs=1M seek=1 count=3 conv=notrunc status=none
                 cmp {device} expected"
            ));
            machine.detach(&device);
            machine.sh(&format!("cmp {} expected", image.display()));
            let device = machine.attach(&[&server.uri()]);
            machine.sh(&format!("cmp {device} expected"));
            machine.detach(&device);
        }
        machine.assert_clean();
    }
);

scenario!(file_systems_pass_their_checks, |machine| {
    for (number, (name, start)) in ALL.iter().enumerate() {
        let image = machine.image(name, 400 << 20);
        let port = 10900 + u16::try_from(number).unwrap();
        let server = start(machine, &image, port);
        let device = machine.attach(&[&server.uri()]);
        machine.sh("mkdir -p mnt; head -c 8M /dev/urandom >file");
        for (make, check) in [
            ("mkfs.ext4 -q -F", "e2fsck -f -n"),
            ("mkfs.xfs -q -f", "xfs_repair -n"),
        ] {
            machine.sh(&format!(
                "{make} {device}
                 mount {device} mnt
                 cp file mnt/copy
                 mkdir mnt/many; for n in $(seq 50); do echo $n >mnt/many/$n; done
                 umount mnt
                 {check} {device}
                 mount {device} mnt
                 cmp file mnt/copy
                 test $(ls mnt/many | wc -l) = 50
                 umount mnt"
            ));
        }
        machine.detach(&device);
    }
});

scenario!(partitions_are_there_when_attach_returns, |machine| {
    for (number, (name, start)) in ALL.iter().enumerate() {
        let image = machine.image(name, 32 << 20);
        machine.sh(&format!(
            "sgdisk -n 1:2048:+8M -n 2:0:0 {} >/dev/null",
            image.display()
        ));
        let port = 10900 + u16::try_from(number).unwrap();
        let server = start(machine, &image, port);
        let device = machine.attach(&[&server.uri()]);
        machine.sh(&format!(
            "test -b {device}p1; test -b {device}p2
             test $(cat /sys/block/{}/{}p1/size) = 16384
             echo marker | dd of={device}p1 conv=fsync,notrunc status=none",
            &device[5..],
            &device[5..]
        ));
        machine.detach(&device);
        assert_eq!(
            machine.sh(&format!(
                "dd if={} bs=512 skip=2048 count=1 status=none | head -n 1",
                image.display()
            )),
            "marker"
        );
    }
});

scenario!(read_only_devices_refuse_writes, |machine| {
    let image = machine.image("image", 8 << 20);
    let writable = server::qemu_nbd(&image, 10900, &[]);
    let read_only = server::qemu_nbd(&image, 10901, &["--read-only"]);
    for args in [
        [writable.uri().as_str(), "--read-only"].as_slice(),
        &[&read_only.uri()],
    ] {
        let device = machine.attach(args);
        let wrote = machine.try_sh(&format!(
            "dd if=/dev/urandom of={device} bs=4k count=1 oflag=direct"
        ));
        assert_ne!(wrote.status, 0, "{args:?}");
        assert!(
            wrote.stderr.contains("Operation not permitted"),
            "{wrote:?}"
        );
        let status = machine.nbdctl(&["status", &device, "--json"]);
        assert!(status.stdout.contains("\"read_only\": true"), "{status:?}");
        machine.detach(&device);
    }
    machine.sh(&format!("cmp -n 8388608 {} /dev/zero", image.display()));
    // A device that was read-only is not so for the next export.
    let device = machine.attach(&[&writable.uri()]);
    machine.sh(&format!(
        "dd if=/dev/urandom of={device} bs=4k count=1 oflag=direct"
    ));
    machine.detach(&device);
});

scenario!(
    a_server_with_blocks_of_4096_gets_no_smaller_ones,
    |machine| {
        let image = machine.image("image", 8 << 20);
        let server = server::nbdkit(
            &image,
            10900,
            &["--filter=blocksize-policy"],
            &[
                "blocksize-minimum=4096",
                "blocksize-preferred=4096",
                "blocksize-maximum=256k",
                "blocksize-error-policy=error",
            ],
        );
        let device = machine.attach(&[&server.uri()]);
        let queue = format!("/sys/block/{}/queue", &device[5..]);
        assert_eq!(machine.sh(&format!("blockdev --getss {device}")), "4096");
        assert_eq!(machine.sh(&format!("cat {queue}/max_sectors_kb")), "256");
        // The server fails what is too small, unaligned or too large.
        machine.sh(&format!(
            "head -c 8M /dev/urandom >expected
         dd if=expected of={device} bs=8M oflag=direct conv=notrunc status=none
         cmp expected {device}"
        ));
        machine.detach(&device);
        let refused = machine.nbdctl(&["attach", &server.uri(), "--block-size", "512"]);
        assert_eq!(refused.status, 4);
        assert!(
            refused.stderr.contains("use --block-size 4096"),
            "{refused:?}"
        );
        machine.assert_clean();
    }
);

scenario!(the_tail_of_an_odd_size_is_named, |machine| {
    let image = machine.image("image", (1 << 20) + 700);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let ran = machine.nbdctl(&["attach", &server.uri()]);
    assert_eq!(ran.status, 0);
    assert!(
        ran.stderr
            .contains("last 188 bytes, from offset 1049088, cannot be reached"),
        "{ran:?}"
    );
    assert_eq!(
        machine.sh(&format!("blockdev --getsize64 {}", ran.stdout)),
        "1049088"
    );
    machine.sh(&format!(
        "cmp -n 1049088 {} {}",
        ran.stdout,
        image.display()
    ));
    machine.detach(&ran.stdout);
});

scenario!(several_connections_carry_one_disk, |machine| {
    let image = machine.image("image", 32 << 20);
    let server = server::qemu_nbd(&image, 10900, &[]);
    let device = machine.attach(&[&server.uri(), "--connections", "4"]);
    let queue = format!("/sys/block/{}", &device[5..]);
    let sockets = machine.sh("ss -Htn state established dport = 10900 | wc -l");
    assert_eq!(sockets, "4");
    assert_eq!(
        machine.sh(&format!("cat {queue}/queue/io_timeout")),
        "30000"
    );
    machine.sh(&format!(
        "head -c 32M /dev/urandom >expected
         dd if=expected of={device} bs=1M oflag=direct conv=notrunc status=none
         cmp expected {device}"
    ));
    machine.detach(&device);
    machine.sh(&format!("cmp expected {}", image.display()));
    let alone = server::nbdkit(
        &image,
        10901,
        &["--filter=multi-conn"],
        &["multi-conn-mode=disable"],
    );
    let refused = machine.nbdctl(&["attach", &alone.uri(), "--connections", "2"]);
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(
        refused.stderr.contains("use --connections 1"),
        "{refused:?}"
    );
    machine.assert_clean();
});

scenario!(an_attached_export_is_mapped_and_not_erased, |machine| {
    let image = machine.image("image", 64 << 20);
    let server = server::qemu_nbd(&image, 10900, &[]);
    let device = machine.attach(&[&server.uri(), "--name", "x"]);
    machine.sh(&format!(
        "head -c 1M /dev/urandom | dd of={device} bs=1M seek=8 conv=fsync status=none"
    ));
    for export in [device.as_str(), "x"] {
        let map = machine.nbdctl(&["map", export]);
        assert!(map.stdout.contains(" 1048576  data"), "{map:?}");
    }
    // By the same URI, and by another that leads to the same export.
    for uri in [server.uri(), "nbd://localhost:10900/disk".to_owned()] {
        for verb in ["zero", "discard"] {
            let ran = machine.nbdctl(&[verb, &uri]);
            assert_eq!(ran.status, 5, "{ran:?}");
            assert!(
                ran.stderr.contains("is attached here as /dev/nbd0"),
                "{ran:?}"
            );
        }
    }
    // Nobody else may read where it comes from; and without a state nobody can.
    let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
    let other = "nbd://[::ffff:127.0.0.1]:10900/disk";
    let stranger = machine.try_sh(&format!(
        "setpriv --reuid 65534 --clear-groups {nbdctl} zero {other}"
    ));
    assert_eq!(stranger.status, 5, "{stranger:?}");
    machine.sh("mv /run/nbdctl/x/state.json /tmp/state");
    let blind = machine.nbdctl(&["zero", other]);
    assert_eq!(blind.status, 5, "{blind:?}");
    machine.sh("mv /tmp/state /run/nbdctl/x/state.json");
    let map = machine.nbdctl(&["map", "x"]);
    assert!(map.stdout.contains(" 1048576  data"), "it is untouched");
    let forced = machine.nbdctl(&["discard", &server.uri(), "--force"]);
    assert_eq!(forced.status, 0, "{forced:?}");
    let map = machine.nbdctl(&["map", "x"]);
    assert!(!map.stdout.contains("data"), "{map:?}");
    machine.detach("x");
    machine.assert_clean();
});
