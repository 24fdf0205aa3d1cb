//! Where a scenario runs, and how it talks to its machine.
//!
//! On the host a test boots a guest that sees this very file tree, and runs
//! this very test binary in it, for this one test; there the body runs.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};

/// Guests at a time; more would share the two cores that tests are made for.
const GUESTS: usize = 2;

/// A guest that takes longer is stuck.
const LIMIT_SECONDS: u32 = 240;

/// Defines a scenario: a module with one test for each kernel.
///
///     scenario!(name, |machine| { … });
///     scenario!(name, env = ["NBDCTL_GUEST_NO_NBD"], |machine| { … });
macro_rules! scenario {
    ($(#[$doc:meta])* $name:ident, $body:expr) => {
        scenario!($(#[$doc])* $name, env = [], $body);
    };
    ($(#[$doc:meta])* $name:ident, env = [$($env:literal),*], $body:expr) => {
        $(#[$doc])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            const BODY: fn(&$crate::machine::Machine) = $body;

            #[test]
            fn linux_6_1() {
                let test = concat!(module_path!(), "::linux_6_1");
                $crate::machine::run("6.1", test, &[$($env),*], BODY);
            }

            #[test]
            fn linux_6_12() {
                let test = concat!(module_path!(), "::linux_6_12");
                $crate::machine::run("6.12", test, &[$($env),*], BODY);
            }
        }
    };
}

/// The machine that a scenario runs on.
pub struct Machine {
    folder: PathBuf,
}

/// Runs a scenario's body where it belongs.
pub fn run(kernel: &str, test: &str, extra: &[&str], body: fn(&Machine)) {
    if env::var_os("NBDCTL_GUEST").is_some() {
        return body(&Machine::new());
    }
    if env::var_os("NBDCTL_TEST_KERNEL").is_some_and(|value| value == "host") {
        return on_this_machine(extra, body);
    }
    let _slot = slot();
    let name = test.split_once("::").unwrap().1;
    let program = env::current_exe().unwrap();
    let mut guest = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/run"));
    guest.args(["--kernel", kernel, "--timeout", &LIMIT_SECONDS.to_string()]);
    for file in [&program, Path::new(env!("CARGO_BIN_EXE_nbdctl"))] {
        if let Some(folder) = hidden(file) {
            guest.arg("--share").arg(folder);
        }
    }
    guest
        .arg("--")
        .arg(&program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("NBDCTL_GUEST", "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    for variable in extra {
        guest.env(variable, "1");
    }
    let output = guest.output().unwrap();
    let ran_it = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(
        output.status.success() && ran_it,
        "{name} failed in its guest ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // Shown with --nocapture: what it measured.
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

/// The folder of a file that a guest does not see by itself.
fn hidden(file: &Path) -> Option<&Path> {
    let empty = ["/tmp", "/run", "/dev/shm"].map(Path::new);
    let seen = file.starts_with(env!("CARGO_MANIFEST_DIR"));
    let below = empty.iter().any(|folder| file.starts_with(folder));
    file.parent().filter(|_| below && !seen)
}

/// One scenario at a time, as there is one driver.
fn on_this_machine(extra: &[&str], body: fn(&Machine)) {
    assert!(
        extra.is_empty(),
        "this scenario needs a guest: it takes the driver away"
    );
    let _turn = lock("host");
    body(&Machine::new());
}

/// Waits for one of the places for guests, among all processes of this test.
fn slot() -> Flock<File> {
    loop {
        for number in 0..GUESTS {
            let file = File::create(lock_file(&format!("guest-{number}"))).unwrap();
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                return lock;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn lock(name: &str) -> Flock<File> {
    let file = File::create(lock_file(name)).unwrap();
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .unwrap()
}

fn lock_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.lock"))
}

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }
    }
}

impl Machine {
    fn new() -> Self {
        let folder = PathBuf::from(format!("/tmp/scenario-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    /// A path of the scenario's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a sparse file.
    pub fn image(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    /// Runs nbdctl.
    pub fn nbdctl(&self, args: &[&str]) -> Ran {
        Command::new(env!("CARGO_BIN_EXE_nbdctl"))
            .args(args)
            .output()
            .unwrap()
            .into()
    }

    /// Attaches, and gives the device's path; it must succeed without a word.
    pub fn attach(&self, args: &[&str]) -> String {
        let ran = self.nbdctl(&[&["attach"], args].concat());
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{args:?}");
        ran.stdout
    }

    /// Detaches; it must succeed without a word.
    pub fn detach(&self, target: &str) {
        let ran = self.nbdctl(&["detach", target]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{target}");
    }

    /// Runs a shell script in the scenario's folder; it must succeed.
    pub fn sh(&self, script: &str) -> String {
        let ran = self.try_sh(script);
        assert_eq!(ran.status, 0, "{script}\n{}\n{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Runs a shell script in the scenario's folder.
    pub fn try_sh(&self, script: &str) -> Ran {
        Command::new("bash")
            .args(["-euc", script])
            .current_dir(&self.folder)
            .output()
            .unwrap()
            .into()
    }

    /// Nothing of ours is left: devices, processes, files in /run.
    pub fn assert_clean(&self) {
        for entry in fs::read_dir("/sys/block").unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.join("pid").exists(), "{} is in use", path.display());
        }
        let left: Vec<_> =
            fs::read_dir("/run/nbdctl").map_or_else(|_| Vec::new(), Iterator::collect);
        assert!(left.is_empty(), "{left:?}");
        let ran = self.try_sh("pgrep -x nbdctl");
        assert_eq!(ran.stdout, "", "processes are left");
    }
}
