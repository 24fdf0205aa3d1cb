//! The names that udev makes of a device: when they come, when they go, and that
//! nothing else changes them. With the machine's own udev, and the rules of this tree.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::direct::Direct;
use crate::kept::Kept;
use crate::liar;
use crate::machine::Machine;
use crate::server;

/// udev, and what it made.
struct Udev<'a> {
    machine: &'a Machine,
    daemon: Child,
}

impl<'a> Udev<'a> {
    /// Starts it with our rules beside its own.
    fn start(machine: &'a Machine) -> Self {
        let folder = Path::new("/run/udev/rules.d");
        fs::create_dir_all(folder).unwrap();
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("udev");
        for entry in fs::read_dir(tree).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|is| is == "rules") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.replace("/usr/sbin/nbdctl", env!("CARGO_BIN_EXE_nbdctl"));
                fs::write(folder.join(path.file_name().unwrap()), text).unwrap();
            }
        }
        let daemon = [
            "/usr/lib/systemd/systemd-udevd",
            "/lib/systemd/systemd-udevd",
        ]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("systemd-udevd is not installed: tests/setup installs it");
        let daemon = Command::new(daemon)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let udev = Self { machine, daemon };
        machine.sh(
            "for _ in $(seq 100); do [ -S /run/udev/control ] && exit 0; sleep 0.1; done; exit 1",
        );
        udev.settle();
        udev
    }

    fn settle(&self) {
        self.machine.sh("udevadm settle --timeout=60");
    }

    /// Has it look again.
    fn event(&self) {
        self.machine
            .sh("udevadm trigger --action=change --sysname-match='nbd0*'");
        self.settle();
    }

    /// Every name of the first device and its partitions, and what it leads to.
    fn names(&self) -> Vec<String> {
        self.settle();
        let found = self.machine.sh(
            "find /dev/disk -type l -printf '%P %l\\n' | grep -E '/nbd0(p[0-9]+)?$' | sort || true",
        );
        let found = found.lines().map(|line| line.replace("../../", ""));
        // Counts events, and is never the same.
        found
            .filter(|line| !line.starts_with("by-diskseq/"))
            .collect()
    }

    /// What it knows of the device.
    fn properties(&self, node: &str) -> Vec<String> {
        let text = self
            .machine
            .sh(&format!("udevadm info --query=property /dev/{node}"));
        let volatile = ["USEC_INITIALIZED=", "SEQNUM=", "DISKSEQ=", "NBDCTL_LINK="];
        let lines = text.lines().map(str::to_owned);
        let mut kept: Vec<_> = lines
            .filter(|line| !volatile.iter().any(|key| line.starts_with(key)))
            .map(|line| match line.strip_prefix("DEVLINKS=") {
                Some(links) => {
                    let mut links: Vec<_> = links.split(' ').collect();
                    links.sort_unstable();
                    format!("DEVLINKS={}", links.join(" "))
                }
                None => line,
            })
            .filter(|line| !line.starts_with("UDEV_DISABLE_PERSISTENT_STORAGE_BLKID_FLAG"))
            .collect();
        kept.sort();
        kept
    }
}

impl Drop for Udev<'_> {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|found| found == name)
}

newest!(names_come_at_attach_and_go_at_detach, |machine| {
    let udev = Udev::start(machine);
    let image = machine.image("image", 16 << 20);
    machine.sh("sgdisk -n 1:2048:+4M -n 2:0:+4M image >/dev/null");
    let server = server::nbdkit(&image, 10900, &[], &[]);
    for _ in 0..3 {
        assert_eq!(udev.names(), [""; 0]);
        machine.attach(&[&server.uri(), "--name", "vm1"]);
        let names = udev.names();
        for name in [
            "by-id/nbd-vm1 nbd0",
            "by-id/nbd-vm1-part1 nbd0p1",
            "by-id/nbd-vm1-part2 nbd0p2",
            "by-path/ip-127.0.0.1:10900-nbd-disk nbd0",
            "by-path/ip-127.0.0.1:10900-nbd-disk-part2 nbd0p2",
        ] {
            assert!(has(&names, name), "{name} is not among {names:#?}");
        }
        let shown = machine.sh("lsblk -dno NAME,SERIAL,MODEL /dev/nbd0 | tr -s ' '");
        assert_eq!(shown, "nbd0 vm1 NBD");
        assert!(
            udev.properties("nbd0p1")
                .contains(&"NBDCTL_NAME=vm1".to_owned())
        );
        machine.detach("vm1");
        assert_eq!(udev.names(), [""; 0]);
    }
    machine.assert_clean();
});

scenario!(an_outage_changes_no_name, |machine| {
    let udev = Udev::start(machine);
    let image = machine.image("image", 64 << 20);
    machine.sh("mkfs.ext4 -q -L label image");
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let kept = Kept::attach(machine, &image, &server.uri(), &["--dead-timeout", "20"]);
    udev.settle();
    let (names, properties) = (udev.names(), udev.properties("nbd0"));
    assert!(has(&names, "by-id/nbd-x nbd0"), "{names:#?}");
    assert!(has(&names, "by-label/label nbd0"), "{names:#?}");
    assert!(properties.iter().any(|line| line == "ID_FS_TYPE=ext4"));
    server.kill();
    for state in ["reconnecting", "dead"] {
        kept.wait_for(state, Duration::from_secs(60));
        udev.event();
        assert_eq!(udev.names(), names, "{state}");
        assert_eq!(udev.properties("nbd0"), properties, "{state}");
        udev.event();
        assert_eq!(udev.properties("nbd0"), properties, "{state}, again");
    }
    let _server = server::nbdkit(&image, 10900, &[], &[]);
    kept.wait_for("connected", Duration::from_secs(30));
    udev.event();
    assert_eq!(udev.properties("nbd0"), properties, "after it");
    machine.detach("x");
    assert_eq!(udev.names(), [""; 0]);
    machine.assert_clean();
});

newest!(
    what_another_program_calls_its_device_makes_no_name,
    |machine| {
        let udev = Udev::start(machine);
        let image = machine.image("image", 4 << 20);
        let server = server::nbdkit(&image, 10900, &[], &[]);
        for backend in [
            "vm1",
            "nbdctl1:vm1",
            "nbdctl1:a b:00c3d2cbd0cf4a14",
            "nbdctl1:../../x:00c3d2cbd0cf4a14",
            "nbdctl1:x/y:00c3d2cbd0cf4a14",
            "nbdctl1:$(touch pwned):00c3d2cbd0cf4a14",
            "nbdctl1:$env{DEVNAME}:00c3d2cbd0cf4a14",
            "nbdctl1:%k:00c3d2cbd0cf4a14",
            "nbdctl1:a\"b':00c3d2cbd0cf4a14",
            "nbdctl1:a\nNBDCTL_BY_ID=x:00c3d2cbd0cf4a14",
            "nbdctl1:ä:00c3d2cbd0cf4a14",
            "nbdctl1:.a:00c3d2cbd0cf4a14",
            "nbdctl1:vm1:00c3d2cbd0cf4a14\n",
            "nbdctl1:vm1:00c3d2cbd0cf4a14 ",
            "nbdctl1:vm1:+0c3d2cbd0cf4a14",
            " nbdctl1:vm1:00c3d2cbd0cf4a14",
            "nbdctl2:vm1:00c3d2cbd0cf4a14",
        ] {
            let device = Direct::calling_it(machine, &server.uri(), backend);
            udev.event();
            assert_eq!(udev.names(), [""; 0], "{backend:?}");
            let known = udev.properties("nbd0");
            let ours = known
                .iter()
                .any(|line| line.starts_with("NBDCTL_") || line.contains("SERIAL"));
            assert!(!ours, "{backend:?}: {known:#?}");
            device.finish();
        }
        // One of our form is seen, whoever made it.
        let device = Direct::calling_it(machine, &server.uri(), "nbdctl1:vm1:00c3d2cbd0cf4a14");
        udev.event();
        assert_eq!(udev.names(), ["by-id/nbd-vm1 nbd0"]);
        device.finish();
        udev.event();
        assert_eq!(udev.names(), [""; 0]);
    }
);

/// Every link in /dev, of whoever's making, and where it leads.
fn all_links(udev: &Udev<'_>) -> Vec<String> {
    udev.settle();
    let found = udev
        .machine
        .sh("find /dev -type l -printf '%P %l\\n' | LC_ALL=C sort");
    // Counts events, and is never the same.
    let lines = found.lines().filter(|line| !line.contains("by-diskseq/"));
    lines.map(str::to_owned).collect()
}

newest!(an_export_may_be_called_anything, |machine| {
    // What a server calls its export; the same in a URI; and what is left of it in
    // by-id, for want of a name, and in by-path.
    const EXPORTS: &[(&str, &str, &str, &str)] = &[
        ("disk", "disk", "disk", "disk"),
        ("a disk", "a%20disk", "a-disk-c9c31325", r"a\x20disk"),
        (
            "/dev/sda",
            "/dev/sda",
            "-dev-sda-80db4614",
            r"\x2fdev\x2fsda",
        ),
        (
            "a/../../b",
            "a%2f..%2f..%2fb",
            "a-..-..-b-6f6b7d3f",
            r"a\x2f..\x2f..\x2fb",
        ),
        (
            "../../etc",
            "../../etc",
            "..-..-etc-69bbb71f",
            r"..\x2f..\x2fetc",
        ),
        (
            "a\nNBDCTL_BY_ID=x\nSYMLINK=y",
            "a%0aNBDCTL_BY_ID=x%0aSYMLINK=y",
            "a-NBDCTL_BY_ID-x-SYMLINK-y-1503e801",
            r"a\x0aNBDCTL_BY_ID=x\x0aSYMLINK=y",
        ),
        ("\"a'b\"", "%22a'b%22", "-a-b--d6923461", r"\x22a\x27b\x22"),
        (
            "$(touch pwned)",
            "$(touch%20pwned)",
            "--touch-pwned--1e591b52",
            r"\x24\x28touch\x20pwned\x29",
        ),
        (
            "`id`;%k $env{DEVNAME}",
            "%60id%60;%25k%20$env%7bDEVNAME%7d",
            "-id---k--env-DEVNAME--79e07d02",
            r"\x60id\x60\x3b\x25k\x20\x24env\x7bDEVNAME\x7d",
        ),
        (
            "ä€\u{202e}",
            "%c3%a4%e2%82%ac%e2%80%ae",
            "----549d30fe",
            r"\xc3\xa4\xe2\x82\xac\xe2\x80\xae",
        ),
        (r"\x2f", "%5cx2f", "-x2f-ab173337", r"\x5cx2f"),
        ("a-part1", "a-part1", r"a\x2dpart1", r"a\x2dpart1"),
        (" ", "%20", "--e2f01f75", r"\x20"),
        (".", ".", ".", "."),
    ];
    // Of a device that has no file system: the driver's and udev's own, and ours.
    const PROPERTIES: &[&str] = &[
        "CURRENT_TAGS",
        "DEVLINKS",
        "DEVNAME",
        "DEVPATH",
        "DEVTYPE",
        "ID_MODEL",
        "ID_PATH",
        "ID_SERIAL",
        "ID_SERIAL_SHORT",
        "MAJOR",
        "MINOR",
        "NBDCTL_BY_ID",
        "NBDCTL_BY_PATH",
        "NBDCTL_LVM_LOOKED",
        "NBDCTL_NAME",
        "SUBSYSTEM",
        "TAGS",
    ];
    let mut config = liar::Config::new();
    config.socket = liar::Socket::Tcp("127.0.0.1:10900".parse().unwrap());
    config.exports = EXPORTS
        .iter()
        .map(|(name, ..)| liar::Export::new(name, 16 << 20))
        .collect();
    let server = liar::start(config);
    let udev = Udev::start(machine);
    // What udev itself calls a device, attached or not.
    udev.event();
    let before = all_links(&udev);
    for (export, in_uri, name, in_path) in EXPORTS {
        let uri = format!("nbd://127.0.0.1:10900/{in_uri}");
        let device = machine.attach(&[&uri]);
        assert_eq!(device, "/dev/nbd0", "{export:?}");
        let mut golden = before.clone();
        golden.extend([
            format!("disk/by-id/nbd-127.0.0.1-10900-{name} ../../nbd0"),
            format!("disk/by-path/ip-127.0.0.1:10900-nbd-{in_path} ../../nbd0"),
        ]);
        golden.sort();
        let links = all_links(&udev);
        let known = udev.properties("nbd0");
        println!("{export:?}: {links:#?} {known:#?}");
        assert_eq!(links, golden, "{export:?}");
        let keys: Vec<_> = known
            .iter()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        assert_eq!(keys, PROPERTIES, "{export:?}: {known:#?}");
        assert!(
            known.contains(&format!("NBDCTL_BY_ID=nbd-127.0.0.1-10900-{name}")),
            "{known:#?}"
        );
        let plain = |c: char| c.is_ascii_alphanumeric() || r"#+-.:=@_\/ ".contains(c);
        assert!(
            known.iter().all(|line| line.chars().all(plain)),
            "{known:#?}"
        );
        machine.detach("/dev/nbd0");
        assert_eq!(all_links(&udev), before, "{export:?}");
    }
    assert!(!Path::new("/pwned").exists() && !machine.path("pwned").exists());
    machine.assert_clean();
    drop(server);
});

newest!(a_volume_group_on_a_whole_disk_is_seen_once, |machine| {
    let udev = Udev::start(machine);
    let image = machine.image("image", 32 << 20);
    let server = server::nbdkit(&image, 10900, &[], &[]);
    let attach = || {
        machine.attach(&[&server.uri(), "--name", "pv"]);
        udev.settle();
    };
    attach();
    machine.sh("vgcreate -qq vg /dev/nbd0 && lvcreate -qq -an -Zn -n lv -L 8M vg");
    udev.event();
    assert!(
        !Path::new("/dev/mapper/vg-lv").exists(),
        "nobody asked for it"
    );
    machine.detach("pv");
    udev.settle();
    assert!(!Path::new("/dev/mapper/vg-lv").exists());
    attach();
    machine
        .sh("for _ in $(seq 100); do [ -e /dev/mapper/vg-lv ] && exit 0; sleep 0.1; done; exit 1");
    machine.sh("vgchange -qq -an vg");
    udev.event();
    assert!(!Path::new("/dev/mapper/vg-lv").exists(), "it came back");
    machine.detach("pv");
    udev.settle();
});
