//! Where there is an initramfs to go back to, the machine ends in it: the root is unmounted
//! rather than read-only, and its device is detached. dracut's is one; initramfs-tools has
//! none.

use crate::machine::{Dracut, Ended, Machine};

fn machine() -> Machine {
    Machine::plain(Dracut)
        .option("--exitrd", "1")
        .keep("/var/file")
}

fn assert_detached(ended: &Ended) {
    ended.assert_good();
    ended.assert_written("/var/file");
    for line in [
        "dracut: Unmounted /oldroot.",
        "dracut: nbdctl detach: /dev/nbd0",
    ] {
        assert!(ended.console.contains(line), "{line}\n{}", ended.story());
    }
}

#[test]
#[ignore = "make test-boot-all"]
fn it_detaches_what_a_monitor_from_the_root_serves() {
    let ended = machine().run(
        "writer /var/file &
        monitor() { nbdctl status --json | sed -n 's/.*\"monitor_pid\": *\\([0-9][0-9]*\\).*/\\1/p'; }
        first=$(monitor); kill -9 \"$first\"
        for i in $(seq 60); do
            sleep 1; now=$(monitor)
            [ -n \"$now\" ] && [ \"$now\" != \"$first\" ] && break
        done
        readlink /proc/$now/root/proc/$now/exe",
    );
    // Else it would be no other case than the next.
    assert_eq!(ended.output, "/usr/sbin/nbdctl\n", "{}", ended.story());
    assert_detached(&ended);
}

#[test]
#[ignore = "make test-boot-all"]
fn it_detaches_below_luks() {
    let line = "ip=dhcp root=LABEL=root rd.nbdctl=nbd://10.0.2.2:10900/ \
                rd.luks.name=5a1ff0f9-51ea-4a55-8d0c-6e626463746c=cryptroot";
    let ended = Machine::new(Dracut, line)
        .option("--layout", "luks")
        .option("--exitrd", "1")
        .keep("/var/file")
        .run("writer /var/file & sleep 5");
    assert_detached(&ended);
}

/// What it is is on the root, and not to be had any more.
#[test]
#[ignore = "make test-boot-all"]
fn the_machine_is_off_without_it_when_the_server_was_gone_before() {
    let ended = machine()
        .when("away", "server kill; say gone")
        .run("writer /var/file & sleep 3; event away; hear gone; sleep 10");
    assert_off(&ended);
}

/// So a monitor is to take over whose server is away.
#[test]
#[ignore = "make test-boot-all"]
fn the_machine_is_off_when_the_server_goes_in_between() {
    const MODULE: &str = "/usr/lib/dracut/modules.d/99rig";
    let ended = machine()
        .initramfs_file(
            &format!("{MODULE}/module-setup.sh"),
            "install() {
                inst_hook pre-shutdown 10 \"$moddir/rig.sh\"
                inst_hook pre-shutdown 90 \"$moddir/told.sh\"
                inst_multiple grep
            }\n",
        )
        .initramfs_file(
            &format!("{MODULE}/rig.sh"),
            "echo '@@ exitrd' >/dev/ttyS1; sleep 2\n",
        )
        .initramfs_file(
            &format!("{MODULE}/told.sh"),
            "grep -o '\"going_down\": *[a-z]*\\|\"ending\": *\"[a-z-]*\"' /run/nbdctl/*/state.json >/dev/ttyS1\n",
        )
        .when("exitrd", "server kill")
        .run("writer /var/file & sleep 3");
    let _it_went = ended.at("did exitrd");
    assert_off(&ended);
    // Who took over knows what goes on, so that it would end the machine if need be.
    let told = ended.output.replace(' ', "");
    for said in [r#""going_down":true"#, r#""ending":"power-off""#] {
        assert!(told.contains(said), "{said}\n{}", ended.story());
    }
}

fn assert_off(ended: &Ended) {
    assert_eq!(ended.how, "poweroff", "{}", ended.story());
    assert!(ended.down < ended.up.max(60.0), "{}", ended.story());
    assert!(ended.fsck.is_empty(), "{}\n{}", ended.fsck, ended.story());
    assert!(ended.assert_written("/var/file") > 0);
}
