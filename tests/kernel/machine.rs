//! Where a scenario runs, and how it talks to its machine.
//!
//! On the host a test boots a guest that sees this very file tree, and runs
//! this very test binary in it, for this one test; there the body runs.

use std::env;
use std::fs::{self, File};
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};

/// Guests at a time; more would share the two cores that tests are made for.
const GUESTS: usize = 2;

/// And of those that do little but wait for a time to pass.
const IDLE_GUESTS: usize = 3;
const IDLE: [&str; 5] = [
    "calm::",
    "mounted::",
    "outages::",
    "patience::",
    "silence::",
];

/// A guest that takes longer is stuck.
const LIMIT_SECONDS: u32 = 400;

/// The same where outages have their full length (`make outages`).
const FULL_LENGTH_SECONDS: u32 = 1500;

/// Defines a scenario: a module with one test for each kernel.
///
///     scenario!(name, |machine| { … });
///     scenario!(name, env = ["NBDCTL_GUEST_NO_NBD"], |machine| { … });
macro_rules! scenario {
    (@ [$($ignored:meta)?] [$($doc:meta)*] $name:ident, [$($env:literal),*], $body:expr) => {
        $(#[$doc])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            const BODY: fn(&$crate::machine::Machine) = $body;

            #[test]
            $(#[$ignored])?
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
    ($(#[$doc:meta])* $name:ident, env = $env:tt, $body:expr) => {
        scenario!(@ [] [$($doc)*] $name, $env, $body);
    };
    ($(#[$doc:meta])* $name:ident, $body:expr) => {
        scenario!(@ [] [$($doc)*] $name, [], $body);
    };
}

/// The same where it is more about nbdctl than about the driver: on Linux 6.1, whose
/// guests take three times as long, only with `make kernels`.
macro_rules! newest {
    ($(#[$doc:meta])* $name:ident, env = $env:tt, $body:expr) => {
        scenario!(@ [ignore = "make kernels"] [$($doc)*] $name, $env, $body);
    };
    ($(#[$doc:meta])* $name:ident, $body:expr) => {
        scenario!(@ [ignore = "make kernels"] [$($doc)*] $name, [], $body);
    };
}

/// The machine that a scenario runs on.
pub struct Machine {
    folder: PathBuf,
}

/// Runs a scenario's body where it belongs.
pub fn run(kernel: &str, test: &str, extra: &[&str], body: fn(&Machine)) {
    if env::var_os("NBDCTL_GUEST").is_some() {
        return in_guest(body);
    }
    if env::var_os("NBDCTL_TEST_KERNEL").is_some_and(|value| value == "host") {
        return on_this_machine(extra, body);
    }
    let name = test.split_once("::").unwrap().1;
    let _slot = if IDLE.iter().any(|module| name.starts_with(module)) {
        slot("idle", IDLE_GUESTS)
    } else {
        slot("guest", GUESTS)
    };
    let full_length = env::var_os("NBDCTL_FULL_LENGTH").is_some();
    let limit = if full_length {
        FULL_LENGTH_SECONDS
    } else {
        LIMIT_SECONDS
    };
    let mut guest = guest(kernel, limit);
    guest.args(["--exact", name, "--include-ignored", "--nocapture"]);
    guest.arg("--test-threads=1");
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

/// This program in a guest; its arguments are to be added.
pub fn guest(kernel: &str, limit_seconds: u32) -> Command {
    let program = env::current_exe().unwrap();
    let mut guest = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/run"));
    guest.args(["--kernel", kernel, "--timeout", &limit_seconds.to_string()]);
    for file in [&program, Path::new(env!("CARGO_BIN_EXE_nbdctl"))] {
        if let Some(folder) = hidden(file) {
            guest.arg("--share").arg(folder);
        }
    }
    guest
        .arg("--")
        .arg(&program)
        .env("NBDCTL_GUEST", "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    guest
}

/// A body that fails may have threads that wait for a dead device; without it they
/// end, and with them this process, which the guest waits for.
fn in_guest(body: fn(&Machine)) {
    let machine = Machine::new();
    let ran = catch_unwind(|| body(&machine));
    if let Err(panic) = ran {
        machine.release_all();
        resume_unwind(panic);
    }
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
fn slot(kind: &str, places: usize) -> Flock<File> {
    loop {
        for number in 0..places {
            let file = File::create(lock_file(&format!("{kind}-{number}"))).unwrap();
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
    pub fn new() -> Self {
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

    /// Gives a name addresses, and no others, in /etc/hosts. (A guest's /etc is
    /// its own, and writable; a machine of yours keeps the last.)
    pub fn name_is(&self, name: &str, addresses: &[&str]) {
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        let other = hosts
            .lines()
            .filter(|line| !line.split_whitespace().any(|word| word == name));
        let mut lines: Vec<String> = other.map(str::to_owned).collect();
        lines.extend(addresses.iter().map(|address| format!("{address} {name}")));
        fs::write("/etc/hosts", lines.join("\n") + "\n").unwrap();
    }

    /// Detaches every device by force, which ends what waits for it.
    pub fn release_all(&self) {
        for entry in fs::read_dir("/sys/block").unwrap().flatten() {
            if entry.path().join("pid").exists() {
                let device = Path::new("/dev").join(entry.file_name());
                let ran = self.nbdctl(&["detach", device.to_str().unwrap(), "--force"]);
                println!("{}: {ran:?}", device.display());
            }
        }
    }

    /// Nothing of ours is left: devices, processes, files in /run.
    pub fn assert_clean(&self) {
        for entry in fs::read_dir("/sys/block").unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.join("pid").exists(), "{} is in use", path.display());
        }
        // A monitor that let go of everything may have to be reaped yet.
        let ran = self.try_sh(
            "for _ in $(seq 40); do pgrep -x 'nbdctl|nbdctl-relay' >/dev/null || exit 0; \
             sleep 0.05; done; pgrep -lx 'nbdctl|nbdctl-relay'",
        );
        assert_eq!(ran.stdout, "", "processes are left");
        let left = fs::read_dir("/run/nbdctl").into_iter().flatten().flatten();
        let left: Vec<_> = left
            .map(|entry| entry.file_name())
            // All that a relay sees of the file system.
            .filter(|name| name != ".empty")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
