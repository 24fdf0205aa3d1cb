//! A machine to be: its initramfs, its command line, what is done to it from outside; and
//! what became of it and of its server's disk once it had booted, had run a command, and
//! had ended. What a scenario is about it does not know.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

/// Machines at a time: each has a processor's work to do.
const MACHINES: usize = 2;

/// A boot takes 30 s on a quiet machine, and ten times that on a very busy one.
const LIMIT_SECONDS: u32 = 900;

/// The programs that make an initramfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initramfs {
    Dracut,
    InitramfsTools,
}
pub use Initramfs::{Dracut, InitramfsTools};

/// A machine that is to be booted.
pub struct Machine {
    folder: TempDir,
    /// What the initramfs is made with, besides.
    initramfs: TempDir,
    options: Vec<String>,
    limit_seconds: u32,
}

/// What became of it.
pub struct Ended {
    /// That of `tests/boot/run`: the command's own, 124, 125, 126.
    pub status: i32,
    /// What the command wrote.
    pub output: String,
    /// The kernel's log and the journal, from the first line to the last.
    pub console: String,
    /// What the machine said, and when, by this host's clock in seconds.
    pub events: Vec<(f64, String)>,
    /// Uptime in seconds at which the command began.
    pub up: f64,
    /// Seconds from the command's end to the machine's.
    pub down: f64,
    /// How it ended: `poweroff`, `crash`, `reset`, `killed`.
    pub how: String,
    /// Whether the file system on the server's disk was left unmounted or read-only.
    pub unmounted: bool,
    /// What e2fsck says of it, empty where it is content.
    pub fsck: String,
    /// What `run` says on standard error.
    said: String,
    out: TempDir,
}

impl Machine {
    /// One with nbdctl, whose root is the server's whole disk by our own setting.
    pub fn plain(initramfs: Initramfs) -> Self {
        Self::new(initramfs, initramfs.own_setting())
    }

    /// One with nbdctl in its initramfs and on its root, of which this is the command line.
    pub fn new(initramfs: Initramfs, append: &str) -> Self {
        Self::of(initramfs, append)
            .option("--binary", &optimized().display().to_string())
            .option("--client", "nbdctl")
    }

    /// One with the reference client instead, whose dracut module knows this port only.
    pub fn stock(initramfs: Initramfs, append: &str) -> Self {
        Self::of(initramfs, append)
            .option("--client", "stock")
            .option("--port", "10809")
    }

    fn of(initramfs: Initramfs, append: &str) -> Self {
        let machine = Self {
            folder: TempDir::new().unwrap(),
            initramfs: TempDir::new().unwrap(),
            options: Vec::new(),
            limit_seconds: LIMIT_SECONDS,
        };
        machine
            .option("--initramfs", initramfs.name())
            .option("--append", append)
    }

    /// An option of `tests/boot/run`.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// What is done outside when the command says `event WORD`.
    pub fn when(mut self, word: &str, code: &str) -> Self {
        self.options
            .extend(["--when", word, code].map(str::to_owned));
        self
    }

    /// A file of the root's.
    pub fn file(self, path: &str, text: &str) -> Self {
        write(self.folder.path(), path, text);
        self
    }

    /// A file that is there when the initramfs is made, and on the root.
    pub fn initramfs_file(self, path: &str, text: &str) -> Self {
        write(self.initramfs.path(), path, text);
        self
    }

    /// Seconds for all of it.
    pub fn limit(mut self, seconds: u32) -> Self {
        self.limit_seconds = seconds;
        self
    }

    /// A writer's file, to be looked at in the end.
    pub fn keep(self, path: &str) -> Self {
        self.option("--keep", path)
    }

    /// Boots it, runs the command, ends it.
    pub fn run(self, command: &str) -> Ended {
        let out = TempDir::new().unwrap();
        let _slot = slot();
        // It ends with this test, however that ends.
        let output = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .arg(program())
            .args(["--timeout", &self.limit_seconds.to_string()])
            .arg("--out")
            .arg(out.path())
            .arg("--files")
            .arg(self.folder.path())
            .arg("--initramfs-files")
            .arg(self.initramfs.path())
            .args(&self.options)
            .args(["--", command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ended::of(
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
            out,
        )
    }
}

impl Initramfs {
    pub fn name(self) -> &'static str {
        match self {
            Self::Dracut => "dracut",
            Self::InitramfsTools => "initramfs-tools",
        }
    }

    /// The command line that has the server's whole disk as the root, as README has it.
    pub fn own_setting(self) -> &'static str {
        match self {
            Self::Dracut => "ip=dhcp root=LABEL=root rd.nbdctl=nbd://10.0.2.2:10900/",
            Self::InitramfsTools => "ip=dhcp root=LABEL=root nbdctl=nbd://10.0.2.2:10900/",
        }
    }

    /// Makes one with this client in it (`nbdctl`, `stock`, `none`), and tells what files it
    /// consists of, in bytes.
    pub fn bytes(self, client: &str) -> u64 {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("initramfs");
        let _slot = slot();
        let output = Command::new(program())
            .args(["--initramfs", self.name(), "--client", client, "--binary"])
            .arg(optimized())
            .arg("--make-initramfs")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        told.trim().parse().unwrap_or_else(|_| panic!("{told:?}"))
    }
}

impl Ended {
    fn of(status: i32, output: String, said: String, out: TempDir) -> Self {
        let left = |name: &str| {
            String::from_utf8_lossy(&fs::read(out.path().join(name)).unwrap_or_default())
                .into_owned()
        };
        let verdict = left("verdict");
        let value = |name: &str| {
            let line = verdict.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        let events = left("events")
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(stamp, words)| (stamp.parse().unwrap_or(f64::NAN), words.to_owned()))
            .collect();
        let ended = Self {
            status,
            output,
            console: left("console.log"),
            events,
            up: value("up=").parse().unwrap_or(f64::NAN),
            down: value("down=").parse().unwrap_or(f64::NAN),
            how: value("ended="),
            unmounted: value("journal=") == "clean",
            fsck: if value("fsck=") == "0" {
                String::new()
            } else {
                format!("status {}: {}", value("fsck="), left("fsck.log"))
            },
            said,
            out,
        };
        println!(
            "up after {} s, down after {} s: {} ({})",
            ended.up, ended.down, ended.how, ended.status
        );
        ended
    }

    /// The command succeeded, the machine powered itself off, and its root never noticed
    /// anything; nor is there a fault on the server's disk.
    pub fn assert_good(&self) -> &Self {
        assert!(
            self.status == 0 && self.how == "poweroff",
            "{}",
            self.story()
        );
        assert!(self.unmounted, "the root was dirty\n{}", self.story());
        self.assert_no_error();
        self
    }

    /// No I/O error reached the root, and its file system is whole.
    pub fn assert_no_error(&self) {
        let errors = self.errors();
        assert!(errors.is_empty(), "{errors:#?}\n{}", self.story());
        assert!(self.fsck.is_empty(), "{}\n{}", self.fsck, self.story());
    }

    /// Lines of the console that tell of what must never happen to a root.
    pub fn errors(&self) -> Vec<&str> {
        let bad = [
            "I/O error",
            "Input/output error",
            "EXT4-fs error",
            "EXT4-fs warning",
            "Remounting filesystem read-only",
            "Aborting journal",
            "Detected aborted journal",
            "potential data loss",
        ];
        self.console
            .lines()
            .filter(|line| bad.iter().any(|word| line.contains(word)))
            .collect()
    }

    /// When the machine said something for the first time, by this host's clock.
    pub fn at(&self, words: &str) -> f64 {
        let found = self.events.iter().find(|(_, said)| said == words);
        found
            .unwrap_or_else(|| panic!("never said: {words}\n{}", self.story()))
            .0
    }

    /// Each block that `writer` told to be safely written is on the server's disk, and it
    /// never failed. Tells how many there are.
    pub fn assert_written(&self, path: &str) -> usize {
        let failed: Vec<_> = self
            .events
            .iter()
            .filter(|(_, said)| said.starts_with("failed "))
            .collect();
        assert!(failed.is_empty(), "{failed:?}\n{}", self.story());
        let written = self.written();
        let file = fs::read(self.kept(path)).unwrap_or_default();
        for number in &written {
            let block = file.get(number * 4096..(number + 1) * 4096);
            assert!(
                block == Some(format!("{number:<4095}\n").as_bytes()),
                "block {number} is {:?}\n{}",
                block.map(String::from_utf8_lossy),
                self.story()
            );
        }
        written.len()
    }

    /// The blocks that `writer` told to be safely written.
    fn written(&self) -> Vec<usize> {
        self.events
            .iter()
            .filter_map(|(_, said)| said.strip_prefix("wrote "))
            .map(|number| number.parse().unwrap())
            .collect()
    }

    /// The longest time between two blocks of `writer`, in seconds.
    pub fn longest_gap(&self) -> f64 {
        let times: Vec<f64> = self
            .events
            .iter()
            .filter(|(_, said)| said.starts_with("wrote "))
            .map(|(stamp, _)| *stamp)
            .collect();
        times
            .iter()
            .zip(times.iter().skip(1))
            .map(|(one, next)| next - one)
            .fold(0.0, f64::max)
    }

    /// A file of the root's that was to be kept.
    pub fn kept(&self, path: &str) -> PathBuf {
        self.out.path().join(Path::new(path).file_name().unwrap())
    }

    /// All of it, for a test that failed.
    pub fn story(&self) -> String {
        let mut story = format!("status {}, {}\n", self.status, self.how);
        let events = self.events.iter().fold(String::new(), |all, (at, said)| {
            format!("{all}{at:.2} {said}\n")
        });
        let server = fs::read_to_string(self.out.path().join("server.log")).unwrap_or_default();
        for (name, text) in [
            ("console", &self.console),
            ("output", &self.output),
            ("events", &events),
            ("server", &server),
            ("said", &self.said.lines().take(5).collect()),
        ] {
            writeln!(story, "--- {name}:\n{text}").unwrap();
        }
        story
    }
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boot/run")
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

/// Waits for one of the places for machines, among all processes of this test.
fn slot() -> Flock<File> {
    loop {
        for number in 0..MACHINES {
            let name = format!("boot-{number}.lock");
            let file = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)).unwrap();
            if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                return lock;
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}
