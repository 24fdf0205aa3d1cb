//! detach refuses what somebody uses, and says who.

use crate::machine::Machine;
use crate::server;

/// detach is refused with `holder` in its message, until `release` was run.
fn refuses(machine: &Machine, device: &str, holder: &str) {
    let ran = machine.nbdctl(&["detach", device]);
    assert_eq!(ran.status, 5, "{ran:?}");
    assert!(ran.stderr.contains(holder), "{holder:?} is not in {ran:?}");
    assert!(ran.stderr.contains("--force"), "{ran:?}");
    let status = machine.nbdctl(&["status", device]);
    assert!(status.stdout.contains("connected"), "{status:?}");
}

newest!(what_is_in_use_stays, |machine| {
    let image = machine.image("image", 64 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let device = machine.attach(&[&server.uri()]);
    machine.sh(&format!(
        "sgdisk -n 1:2048:+30M -n 2:0:0 {device} >/dev/null
         blockdev --rereadpt {device}; mkfs.ext4 -q {device}p1; mkswap -q {device}p2
         mkdir 'a b'"
    ));

    machine.sh(&format!("mount {device}p1 'a b'"));
    refuses(
        machine,
        &device,
        &format!("{device}p1 is mounted on {}", machine.path("a b").display()),
    );
    machine.sh("umount 'a b'");

    machine.sh(&format!("swapon {device}p2"));
    refuses(machine, &device, &format!("{device}p2 is swapped on"));
    machine.sh(&format!("swapoff {device}p2"));

    machine.sh(&format!(
        "dmsetup create upper --table \"0 2048 linear {device}p1 0\""
    ));
    refuses(
        machine,
        &device,
        &format!("{device}p1 is part of dm-0 (upper)"),
    );
    machine.sh("dmsetup remove upper");

    machine.sh(&format!("modprobe loop; losetup /dev/loop0 {device}"));
    refuses(machine, &device, &format!("{device} is part of loop0"));
    machine.sh("losetup -d /dev/loop0");

    machine.sh(&format!(
        "sleep 60 <{device}p2 >/dev/null 2>&1 & echo $! >pid"
    ));
    refuses(
        machine,
        &device,
        &format!("{device}p2 is open in sleep (pid "),
    );
    machine.sh("kill $(cat pid)");

    machine.sh("sleep 0.2");
    machine.detach(&device);
    machine.assert_clean();
});

newest!(a_mount_in_another_namespace_counts, |machine| {
    let image = machine.image("image", 16 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let device = machine.attach(&[&server.uri()]);
    machine.sh(&format!(
        "mkfs.ext4 -q {device}; mkdir mnt
         unshare -m --propagation private bash -c 'mount {device} mnt; echo >ready; exec sleep 60' >/dev/null 2>&1 &
         echo $! >pid; while ! test -e ready; do sleep 0.05; done"
    ));
    refuses(machine, &device, "in the mount namespace of sleep (pid ");
    machine.sh("kill $(cat pid); sleep 0.3");

    // A namespace without any process in it: only the kernel knows.
    machine.sh(&format!(
        "mkdir keep; mount --bind keep keep; mount --make-private keep; touch keep/ns
         unshare --mount=keep/ns --propagation private mount {device} mnt"
    ));
    let ran = machine.nbdctl(&["detach", &device]);
    assert_eq!(ran.status, 5, "{ran:?}");
    assert!(ran.stderr.contains("no process shows by whom"), "{ran:?}");
    machine.sh("umount keep/ns; sleep 1");
    machine.detach(&device);
    machine.assert_clean();
});

newest!(what_is_another_device_by_now_is_not_taken_down, |machine| {
    let image = machine.image("image", 16 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let device = machine.attach(&[&server.uri(), "--name", "x"]);
    for job in ["release", "release-dead"] {
        let other = machine.nbdctl(&["on-device", job, "nbd0", "nbdctl1:y:0000000000000000"]);
        assert_eq!(other.status, 12, "{other:?}");
    }
    let status = machine.nbdctl(&["status", "x"]);
    assert!(status.stdout.contains("connected"), "{status:?}");
    let backend = machine.sh("cat /sys/block/nbd0/backend");
    let own = machine.nbdctl(&["on-device", "release", "nbd0", &backend]);
    assert_eq!(own.status, 0, "{own:?}");
    let gone = machine.nbdctl(&["status", &device]);
    assert_eq!(gone.status, 3, "{gone:?}");
    machine.sh("sleep 1");
    machine.assert_clean();
});

newest!(force_takes_even_what_is_in_use, |machine| {
    let image = machine.image("image", 16 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let device = machine.attach(&[&server.uri()]);
    machine.sh(&format!(
        "sleep 60 <{device} >/dev/null 2>&1 & echo $! >pid"
    ));
    let ran = machine.nbdctl(&["detach", &device, "--force"]);
    assert_eq!(ran.status, 5, "{ran:?}");
    assert!(
        ran.stderr
            .contains("was disconnected, but the kernel keeps it"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("is open in sleep"), "{ran:?}");
    // It is no device to go on with, and whose fault that is can be said.
    let again = machine.nbdctl(&["attach", &server.uri()]);
    assert_eq!(again.status, 5, "{again:?}");
    assert!(again.stderr.contains("is open in sleep"), "{again:?}");
    machine.sh("kill $(cat pid); sleep 0.3");
    let sockets = machine.sh("ss -Htn state established | wc -l");
    assert_eq!(sockets, "0");
    // What it had to leave, the next one cleans up, whatever that is about.
    assert_eq!(machine.nbdctl(&["detach", "nothing"]).status, 3);
    assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "30000");
    machine.assert_clean();
});

newest!(another_programs_device_is_not_ours_to_take, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    machine.sh("nbd-client -N disk 127.0.0.1 10900 /dev/nbd2 >/dev/null");
    let ran = machine.nbdctl(&["detach", "/dev/nbd2"]);
    assert_eq!(ran.status, 5);
    assert!(
        ran.stderr
            .contains("not attached by nbdctl but by another program"),
        "{ran:?}"
    );
    assert_eq!(machine.nbdctl(&["status"]).stdout, "");
    assert_eq!(machine.nbdctl(&["status", "/dev/nbd2"]).status, 3);
    let taken = machine.nbdctl(&["attach", &server.uri(), "--device", "/dev/nbd2"]);
    assert_eq!(taken.status, 5, "{taken:?}");
    let forced = machine.nbdctl(&["detach", "/dev/nbd2", "--force"]);
    assert_eq!(
        (forced.status, forced.stdout.as_str()),
        (0, "/dev/nbd2"),
        "{forced:?}"
    );
    machine.assert_clean();
});

newest!(a_user_that_cannot_be_seen_keeps_its_device, |machine| {
    let image = machine.image("image", 16 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let device = machine.attach(&[&server.uri()]);
    machine.sh(&format!(
        "(exec 7<>{device}; head -c 4M /dev/urandom >&7; echo >ready; exec sleep 60) >/dev/null 2>&1 &
         echo $! >pid; while ! test -e ready; do sleep 0.05; done"
    ));
    // From a PID namespace of its own, nbdctl sees nobody; the monitor would.
    machine.sh("pkill -9 -x nbdctl");
    let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
    let ran = machine.try_sh(&format!(
        "unshare -p -f --mount-proc {nbdctl} detach {device}"
    ));
    assert_eq!(ran.status, 5, "{ran:?}");
    assert!(ran.stderr.contains("no process shows by whom"), "{ran:?}");
    let status = machine.nbdctl(&["status", &device]);
    assert!(status.stdout.contains("connected"), "{status:?}");
    // Its order to disconnect was taken back: the last close leaves it attached.
    machine.sh("kill $(cat pid); sleep 0.5");
    machine.sh(&format!(
        "dd if={device} of=/dev/null bs=4k count=1 iflag=direct status=none"
    ));
    machine.detach(&device);
    machine.sh(&format!(
        "! cmp -s -n 4194304 {} /dev/zero",
        image.display()
    ));
    machine.assert_clean();
});
