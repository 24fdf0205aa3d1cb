//! The reference client under the same scenario, to compare with; and by it the rig is
//! proved: a rig that saw no error here would see none anywhere.

use crate::machine::{Dracut, Ended, Initramfs, InitramfsTools, Machine};

fn server_dies(initramfs: Initramfs, line: &str) -> Ended {
    Machine::stock(initramfs, line)
        .when("away", "server kill; sleep 5; server start; say back")
        .option("--patience", "60")
        .keep("/var/file")
        .run("writer /var/file & sleep 3; event away; hear back; event back; sleep 12; grep ' / ' /proc/mounts")
}

fn assert_it_fails(ended: &Ended) {
    let first = |word: &str| {
        let found = ended.events.iter().find(|(_, said)| said.starts_with(word));
        found
            .unwrap_or_else(|| panic!("never {word}\n{}", ended.story()))
            .0
    };
    println!(
        "EIO after {:.1} s; still so {:.1} s after the server was back; {}",
        first("failed ") - ended.at("away"),
        ended.events.last().unwrap().0 - ended.at("back"),
        ended.how
    );
    // It booted, and wrote.
    assert!(first("wrote ") < ended.at("away"), "{}", ended.story());
    assert!(!ended.errors().is_empty(), "{}", ended.story());
    // Not one block after the server was back, and no way to switch it off.
    let again = ended
        .events
        .iter()
        .any(|(at, said)| *at > ended.at("back") && said.starts_with("wrote "));
    assert!(!again, "{}", ended.story());
    assert_eq!(
        (ended.status, ended.how.as_str()),
        (124, "killed"),
        "{}",
        ended.story()
    );
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut() {
    let line = "ip=dhcp rd.neednet=1 root=nbd:10.0.2.2:10809:ext4";
    assert_it_fails(&server_dies(Dracut, line));
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools() {
    let line = "ip=dhcp root=/dev/nbd0 nbdroot=10.0.2.2:10809/root";
    assert_it_fails(&server_dies(InitramfsTools, line));
}
