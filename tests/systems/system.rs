//! A system to be: the files laid over a small Debian; and what became of it once it
//! was booted, had run a script, and was powered off.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

/// Guests at a time, as in the other suites.
const GUESTS: usize = 2;

/// A boot, a script and a power-off take 10 to 15 s, thrice that on a busy machine.
const LIMIT_SECONDS: u32 = 120;

/// A system that is to be booted. It has nbdctl in `/usr/sbin`.
pub struct System {
    folder: TempDir,
    options: Vec<String>,
    limit_seconds: u32,
    reactions: Vec<Reaction>,
}

/// What is done here, once, at a word of the guest's.
struct Reaction {
    word: &'static str,
    act: Option<Box<dyn FnOnce() + Send>>,
}

/// What became of it.
#[derive(Debug)]
pub struct Ended {
    /// That of `tests/systems/run`: the script's own, 124, 125, 126.
    pub status: i32,
    /// What the script wrote.
    pub output: String,
    /// Every line of the journal and of the kernel's log, in all boots, to the end.
    pub journal: String,
    /// What was written to the console.
    pub console: String,
    /// What `run` says on standard error.
    pub said: String,
    /// Seconds from the kernel's start to the script's, in the last boot.
    pub up: f64,
    /// Seconds from `systemctl poweroff` to the end.
    pub down: f64,
    /// How it ended: `poweroff`, `emergency`, `reset`, `crash`, `killed`.
    pub how: String,
}

impl System {
    /// One that has nbdctl, and nothing else of ours.
    pub fn new() -> Self {
        let system = Self::empty();
        let program = system.path("/usr/sbin/nbdctl");
        fs::copy(nbdctl(), program).unwrap();
        system
    }

    /// The same with all that the package brings.
    pub fn installed() -> Self {
        Self::empty().install(nbdctl())
    }

    /// The same on a PC of qemu's, which sees this host's servers (`elsewhere.rs`), and
    /// takes five times as long for everything.
    pub fn on_qemu() -> Self {
        Self::empty()
            .install(optimized())
            .option("--machine", "qemu")
            .limit(5 * LIMIT_SECONDS)
    }

    /// One that has nothing of ours.
    pub fn empty() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            options: Vec::new(),
            limit_seconds: LIMIT_SECONDS,
            reactions: Vec::new(),
        }
    }

    fn install(self, program: &Path) -> Self {
        let generated = TempDir::new().unwrap();
        let ran = Command::new("make")
            .args(["--quiet", "install-files", "PREFIX=/usr"])
            .arg(format!("BINARY={}", program.display()))
            .arg(format!("GENERATED={}", generated.path().display()))
            .arg(format!("DESTDIR={}", self.folder.path().display()))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        self
    }

    /// A file of the guest's, by its path there.
    pub fn file(self, path: &str, text: &str) -> Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    /// A unit, which nothing wants yet.
    pub fn unit(self, name: &str, text: &str) -> Self {
        self.file(&format!("/etc/systemd/system/{name}"), text)
    }

    /// A unit that another wants. An instance is wanted by its own name.
    pub fn wanted(self, name: &str, by: &str) -> Self {
        let template = name.split_once('@').map_or_else(
            || name.to_owned(),
            |(template, rest)| {
                let (_, kind) = rest.rsplit_once('.').unwrap();
                format!("{template}@.{kind}")
            },
        );
        let link = self.path(&format!("/etc/systemd/system/{by}.wants/{name}"));
        symlink(format!("../{template}"), link).unwrap();
        self
    }

    /// A data server: nbdkit, on 127.0.0.1, of a sparse file `/srv/NAME` that is kept
    /// over boots. It is there before sysinit.target, and since no shutdown stops it,
    /// until systemd kills what is left when all units have stopped. (By a SIGKILL:
    /// at SIGTERM nbdkit waits for its clients.) It stays away while there is a file
    /// `/etc/keep-away`.
    pub fn server(self, name: &str, port: u16, size: &str) -> Self {
        let unit = format!("server-{name}.service");
        let text = format!(
            "[Unit]\n\
             Description=The server of {name}\n\
             DefaultDependencies=no\n\
             After=systemd-remount-fs.service\n\
             Before=sysinit.target\n\
             ConditionPathExists=!/etc/keep-away\n\
             \n\
             [Service]\n\
             ExecStartPre=/usr/bin/truncate -s {size} /srv/{name}\n\
             ExecStart=/bin/sh -c '\
             nbdkit -f -p {port} -i 127.0.0.1 file /srv/{name} & trap \"kill -9 $$!\" TERM; wait'\n\
             ExecStartPost=/bin/sh -c 'until ss -Hltn sport = {port} | grep -q .; do sleep 0.05; done'\n"
        );
        self.unit(&unit, &text).wanted(&unit, "sysinit.target")
    }

    /// An option of `tests/systems/run`.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// What is done here, once, when the guest writes this word to /dev/rig-events.
    pub fn when(mut self, word: &'static str, act: impl FnOnce() + Send + 'static) -> Self {
        let act: Option<Box<dyn FnOnce() + Send>> = Some(Box::new(act));
        self.reactions.push(Reaction { word, act });
        self
    }

    /// Boots it this often, with the script in each boot.
    pub fn boots(self, number: u32) -> Self {
        self.option("--boots", &number.to_string())
    }

    pub fn limit(mut self, seconds: u32) -> Self {
        self.limit_seconds = seconds;
        self
    }

    /// Boots it, runs a bash script that ends at its first failure, powers it off.
    pub fn run(self, script: &str) -> Ended {
        // No new line: so that the lines' numbers are the script's own.
        let trap = r#"trap 'echo "line $LINENO failed: $BASH_COMMAND"' ERR; "#;
        let system = self.file("/root/script", &format!("{trap}{script}"));
        let out = TempDir::new().unwrap();
        let _slot = slot();
        // It ends with this test, however that ends.
        let guest = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systems/run"))
            .args(["--timeout", &system.limit_seconds.to_string()])
            .arg("--out")
            .arg(out.path())
            .arg("--files")
            .arg(system.folder.path())
            .args(&system.options)
            .args(["--", "bash", "-eu", "/root/script"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ended = AtomicBool::new(false);
        let output = thread::scope(|scope| {
            scope.spawn(|| react(&out.path().join("events"), system.reactions, &ended));
            let output = guest.wait_with_output();
            ended.store(true, Ordering::Relaxed);
            output.unwrap()
        });
        let left = |name: &str| {
            String::from_utf8_lossy(&fs::read(out.path().join(name)).unwrap_or_default())
                .into_owned()
        };
        let verdict = left("verdict");
        let value = |name: &str| {
            let line = verdict.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        let ended = Ended {
            status: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            journal: left("journal.txt"),
            console: left("console.log"),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
            up: value("up=").parse().unwrap_or(f64::NAN),
            down: value("down=").parse().unwrap_or(f64::NAN),
            how: value("ended="),
        };
        println!(
            "up after {} s, down after {} s: {} ({})",
            ended.up, ended.down, ended.how, ended.status
        );
        ended
    }

    /// Where a file of the guest's is until then.
    pub fn path(&self, path: &str) -> PathBuf {
        let path = self.folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

impl Ended {
    /// The script succeeded, systemd powered the guest off, and nothing went wrong on
    /// the way.
    pub fn assert_good(&self) -> &Self {
        assert!(
            self.status == 0 && self.how == "poweroff",
            "{}",
            self.story()
        );
        self.assert_no_complaint();
        self
    }

    /// No unit failed, no job waited for itself, nothing had to be killed, no file
    /// system was left mounted, and nbdctl had nothing to warn of.
    pub fn assert_no_complaint(&self) {
        let bad = [
            "ordering cycle",
            "Failed to start",
            "Failed unmounting",
            "Failed with result",
            "Dependency failed",
            "timed out",
            "Timed out",
            "with signal SIGKILL",
            "Could not unmount",
            "Failed to unmount",
            "I/O error",
            "blocked for more than",
        ];
        let complaints: Vec<&str> = self
            .journal
            .lines()
            .filter(|line| bad.iter().any(|word| line.contains(word)))
            // Debian's own: a last lvm program may hold a lock in there.
            .filter(|line| !line.contains("run-lock.mount"))
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}\n{}", self.story());
        // The console has no priorities: of nbdctl's own lines, all that are not what it
        // says where all is well.
        let well = [
            "connected to ",
            " is usable",
            " is carried by a relay",
            " is taken over",
            "the monitor ends; ",
            "the machine goes down",
            // After five seconds; a busy machine boots five times as slowly.
            "udev has not named ",
        ];
        let warnings: Vec<&str> = self
            .said_by_nbdctl()
            .filter(|line| !well.iter().any(|word| line.contains(word)))
            .collect();
        assert!(warnings.is_empty(), "{warnings:#?}\n{}", self.story());
    }

    /// What it wrote to the journal or to the kernel's log.
    pub fn said_by_nbdctl(&self) -> impl Iterator<Item = &str> {
        let ours = |line: &&str| line.contains(" nbdctl[") || line.contains("nbdctl-generator[");
        self.journal.lines().filter(ours)
    }

    /// Whether the journal has the lines with these words in this order.
    pub fn assert_in_order(&self, words: &[&str]) {
        let mut lines = self.journal.lines();
        for word in words {
            assert!(
                lines.any(|line| line.contains(word)),
                "no {word:?}, or not after those before it in {words:#?}\n{}",
                self.story()
            );
        }
    }

    /// All of it, for a test that failed.
    pub fn story(&self) -> String {
        let mut story = format!("status {}, {}\n", self.status, self.how);
        for (name, text) in [
            ("journal", &self.journal),
            ("console", &self.console),
            ("output", &self.output),
        ] {
            writeln!(story, "--- {name}:\n{text}").unwrap();
        }
        // It has the ends of journal and console once more where the guest is stuck.
        let said = self.said.lines().take(1).collect::<String>();
        story + &said
    }
}

/// Does what is to be done at a guest's words, until the guest has ended.
fn react(events: &Path, mut reactions: Vec<Reaction>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        // Each line begins with the time.
        let said = fs::read_to_string(events).unwrap_or_default();
        for reaction in &mut reactions {
            if said.lines().any(|line| line.ends_with(reaction.word)) {
                if let Some(act) = reaction.act.take() {
                    act();
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The program without what debuggers want: 50 MB less for a guest to copy.
pub fn nbdctl() -> &'static Path {
    static STRIPPED: OnceLock<TempDir> = OnceLock::new();
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = STRIPPED
            .get_or_init(|| TempDir::new().unwrap())
            .path()
            .join("nbdctl");
        let ran = Command::new("strip")
            .args(["--strip-debug", "-o"])
            .args([&path, Path::new(env!("CARGO_BIN_EXE_nbdctl"))])
            .output()
            .unwrap_or_else(|error| panic!("strip, of binutils: {error}"));
        assert!(ran.status.success(), "{ran:?}");
        path
    })
}

/// The program as users have it: qemu makes the difference one of seconds. `make test`
/// has built it before.
fn optimized() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let ran = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--quiet"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        target.join("release/nbdctl")
    })
}

/// Waits for one of the places for guests, among all processes of this test.
fn slot() -> Flock<File> {
    loop {
        for number in 0..GUESTS {
            let name = format!("system-{number}.lock");
            let file = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)).unwrap();
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                return lock;
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}
