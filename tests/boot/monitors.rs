//! The monitor of a running root is killed: the device serves on without one, another takes
//! it over, and the server's next restart is survived. Or it is killed during one, when
//! nothing can be executed.

use crate::machine::{Dracut, Initramfs, InitramfsTools, Machine};

fn assert_replaced(initramfs: Initramfs) {
    let ended = Machine::plain(initramfs)
        .when("away", "server kill; sleep 5; server start; say back")
        .keep("/var/file")
        .run(
            r#"monitor() { nbdctl status --json | sed -n 's/.*"monitor_pid": *\([0-9][0-9]*\).*/\1/p'; }
            writer /var/file &
            first=$(monitor)
            event killed
            kill -9 "$first"
            second=
            for i in $(seq 60); do
                second=$(monitor)
                [ -n "$second" ] && [ "$second" != "$first" ] && break
                sleep 1
            done
            [ -n "$second" ] && [ "$second" != "$first" ] || { echo "$first, then $second"; exit 1; }
            event replaced
            sleep 2; event away; hear back; event back; sleep 12; nbdctl status"#,
        );
    ended.assert_good();
    ended.assert_written("/var/file");
    for (from, to) in [("killed", Some("replaced")), ("back", None)] {
        let from = ended.at(from);
        let to = to.map_or(f64::INFINITY, |word| ended.at(word));
        let written = ended
            .events
            .iter()
            .any(|(at, said)| *at > from && *at < to && said.starts_with("wrote "));
        assert!(written, "{from} to {to}\n{}", ended.story());
    }
}

/// Nothing that would be executed then is in memory by chance, and process 1 waits for its
/// successor's first page until that has a server.
fn assert_replaced_in_an_outage(initramfs: Initramfs) {
    let ended = Machine::plain(initramfs)
        .when("away", "server kill; sleep 12; server start; say back")
        .keep("/var/file")
        .run(
            r#"monitor=$(nbdctl status --json | sed -n 's/.*"monitor_pid": *\([0-9][0-9]*\).*/\1/p')
            for i in $(seq 100); do pgrep -x nbdctl-standby >/dev/null && break; sleep 0.1; done
            standby=$(pgrep -x nbdctl-standby)
            grep -E '^(Pss|Pss_Dirty):' /proc/$standby/smaps_rollup
            writer /var/file & sleep 3; event away; sleep 2
            echo 3 >/proc/sys/vm/drop_caches
            kill -9 "$monitor"; event killed
            hear back; event back; sleep 15; nbdctl status"#,
        );
    ended.assert_good();
    ended.assert_written("/var/file");
    println!("{}", ended.output);
    let gone_on = "nobody takes its place: so does this process";
    assert!(ended.console.contains(gone_on), "{}", ended.story());
    let again = ended
        .events
        .iter()
        .any(|(at, said)| *at > ended.at("back") && said.starts_with("wrote "));
    assert!(again, "{}", ended.story());
    // And the unit has a monitor of its own again.
    let relieved = "another monitor takes /dev/nbd0 over";
    assert!(ended.console.contains(relieved), "{}", ended.story());
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut() {
    assert_replaced(Dracut);
}

#[test]
#[ignore = "make test-boot-all"]
fn dracut_in_an_outage() {
    assert_replaced_in_an_outage(Dracut);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools_in_an_outage() {
    assert_replaced_in_an_outage(InitramfsTools);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools() {
    assert_replaced(InitramfsTools);
}
