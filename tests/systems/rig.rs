//! The rig itself: the guests boot whole, and what goes wrong in one shows. A rig that
//! takes a stuck system for a good one would hide everything else.

use crate::system::System;

#[test]
fn a_system_boots_whole_and_powers_off() {
    let ended = System::new()
        .unit(
            "online.service",
            "[Unit]\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart=/bin/true\n",
        )
        .wanted("online.service", "multi-user.target")
        .run(
            r#"
            systemctl is-system-running --wait
            [ -z "$(systemctl --failed --plain --no-legend)" ]
            systemctl is-active multi-user.target network-online.target online.service

            # udevd is at work: a file system's links come with its device, and go.
            id=6f4ac1d0-3b6e-4c0b-9a34-0a5d2cf6f9a1
            truncate -s 32M /srv/image
            mkfs.ext4 -q -U $id /srv/image
            modprobe loop
            loop=$(losetup --find --show /srv/image)
            udevadm wait --timeout=10 /dev/disk/by-uuid/$id
            [ "$(readlink -f /dev/disk/by-uuid/$id)" = "$loop" ]
            losetup -d "$loop"
            for i in $(seq 100); do [ -L /dev/disk/by-uuid/$id ] || break; sleep 0.1; done
            [ ! -L /dev/disk/by-uuid/$id ]

            modprobe nbd
            [ -b /dev/nbd15 ]
            nbdctl --version
            "#,
        );
    ended.assert_good();
    ended.assert_in_order(&[
        "Reached target network-online.target",
        "Finished online.service",
        "Reached target multi-user.target",
        "Started rig.service",
        "The system will power off now",
        "Reached target poweroff.target",
    ]);
    assert!(
        ended
            .output
            .starts_with("running\nactive\nactive\nactive\n")
    );
    assert!(ended.console.contains("reboot: Power down"));
    // 2 s on a quiet machine. What stops for no signal takes 90.
    assert!(ended.down < 20.0, "{}", ended.down);
}

#[test]
#[ignore = "make kernels"]
fn a_disk_is_kept_over_a_reboot() {
    let ended = System::new().file("/etc/kept", "as packed\n").boots(2).run(
        r#"
            echo "boot $NBDCTL_BOOT: $(cat /etc/kept), $(stat -c %U:%G /etc/kept)"
            echo "changed in boot $NBDCTL_BOOT" >/etc/kept
            "#,
    );
    ended.assert_good();
    assert_eq!(
        ended.output,
        "boot 1: as packed, root:root\nboot 2: changed in boot 1, root:root\n"
    );
    let whole_boots = ended.journal.matches("Startup finished in").count();
    assert_eq!(whole_boots, 2, "{}", ended.story());
}

#[test]
fn what_goes_wrong_shows() {
    // A script that fails; and what assert_good() must not overlook.
    let ended = System::new()
        .unit("bad.service", "[Service]\nExecStart=/bin/false\n")
        .wanted("bad.service", "multi-user.target")
        .unit(
            "a.service",
            "[Unit]\nAfter=b.service\n[Service]\nExecStart=/bin/true\n",
        )
        .unit(
            "b.service",
            "[Unit]\nAfter=a.service\n[Service]\nExecStart=/bin/true\n",
        )
        .wanted("a.service", "multi-user.target")
        .wanted("b.service", "multi-user.target")
        .run("systemctl is-system-running --wait || true; exit 7");
    assert_eq!((ended.status, ended.how.as_str()), (7, "poweroff"));
    assert_eq!(ended.output, "degraded\n");
    assert!(
        ended.journal.contains("ordering cycle"),
        "{}",
        ended.story()
    );
    assert!(ended.journal.contains("bad.service: Failed with result"));

    // A disk that is not there: nobody is at the keyboard of emergency mode.
    let ended = System::new()
        .file(
            "/etc/fstab",
            "/dev/nosuch /mnt ext4 x-systemd.device-timeout=1s 0 0\n",
        )
        .run("echo never");
    assert_eq!((ended.status, ended.how.as_str()), (125, "emergency"));
    assert_eq!(ended.output, "");
    assert!(ended.said.contains("came into emergency mode"));
}

#[test]
fn a_guest_that_does_not_end_is_ended_and_explained() {
    let ended = System::new()
        .unit(
            "stuck.service",
            "[Service]\n\
             ExecStart=/bin/sleep infinity\n\
             ExecStop=/bin/sleep 1000\n",
        )
        .limit(30)
        .run("systemctl start stuck.service; echo started");
    assert_eq!((ended.status, ended.how.as_str()), (124, "killed"));
    assert_eq!(ended.output, "started\n");
    for piece in [
        "rig: out of time soon",
        "stuck.service                            stop  running",
        "/bin/sleep 1000",
        "Show Blocked State",
    ] {
        assert!(ended.console.contains(piece), "{}", ended.story());
    }
}

#[test]
#[ignore = "make kernels"]
fn what_goes_wrong_on_qemu_shows() {
    let ended = System::on_qemu()
        .option("--at", "sysinit.target")
        .run("uname -r; exit 7");
    assert_eq!(
        (ended.status, ended.how.as_str()),
        (7, "poweroff"),
        "{}",
        ended.story()
    );
    assert!(ended.output.contains("-cloud-"), "{}", ended.output);
    assert!(ended.journal.contains("Reached target poweroff.target"));
    assert!(ended.console.contains("reboot: Power down"));

    let ended = System::on_qemu()
        .option("--append", "rdinit=/nosuch root=/dev/nosuch")
        .run("echo never");
    assert_eq!((ended.status, ended.how.as_str()), (125, "crash"));
    assert!(ended.said.contains("Unable to mount root fs"));

    let ended = System::on_qemu().limit(10).run("echo never");
    assert_eq!((ended.status, ended.how.as_str()), (124, "killed"));
}
