//! Servers on the host: another machine to a guest of qemu's, and not its to stop.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server of one disk, its default export. Its clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    program: Program,
    folder: TempDir,
    port: u16,
    running: Mutex<Option<Child>>,
}

#[derive(Clone, Copy)]
pub enum Program {
    Nbdkit,
    QemuNbd,
}

impl Server {
    /// Serves a disk that `make` writes, which is given the path of a sparse file.
    pub fn of(program: Program, size: &str, make: impl FnOnce(&Path)) -> Self {
        let server = Self(Arc::new(Inner {
            program,
            folder: TempDir::new().unwrap(),
            port: free_port(),
            running: Mutex::new(None),
        }));
        run("truncate", &["-s", size], &server.disk());
        make(&server.disk());
        server.start();
        server
    }

    /// Of an empty file system.
    pub fn of_ext4(program: Program, size: &str) -> Self {
        Self::of(program, size, |disk| run("mkfs.ext4", &["-q"], disk))
    }

    /// As a guest dials it.
    pub fn uri(&self) -> String {
        format!("nbd://10.0.2.2:{}/", self.port())
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The file that it serves.
    pub fn disk(&self) -> PathBuf {
        self.0.folder.path().join("disk")
    }

    /// Starts it, or again.
    pub fn start(&self) {
        let port = self.0.port.to_string();
        // So that it ends with this test, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match self.0.program {
            Program::Nbdkit => {
                command.args(["nbdkit", "-f", "-i", "127.0.0.1", "-p", &port, "file"]);
            }
            Program::QemuNbd => {
                command.args(["qemu-nbd", "-t", "-e", "4", "-f", "raw", "-b", "127.0.0.1"]);
                command.args(["-p", &port]);
            }
        }
        let child = command.arg(self.disk()).stdin(Stdio::null()).spawn();
        *self.0.running.lock().unwrap() = Some(child.unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.0.port)).is_err() {
            assert!(Instant::now() < until, "no server on port {port}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// As a crash of it would.
    pub fn kill(&self) {
        self.0.kill();
    }
}

impl Inner {
    fn kill(&self) {
        if let Some(mut child) = self.running.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody has, and that nobody is given while its server is dead: below
/// those that the kernel gives away.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes begin elsewhere.
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (first + next * 16) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn run(program: &str, options: &[&str], path: &Path) {
    let ran = Command::new(program).args(options).arg(path).output();
    let output = ran.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{output:?}");
}
