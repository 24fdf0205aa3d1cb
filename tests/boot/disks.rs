//! The root is not the export itself, but something on it: a partition, what LUKS makes of
//! it, a volume of LVM's, an overlay over a read-only one. One outage each, as that is below
//! all of them.

use crate::machine::{Dracut, Ended, InitramfsTools, Machine};

const OUTAGE: &str = "server kill; sleep 5; server start; say back";

fn write_through_an_outage(machine: Machine) -> Ended {
    let ended = machine.when("away", OUTAGE).run(
        "findmnt -no SOURCE /
        writer /var/file & sleep 3; event away; hear back; event back; sleep 12",
    );
    ended.assert_good();
    let again = ended
        .events
        .iter()
        .any(|(at, said)| *at > ended.at("back") && said.starts_with("wrote "));
    assert!(again, "{}", ended.story());
    ended
}

fn assert_on(machine: Machine, layout: &str, source: &str) {
    let ended = write_through_an_outage(machine.option("--layout", layout).keep("/var/file"));
    ended.assert_written("/var/file");
    assert_eq!(ended.output, format!("{source}\n"), "{}", ended.story());
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_root_on_a_partition() {
    assert_on(Machine::plain(Dracut), "partition", "/dev/nbd0p2");
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_root_on_a_partition() {
    let line = "ip=dhcp root=/dev/nbd0p2 nbdroot=10.0.2.2:10900/root";
    assert_on(
        Machine::new(InitramfsTools, line),
        "partition",
        "/dev/nbd0p2",
    );
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_root_on_luks() {
    let line = "ip=dhcp root=LABEL=root rd.nbdctl=nbd://10.0.2.2:10900/ \
                rd.luks.name=5a1ff0f9-51ea-4a55-8d0c-6e626463746c=cryptroot";
    assert_on(Machine::new(Dracut, line), "luks", "/dev/mapper/cryptroot");
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_root_on_luks() {
    let line = "ip=dhcp root=/dev/mapper/cryptroot nbdctl=nbd://10.0.2.2:10900/";
    assert_on(
        Machine::new(InitramfsTools, line),
        "luks",
        "/dev/mapper/cryptroot",
    );
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_root_on_lvm() {
    let line = "ip=dhcp root=/dev/mapper/rig-root rd.nbdctl=nbd://10.0.2.2:10900/ \
                rd.lvm.lv=rig/root";
    assert_on(Machine::new(Dracut, line), "lvm", "/dev/mapper/rig-root");
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_root_on_lvm() {
    let line = "ip=dhcp root=/dev/mapper/rig-root nbdctl=nbd://10.0.2.2:10900/";
    assert_on(
        Machine::new(InitramfsTools, line),
        "lvm",
        "/dev/mapper/rig-root",
    );
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_overlay_over_a_read_only_export() {
    let line = "ip=dhcp root=LABEL=root ro rd.nbdctl=nbd://10.0.2.2:10900/ \
                rd.live.overlay.overlayfs=1";
    let machine = Machine::new(Dracut, line)
        .option("--read-only", "1")
        .file("/etc/fstab", "")
        .initramfs_file(
            "/etc/dracut.conf.d/overlay.conf",
            "add_dracutmodules+=\" overlayfs \"\n",
        );
    let ended = machine.when("away", OUTAGE).run(
        "findmnt -no FSTYPE /; cat /sys/block/nbd0/ro
        writer /var/file & sleep 3; event away; hear back; event back; sleep 12
        # Nothing of it is in memory, so it comes from the server.
        echo 3 >/proc/sys/vm/drop_caches
        dd if=/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so of=/dev/null 2>/dev/null; echo read $?",
    );
    ended.assert_good();
    assert_eq!(ended.output, "overlay\n1\nread 0\n", "{}", ended.story());
}
