//! list, info, map, zero and discard against the servers in the field, on the
//! loopback, beside what libnbd's nbdinfo says of the same exports.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

#[path = "liar/mod.rs"]
mod liar;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use liar::{Config, Context, Export};
use serde_json::Value;
use tempfile::TempDir;

/// A server on a free port, ended with its test.
struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not SIGKILL: the shell around nbd-server has to end that, too.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(command: impl Fn(u16, &Path) -> Command) -> Self {
        // Files of any size cost nothing on a tmpfs.
        let folder = TempDir::new_in("/dev/shm").unwrap();
        let port = free_port();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = command(port, folder.path());
        command
            .stdin(Stdio::null())
            .stderr(log)
            .stdout(Stdio::null());
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}: run tests/setup"));
        let mut server = Self {
            child,
            port,
            folder,
        };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                server.child.try_wait().unwrap().is_none(),
                "{}",
                server.log()
            );
            assert!(
                Instant::now() < until,
                "it does not listen: {}",
                server.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn uri(&self) -> String {
        format!("nbd://127.0.0.1:{}/disk", self.port)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A sparse image with data at some places.
fn image(folder: &Path, size: u64, places: &[u64]) -> PathBuf {
    let path = folder.join("disk.img");
    let mut file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    for place in places {
        file.seek(SeekFrom::Start(*place)).unwrap();
        file.write_all(&[0xa5; 4096]).unwrap();
    }
    path
}

const PLACES: &[u64] = &[0, 1 << 20, 40 << 20];
const SIZE: u64 = 64 << 20;

fn qemu_nbd(size: u64, places: &'static [u64], extra: &'static [&str]) -> Server {
    Server::start(|port, folder| {
        let mut command = Command::new("qemu-nbd");
        command
            .args(["-f", "raw", "-x", "disk", "-D", "a disk", "-t", "-e", "8"])
            .args([
                "--discard=unmap",
                "-b",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ])
            .args(extra)
            .arg(image(folder, size, places));
        command
    })
}

fn nbdkit() -> Server {
    Server::start(|port, folder| {
        let mut command = Command::new("nbdkit");
        command
            .args(["-f", "-i", "127.0.0.1", "-p", &port.to_string(), "file"])
            .arg(image(folder, SIZE, PLACES));
        command
    })
}

fn nbd_server() -> Server {
    Server::start(|port, folder| {
        let config = folder.join("config");
        let image = image(folder, SIZE, PLACES);
        let text = format!(
            "[generic]\n\tport = {port}\n\tlistenaddr = 127.0.0.1\n\tallowlist = true\n[disk]\n\
             \texportname = {}\n\tflush = true\n\tfua = true\n\ttrim = true\n",
            image.display()
        );
        fs::write(&config, text).unwrap();
        // In the foreground it would serve one client only; and what goes into
        // the background ends with the shell that waits for it.
        let mut command = Command::new("bash");
        command.arg("-c").arg(
            "nbd-server -C $0/config -p $0/pid; while ! test -s $0/pid; do sleep 0.01; done
             trap 'kill $(cat $0/pid) $(jobs -p)' EXIT; sleep 600 & wait",
        );
        command.arg(folder);
        command
    })
}

fn nbdctl(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
        .args(args)
        .output();
    output.unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = nbdctl(args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn nbdinfo(args: &[&str]) -> Option<Value> {
    let output = Command::new("nbdinfo").args(args).output().unwrap();
    serde_json::from_slice(&output.stdout).ok()
}

/// What nbdctl and nbdinfo say of one export, side by side.
fn agree(server: &Server) {
    let uri = server.uri();
    let ours = json(&["info", &uri, "--json"]);
    let theirs = nbdinfo(&["--json", &uri]).unwrap();
    let export = &theirs["exports"][0];
    // nbdinfo asks by INFO, to which nbd-server 3.24 says 0.
    assert_eq!(ours["size_bytes"], SIZE);
    assert!([0, SIZE].contains(&export["export-size"].as_u64().unwrap()));
    let flags: Vec<_> = ours["flags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f.as_str().unwrap())
        .collect();
    for (flag, key) in [
        ("READ_ONLY", "is_read_only"),
        ("SEND_FLUSH", "can_flush"),
        ("SEND_FUA", "can_fua"),
        ("SEND_TRIM", "can_trim"),
        ("SEND_WRITE_ZEROES", "can_zero"),
        ("SEND_FAST_ZERO", "can_fast_zero"),
        ("CAN_MULTI_CONN", "can_multi_conn"),
        ("SEND_CACHE", "can_cache"),
        ("ROTATIONAL", "is_rotational"),
    ] {
        assert_eq!(Some(flags.contains(&flag)), export[key].as_bool(), "{flag}");
    }
    if ours["block_size"]["told"] == true {
        assert_eq!(ours["block_size"]["minimum"], export["block_size_minimum"]);
        assert_eq!(
            ours["block_size"]["preferred"],
            export["block_size_preferred"]
        );
        assert_eq!(
            ours["block_size"]["maximum_payload"],
            export["block_size_maximum"]
        );
    }
    let empty = Value::Array(Vec::new());
    let contexts = export
        .get("contexts")
        .filter(|c| !c.is_null())
        .unwrap_or(&empty);
    assert_eq!(&ours["contexts"], contexts);
    let structured = theirs["structured"].as_bool().unwrap_or(false);
    assert_eq!(ours["headers"]["structured"].as_bool(), Some(structured));
    assert_eq!(ours["headers"]["compact"], true);
    same_map(&uri);
}

/// The maps, or that there is none.
fn same_map(uri: &str) {
    let Some(theirs) = nbdinfo(&["--map", "--json", uri]) else {
        let output = nbdctl(&["map", uri]);
        assert_eq!(output.status.code(), Some(4), "nbdinfo has no map of {uri}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("no such metadata context"), "{stderr}");
        return;
    };
    let ours = json(&["map", uri, "--json"]);
    let extents = |map: &Value, kind: &str| -> Vec<(u64, u64, u64)> {
        let number = |extent: &Value, key: &str| extent[key].as_u64().unwrap();
        map.as_array()
            .unwrap()
            .iter()
            .map(|e| (number(e, "offset"), number(e, "length"), number(e, kind)))
            .collect()
    };
    assert_eq!(extents(&ours, "status"), merged(extents(&theirs, "type")));
}

/// nbdinfo shows extents as they came; ours makes neighbours of one status one.
fn merged(extents: Vec<(u64, u64, u64)>) -> Vec<(u64, u64, u64)> {
    let mut merged: Vec<(u64, u64, u64)> = Vec::new();
    for (offset, length, kind) in extents {
        match merged.last_mut() {
            Some(last) if last.2 == kind => last.1 += length,
            _ => merged.push((offset, length, kind)),
        }
    }
    merged
}

#[test]
fn qemu_nbd_is_what_nbdinfo_says() {
    let server = qemu_nbd(SIZE, PLACES, &[]);
    agree(&server);
    let info = json(&["info", &server.uri(), "--json"]);
    assert_eq!(info["headers"]["extended"], true);
    let list = json(&["list", &server.uri(), "--json"]);
    assert_eq!(list[0]["name"], "disk");
    assert_eq!(list[0]["size_bytes"], SIZE);
    assert_eq!(list[0]["description"], "a disk");
}

#[test]
fn a_read_only_qemu_nbd_is_what_nbdinfo_says() {
    agree(&qemu_nbd(SIZE, PLACES, &["--read-only"]));
}

#[test]
fn nbdkit_is_what_nbdinfo_says() {
    let server = nbdkit();
    agree(&server);
    let info = json(&["info", &server.uri(), "--json"]);
    assert_eq!(info["headers"]["extended"], false);
    assert_eq!(info["headers"]["best"], "structured");
}

#[test]
fn nbd_server_is_what_nbdinfo_says() {
    let server = nbd_server();
    agree(&server);
    let list = json(&["list", &server.uri(), "--json"]);
    assert_eq!(list[0]["name"], "disk");
    let size = &list[0]["size_bytes"];
    assert!(*size == SIZE || size.is_null(), "never a size of 0: {list}");
}

/// Requests that qemu-nbd says it got.
fn requests(server: &Server, kind: &str) -> usize {
    let log = server.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("nbd_co_receive_request_decode_type"));
    lines.filter(|line| line.contains(kind)).count()
}

const TRACE: &[&str] = &["--trace", "nbd_co_receive_request_decode_type"];

#[test]
fn a_petabyte_is_mapped_in_a_few_requests_and_extents_are_whole() {
    const PLACES: &[u64] = &[5 << 40, 700 << 40];
    let server = qemu_nbd(1 << 50, PLACES, TRACE);
    let map = json(&["map", &server.uri(), "--json"]);
    let lengths: Vec<_> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["length"].as_u64().unwrap())
        .collect();
    assert_eq!(
        lengths,
        [5 << 40, 4096, (695 << 40) - 4096, 4096, (324 << 40) - 4096]
    );
    let asked = requests(&server, "(block status)");
    assert!(
        (1..=5).contains(&asked),
        "{asked} requests: {}",
        server.log()
    );
}

#[test]
fn sixteen_tebibytes_are_discarded_by_one_request() {
    const PLACES: &[u64] = &[0, 9 << 40, 17 << 40];
    let server = qemu_nbd(1 << 50, PLACES, TRACE);
    let output = nbdctl(&["discard", &server.uri(), "--length", "16T"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(requests(&server, "(trim)"), 1, "{}", server.log());
    let map = json(&["map", &server.uri(), "--json"]);
    assert_eq!(
        map[0]["length"],
        17u64 << 40,
        "what was there before 16 TiB is gone"
    );
    assert_eq!(map[1]["length"], 4096, "and what is behind is not");
}

#[test]
fn sixteen_tebibytes_are_zeroed_by_one_request() {
    let server = liar::start(Config::new().export(Export::new("disk", 1 << 50)));
    server.poke("disk", 9 << 40, b"data");
    let output = nbdctl(&["zero", &server.uri("disk"), "--length", "16T", "--no-hole"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let requests = server.requests();
    let zeroes: Vec<_> = requests
        .iter()
        .filter(|r| r.kind == liar::wire::CMD_WRITE_ZEROES)
        .collect();
    assert_eq!(zeroes.len(), 1);
    assert_eq!(zeroes[0].length, 16 << 40);
    assert_eq!(server.peek("disk", 9 << 40, 4), b"\0\0\0\0");
    assert!(server.complaints().is_empty(), "{:?}", server.complaints());
    assert_eq!(server.unflushed("disk"), 0, "it was flushed");
}

#[test]
fn without_extended_headers_it_is_split_and_told_how_far_it_is() {
    let config = Config::new()
        .export(Export::new("disk", 6 << 30))
        .at_most(liar::Style::Structured);
    let server = liar::start(config.delay(Duration::from_millis(400)));
    let output = nbdctl(&["zero", &server.uri("disk"), "--fast"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains(" of 6 GiB ("), "{stderr}");
    let requests = server.requests();
    let zeroes = requests
        .iter()
        .filter(|r| r.kind == liar::wire::CMD_WRITE_ZEROES);
    assert_eq!(zeroes.map(|r| r.length).collect::<Vec<_>>(), [1 << 30; 6]);
    let nbdkit = nbdkit();
    let output = nbdctl(&["discard", &nbdkit.uri()]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let map = json(&["map", &nbdkit.uri(), "--json"]);
    assert_eq!(map.as_array().unwrap().len(), 1, "{map}");
}

#[test]
fn a_status_of_64_bits_is_shown_whole() {
    let mut config = Config::new().export(Export::new("disk", 1 << 44));
    config.contexts = vec![Context::allocation(), Context::zones(1 << 40)];
    let server = liar::start(config);
    let uri = server.uri("disk");
    let contexts = json(&["map", &uri, "--list-contexts", "--json"]);
    let zones = contexts
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c.as_str().unwrap());
    let mut zones = zones;
    let zones = zones
        .find(|name| !name.starts_with("base:"))
        .unwrap()
        .to_owned();
    let map = json(&["map", &uri, "--context", &zones, "--json"]);
    let first = &map[0];
    assert_eq!(first["length"], 1u64 << 40, "longer than 2^32");
    assert!(first["status"].as_u64().unwrap() >= 1 << 63, "{first}");
    assert_eq!(
        first["description"],
        Value::Null,
        "its meaning is not ours to tell"
    );
    let table = nbdctl(&["map", &uri, "--context", &zones]);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(text.contains("0x8000000000000"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(server.complaints().is_empty(), "{:?}", server.complaints());
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let config = Config::new().export(Export::new("disk", 1 << 20).block(4096, 4096, 1 << 20));
    let server = liar::start(config);
    let uri = server.uri("disk");
    for (args, status, piece) in [
        (
            ["zero", &uri, "--offset", "512"].as_slice(),
            2,
            "multiples of the server's minimum block size, 4096",
        ),
        (
            &["zero", &uri, "--offset", "1M", "--length", "4K"],
            2,
            "are not within the export",
        ),
        (&["discard", &uri, "--length", "17E"], 2, ""),
        (
            &["map", &uri, "--length", "2M"],
            2,
            "are not within the export",
        ),
        (
            &["map", &uri, "--context", "nonsense"],
            4,
            "no such metadata context",
        ),
        (&["map", "nothing"], 3, "is not attached"),
    ] {
        let output = nbdctl(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
        assert!(stderr.contains(piece), "{args:?}: {stderr}");
    }
    assert!(
        server
            .requests()
            .iter()
            .all(|r| r.kind == liar::wire::CMD_DISC),
        "{:?}",
        server.requests()
    );
}
