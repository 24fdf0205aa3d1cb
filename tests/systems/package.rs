//! The Debian package on a running system: installed, replaced by the next version, and
//! removed, under those who use its devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::system::{System, nbdctl};
use crate::units::WRITER;

/// The version of the next one.
const NEWER: &str = "0.1.9";

/// With the package, `/root/nbdctl.deb`, and the next one, `/root/newer.deb`; neither is
/// installed.
fn with_packages() -> System {
    let system = System::empty();
    let folder = TempDir::new().unwrap();
    package(nbdctl(), &system.path("/root/nbdctl.deb"));
    package(&newer(folder.path()), &system.path("/root/newer.deb"));
    system
}

/// Makes the package of a program.
fn package(program: &Path, to: &Path) {
    let built = TempDir::new().unwrap();
    let ran = Command::new("packaging/deb/build")
        .args([program, built.path()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let package = fs::read_dir(built.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .unwrap();
    fs::copy(package, to).unwrap();
}

/// The program of the next version: this one with another in its place, wherever it is
/// written. (To build it would take minutes.)
fn newer(folder: &Path) -> PathBuf {
    let old = env!("CARGO_PKG_VERSION");
    assert!(old.len() == NEWER.len() && old < NEWER);
    let path = folder.join("nbdctl");
    fs::copy(nbdctl(), &path).unwrap();
    let replace = format!("s/{}/{NEWER}/g", old.replace('.', "[.]"));
    let sed = Command::new("sed")
        .args(["-i", &replace])
        .arg(&path)
        .env("LC_ALL", "C")
        .status();
    assert!(sed.unwrap().success());
    path
}

#[test]
fn a_package_is_installed_upgraded_and_removed_under_a_mount() {
    let system = with_packages()
        .server("data", 10900, "64M")
        .server("carried", 10901, "64M")
        .file(
            "/etc/nbdctl/data.toml",
            "uri = \"nbd://127.0.0.1:10900/\"\ndevice = \"/dev/nbd0\"\n",
        )
        .file(
            "/etc/nbdctl/carried.toml",
            "uri = \"nbd://127.0.0.1:10901/\"\ndevice = \"/dev/nbd1\"\npath = \"relay\"\n",
        );
    let ended = system.run(&format!(
        r#"{WRITER}
        export DEBIAN_FRONTEND=noninteractive
        dpkg -i /root/nbdctl.deb >/dev/null
        systemctl start nbdctl@data nbdctl@carried
        mkdir /mnt/data /mnt/carried
        for name in data carried; do
            mkfs.ext4 -q /dev/disk/by-id/nbd-$name
            mount /dev/disk/by-id/nbd-$name /mnt/$name
        done
        writer /mnt/data & writer=$!
        writer /mnt/carried & writer="$writer $!"
        monitor() {{ systemctl show -P MainPID nbdctl@$1; }}
        relay() {{ nbdctl status carried --json | sed -n '/"relay"/,/}}/s/.*"pid": \([0-9]*\),.*/\1/p'; }}
        others() {{
            [ $(monitor data) != $data ] && [ $(monitor carried) != $carried ] &&
                [ -n "$(relay)" ] && [ "$(relay)" != $relay ]
        }}
        data=$(monitor data) carried=$(monitor carried) relay=$(relay)
        program=$(stat -c %i /usr/sbin/nbdctl)
        dpkg -i /root/newer.deb >/dev/null
        nbdctl --version; dpkg-query -Wf '${{Version}}\n' nbdctl
        # Monitors and relay are the new program's, and nothing is the old one's.
        until others; do sleep 0.1; done
        systemctl is-active nbdctl@data nbdctl@carried
        for pid in $(monitor data) $(monitor carried) $(relay); do readlink /proc/$pid/exe; done
        for pid in $data $carried $relay; do [ ! -e /proc/$pid ]; done
        sleep 2; enough
        nbdctl status data --json | grep -e '"reconnects"' -e '"outages"'
        cp /usr/sbin/nbdctl /run/nbdctl-before
        umount /mnt/carried; nbdctl detach carried >/dev/null
        dpkg --purge nbdctl 2>&1 | grep -o 'stays.*' || true
        cat /mnt/data/stamp >/dev/null; cat /sys/block/nbd0/backend | cut -d : -f 2
        [ ! -e /usr/sbin/nbdctl ]; umount /mnt/data
        /run/nbdctl-before detach data"#
    ));
    assert_eq!(
        ended.output,
        "nbdctl 0.1.9\n0.1.9\nactive\nactive\n\
         /usr/sbin/nbdctl\n/usr/sbin/nbdctl\n/usr/sbin/nbdctl\n1\n1\n\
         \x20   \"reconnects\": 0,\n    \"outages\": 0,\n\
         stays attached, and its monitor goes on until the\ndata\n/dev/nbd0\n",
        "{}",
        ended.story()
    );
    assert_eq!((ended.status, ended.how.as_str()), (0, "poweroff"));
    assert!(!ended.journal.contains("I/O error"), "{}", ended.story());
}
