//! An initramfs for one machine alone, made by that machine on its root: it says itself
//! which export the root is, and how the network gets there.

use std::fs;

use crate::machine::{Dracut, Machine};

#[test]
#[ignore = "make test-boot-all"]
fn dracut_host_only_without_a_word_on_the_command_line() {
    // Twice as long as a boot, on processors that are made up.
    let maker = Machine::plain(Dracut).keep("/var/initrd").run(
        "export PATH=/usr/sbin:/usr/bin
        dracut --hostonly --no-early-microcode --no-compress --tmpdir /tmp /var/initrd",
    );
    maker.assert_good();
    let image = maker.kept("/var/initrd").display().to_string();
    // Though the address lives for ever by then: it may be another's tomorrow.
    let bytes = fs::read(maker.kept("/var/initrd")).unwrap();
    let word = b"ip=eth0:dhcp";
    assert!(bytes.windows(word.len()).any(|at| at == word));
    let ended = Machine::new(Dracut, "")
        .option("--initrd", &image)
        .when("away", "server kill; sleep 5; server start; say back")
        .keep("/var/file")
        .run(
            "grep -Ec ' (root|netroot|ip|rd.nbdctl|rd.neednet)=' /proc/cmdline
            findmnt -no SOURCE,OPTIONS /
            writer /var/file & sleep 3; event away; hear back; sleep 12; nbdctl status --json",
        );
    ended.assert_good();
    ended.assert_written("/var/file");
    for said in ["0\n/dev/nbd0 rw,", r#""state": "connected""#] {
        assert!(ended.output.contains(said), "{}", ended.story());
    }
}
