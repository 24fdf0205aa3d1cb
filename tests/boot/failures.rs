//! Boots that cannot succeed. They say on the console which setting it is, and why, and end
//! where somebody gave them a time to.

use crate::machine::{Dracut, Ended, Machine};

/// A line has all these words, of which the command line that the kernel tells has not all.
fn assert_told(ended: &Ended, words: &[&str]) {
    let mut lines = ended.console.lines();
    let told = lines.any(|line| words.iter().all(|word| line.contains(word)));
    assert!(told, "{words:?}\n{}", ended.story());
}

/// It went into emergency mode, which the rig's command line has end with power-off.
fn assert_failed(ended: &Ended) {
    let end = (ended.status, ended.how.as_str());
    assert_eq!(end, (125, "poweroff"), "{}", ended.story());
    assert_told(ended, &["Boot has failed"]);
}

fn fails(line: &str) -> Ended {
    let ended = Machine::new(Dracut, line).run("true");
    assert_failed(&ended);
    ended
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_and_a_device_timeout_that_runs_out() {
    let said = "rd.nbdctl=nbd://10.0.2.2:10901/,device_timeout=20";
    let ended = fails(&format!("ip=dhcp {said}"));
    assert_told(&ended, &[said, "nothing listens there"]);
    assert_told(&ended, &["nbdctl: given up, as device_timeout says"]);
}

/// Not the root itself is the export, so that dracut waits for what is on it.
#[test]
#[ignore = "make test-boot-all"]
fn dracut_and_a_device_timeout_of_what_the_root_is_on() {
    let said = "rd.nbdctl=nbd://10.0.2.2:10901/,device_timeout=20";
    let ended = fails(&format!("ip=dhcp root=LABEL=root rd.retry=40 {said}"));
    assert_told(&ended, &[said, "nothing listens there"]);
    assert_told(&ended, &["nbdctl: given up, as device_timeout says"]);
}

/// It may be that DHCP tells of an export; here it does not.
#[test]
#[ignore = "make test-boot-all"]
fn dracut_and_a_node_alone() {
    let ended = fails("ip=dhcp root=/dev/nbd0 rd.retry=30");
    let why = "neither nbdctl= nor nbdroot= says of which export; DHCP's answer had no root-path";
    assert_told(&ended, &["nbdctl: warning: root=/dev/nbd0", why]);
}
