//! Each way to say which export the root is, on both kinds of initramfs, and on the newest
//! kernel; and a boot that cannot succeed tells why.

use crate::machine::{Dracut, Initramfs, InitramfsTools, Machine};

/// Boots to multi-user.target, from an export, and powers off without a complaint.
fn assert_boots(machine: Machine) {
    let ended = machine.run(
        "systemctl is-system-running --wait; nbdctl status --json; findmnt -no SOURCE,OPTIONS /",
    );
    ended.assert_good();
    for said in ["running\n", r#""state": "connected""#, "/dev/nbd0 rw,"] {
        assert!(ended.output.contains(said), "{}", ended.story());
    }
    // 3 to 8 s on a quiet machine.
    assert!(ended.down < ended.up.max(30.0), "{}", ended.story());
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_and_root_nbd() {
    assert_boots(Machine::new(Dracut, "ip=dhcp root=nbd:10.0.2.2:10900:ext4"));
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_and_netroot() {
    let line = "ip=dhcp root=LABEL=root netroot=nbd:10.0.2.2:10900";
    assert_boots(Machine::new(Dracut, line));
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_and_dhcps_root_path() {
    let line = "ip=dhcp root=/dev/root netroot=dhcp";
    assert_boots(Machine::new(Dracut, line).option("--root-path", "nbd:10.0.2.2:10900"));
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_and_nbdroot() {
    let line = "ip=dhcp root=/dev/nbd0 nbdroot=10.0.2.2:10900/root";
    assert_boots(Machine::new(InitramfsTools, line));
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_and_dhcps_root_path() {
    let line = "ip=dhcp root=/dev/nbd0 nbdroot=dhcp";
    let machine = Machine::new(InitramfsTools, line);
    assert_boots(machine.option("--root-path", "10.0.2.2:10900/root"));
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_on_the_newest_kernel() {
    assert_boots(Machine::plain(Dracut).option("--kernel", "newest"));
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_on_the_newest_kernel() {
    assert_boots(Machine::plain(InitramfsTools).option("--kernel", "newest"));
}

/// A wrong port: the console says which setting, and what it met.
fn assert_tells_why(initramfs: Initramfs) {
    let line = initramfs.own_setting().replace("10900", "10901");
    let ended = Machine::new(initramfs, &line)
        .option("--patience", "1")
        .limit(150)
        .run("true");
    let told = ended.console.lines().any(|line| {
        // Not the kernel's own echo of its command line.
        line.contains("10.0.2.2:10901") && line.contains("nothing listens there")
    });
    assert!(told, "{}", ended.story());
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_tells_why_there_is_no_root() {
    assert_tells_why(Dracut);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_tells_why_there_is_no_root() {
    assert_tells_why(InitramfsTools);
}
