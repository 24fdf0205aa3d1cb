//! The monitor of a running root is killed: the device serves on without one, another takes
//! it over, and the server's next restart is survived.

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

#[test]
#[ignore = "make test-boot-all"]
fn dracut() {
    assert_replaced(Dracut);
}

#[test]
#[ignore = "make test-boot-all"]
fn initramfs_tools() {
    assert_replaced(InitramfsTools);
}
