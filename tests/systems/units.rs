//! Exports as units: what boots, restarts, stops and shutdowns do to their devices and
//! to whoever uses them.

use crate::system::System;

const EXT4: &str = "1b671a64-40d5-491e-99b0-da01ff1f3341";
const XFS: &str = "2b671a64-40d5-491e-99b0-da01ff1f3341";
const LUKS: &str = "3b671a64-40d5-491e-99b0-da01ff1f3341";

/// Makes the disks in the first boot, on the servers' files.
const MAKE: &str = r#"
    sfdisk -q /srv/two <<END
label: gpt
size=300MiB
size=20MiB, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F
END
    mkfs.ext4 -q -U $EXT4 /srv/plain
    modprobe loop
    loop=$(losetup --find --show -P /srv/two)
    udevadm settle
    mkfs.xfs -q -m uuid=$XFS ${loop}p1
    mkswap -q ${loop}p2
    losetup -d $loop
    echo -n secret >/etc/secret; chmod 600 /etc/secret
    modprobe dm-crypt
    cryptsetup luksFormat -q --uuid $LUKS --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
        /srv/locked /etc/secret
    cryptsetup open --key-file /etc/secret /srv/locked made
    mkfs.ext4 -q /dev/mapper/made
    # Which looks into it, and it would be busy.
    udevadm settle
    cryptsetup close made
    group=/dev/disk/by-id/nbd-group
    pvcreate -q $group >/dev/null
    vgcreate -q group $group >/dev/null
    lvcreate -q -y -n volume -l 100%FREE group >/dev/null
    mkfs.ext4 -q /dev/group/volume
    vgchange -q -an group >/dev/null
"#;

fn with_everything() -> System {
    System::installed()
        .server("plain", 10901, "64M")
        .server("two", 10902, "400M")
        .server("locked", 10903, "64M")
        .server("group", 10904, "64M")
        .file(
            "/etc/nbdctl/group.toml",
            "uri = \"nbd://127.0.0.1:10904/\"\n",
        )
        .file("/etc/nbdctl/two.toml", "uri = \"nbd://127.0.0.1:10902/\"\n")
        .file(
            "/etc/nbdctl/locked.toml",
            "uri = \"nbd://127.0.0.1:10903/\"\n",
        )
        .file("/etc/nbdtab", "nbd7 127.0.0.1 - port=10901,persist\n")
}

/// What goes to /etc once there are disks for it.
const CONFIGURE: &str = r"
    mkdir -p /mnt/ext4 /mnt/xfs /mnt/locked /mnt/volume
    cat >/etc/fstab <<END
UUID=$EXT4 /mnt/ext4 ext4 _netdev 0 0
/dev/disk/by-id/nbd-two-part1 /mnt/xfs xfs _netdev 0 0
/dev/disk/by-id/nbd-two-part2 none swap _netdev 0 0
/dev/mapper/unlocked /mnt/locked ext4 _netdev 0 0
/dev/group/volume /mnt/volume ext4 _netdev 0 0
END
    echo unlocked UUID=$LUKS /etc/secret _netdev >/etc/crypttab
";

#[test]
fn a_boot_mounts_everything_and_a_shutdown_leaves_nothing() {
    let ended = with_everything().boots(2).run(&format!(
        r#"
        EXT4={EXT4}; XFS={XFS}; LUKS={LUKS}
        if [ $NBDCTL_BOOT = 1 ]; then
            {MAKE}
            {CONFIGURE}
            exit
        fi
        systemctl is-system-running --wait
        for point in ext4 xfs locked volume; do findmnt -no TARGET,FSTYPE /mnt/$point; done
        swapon --show=TYPE --noheadings
        systemctl is-active nbdctl@nbd7 nbdctl@two nbdctl@locked remote-nbd.target
        udevadm verify --resolve-names=never --no-summary /usr/lib/udev/rules.d/*-nbd*.rules
        systemd-analyze verify --man=no nbdctl@two.service remote-nbd.target nbdctl-shutdown.service
        systemctl --version | head -n 1 | cut -d ' ' -f 2
        systemd-analyze security --offline=yes --no-pager /usr/lib/systemd/system/nbdctl@.service |
            sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p'
        for point in ext4 xfs locked volume; do dd if=/dev/urandom of=/mnt/$point/file bs=64k count=100 status=none; done
        "#
    ));
    ended.assert_good();
    let (output, security) = ended
        .output
        .split_once("257\n")
        .expect("Debian 13's systemd");
    // Whatever is opened or closed in the unit is to be said there, too.
    let recorded = include_str!("../../systemd/README.md").replace('\n', " ");
    let figure = format!("of 257 {}. What it", security.trim_end());
    assert!(recorded.contains(&figure), "{figure}");
    assert_eq!(
        output,
        "running\n/mnt/ext4 ext4\n/mnt/xfs xfs\n/mnt/locked ext4\n/mnt/volume ext4\npartition\n\
         active\nactive\nactive\nactive\n",
        "{}",
        ended.story()
    );
    // What assert_good() looks for complaints in is there, of four monitors.
    let told = |line: &&str| line.contains("the machine goes down");
    let told = ended.said_by_nbdctl().filter(told).count();
    assert!(told >= 4, "{told}\n{}", ended.story());
    ended.assert_in_order(&[
        "reboot: Restarting system",
        "Reached target remote-fs.target",
    ]);
    for point in ["ext4", "xfs", "locked", "volume"] {
        ended.assert_in_order(&[
            "reboot: Restarting system",
            "Reached target remote-fs.target",
            "The system will power off now",
            &format!("Unmounted mnt-{point}.mount"),
            "Stopped nbdctl@",
            "Stopped target network.target",
            "reboot: Power down",
        ]);
    }
    assert!(ended.down < 20.0, "{}", ended.down);
}

/// One export, `data`, with ext4 on it, mounted at boot.
pub fn with_one(settings: &str, options: &str) -> System {
    System::installed()
        .server("data", 10900, "64M")
        .file(
            "/etc/nbdctl/data.toml",
            &format!("uri = \"nbd://127.0.0.1:10900/\"\ndevice = \"/dev/nbd0\"\n{settings}"),
        )
        .file(
            "/etc/later",
            &format!("/dev/disk/by-id/nbd-data /mnt ext4 {options} 0 0\n"),
        )
}

/// In the first boot: a file system for the later ones.
pub const FIRST: &str = r#"
    if [ $NBDCTL_BOOT = 1 ]; then
        udevadm wait --timeout=20 /dev/disk/by-id/nbd-data # nofail waits for none
        nbdctl status data --json | grep '"state": "connected"' >/dev/null
        mkfs.ext4 -q /dev/disk/by-id/nbd-data
        mv /etc/later /etc/fstab
        [ ! -e /etc/then-away ] || mv /etc/then-away /etc/keep-away
        exit
    fi
    kill_server() { systemctl kill --signal=KILL server-data; }
"#;

#[test]
fn a_shutdown_ends_without_the_server() {
    let ended = with_one("", "_netdev").boots(2).run(&format!(
        "{FIRST}
        findmnt -no TARGET /mnt
        dd if=/dev/urandom of=/mnt/file bs=1M count=20 status=none
        kill_server
        sleep 10
        systemctl status nbdctl@data --no-pager | grep -o 'its server is away since'"
    ));
    assert_eq!(
        ended.output,
        "/mnt\nits server is away since\n",
        "{}",
        ended.story()
    );
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
    assert!(ended.down < 60.0, "{}", ended.story());
    ended.assert_in_order(&["The system will power off now", "the machine goes down"]);
}

#[test]
#[ignore = "make kernels"]
fn a_shutdown_ends_when_the_server_dies_in_it() {
    let ended = with_one("", "_netdev")
        .unit(
            "killer.service",
            "[Unit]\nAfter=remote-fs.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStart=/bin/true\n\
             ExecStop=/bin/dd if=/dev/zero of=/mnt/file bs=1M count=20\n\
             ExecStop=systemctl kill --signal=KILL server-data\n",
        )
        .boots(2)
        .run(&format!(
            "{FIRST} findmnt -no TARGET /mnt; systemctl start killer"
        ));
    assert_eq!(ended.output, "/mnt\n", "{}", ended.story());
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
    assert!(ended.down < 60.0, "{}", ended.story());
}

#[test]
fn a_nofail_export_holds_nothing_up_and_comes_later() {
    let system = with_one("nofail = true\n", "_netdev,nofail").file("/etc/then-away", "");
    let ended = system.boots(2).run(&format!(
        r#"{FIRST}
        systemctl is-active multi-user.target nbdctl@data
        ! findmnt -no TARGET /mnt
        ! nbdctl status data 2>/dev/null
        said() {{ systemctl show -P StatusText nbdctl@data | grep -o 'not attached yet.*refused'; }}
        until said; do sleep 0.1; done
        systemctl stop nbdctl@data
        systemctl is-active nbdctl@data || true
        systemctl start nbdctl@data
        rm /etc/keep-away
        systemctl start server-data
        udevadm wait --timeout=20 /dev/disk/by-id/nbd-data
        for i in $(seq 100); do findmnt -no TARGET /mnt && break; sleep 0.1; done
        systemctl is-active nbdctl@data"#
    ));
    assert_eq!(
        ended.output,
        "active\nactive\nnot attached yet, tried again and again: default export at \
         127.0.0.1:10900: nothing listens there (connection refused\ninactive\n/mnt\nactive\n",
        "{}",
        ended.story()
    );
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
}

#[test]
fn a_needed_export_is_waited_for_as_long_as_it_says() {
    let system = with_one("device_timeout = 12\n", "_netdev").file("/etc/then-away", "");
    let ended = system.boots(2).run(&format!(
        r#"{FIRST}
        systemctl is-active multi-user.target
        systemctl is-failed mnt.mount remote-fs.target || true
        cut -d . -f 1 /proc/uptime
        rm /etc/keep-away; systemctl start server-data
        systemctl start mnt.mount; findmnt -no TARGET /mnt"#
    ));
    let lines: Vec<_> = ended.output.lines().collect();
    let [active, mount, target, seconds, mounted] = lines[..] else {
        panic!("{}", ended.story());
    };
    let inactive = ["inactive", "inactive"];
    assert_eq!(
        (active, [mount, target], mounted),
        ("active", inactive, "/mnt")
    );
    let seconds: u32 = seconds.parse().unwrap();
    assert!((12..60).contains(&seconds), "{seconds}");
    assert!(
        ended.journal.contains(
            "nbd\\x2ddata.device: Job dev-disk-by\\x2did-nbd\\x2ddata.device/start timed out"
        ),
        "{}",
        ended.story()
    );
}

/// Writes and reads what it wrote, past every cache, until it is told to end.
pub const WRITER: &str = r#"
    writer() {
        local n=0 at=${1:-/mnt}
        while [ ! -e /run/enough ]; do
            n=$((n + 1))
            printf '%4096d' $n | dd of=$at/stamp bs=4096 oflag=direct conv=notrunc status=none
            [ "$(dd if=$at/stamp bs=4096 iflag=direct status=none | tr -d ' ')" = $n ] || exit 1
        done
        echo "$((n > 10))" >>/run/written
    }
    enough() { touch /run/enough; wait $writer; cat /run/written; }
"#;

#[test]
fn a_monitor_may_come_and_go() {
    let ended = with_one("", "_netdev").boots(2).run(&format!(
        r#"{FIRST} {WRITER}
        pid() {{ systemctl show -P MainPID nbdctl@data; }}
        ready() {{ until systemctl is-active -q nbdctl@data && [ "$(pid)" != $1 ]; do sleep 0.1; done; }}
        sleep 1; writer & writer=$!
        old=$(pid); kill -9 $old; ready $old; echo killed
        old=$(pid); pkill -x nbdctl; ready $old; echo ended
        sed -i s/10900/10999/ /etc/nbdctl/data.toml
        old=$(pid); systemctl restart nbdctl@data; ready $old; echo restarted
        # A file that cannot be read takes no monitor from a device.
        cp /etc/nbdctl/data.toml /run/kept; echo 'deat_timeout = 1' >>/etc/nbdctl/data.toml
        old=$(pid); systemctl restart nbdctl@data; ready $old; echo restarted
        cp /run/kept /etc/nbdctl/data.toml
        old=$(pid); systemctl restart nbdctl@data; ready $old
        systemctl daemon-reexec; sleep 1; systemctl is-active nbdctl@data
        old=$(pid); kill -9 $old; ready $old; echo killed
        systemctl show -P NFileDescriptorStore nbdctl@data
        nbdctl status data | grep -o 'configured as [^ ]*'
        sed -i s/10999/10900/ /etc/nbdctl/data.toml
        enough
        nbdctl status data --json | grep -e '"reconnects"' -e '"outages"'
        # It is stopped for good only when nobody uses it.
        systemctl stop nbdctl@data
        systemctl is-failed nbdctl@data
        systemctl show -P StatusText nbdctl@data
        echo still >/mnt/here; sync /mnt/here
        systemctl start nbdctl@data
        nbdctl status data --json | grep -o '"state": "connected"'
        umount /mnt
        systemctl stop nbdctl@data
        nbdctl status; systemctl is-active nbdctl@data || true
        systemctl start nbdctl@data; mount /mnt; cat /mnt/here
        # What is not known any more is not tried for ever.
        echo '{{' >/run/nbdctl/data/state.json
        kill -9 $(pid); sleep 4
        systemctl show -P ExecMainStatus -P ActiveState nbdctl@data
        umount /mnt; nbdctl detach data 2>/dev/null; systemctl reset-failed"#
    ));
    assert_eq!(
        ended.output,
        "killed\nended\nrestarted\nrestarted\nactive\nkilled\n2\n\
         configured as nbd://127.0.0.1:10999/\n1\n    \"reconnects\": 0,\n    \"outages\": 0,\n\
         failed\nthe device stays attached, and has no monitor: /dev/nbd0 is in use: /dev/nbd0 is \
         mounted on /mnt; let go of it first, or use --force\n\"state\": \"connected\"\ninactive\nstill\n76\nfailed\n/dev/nbd0\n",
        "{}",
        ended.story()
    );
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
    assert!(!ended.journal.contains("I/O error"), "{}", ended.story());
}

#[test]
fn the_unit_says_how_its_device_is() {
    let ended = with_one("dead_timeout = 8\n", "_netdev").boots(2).run(&format!(
        r#"{FIRST}
        status() {{ systemctl status nbdctl@data --no-pager | grep Status: | cut -d '"' -f 2; }}
        until_it_says() {{ for i in $(seq 200); do status | grep -q "$1" && break; sleep 0.1; done; status; }}
        status
        kill_server
        until_it_says 'is away.*refused'
        until_it_says 'is dead.*refused'
        systemctl is-active nbdctl@data
        nbdctl status data >/dev/null || echo "status $?"
        systemctl start server-data
        until_it_says 'is connected'
        nbdctl status data >/dev/null; echo "status $?""#
    ));
    let said: Vec<_> = ended.output.lines().collect();
    let [connected, away, dead, active, failed, revived, done] = said[..] else {
        panic!("{}", ended.story());
    };
    let both = "/dev/nbd0 is connected to 127.0.0.1:10900";
    assert_eq!(
        [connected, active, failed, revived, done],
        [both, "active", "status 1", both, "status 0"]
    );
    for word in [
        "its server is away since 20",
        "refused",
        "I/O waits until 20",
        "and fails from then on",
    ] {
        assert!(away.contains(word), "{away}");
    }
    for word in [
        "is dead",
        "away since 20",
        "I/O fails until it is back",
        "refused",
    ] {
        assert!(dead.contains(word), "{dead}");
    }
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
}
