//! What an initramfs's scripts get of `nbdctl boot`, and what dracut's hooks make of it,
//! with dracut's own functions played. Whole boots are in tests/boot.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it is all tests")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

#[path = "initramfs/end.rs"]
mod end;
#[path = "initramfs/host.rs"]
mod host;
#[path = "initramfs/tools.rs"]
mod tools;

const NBDCTL: &str = env!("CARGO_BIN_EXE_nbdctl");

/// What is printed of a command line, whose files are not written.
fn plan(line: &str, more: &[&str]) -> Output {
    let mut child = Command::new(NBDCTL)
        .args(["boot", "plan", "--dry", "--cmdline", "-"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(line.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_plan_says_by_its_status_what_there_is_to_do() {
    for (line, status, said) in [
        ("root=/dev/sda1 ro", 3, ""),
        ("rd.nbdctl=nbd://h/x", 0, ""),
        (
            "rd.nbdctl=nbd://h/x,bs=1",
            2,
            "nbdctl: rd.nbdctl=nbd://h/x,bs=1: there is no option \"bs\"",
        ),
        (
            "netroot=nbd:h:x:::timeout=3",
            0,
            "nbdctl: warning: netroot=nbd:h:x:::timeout=3: timeout=3 is not used",
        ),
        ("nbdroot=dhcp", 0, ""),
    ] {
        let output = plan(line, &[]);
        assert_eq!(output.status.code(), Some(status), "{line}");
        let stderr = text(&output.stderr);
        assert!(
            stderr.starts_with(said) && (stderr.is_empty() == said.is_empty()),
            "{line}: {stderr}"
        );
    }
}

#[test]
fn dhcps_answer_is_told_as_options_and_may_be_empty() {
    let waits = text(&plan("nbdroot=/x", &[]).stdout);
    assert!(
        waits.contains("nbdctl_dhcp='yes'") && waits.contains("nbdctl_names=''"),
        "{waits}"
    );
    let known = plan(
        "nbdroot=/x",
        &["--root-path", "", "--root-server", "10.0.0.9"],
    );
    let known = text(&known.stdout);
    assert!(
        known.contains("nbdctl_dhcp=''") && known.contains("nbdctl_names='10.0.0.9-x'"),
        "{known}"
    );
    let none = plan("nbdroot=dhcp", &["--root-path", ""]);
    assert_eq!(none.status.code(), Some(2));
    assert!(
        text(&none.stderr).contains("no root-path"),
        "{}",
        text(&none.stderr)
    );
}

/// dracut's functions, as far as the hooks use them; each notes what it was told.
const DRACUT: &str = r#"
getcmdline() { cat "$top/cmdline"; cat "$top"/etc/cmdline.d/*.conf 2> /dev/null; }
getarg() { false; }
die() { echo "die $*" >> "$top/log"; exit 1; }
modprobe() { echo "modprobe $*" >> "$top/log"; }
udevadm() { echo "udevadm $*" >> "$top/log"; }
ip() { echo "$addresses"; }
systemctl() { echo "systemctl $*" >> "$top/log"; }
wait_for_dev() { echo "wait_for_dev $*" >> "$top/log"; }
dev_unit_name() { echo "${1#/dev/}" | sed 's,^,dev-,'; }
hookdir=$top/hooks
"#;

/// What the hooks left behind.
struct Hooked {
    folder: tempfile::TempDir,
    shown: String,
}

impl Hooked {
    fn file(&self, path: &str) -> String {
        fs::read_to_string(self.folder.path().join(path)).unwrap_or_default()
    }

    fn log(&self) -> String {
        self.file("log")
    }
}

/// Runs the hooks of a boot under dracut's systemd, in a folder of their own.
fn hooks(line: &str, variables: &str) -> Hooked {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().display().to_string();
    let path = |name: &str| folder.path().join(name);
    for name in ["hooks/initqueue/finished", "hooks/emergency", "bin"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    fs::write(path("cmdline"), line).unwrap();
    // Only what is planned is of interest here.
    let program = format!(
        "#!/bin/sh\necho \"nbdctl $*\" >> {top}/log\n[ \"$2\" != wait ] || exit ${{waited:-0}}\n[ \"$2\" = plan ] || exit 0\nshift 2\n[ \"$1\" != --dry ] || shift\nexec {NBDCTL} boot plan --dry \"$@\"\n"
    );
    fs::write(path("bin/nbdctl"), program).unwrap();
    fs::set_permissions(path("bin/nbdctl"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in [
        "nbdctl-lib.sh",
        "parse-nbdctl.sh",
        "nbdctl-start.sh",
        "nbdctl-settled.sh",
        "nbdctl-emergency.sh",
    ] {
        let script = fs::read_to_string(Path::new("initramfs/dracut/95nbdctl").join(name)).unwrap();
        let script = script
            .replace("/usr/sbin/nbdctl", &format!("{top}/bin/nbdctl"))
            .replace("/lib/nbdctl-lib.sh", &format!("{top}/nbdctl-lib.sh"))
            .replace("/run/systemd", &format!("{top}/run/systemd"))
            .replace("/sys/class/block", &format!("{top}/sys"))
            .replace("/run/udev", &format!("{top}/run/udev"))
            .replace("/etc/cmdline.d", &format!("{top}/etc/cmdline.d"))
            .replace("/tmp/nbdctl", &format!("{top}/nbdctl"));
        fs::write(path(name), script).unwrap();
    }
    let script = format!(
        "top={top}\n{DRACUT}\nDRACUT_SYSTEMD=1\nroot_unset=UNSET\n{variables}\n\
         . $top/parse-nbdctl.sh\n. $top/nbdctl-start.sh\nwait\neval \"$after\"\n\
         echo \"root=$root rootok=$rootok netroot=$netroot fstype=$fstype rflags=$rflags unset=$root_unset\"\n"
    );
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    Hooked {
        shown: text(&output.stdout).trim().to_owned(),
        folder,
    }
}

#[test]
fn dracut_waits_for_the_device_without_end_and_mounts_it() {
    let hooked = hooks("ro rd.nbdctl=nbd://h/x,name=r rootfstype=ext4", "");
    assert_eq!(
        hooked.shown,
        "root=block:/dev/nbd0 rootok=1 netroot= fstype=ext4 rflags=ro unset="
    );
    assert_eq!(
        hooked.file("run/systemd/system/sysroot.mount"),
        "[Unit]\nBefore=initrd-root-fs.target\nRequires=systemd-fsck@dev-nbd0.service\n\
         After=systemd-fsck@dev-nbd0.service\n[Mount]\nWhere=/sysroot\nWhat=/dev/nbd0\n\
         Type=ext4\nOptions=ro\n"
    );
    // Whoever was told root=/dev/root waits for that.
    assert_eq!(
        hooked.file("run/udev/rules.d/99-nbdctl-root.rules"),
        "ACTION!=\"remove\", SUBSYSTEM==\"block\", KERNEL==\"nbd0\", \
         ATTRS{backend}==\"nbdctl1:*\", SYMLINK+=\"root\"\n"
    );
    let log = hooked.log();
    let order = [
        "wait_for_dev -n /dev/nbd0",
        "systemctl daemon-reload",
        "systemctl --no-block start initrd-root-fs.target",
        "systemctl --no-block start nbdctl@r.service",
        "nbdctl boot wait r",
    ];
    let places: Vec<_> = order.iter().map(|what| log.find(what)).collect();
    assert!(
        places.is_sorted() && places.iter().all(Option::is_some),
        "{log}"
    );
    assert_eq!(
        hooked.file("etc/cmdline.d/90nbdctl-network.conf"),
        "rd.neednet=1\n"
    );
    // It does not run yet, and would be waited for.
    assert!(!log.contains("udevadm"), "{log}");
    let finished = hooked.file("hooks/initqueue/finished/nbdctl-r.sh");
    assert!(finished.contains("boot report --quiet r"), "{finished}");
}

/// What is there is gone on with; a root that is not there is told of, and ends the boot.
#[test]
fn dracut_gives_up_in_the_open() {
    const FAILS: &str = "--job-mode=replace-irreversibly start emergency.target";
    let present = "mkdir -p $top/sys/nbd0; echo 8 > $top/sys/nbd0/size";
    let absent = "mkdir -p $top/sys/nbd0; echo 0 > $top/sys/nbd0/size";
    let mine = "rd.nbdctl=nbd://h/x,name=r,device_timeout=7";
    let node = format!("{mine} root=/dev/nbd0p1");
    for (line, variables, fails) in [
        (mine, format!("{absent}; export waited=6"), true),
        (mine, format!("{present}; export waited=6"), false),
        (mine, format!("{absent}; export waited=0"), false),
        // Where root= names a device, too.
        (
            &node,
            format!("{present}; root=block:/dev/nbd0p1; export waited=6"),
            true,
        ),
        // What that is on dracut itself finds out, or not.
        (
            &format!("{mine} root=LABEL=x"),
            format!("{absent}; root=block:LABEL=x; export waited=6"),
            false,
        ),
    ] {
        let hooked = hooks(line, &variables);
        let log = hooked.log();
        assert!(log.contains("nbdctl boot wait --timeout 7 r\n"), "{log}");
        assert_eq!(log.contains(FAILS), fails, "{line}, {variables}: {log}");
        assert_eq!(log.contains("nbdctl boot report r\n"), fails, "{log}");
        let gave_up = hooked.folder.path().join("nbdctl.given-up").exists();
        assert_eq!(gave_up, variables.ends_with('6'), "{variables}");
    }
}

#[test]
fn dracut_leaves_another_root_alone() {
    let hooked = hooks(
        "root=LABEL=x netroot=nbd:h:y rd.nbdctl=nbd://h/z,nofail",
        "root=LABEL=x netroot=nbd:h:y",
    );
    assert_eq!(
        hooked.shown,
        "root=LABEL=x rootok= netroot= fstype= rflags= unset=UNSET"
    );
    assert_eq!(hooked.file("run/systemd/system/sysroot.mount"), "");
    let log = hooked.log();
    assert!(
        log.contains("start nbdctl@h-y.service") && log.contains("start nbdctl@h-z.service"),
        "{log}"
    );
    assert!(log.contains("nbdctl boot wait h-y\n"), "{log}");
    assert_eq!(hooked.file("hooks/initqueue/finished/nbdctl-h-z.sh"), "");
}

#[test]
fn dracut_has_dhcps_answer_looked_at() {
    let asks = hooks("root=/dev/root netroot=dhcp", "root=/dev/root netroot=dhcp");
    assert!(
        asks.shown.contains("netroot=dhcp") && !asks.log().contains("start"),
        "{}",
        asks.log()
    );
    let answered = hooks(
        "root=/dev/root netroot=dhcp",
        "root=/dev/root netroot=nbd::x new_root_path=nbd::x new_next_server=10.0.0.9",
    );
    assert!(
        answered
            .shown
            .starts_with("root=block:/dev/nbd0 rootok=1 netroot=nbd::x"),
        "{}",
        answered.shown
    );
    assert!(
        answered.log().contains("start nbdctl@10.0.0.9-x.service"),
        "{}",
        answered.log()
    );
    assert!(answered.log().contains("udevadm control --reload\n"));
}

/// Nobody comes back with an answer that has no root-path, nor with none.
#[test]
fn dracut_tells_why_dhcp_says_no_root() {
    for (after, told) in [
        (". $top/nbdctl-emergency.sh", true),
        (". $top/nbdctl-settled.sh", false),
        ("nbdctl_told=0; . $top/nbdctl-settled.sh", true),
    ] {
        for (addresses, why) in [
            (
                "2: eth0 inet 10.0.2.15/24",
                "nbdctl: warning: root=/dev/nbd0: neither nbdctl= nor nbdroot= says of which \
                 export; DHCP's answer had no root-path: set option root-path at the DHCP server\n",
            ),
            (
                "",
                "nbdctl: no network yet, and DHCP is to say which export the root is: is ip= right?\n",
            ),
        ] {
            let variables =
                format!("root=/dev/nbd0; addresses='{addresses}'; after='{after} 2>&1'");
            let hooked = hooks("root=/dev/nbd0", &variables);
            let shown = hooked.shown.split("root=/dev/nbd0 rootok=").next().unwrap();
            assert_eq!(shown, if told { why } else { "" }, "{after}");
        }
    }
    let known = hooks(
        "rd.nbdctl=nbd://h/x",
        "after='nbdctl_told=0; . $top/nbdctl-settled.sh 2>&1'",
    );
    assert!(known.shown.starts_with("root="), "{}", known.shown);
}

#[test]
fn dracut_ends_a_boot_whose_setting_is_wrong_and_does_nothing_without_one() {
    let wrong = hooks("rd.nbdctl=nbd://h/x,bs=1", "");
    assert!(
        wrong
            .log()
            .contains("die nbdctl: the command line cannot be used"),
        "{}",
        wrong.log()
    );
    let none = hooks("root=/dev/sda1", "root=/dev/sda1");
    assert_eq!(none.log().lines().count(), 1, "{}", none.log());
}

/// Whoever answers DHCP may say anything.
#[test]
fn dracut_runs_nothing_of_dhcps_answer() {
    for path in tools::HOSTILE {
        let variables = format!(
            "root=/dev/root netroot=dhcp new_root_path={}",
            tools::quoted(path)
        );
        let hooked = hooks("root=/dev/root netroot=dhcp", &variables);
        assert!(
            hooked.log().contains("die nbdctl"),
            "{path}: {}",
            hooked.log()
        );
        assert_eq!(
            hooked.file("run/systemd/system/sysroot.mount"),
            "",
            "{path}"
        );
    }
    // It is no option of ours either, but another kind of root.
    let other = hooks("netroot=dhcp", "netroot=dhcp new_root_path=--dry");
    assert!(!other.log().contains("die"), "{}", other.log());
}

/// Every shell that may run them can read them.
#[test]
fn the_scripts_are_scripts() {
    let all = [
        ("bash", "initramfs/dracut/95nbdctl/module-setup.sh"),
        ("dash", "initramfs/dracut/95nbdctl/nbdctl-lib.sh"),
        ("dash", "initramfs/dracut/95nbdctl/parse-nbdctl.sh"),
        ("dash", "initramfs/dracut/95nbdctl/nbdctl-start.sh"),
        ("dash", "initramfs/dracut/95nbdctl/nbdctl-settled.sh"),
        ("dash", "initramfs/dracut/95nbdctl/nbdctl-emergency.sh"),
        ("dash", "initramfs/dracut/95nbdctl/nbdctl-take-over.sh"),
        ("dash", "initramfs/dracut/95nbdctl/nbdctl-detach.sh"),
        ("dash", "initramfs/dracut/95nbdctl/nbdroot.sh"),
        ("dash", "initramfs/initramfs-tools/hooks/nbdctl"),
        ("dash", "initramfs/initramfs-tools/scripts/local-top/nbdctl"),
    ];
    for (shell, script) in all {
        let output = Command::new(shell).args(["-n", script]).output().unwrap();
        assert!(
            output.status.success(),
            "{script}: {}",
            text(&output.stderr)
        );
    }
}
