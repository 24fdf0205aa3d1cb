//! The Debian package: what is in it, and that it installs and goes. What its scripts
//! do with devices, `kernel/package.rs` shows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it is all tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs it, and gives what it printed.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .expect("tests/setup installs what is needed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Its list is deb.expected; NBDCTL_REWRITE=1 writes it anew.
#[test]
fn the_package_has_what_it_should_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let package = run(Command::new("packaging/deb/build")
        .arg(env!("CARGO_BIN_EXE_nbdctl"))
        .arg(folder.path()));
    contents_are_as_expected(&package);
    depends_on_little(&package);
    comes_and_goes(&package, folder.path());
}

/// Mode, path and target of each, less sizes and times. (Each verb has a page of its
/// own, which is not told.)
fn contents_are_as_expected(package: &str) {
    let listing = run(Command::new("dpkg-deb").args(["-c", package]));
    let mut lines: Vec<_> = listing
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let owner = fields.get(1).unwrap();
            let rest = fields.get(5..).unwrap().join(" ");
            format!("{} {owner} {rest}", fields.first().unwrap())
        })
        .collect();
    lines.retain(|line| !line.contains("/nbdctl-") || !line.ends_with(".8.gz"));
    lines.sort();
    let is = lines.join("\n") + "\n";
    let expected = Path::new("tests/deb.expected");
    if std::env::var_os("NBDCTL_REWRITE").is_some() {
        fs::write(expected, &is).unwrap();
    }
    let was = fs::read_to_string(expected).unwrap();
    let new: Vec<_> = is.lines().filter(|line| !was.contains(line)).collect();
    let missing: Vec<_> = was.lines().filter(|line| !is.contains(line)).collect();
    assert!(is == was, "new: {new:#?}, missing: {missing:#?}");
}

/// The C library, and its companion.
fn depends_on_little(package: &str) {
    let depends = run(Command::new("dpkg-deb").args(["-f", package, "Depends"]));
    let mut names: Vec<_> = depends
        .split(", ")
        .filter_map(|one| one.split(' ').next())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["libc6", "libgcc-s1"], "{depends}");
}

/// In a folder beside: installed, installed over, removed, purged.
fn comes_and_goes(package: &str, folder: &Path) {
    let root = folder.join("root");
    fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
    fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let dpkg = |args: &[&str]| {
        let log = format!("--log={}", folder.join("log").display());
        run(Command::new("fakeroot")
            .args(["dpkg", "--force-not-root", "--force-depends"])
            .args(["--force-script-chrootless", "--force-architecture", &log])
            .arg(format!("--root={}", root.display()))
            .args(args)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
    };
    dpkg(&["-i", package]);
    let generator = root.join("usr/lib/systemd/system-generators/nbdctl-generator");
    assert!(generator.exists(), "the generator leads nowhere");
    fs::write(root.join("etc/nbdctl/x.toml"), "uri = \"nbd://h/x\"\n").unwrap();
    dpkg(&["-i", package]);
    dpkg(&["-r", "nbdctl"]);
    assert!(root.join("etc/nbdctl/x.toml").exists(), "it was its user's");
    dpkg(&["-i", package]);
    fs::remove_file(root.join("etc/nbdctl/x.toml")).unwrap();
    dpkg(&["--purge", "nbdctl"]);
    let left = run(Command::new("find").arg(&root).args(["-name", "*nbd*"]));
    assert_eq!(left, "");
}

/// What an upgrade asks of systemd, which is played here: the root's monitor is told to
/// end, as a restart of its unit is refused.
#[test]
fn an_upgrade_renews_the_roots_monitor_too() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().display().to_string();
    let program = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        run(Command::new("chmod").arg("755").arg(&path));
    };
    program("udevadm", "");
    program(
        "systemctl",
        &format!(
            "case \"$*\" in\n\
             list-units*) printf 'nbdctl@%s.service loaded active running x\\n' root data;;\n\
             'show -p RefuseManualStop nbdctl@root.service') echo RefuseManualStop=yes;;\n\
             show*) echo RefuseManualStop=no;;\n\
             *) echo \"$*\" >> {top}/asked;;\nesac"
        ),
    );
    let script = fs::read_to_string("packaging/deb/postinst").unwrap();
    let script = script
        .replace("/run/systemd/system", &top)
        .replace("/sys/block", &top);
    let asked = |arguments: &[&str]| {
        let _ = fs::remove_file(folder.path().join("asked"));
        run(Command::new("sh")
            .args(["-c", &script, "postinst"])
            .args(arguments)
            .env_remove("DPKG_ROOT")
            .env("PATH", format!("{top}:/usr/bin:/bin")));
        fs::read_to_string(folder.path().join("asked")).unwrap()
    };
    assert_eq!(asked(&["configure", ""]), "daemon-reload\n");
    assert_eq!(
        asked(&["configure", "0.1.0"]),
        "daemon-reload\nkill --kill-who=main nbdctl@root.service\n\
         --no-block try-restart nbdctl@data.service\n"
    );
}

/// Installed elsewhere, the units and the rule run what is there.
#[test]
fn another_prefix_has_its_own_paths() {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("make")
        .args(["-s", "install-files", "PREFIX=/opt/n"])
        .arg(format!("DESTDIR={}", folder.path().display()))
        .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_nbdctl")))
        .arg(format!(
            "GENERATED={}",
            folder.path().join("generated").display()
        )));
    let found = run(Command::new("grep")
        .args(["-rhoE", "--exclude-dir=generated", "--exclude-dir=share"])
        .arg("[^ \"=(]*sbin/nbdctl")
        .arg(folder.path().join("opt/n/lib")));
    assert!(found.lines().count() >= 4, "{found}");
    assert!(
        found.lines().all(|path| path == "/opt/n/sbin/nbdctl"),
        "{found}"
    );
}
