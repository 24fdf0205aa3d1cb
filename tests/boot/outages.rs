//! The root's server goes under a writer and comes back: nothing on the root notices more
//! than time, and every block that was told to be safe is on the server's disk.

use crate::machine::{Dracut, Initramfs, InitramfsTools, Machine};

/// What goes, and how it comes back.
#[derive(Clone, Copy)]
enum Fault {
    Killed,
    /// Packets vanish, and the guest's carrier stays.
    Cut,
    /// The guest's cable is out.
    Unplugged,
}

fn assert_survived(initramfs: Initramfs, fault: Fault, seconds: u32) {
    let (go, come) = match fault {
        Fault::Killed => ("server kill", "server start"),
        Fault::Cut => ("network cut", "network heal"),
        Fault::Unplugged => ("cable out", "cable in"),
    };
    // As on most machines: where dracut's is in /boot, it goes back there in the end.
    let ended = Machine::plain(initramfs)
        .option("--exitrd", "1")
        .when("away", &format!("{go}; sleep {seconds}; {come}; say back"))
        .keep("/var/file")
        .run(
            "writer /var/file & sleep 3; event away; hear back; event back
            # What is told from now on went to the server that came back.
            for i in $(seq 120); do
                [ -e /run/rig/after ] || { nbdctl status --json | grep -q '\"connected\"' && : >/run/rig/after; }
                [ -e /run/rig/after ] && break
                sleep 1
            done
            sleep 5; nbdctl status; grep ' / ' /proc/mounts",
        );
    ended.assert_good();
    let detached = ended.console.contains("nbdctl detach: /dev/nbd0");
    assert_eq!(detached, initramfs == Dracut, "{}", ended.story());
    let blocks = ended.assert_written("/var/file");
    let after = ended
        .events
        .iter()
        .filter(|(at, said)| *at > ended.at("back") && said.starts_with("wrote "))
        .count();
    assert!(after >= 3, "{after} blocks afterwards\n{}", ended.story());
    assert!(ended.output.contains(" / ext4 rw,"), "{}", ended.story());
    // The outage was one.
    let gap = ended.longest_gap();
    assert!(gap > f64::from(seconds) - 2.0, "{gap}\n{}", ended.story());
    println!("{blocks} blocks; {seconds} s away, the writer waited {gap:.1} s");
}

#[test]
fn dracut_server_killed_for_5_s() {
    assert_survived(Dracut, Fault::Killed, 5);
}

#[test]
fn initramfs_tools_server_killed_for_5_s() {
    assert_survived(InitramfsTools, Fault::Killed, 5);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_server_killed_for_90_s() {
    assert_survived(Dracut, Fault::Killed, 90);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_server_killed_for_90_s() {
    assert_survived(InitramfsTools, Fault::Killed, 90);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_network_cut_for_5_s() {
    assert_survived(Dracut, Fault::Cut, 5);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_network_cut_for_90_s() {
    assert_survived(Dracut, Fault::Cut, 90);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_network_cut_for_90_s() {
    assert_survived(InitramfsTools, Fault::Cut, 90);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_unplugged_for_5_s() {
    assert_survived(InitramfsTools, Fault::Unplugged, 5);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_unplugged_for_90_s() {
    assert_survived(Dracut, Fault::Unplugged, 90);
}
