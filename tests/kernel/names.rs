//! The names that udev makes of a device: when they come, when they go, and that
//! nothing else changes them. With the machine's own udev, and the rules of this tree.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::direct::Direct;
use crate::kept::Kept;
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
