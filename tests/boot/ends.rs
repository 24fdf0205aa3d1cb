//! The machine is told to go down when the root's server is gone: nothing can be read from
//! the root any more, nothing written, and still it is off, or restarts, within a minute.

use crate::machine::{Dracut, Ended, Initramfs, InitramfsTools, Machine};

/// Off or restarted, and in time; or, where the machine is so busy that a boot takes longer
/// than a minute, as long as that. What had been written safely is there.
fn assert_down(ended: &Ended, end: &str) {
    let how = if end == "reboot" { "reset" } else { "poweroff" };
    assert_eq!(ended.how, how, "{}", ended.story());
    assert!(ended.down < ended.up.max(60.0), "{}", ended.story());
    assert!(ended.fsck.is_empty(), "{}\n{}", ended.fsck, ended.story());
    assert!(ended.assert_written("/var/file") > 0);
    println!("{how} {:.1} s after it was told", ended.down);
}

fn gone_before(initramfs: Initramfs, end: &str, seconds: u32) {
    gone_before_on(Machine::plain(initramfs), end, seconds);
}

fn gone_before_on(machine: Machine, end: &str, seconds: u32) {
    let ended = machine
        .option("--end", end)
        .when("away", "server kill; say gone")
        .keep("/var/file")
        .run(&format!(
            "writer /var/file & sleep 3; event away; hear gone; sleep {seconds}"
        ));
    assert_down(&ended, end);
}

fn gone_meanwhile(initramfs: Initramfs, end: &str) {
    let ended = Machine::plain(initramfs)
        .option("--end", end)
        .when("powerdown", "server kill")
        .keep("/var/file")
        .run("writer /var/file & sleep 3");
    let _it_went_down = ended.at("did powerdown");
    assert_down(&ended, end);
}

#[test]
fn dracut_poweroff_when_it_was_gone_before() {
    gone_before(Dracut, "poweroff", 10);
}

#[test]
fn initramfs_tools_button_when_it_goes_meanwhile() {
    gone_meanwhile(InitramfsTools, "button");
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_reboot_when_it_was_gone_before() {
    gone_before(Dracut, "reboot", 10);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_reboot_when_it_was_gone_before() {
    gone_before(InitramfsTools, "reboot", 10);
}

/// Between the root and its export is another device, which is to be seen through.
#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_poweroff_on_lvm_when_it_was_gone_before() {
    let line = "ip=dhcp root=/dev/mapper/rig-root nbdctl=nbd://10.0.2.2:10900/";
    let machine = Machine::new(InitramfsTools, line).option("--layout", "lvm");
    gone_before_on(machine, "poweroff", 10);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_poweroff_when_it_was_gone_for_a_minute() {
    gone_before(Dracut, "poweroff", 60);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_button_when_it_was_gone_for_a_minute() {
    gone_before(Dracut, "button", 60);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_poweroff_when_it_was_gone_for_a_minute() {
    gone_before(InitramfsTools, "poweroff", 60);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_button_when_it_was_gone_for_a_minute() {
    gone_before(InitramfsTools, "button", 60);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_poweroff_when_it_goes_meanwhile() {
    gone_meanwhile(Dracut, "poweroff");
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_button_when_it_goes_meanwhile() {
    gone_meanwhile(Dracut, "button");
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_poweroff_when_it_goes_meanwhile() {
    gone_meanwhile(InitramfsTools, "poweroff");
}

/// And the monitor dies in the shutdown, when nothing can be executed: who goes on in its
/// place knows of it, and has the last word as that would have had.
#[test]
#[ignore = "make test-boot-all"]
fn dracut_poweroff_when_the_monitor_dies_in_it() {
    let line = "ip=dhcp root=LABEL=root rd.nbdctl=nbd://10.0.2.2:10900/,shutdown_timeout=15";
    let ended = Machine::new(Dracut, line)
        .when("away", "server kill; say gone")
        .keep("/var/file")
        .run(
            r#"monitor=$(nbdctl status --json | sed -n 's/.*"monitor_pid": *\([0-9][0-9]*\).*/\1/p')
            for i in $(seq 100); do pgrep -x nbdctl-standby >/dev/null && break; sleep 0.1; done
            # A unit that no shutdown stops.
            systemd-run -q -p DefaultDependencies=no -p Slice=-.slice \
                /run/rig/bin/busybox sh -c "while [ ! -e /run/rig/down ]; do sleep 0.2; done
                    sleep 4; echo 3 >/proc/sys/vm/drop_caches; kill -9 $monitor"
            writer /var/file & sleep 3; event away; hear gone; : >/run/rig/down"#,
        );
    for said in [
        "nobody takes its place: so does this process",
        "the machine is powered off by its monitor",
    ] {
        assert!(ended.console.contains(said), "{said}\n{}", ended.story());
    }
    assert_eq!(ended.how, "poweroff", "{}", ended.story());
    // Four seconds, ten for a successor, 15 and 25 as ever.
    assert!(ended.down < ended.up.max(60.0) + 30.0, "{}", ended.story());
    assert!(ended.fsck.is_empty(), "{}\n{}", ended.fsck, ended.story());
    println!("off {:.1} s after it was told", ended.down);
}
