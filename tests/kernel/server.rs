//! Real servers, started in the guest and ended with their test.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::Machine;

/// A running server with one export, `disk`.
pub struct Server {
    process: Process,
    pub port: u16,
}

enum Process {
    Child(Child),
    /// One that went into the background, by its group.
    Group(u32),
}

impl Server {
    pub fn uri(&self) -> String {
        format!("nbd://127.0.0.1:{}/disk", self.port)
    }

    /// As a crash would.
    pub fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        match &mut self.process {
            Process::Child(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Process::Group(id) => {
                let group = format!("-{id}");
                let _ = Command::new("kill").args(["-9", "--", &group]).status();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(port: u16, command: &mut Command) -> Server {
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    listening(port, Process::Child(child))
}

fn listening(port: u16, process: Process) -> Server {
    let mut server = Server { process, port };
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
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
    let port_text = port.to_string();
    start(
        port,
        Command::new("qemu-nbd")
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
    let port_text = port.to_string();
    start(
        port,
        Command::new("nbdkit")
            .args(["-f", "-p", &port_text])
            .args(filters)
            .args(["file"])
            .arg(image)
            .args(parameters),
    )
}

/// nbd-server.
pub fn nbd_server(machine: &Machine, image: &Path, port: u16) -> Server {
    let config = machine.path(&format!("nbd-server-{port}.conf"));
    let text = format!(
        "[generic]\n\tport = {port}\n\tlistenaddr = 127.0.0.1\n[disk]\n\texportname = {}\n\
         \tflush = true\n\tfua = true\n\ttrim = true\n",
        image.display()
    );
    fs::write(&config, text).unwrap();
    // In the foreground (-d) it serves one client and ends.
    let pid = machine.path(&format!("nbd-server-{port}.pid"));
    let status = Command::new("nbd-server")
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
    listening(port, Process::Group(group))
}

/// The three of them on the same image, by name; run one at a time.
pub type Start = fn(&Machine, &Path, u16) -> Server;
pub const ALL: &[(&str, Start)] = &[
    ("qemu-nbd", |_, image, port| qemu_nbd(image, port, &[])),
    ("nbdkit", |_, image, port| nbdkit(image, port, &[], &[])),
    ("nbd-server", nbd_server),
];
