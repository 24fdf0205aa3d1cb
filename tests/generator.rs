//! The generator: trees of configuration in `generator/CASE`, and what becomes of
//! each in `generator/CASE/expected`.
//!
//!     NBDCTL_REWRITE=1 cargo test --test generator
//!
//! writes the latter anew, to be looked at before it is committed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nbdctl::boot::{self, Content, Unit};
use nbdctl::config::{self, Places};

const UNITS: &str = "/usr/lib/systemd/system";

fn cases() -> Vec<PathBuf> {
    let folder = Path::new("tests/generator");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(cases.len() > 5, "found {cases:?}");
    cases
}

/// What the generator makes, and what it tells, with the case's folder as the root.
fn result(case: &Path) -> (Vec<Unit>, Vec<String>) {
    let configuration = config::load(&Places::below(case));
    let root = format!("{}/", case.display());
    // As on a machine with systemd 252, which the tests have.
    let units = boot::generate(&configuration, Path::new(UNITS), false)
        .into_iter()
        .map(|unit| match unit.content {
            Content::Text(text) => Unit {
                content: Content::Text(text.replace(&root, "/")),
                ..unit
            },
            Content::Link(_) => unit,
        })
        .collect();
    let problems = configuration.problems.iter();
    let problems = problems.map(|problem| problem.to_string().replace(&root, "/"));
    (units, problems.collect())
}

/// Paths with the same content together, as most differ in nothing else.
fn shown(units: &[Unit], problems: &[String]) -> String {
    let mut by_content: BTreeMap<&Content, Vec<&str>> = BTreeMap::new();
    for unit in units {
        by_content
            .entry(&unit.content)
            .or_default()
            .push(&unit.path);
    }
    let mut text = String::new();
    for problem in problems {
        writeln!(text, "told: {problem}").unwrap();
    }
    for (content, paths) in by_content {
        text.push('\n');
        for path in paths {
            writeln!(text, "{path}").unwrap();
        }
        match content {
            Content::Text(content) => {
                for line in content.lines() {
                    writeln!(text, "    | {line}").unwrap();
                }
            }
            Content::Link(target) => writeln!(text, "    -> {target}").unwrap(),
        }
    }
    text
}

#[test]
fn every_configuration_gives_the_tree_beside_it() {
    let rewrite = std::env::var_os("NBDCTL_REWRITE").is_some();
    let mut other = Vec::new();
    for case in cases() {
        let (units, problems) = result(&case);
        let is = shown(&units, &problems);
        // A generator that fails is told of at every boot.
        let folder = tempfile::tempdir().unwrap();
        boot::write(&units, folder.path()).unwrap_or_else(|failed| panic!("{failed:?}"));
        let file = case.join("expected");
        if rewrite {
            fs::write(&file, &is).unwrap();
        }
        let was = fs::read_to_string(&file).unwrap_or_default();
        if is != was {
            other.push(format!("{}:\n{is}", case.display()));
        }
    }
    assert!(other.is_empty(), "{}", other.join("\n\n"));
}

/// What systemd says of all of it at once, with a `fstab` in use.
#[test]
fn systemd_takes_it_and_finds_no_loop() {
    let boot = Boot::new();
    let said = boot.verify();
    assert!(said.is_empty(), "{said:#?}");
    // It would be told.
    let device = r"dev-disk-by\x2did-nbd\x2dvm1";
    fs::remove_dir_all(boot.generated().join(format!("{device}.swap.d"))).unwrap();
    let drop_ins = boot.generated().join(format!("{device}.device.d"));
    fs::create_dir_all(&drop_ins).unwrap();
    fs::write(
        drop_ins.join("loop.conf"),
        "[Unit]\nAfter=nbdctl@vm1.service\n",
    )
    .unwrap();
    let said = boot.verify();
    assert!(said.iter().any(|line| line.contains("cycle")), "{said:#?}");
}

/// The units of every case, and a boot that uses some of them.
struct Boot(tempfile::TempDir);

impl Boot {
    fn new() -> Self {
        let boot = Self(tempfile::tempdir().unwrap());
        let mut units: Vec<_> = cases().iter().flat_map(|case| result(case).0).collect();
        // Every case that attaches something links the target.
        units.sort();
        units.dedup();
        boot::write(&units, &boot.generated()).unwrap();
        fs::create_dir_all(boot.installed().join("nbdctl@.service.d")).unwrap();
        for unit in [
            "nbdctl@.service",
            "nbdctl@.service.d/10-order.conf",
            "nbdctl-shutdown.service",
            "nbdctl-root.service",
            "nbdctl-network.service",
            "remote-nbd.target",
        ] {
            let text = fs::read_to_string(format!("systemd/{unit}")).unwrap();
            // verify looks whether there is such a program.
            let text = text.replace("/usr/sbin/nbdctl", "/bin/true");
            fs::write(boot.installed().join(unit), text).unwrap();
        }
        use_it(&boot.installed());
        boot
    }

    fn generated(&self) -> PathBuf {
        self.0.path().join("generated")
    }

    fn installed(&self) -> PathBuf {
        self.0.path().join("installed")
    }

    /// What it says that has to do with us: the machine's own units may be anything.
    fn verify(&self) -> Vec<String> {
        let (installed, generated) = (self.installed(), self.generated());
        let path = [
            &installed,
            &generated,
            Path::new(UNITS),
            Path::new("/lib/systemd/system"),
        ];
        let path = path.map(|folder| folder.display().to_string()).join(":");
        let verify = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "boot-test.target"])
            .env("SYSTEMD_UNIT_PATH", path)
            .output()
            .expect("systemd-analyze cannot be run: tests/setup installs it");
        let ours = ["nbd", "cycle", "boot-test", "remote-fs", "swap", "mnt."];
        let said = String::from_utf8_lossy(&verify.stderr).into_owned();
        let lines = said.lines().map(str::to_owned);
        lines
            .filter(|line| ours.iter().any(|word| line.contains(word)))
            .collect()
    }
}

/// What an fstab with `_netdev` becomes (systemd-fstab-generator of systemd 252, less
/// its comments), and a network that is online late, as NetworkManager's is.
fn use_it(installed: &Path) {
    let write = |name: &str, text: &str| fs::write(installed.join(name), text).unwrap();
    let device = r"dev-disk-by\x2did-nbd\x2dvm1";
    write(
        "mnt.mount",
        "[Unit]\nBefore=remote-fs.target\n[Mount]\nWhat=/dev/disk/by-id/nbd-vm1-part1\n\
         Where=/mnt\nType=ext4\nOptions=_netdev\n",
    );
    write(
        &format!("{device}.swap"),
        "[Swap]\nWhat=/dev/disk/by-id/nbd-vm1\nOptions=sw,_netdev\n",
    );
    write(
        "late-network.service",
        "[Unit]\nBefore=network-online.target\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    write(
        "boot-test.target",
        &format!(
            "[Unit]\nWants=sysinit.target multi-user.target remote-fs.target swap.target \
             late-network.service\nRequires=mnt.mount {device}.swap\n"
        ),
    );
    fs::create_dir(installed.join("swap.target.requires")).unwrap();
    symlink(
        format!("../{device}.swap"),
        installed.join(format!("swap.target.requires/{device}.swap")),
    )
    .unwrap();
}

/// As systemd calls it: by its name, with three folders.
#[test]
fn the_program_is_a_generator_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let generator = folder.path().join("nbdctl-generator");
    symlink(env!("CARGO_BIN_EXE_nbdctl"), &generator).unwrap();
    let wrong = Command::new(&generator).arg("--version").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let folders = ["normal", "early", "late"].map(|name| folder.path().join(name));
    let ran = Command::new(&generator).args(&folders).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert!(ran.stdout.is_empty());
}

/// What the README of the units says is what this machine's systemd counts; where it has
/// no figure of that version, no more than it has of another.
#[test]
fn the_unit_is_as_exposed_as_is_recorded() {
    let analyze = |args: &[&str]| {
        let ran = Command::new("systemd-analyze").args(args).output();
        let ran = ran.expect("systemd-analyze cannot be run: tests/setup installs it");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let version = analyze(&["--version"]);
    let version = version.split(' ').nth(1).unwrap().to_owned();
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/nbdctl@.service");
    let said = analyze(&["security", "--offline=yes", "--no-pager", unit]);
    let (_, figure) = said.split_once("Overall exposure level").unwrap();
    let figure = figure.split(' ').find(|word| word.parse::<f64>().is_ok());
    let figure = figure.unwrap();
    let recorded = include_str!("../systemd/README.md");
    if recorded.contains(&format!(" {version} ")) {
        assert!(
            recorded.contains(&format!(" {version} gives {figure},"))
                || recorded.contains(&format!(" of {version} {figure}.")),
            "{version}: {figure}"
        );
    } else {
        assert!(figure.parse::<f64>().unwrap() <= 4.8, "{version}: {figure}");
    }
}
