//! What the script of initramfs-tools makes of a plan, with that program's own functions
//! played.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{NBDCTL, text};

/// Answers of DHCP's that no shell may run, and no unit be changed by.
pub(super) const HOSTILE: [&str; 5] = [
    "nbd:a:x:';touch $top/ran;'",
    r"nbd:a:x:\0047;touch $top/ran;\0047",
    "nbd:a:x::$(touch $top/ran)",
    "nbd:a:x:ext4:ro\n[Mount]\nWhat=/dev/sda",
    "nbd:a:x:%n",
];

/// Its functions, as far as the script uses them, and what an interface was told.
const FUNCTIONS: &str = r#"
panic() { echo "panic $*" >> "$top/log"; exit 1; }
modprobe() { :; }
configure_networking() { : > "$top/net-eth0.conf"; }
time_elapsed() { echo 0; }
"#;

pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What the script left behind.
struct Ran {
    folder: tempfile::TempDir,
    stderr: String,
    status: Option<i32>,
}

impl Ran {
    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

/// Runs it with a command line and DHCP's answer, in dash, and what it left for the next
/// script with it.
fn local_top(line: &str, root_path: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().display().to_string();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("cmdline"), line).unwrap();
    fs::write(path("param.conf"), "").unwrap();
    let program = format!(
        "#!/bin/sh\n[ \"$2\" = plan ] || exec echo \"nbdctl $*\" >> {top}/log\nshift 2\n\
         exec {NBDCTL} boot plan --dry --cmdline {top}/cmdline \"$@\"\n"
    );
    fs::write(path("nbdctl"), program).unwrap();
    fs::set_permissions(path("nbdctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let root_path = quoted(root_path);
    let functions = format!("top={top}\nROOTPATH={root_path}\nROOTSERVER=\n{FUNCTIONS}");
    fs::write(path("functions"), functions).unwrap();
    let script = fs::read_to_string("initramfs/initramfs-tools/scripts/local-top/nbdctl").unwrap();
    let script = script
        .replace("/usr/sbin/nbdctl", &format!("{top}/nbdctl"))
        .replace("/scripts/functions", &format!("{top}/functions"))
        .replace("/conf/param.conf", &format!("{top}/param.conf"))
        .replace("/run/net-", &format!("{top}/net-"));
    fs::write(path("script"), script).unwrap();
    let read = "sh \"$1/script\"; status=$?; top=$1; . \"$1/param.conf\"; exit $status";
    let output = Command::new("dash")
        .args(["-c", read, "dash", &top])
        .output()
        .unwrap();
    Ran {
        folder,
        stderr: text(&output.stderr),
        status: output.status.code(),
    }
}

#[test]
fn the_next_script_is_told_of_the_root() {
    let ran = local_top("ip=dhcp nbdroot=dhcp ro", "nbd:a:x:ext4:noatime");
    assert_eq!(
        ran.file("param.conf"),
        "ROOT='/dev/nbd0'\nROOTFSTYPE='ext4'\nROOTFLAGS='-o noatime,ro'\n",
        "{}",
        ran.stderr
    );
    assert!(ran.file("log").contains("nbdctl boot start a-x\n"));
}

#[test]
fn nothing_of_dhcps_answer_is_run() {
    for path in HOSTILE {
        let ran = local_top("ip=dhcp nbdroot=dhcp", path);
        assert!(!ran.folder.path().join("ran").exists(), "{path}");
        assert_eq!(ran.file("param.conf"), "", "{path}");
        assert!(ran.file("log").contains("panic nbdctl"), "{path}");
        assert!(
            ran.stderr.contains("DHCP's root-path nbd:a:x:"),
            "{}",
            ran.stderr
        );
    }
    // A host of that name, and no option.
    let ran = local_top("ip=dhcp nbdroot=dhcp", "-x/y");
    assert!(!ran.stderr.contains("Usage"), "{}", ran.stderr);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
}

/// It is no silent end: the boot may have another root, or none.
#[test]
fn an_answer_without_root_path_is_told() {
    let ran = local_top("ip=dhcp netroot=dhcp", "");
    assert!(
        ran.stderr
            .contains("netroot=dhcp: DHCP's answer had no root-path")
    );
    assert_eq!(
        (ran.status, ran.file("param.conf")),
        (Some(0), String::new())
    );
}
