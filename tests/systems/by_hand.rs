//! A disk that an administrator attaches by hand on a machine with systemd and udev:
//! what udev and systemd make of it without a rule or unit of ours.

use crate::system::System;

const ID: &str = "0c6e6a5e-8f0b-4a52-9d7f-3c1d8a4f9e21";

#[test]
fn links_come_with_a_disk_and_go_with_it() {
    let ended = System::new().server("data", 10900, "64M").run(&format!(
        r#"
        id={ID}
        device=$(nbdctl attach nbd://127.0.0.1:10900)
        unit=$(systemd-escape -p --suffix=device $device)
        mkfs.ext4 -q -U $id -L data $device

        # udev sees that mkfs closed the device, and names what is on it.
        udevadm wait --timeout=30 /dev/disk/by-uuid/$id /dev/disk/by-label/data
        udevadm settle
        [ "$(readlink -f /dev/disk/by-uuid/$id)" = $device ]
        systemctl is-active $unit "$(systemd-escape -p --suffix=device /dev/disk/by-uuid/$id)"
        mount UUID=$id /mnt
        echo kept >/mnt/file
        umount /mnt
        echo "links: $(udevadm info --query=symlink $device | tr ' ' '\n' | cut -d / -f 2 | sort | xargs)"

        # Detached, a device is not ready for udev, and what named its disk goes. The
        # node stays, and its by-diskseq link with it.
        nbdctl detach $device >/dev/null
        # (`udevadm wait --removed` now and then does not notice.)
        for i in $(seq 100); do [ -L /dev/disk/by-uuid/$id ] || break; sleep 0.1; done
        [ ! -L /dev/disk/by-uuid/$id ]
        udevadm settle
        [ ! -e /dev/disk/by-label/data ]
        [ -b $device ]
        ! systemctl is-active $unit
        udevadm info --query=property --property=SYSTEMD_READY $device
        echo "links: $(udevadm info --query=symlink $device | tr ' ' '\n' | cut -d / -f 2 | sort | xargs)"

        # And comes again, by attach alone.
        device=$(nbdctl attach nbd://127.0.0.1:10900)
        udevadm wait --timeout=30 /dev/disk/by-uuid/$id
        mount UUID=$id /mnt
        cat /mnt/file
        umount /mnt
        nbdctl detach $device >/dev/null
        "#
    ));
    ended.assert_good();
    assert_eq!(
        ended.output,
        "active\nactive\n\
         links: by-diskseq by-label by-uuid\n\
         inactive\n\
         SYSTEMD_READY=0\n\
         links: by-diskseq\n\
         kept\n"
    );
}

#[test]
fn attach_starts_a_unit_and_detach_ends_it() {
    let system = System::installed().server("data", 10900, "64M").file(
        "/etc/nbdctl/known.toml",
        "uri = \"nbd://127.0.0.1:10900/\"\nnoauto = true\n",
    );
    let ended = system.run(
        r#"
        left() { ls /run/nbdctl; nbdctl status; systemctl list-units --all --plain --no-legend 'nbdctl@*'; }
        device=$(nbdctl attach nbd://127.0.0.1:10900 --name adhoc)
        [ "$(readlink -f /dev/disk/by-id/nbd-adhoc)" = $device ]
        systemctl is-active nbdctl@adhoc
        # Again, as a script may; and where it lost its monitor.
        [ "$(nbdctl attach nbd://127.0.0.1:10900 --name adhoc)" = $device ]
        systemctl kill --signal=KILL nbdctl@adhoc
        until [ "$(systemctl show -P NRestarts nbdctl@adhoc)" = 1 ]; do sleep 0.1; done
        until systemctl is-active -q nbdctl@adhoc; do sleep 0.1; done
        nbdctl detach adhoc >/dev/null
        until [ "$(systemctl show -P ActiveState nbdctl@adhoc)" = inactive ]; do sleep 0.1; done
        left
        # One that cannot be had: why, and nothing left.
        nbdctl attach nbd://127.0.0.1:10999 --name none 2>&1 | cut -d : -f 1-4 || true
        nbdctl attach nbd://127.0.0.1:10999 --name none 2>/dev/null || echo "status $?"
        left
        # Two of one name at once: one has it, and the other is not given what it has.
        nbdctl attach nbd://127.0.0.1:10900 --name both >/dev/null 2>&1 & one=$!
        nbdctl attach nbd://127.0.0.1:10900/other --name both >/dev/null 2>&1 & two=$!
        a=0 b=0; wait $one || a=$?; wait $two || b=$?
        [ $a$b = 01 ] || [ $a$b = 10 ] || echo "statuses $a and $b"
        nbdctl detach both >/dev/null
        until [ "$(systemctl show -P ActiveState nbdctl@both)" = inactive ]; do sleep 0.1; done
        left
        # A configured one is as its file says.
        nbdctl attach known >/dev/null
        systemctl stop nbdctl@known
        nbdctl attach known --dead-timeout 7 2>&1 || echo "status $?"
        systemctl start nbdctl@typo 2>/dev/null || systemctl show -P StatusText -P ExecMainStatus -P NRestarts nbdctl@typo
        systemctl reset-failed
        left
        "#,
    );
    assert_eq!(
        ended.output,
        "active\n\
         nbdctl: default export at 127.0.0.1:10999: nothing listens there (connection refused)\n\
         status 1\n\
         nbdctl: \"known\" is configured otherwise in /etc/nbdctl/known.toml: change it there, or \
         choose another name with --name\nstatus 1\n\
         \"typo\" is not attached, and nothing tells from where it should be: write \
         /etc/nbdctl/typo.toml, or nbdctl attach URI --name typo\n0\n3\n",
        "{}",
        ended.story()
    );
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
}
