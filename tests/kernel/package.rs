//! The Debian package's scripts, with devices attached. (That dpkg runs them is
//! `deb.rs`'s.)

use std::path::Path;

use crate::machine::{Machine, Ran};
use crate::server;

fn script(machine: &Machine, name: &str, arguments: &str) -> Ran {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deb");
    let program = Path::new(env!("CARGO_BIN_EXE_nbdctl")).parent().unwrap();
    machine.try_sh(&format!(
        "PATH={}:$PATH {}/{name} {arguments}",
        program.display(),
        folder.display()
    ))
}

newest!(
    an_upgrade_leaves_devices_and_a_removal_what_is_used,
    |machine| {
        let image = machine.image("image", 16 << 20);
        machine.sh("mkfs.ext4 -q image; mkdir mnt");
        let used = server::nbdkit(&image, 10900, &[], &[]);
        let spare = machine.image("spare", 4 << 20);
        let free = server::nbdkit(&spare, 10901, &[], &[]);
        let used = machine.attach(&[&used.uri(), "--name", "used"]);
        let free = machine.attach(&[&free.uri(), "--name", "free"]);
        machine.sh(&format!("mount {used} mnt"));
        for (name, arguments) in [
            ("prerm", "upgrade 0.2.0"),
            ("postrm", "upgrade 0.2.0"),
            ("postinst", "configure 0.1.0"),
            ("prerm", "failed-upgrade 0.1.0"),
            ("postinst", "abort-upgrade 0.2.0"),
        ] {
            let ran = script(machine, name, arguments);
            assert_eq!(ran.status, 0, "{name} {arguments}: {}", ran.stderr);
            let attached = machine.nbdctl(&["status"]).stdout;
            assert!(
                attached.contains(&used) && attached.contains(&free),
                "{attached}"
            );
        }
        let ran = script(machine, "prerm", "remove");
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains("is in use: ") && ran.stderr.contains("stays attached"));
        let ran = script(machine, "postrm", "remove");
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let attached = machine.nbdctl(&["status"]).stdout;
        assert!(
            attached.contains(&used) && !attached.contains(&free),
            "{attached}"
        );
        machine.sh("touch mnt/still-there && sync && umount mnt");
        machine.detach("used");
        machine.assert_clean();
    }
);
