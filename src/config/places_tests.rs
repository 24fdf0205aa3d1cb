//! Tests of the search for files.

use super::*;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

struct System {
    root: tempfile::TempDir,
    places: Places,
}

impl System {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let system = Self {
            places: Places::below(root.path()),
            root,
        };
        for (path, text) in files {
            let path = system.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        system
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn problems(&self) -> Vec<String> {
        let problems = load(&self.places).problems;
        problems.iter().map(|problem| self.plain(problem)).collect()
    }

    fn plain(&self, problem: &Problem) -> String {
        let root = format!("{}/", self.root.path().display());
        problem.to_string().replace(&root, "")
    }

    fn names(&self) -> Vec<String> {
        let exports = load(&self.places).exports.into_iter();
        exports
            .map(|export| export.settings.name.to_string())
            .collect()
    }

    fn find(&self, name: &str) -> Result<Option<Export>, Vec<Problem>> {
        find(&self.places, &name.parse().unwrap())
    }
}

const SOUND: &str = "uri = \"nbd://h/x\"\n";

#[test]
fn nothing_is_no_problem() {
    let system = System::new(&[]);
    assert_eq!(load(&system.places), Configuration::default());
    assert_eq!(system.find("x"), Ok(None));
    assert_eq!(Places::default().etc, Path::new("/etc/nbdctl"));
    assert_eq!(Places::default().run, Path::new("/run/nbdctl"));
    assert_eq!(Places::default().nbdtab, Path::new("/etc/nbdtab"));
}

#[test]
fn etc_comes_before_run_and_run_before_nbdtab() {
    let system = System::new(&[
        ("etc/nbdctl/a.toml", SOUND),
        ("run/nbdctl/a.toml", SOUND),
        ("run/nbdctl/b.toml", SOUND),
        (
            "etc/nbdtab",
            "nbd0 h x _name=a\nnbd1 h x _name=b\nnbd2 h x\n",
        ),
    ]);
    assert_eq!(system.names(), ["a", "b", "nbd2"]);
    let kind = |name: &str| system.find(name).unwrap().unwrap().kind;
    assert_eq!(
        (kind("a"), kind("b"), kind("nbd2")),
        (Kind::Etc, Kind::Run, Kind::Nbdtab)
    );
    assert_eq!(
        system.problems(),
        [
            "etc/nbdtab:1:1: warning: \"a\" is not used: etc/nbdctl/a.toml has that name, and comes first",
            "etc/nbdtab:2:1: warning: \"b\" is not used: run/nbdctl/b.toml has that name, and comes first",
            "run/nbdctl/a.toml: warning: \"a\" is not used: etc/nbdctl/a.toml has that name, and comes first",
        ]
    );
}

/// A host-only initramfs calls the export as the file does that it was attached by.
#[test]
fn what_the_root_is_on_comes_before_etc() {
    let root = "uri = \"nbd://h/x\"\nroot = true\n";
    let system = System::new(&[
        ("etc/nbdctl/a.toml", SOUND),
        ("run/nbdctl/a.toml", root),
        ("etc/nbdctl/b.toml", "url = 1\n"),
        ("run/nbdctl/b.toml", root),
    ]);
    let hidden = "is not used: run/nbdctl/";
    for name in ["a", "b"] {
        let export = system.find(name).unwrap().unwrap();
        assert_eq!((export.kind, export.settings.root), (Kind::Run, true));
        assert_eq!(export.warnings.len(), 1);
        assert!(system.plain(&export.warnings[0]).contains(hidden));
    }
    let exports = load(&system.places).exports;
    assert!(exports.len() == 2 && exports.iter().all(|export| export.settings.root));
    assert_eq!(
        system.problems()[0],
        "etc/nbdctl/a.toml: warning: \"a\" is not used: run/nbdctl/a.toml has that name, and comes \
         first, as / is on it"
    );
    assert_eq!(system.problems().len(), 2);
}

#[test]
fn a_file_that_is_wrong_is_not_passed_over_and_spoils_no_other() {
    let system = System::new(&[
        ("etc/nbdctl/a.toml", "url = 1\n"),
        ("etc/nbdctl/c.toml", SOUND),
        ("run/nbdctl/a.toml", SOUND),
        (
            "etc/nbdtab",
            "nbd0 h x _name=a\nnbd1 h x tls\nnbd2 h x timeout=9\nnonsense\n",
        ),
    ]);
    assert_eq!(system.names(), ["c", "nbd2"]);
    let problems = system.find("a").unwrap_err();
    assert!(
        problems
            .iter()
            .all(|problem| problem.path == system.path("etc/nbdctl/a.toml"))
    );
    assert!(system.find("nbd1").is_err());
    assert_eq!(system.find("c").unwrap().unwrap().warnings, []);
    assert_eq!(system.find("nbd2").unwrap().unwrap().warnings.len(), 1);
    assert_eq!(system.find("nbd3"), Ok(None));
}

#[test]
fn what_is_no_configuration_is_told_of_unless_editors_and_packages_leave_it() {
    let system = System::new(&[
        ("etc/nbdctl/a.toml~", ""),
        ("etc/nbdctl/.a.toml.swp", ""),
        ("etc/nbdctl/#a.toml#", ""),
        ("etc/nbdctl/a.toml.dpkg-old", ""),
        ("etc/nbdctl/a.toml.rpmnew", ""),
        ("etc/nbdctl/README", ""),
        ("etc/nbdctl/a b.toml", SOUND),
        ("etc/nbdctl/certificates/ca.pem", ""),
        ("run/nbdctl/b/state.json", ""),
        ("run/nbdctl/monitor.lock", ""),
    ]);
    let problems = system.problems();
    assert_eq!(
        problems[0],
        "etc/nbdctl/README: warning: not read: call it NAME.toml, or move it away"
    );
    assert!(problems[1].starts_with("etc/nbdctl/a b.toml: warning: not read: \"a b\" cannot be"));
    assert_eq!(problems.len(), 2);
}

#[test]
fn what_cannot_be_read_is_a_problem_and_no_wait() {
    let system = System::new(&[
        ("etc/nbdctl/long.toml", &"#".repeat(1 << 20)),
        ("etc/nbdctl/longer.toml", &"#".repeat((1 << 20) + 1)),
        ("etc/nbdtab/x", ""),
    ]);
    mkfifo(&system.path("etc/nbdctl/pipe.toml"), Mode::S_IRWXU).unwrap();
    symlink("/nowhere", system.path("etc/nbdctl/link.toml")).unwrap();
    fs::create_dir(system.path("etc/nbdctl/folder.toml")).unwrap();
    assert_eq!(
        system.problems(),
        [
            "etc/nbdctl/folder.toml: no regular file, so it is not read: make it one, or move it away",
            "etc/nbdctl/link.toml: a link to nothing: remove it, or make what it leads to",
            "etc/nbdctl/long.toml: no uri: add a line like uri = \"nbd://HOST/EXPORT\"",
            "etc/nbdctl/longer.toml: longer than 1048576 bytes, so it is not read: is this the right file?",
            "etc/nbdctl/pipe.toml: no regular file, so it is not read: make it one, or move it away",
            "etc/nbdtab: no regular file, so it is not read: make it one, or move it away",
        ]
    );
    assert!(system.find("pipe").is_err());
    // What cannot be read may tell of any name.
    assert!(system.find("x").is_err());
}

#[test]
fn too_many_files_are_the_wrong_folder() {
    let system = System::new(&[("etc/nbdctl/a.toml", SOUND)]);
    for number in 0..MAX_FILES {
        fs::write(system.path(&format!("etc/nbdctl/{number}")), "").unwrap();
    }
    assert_eq!(system.names(), [""; 0]);
    assert_eq!(
        system.problems(),
        ["etc/nbdctl: more than 4096 files, so none is read: is this the right folder?"]
    );
}

#[test]
fn two_exports_of_one_device_are_told_of() {
    let device = format!("{SOUND}device = \"nbd0\"\n");
    let system = System::new(&[("etc/nbdctl/a.toml", &device), ("etc/nbdtab", "nbd0 h x\n")]);
    assert_eq!(system.names(), ["a", "nbd0"]);
    assert_eq!(
        system.problems(),
        [
            "etc/nbdtab:1:1: warning: /dev/nbd0 is also the device of \"a\" (etc/nbdctl/a.toml): \
             only one of them can be attached at a time"
        ]
    );
}
