//! An export whose I/O a relay carries, as a unit: the relay outlives its monitors, may
//! do what it must, and is there until its device is unmounted.

use crate::units::{FIRST, WRITER, with_one};

#[test]
fn a_relay_stays_when_its_monitors_go_and_goes_with_its_device() {
    let settings = "path = \"relay\"\nsilence_timeout = 2\n";
    let ended = with_one(settings, "_netdev").boots(2).run(&format!(
        r#"{FIRST} {WRITER}
        pid() {{ systemctl show -P MainPID nbdctl@data; }}
        ready() {{ until systemctl is-active -q nbdctl@data && [ "$(pid)" != $1 ]; do sleep 0.1; done; }}
        relay() {{ nbdctl status data --json | sed -n '/"relay"/,/}}/s/.*"pid": \([0-9]*\),.*/\1/p'; }}
        another() {{ until [ -n "$(relay)" ] && [ "$(relay)" != $1 ]; do sleep 0.1; done; }}
        sleep 1; writer & writer=$!
        relay=$(relay)
        grep -E '^(Uid|Groups|CapEff|Seccomp):' /proc/$relay/status
        old=$(pid); kill -9 $old; ready $old; [ $(relay) = $relay ]; echo killed
        old=$(pid); systemctl restart nbdctl@data; ready $old; [ $(relay) = $relay ]; echo restarted
        systemctl daemon-reexec; sleep 1; [ $(relay) = $relay ]; echo the same
        kill -9 $relay; another $relay; echo another
        # Nobody's by now, and killed by its monitor all the same.
        relay=$(relay); kill -STOP $relay; another $relay; echo another
        enough
        # It is stopped for good only when nobody uses it.
        relay=$(relay)
        systemctl stop nbdctl@data
        systemctl is-failed nbdctl@data
        echo still >/mnt/here; sync /mnt/here
        systemctl start nbdctl@data; [ $(relay) = $relay ]; echo the same
        umount /mnt
        systemctl stop nbdctl@data
        [ ! -e /proc/$relay ]; echo gone
        systemctl start nbdctl@data; mount /mnt; cat /mnt/here
        # The machine goes down with this yet to be written.
        dd if=/dev/urandom of=/mnt/file bs=1M count=20 status=none"#
    ));
    assert_eq!(
        ended.output,
        "Uid:\t65534\t65534\t65534\t65534\nGroups:\t \nCapEff:\t0000000000000000\nSeccomp:\t2\n\
         killed\nrestarted\nthe same\nanother\nanother\n1\nfailed\nthe same\ngone\nstill\n",
        "{}",
        ended.story()
    );
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
    assert!(!ended.journal.contains("I/O error"), "{}", ended.story());
    ended.assert_in_order(&[
        "The system will power off now",
        "Unmounted mnt.mount",
        "Stopped nbdctl@",
    ]);
    assert!(ended.down < 30.0, "{}", ended.down);
}
