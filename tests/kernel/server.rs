//! Real servers, started in the guest and ended with their test.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::Machine;

/// Where a server runs, and its address there. It listens on all addresses of
/// the place, unless arguments of its own say otherwise.
#[derive(Clone, Copy)]
pub struct Place {
    pub namespace: Option<&'static str>,
    pub address: &'static str,
}

pub const HERE: Place = Place {
    namespace: None,
    address: "127.0.0.1",
};

impl Place {
    fn command(self, program: &str) -> Command {
        let Some(namespace) = self.namespace else {
            return Command::new(program);
        };
        // It becomes the program: the process is the server's own.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    /// Without a connection where there may be no network.
    fn listens(self, port: u16) -> bool {
        let Some(namespace) = self.namespace else {
            return TcpStream::connect((self.address, port)).is_ok();
        };
        let filter = format!("sport = :{port}");
        let mut ss = Command::new("ss");
        let listed = ss.args(["-N", namespace, "-Hltn", &filter]).output();
        !listed.unwrap().stdout.is_empty()
    }
}

/// A running server with one export, `disk`.
pub struct Server {
    process: Process,
    place: Place,
    pub port: u16,
}

enum Process {
    Child(Child),
    /// One that went into the background, by its group.
    Group(u32),
}

impl Server {
    pub fn uri(&self) -> String {
        format!("nbd://{}:{}/disk", self.place.address, self.port)
    }

    /// As a crash would.
    pub fn kill(mut self) {
        self.end();
    }

    /// It does nothing more, and its connections stay. A thread of it may run on
    /// for a moment after the signal, and answer: this waits until none does.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while !self.is_stopped() {
            assert!(Instant::now() < until, "it does not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether all threads of all its processes are.
    fn is_stopped(&self) -> bool {
        let id = self.pid();
        let is_ours = |process: &Path| match self.process {
            Process::Child(_) => process.ends_with(id.to_string()),
            // The fields after the name: state, parent, group.
            Process::Group(_) => stat(process).is_some_and(|stat| stat[2] == id.to_string()),
        };
        let processes = entries(Path::new("/proc")).into_iter();
        processes
            .filter(|process| is_ours(process))
            .flat_map(|process| entries(&process.join("task")))
            .all(|thread| stat(&thread).is_none_or(|stat| stat[0] == "T"))
    }

    /// It goes on, and does what it was sent meanwhile.
    pub fn cont(&self) {
        self.signal(Signal::SIGCONT).unwrap();
    }

    /// Its process; the first one of those that have several.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Child(child) => child.id(),
            Process::Group(id) => *id,
        }
    }

    /// nbdkit 1.32, for one, may abort when a connection is reset under load.
    pub fn is_running(&mut self) -> bool {
        match &mut self.process {
            Process::Child(child) => child.try_wait().unwrap().is_none(),
            Process::Group(id) => Path::new(&format!("/proc/{id}")).exists(),
        }
    }

    fn signal(&self, signal: Signal) -> nix::Result<()> {
        let id = i32::try_from(self.pid()).unwrap();
        kill(
            Pid::from_raw(match self.process {
                Process::Child(_) => id,
                Process::Group(_) => -id,
            }),
            signal,
        )
    }

    fn end(&mut self) {
        let _ = self.signal(Signal::SIGKILL);
        if let Process::Child(child) = &mut self.process {
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What /proc tells of a process or thread, from its state on; `None` when it is
/// gone, or what is there is none.
fn stat(process: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(process.join("stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).into_iter().flatten();
    read.flatten().map(|entry| entry.path()).collect()
}

fn start(place: Place, port: u16, command: &mut Command) -> Server {
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    listening(place, port, Process::Child(child))
}

fn listening(place: Place, port: u16, process: Process) -> Server {
    let mut server = Server {
        process,
        place,
        port,
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !place.listens(port) {
        if let Process::Child(child) = &mut server.process {
            assert!(child.try_wait().unwrap().is_none(), "the server ended");
        }
        assert!(Instant::now() < until, "port {port}: nobody listens");
        thread::sleep(Duration::from_millis(20));
    }
    server
}

/// qemu-nbd, for any number of clients one after the other and eight at a time.
pub fn qemu_nbd(image: &Path, port: u16, extra: &[&str]) -> Server {
    qemu_nbd_at(HERE, image, port, extra)
}

pub fn qemu_nbd_at(place: Place, image: &Path, port: u16, extra: &[&str]) -> Server {
    let port_text = port.to_string();
    start(
        place,
        port,
        place
            .command("qemu-nbd")
            .args([
                "-f",
                "raw",
                "-x",
                "disk",
                "-t",
                "-e",
                "8",
                "--discard=unmap",
            ])
            .args(["-p", &port_text])
            .args(extra)
            .arg(image),
    )
}

/// nbdkit's file plugin; `filters` stand before it, `parameters` behind.
pub fn nbdkit(image: &Path, port: u16, filters: &[&str], parameters: &[&str]) -> Server {
    nbdkit_at(HERE, image, port, filters, parameters)
}

pub fn nbdkit_at(
    place: Place,
    image: &Path,
    port: u16,
    filters: &[&str],
    parameters: &[&str],
) -> Server {
    let port_text = port.to_string();
    start(
        place,
        port,
        place
            .command("nbdkit")
            .args(["-f", "-p", &port_text])
            .args(filters)
            .args(["file"])
            .arg(image)
            .args(parameters),
    )
}

/// nbd-server.
pub fn nbd_server(machine: &Machine, image: &Path, port: u16) -> Server {
    nbd_server_at(HERE, machine, image, port)
}

pub fn nbd_server_at(place: Place, machine: &Machine, image: &Path, port: u16) -> Server {
    let config = machine.path(&format!("nbd-server-{port}.conf"));
    let text = format!(
        "[generic]\n\tport = {port}\n\tlistenaddr = 0.0.0.0\n[disk]\n\texportname = {}\n\
         \tflush = true\n\tfua = true\n\ttrim = true\n",
        image.display()
    );
    fs::write(&config, text).unwrap();
    // In the foreground (-d) it serves one client and ends.
    let pid = machine.path(&format!("nbd-server-{port}.pid"));
    // One that was killed has left its own.
    let _ = fs::remove_file(&pid);
    let status = place
        .command("nbd-server")
        .arg("-C")
        .arg(&config)
        .arg("-p")
        .arg(&pid)
        .status();
    assert!(status.unwrap().success());
    let until = Instant::now() + Duration::from_secs(20);
    let group = loop {
        if let Some(id) = fs::read_to_string(&pid)
            .ok()
            .and_then(|t| t.trim().parse().ok())
        {
            break id;
        }
        assert!(Instant::now() < until, "nbd-server wrote no pid");
        thread::sleep(Duration::from_millis(20));
    };
    let server = listening(place, port, Process::Group(group));
    if place.namespace.is_none() {
        // It listens before it is done with what it does at first.
        while !greets(place, port) {
            assert!(Instant::now() < until, "nbd-server greets nobody");
        }
    }
    server
}

fn greets(place: Place, port: u16) -> bool {
    let mut greeting = [0; 8];
    let Ok(mut stream) = TcpStream::connect((place.address, port)) else {
        return false;
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    stream.read_exact(&mut greeting).is_ok() && &greeting == b"NBDMAGIC"
}

/// The three of them on the same image, by name; run one at a time.
pub type Start = fn(&Machine, &Path, u16) -> Server;
pub const ALL: &[(&str, Start)] = &[
    ("qemu-nbd", |_, image, port| qemu_nbd(image, port, &[])),
    ("nbdkit", |_, image, port| nbdkit(image, port, &[], &[])),
    ("nbd-server", nbd_server),
];
