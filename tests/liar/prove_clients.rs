//! Honest by default, in the eyes of clients that others wrote: libnbd's tools
//! (simple and structured replies) and qemu's (extended headers too).

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::liar::wire::*;
use crate::liar::{self, Config, Context, Export, Handle, NO_PAYLOAD_LEN, Style};

const STYLES: [Style; 3] = [Style::Simple, Style::Structured, Style::Extended];

/// Standard output of a client that has to succeed within its deadline.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["--kill-after=1", "15", program])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(127), "install {program}");
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(program: &str, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(program, arguments)).unwrap()
}

/// Several commands for qemu-io, on one connection.
fn qemu_io(server: &Handle, commands: &[&str]) -> String {
    let uri = server.uri("disk");
    let mut arguments = vec!["-f", "raw", uri.as_str()];
    commands
        .iter()
        .for_each(|command| arguments.extend(["-c", *command]));
    let said = run("qemu-io", &arguments);
    assert!(!said.contains("failed"), "{said}");
    said
}

/// Nobody complained, but about a fault that qemu 10.0 has, and every request
/// came in this style.
fn settled(server: &Handle, style: Style) {
    let mut complaints = server.complaints();
    complaints.retain(|complaint| !complaint.ends_with(NO_PAYLOAD_LEN));
    assert_eq!(complaints, Vec::<String>::new());
    let requests = server.requests();
    assert!(!requests.is_empty());
    let others = requests.iter().filter(|request| request.style != style);
    assert_eq!(others.count(), 0, "all of {style:?}");
}

/// Something that compresses badly and is sparse: 8 MiB, half of it data.
fn content() -> Vec<u8> {
    let mut random = 1u32;
    let mut byte = |index: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if (index >> 20) & 1 == 0 {
            random.to_be_bytes()[0] | 1
        } else {
            0
        }
    };
    (0..8 << 20).map(&mut byte).collect()
}

#[test]
fn nbdinfo_sees_what_was_configured() {
    let disk = Export::new("disk", 1 << 40).description("a disk of lies");
    let other = Export::new("other", 512)
        .with(READ_ONLY)
        .without(CAN_MULTI_CONN);
    let config = Config::new()
        .export(disk.block(512, 4096, 1 << 20))
        .export(other);
    let server = liar::start(config);
    let seen = json("nbdinfo", &["--json", "--no-content", &server.uri("disk")]);
    assert_eq!(seen["protocol"], "newstyle-fixed");
    assert_eq!(seen["structured"], true);
    let disk = &seen["exports"][0];
    assert_eq!(disk["export-name"], "disk");
    assert_eq!(disk["description"], "a disk of lies");
    assert_eq!(disk["export-size"], 1u64 << 40);
    assert_eq!(disk["is_read_only"], false);
    assert_eq!(disk["contexts"][0], "base:allocation");
    for can in [
        "flush",
        "fua",
        "trim",
        "zero",
        "cache",
        "df",
        "fast_zero",
        "multi_conn",
    ] {
        assert_eq!(disk[format!("can_{can}")], true, "can_{can}");
    }
    assert_eq!(disk["block_size_minimum"], 512);
    assert_eq!(disk["block_size_preferred"], 4096);
    assert_eq!(disk["block_size_maximum"], 1 << 20);
    let all = json(
        "nbdinfo",
        &["--json", "--list", "--no-content", &server.uri("")],
    );
    assert_eq!(all["exports"][1]["export-name"], "other");
    assert_eq!(all["exports"][1]["is_read_only"], true);
    assert_eq!(all["exports"][1]["can_multi_conn"], false);
    assert_eq!(server.complaints(), Vec::<String>::new());
}

#[test]
fn old_ways_into_transmission_work() {
    let config = Config::new()
        .at_most(Style::Simple)
        .refuse(OPT_GO, REP_ERR_UNSUP)
        .refuse(OPT_INFO, REP_ERR_UNSUP);
    let server = liar::start(config);
    server.poke("disk", 4096, b"old");
    let seen = json("nbdinfo", &["--json", "--no-content", &server.uri("disk")]);
    assert_eq!(seen["exports"][0]["export-size"], 64 << 20);
    let said = qemu_io(&server, &["read -v 4096 512"]);
    assert!(said.contains("6f 6c 64 00"), "{said}");
    let options = server.options();
    let names = options.iter().filter(|seen| seen.option == OPT_EXPORT_NAME);
    assert_eq!(names.count(), 2);
    settled(&server, Style::Simple);
}

#[test]
fn nbdinfo_maps_structured_extents() {
    // Newer ones would ask for extended headers.
    let config = Config::new().export(Export::new("disk", 6 << 30));
    let server = liar::start(config.at_most(Style::Structured));
    server.poke("disk", 1 << 20, &[1; 65_536]);
    let map = json("nbdinfo", &["--json", "--map", &server.uri("disk")]);
    let extents: Vec<(u64, u64, u64)> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|extent| {
            let field = |name: &str| extent[name].as_u64().unwrap();
            (field("offset"), field("length"), field("type"))
        })
        .collect();
    let rest = (1 << 20) + 65_536;
    let expected = [
        (0, 1 << 20, 3),
        (1 << 20, 65_536, 0),
        (rest, (6 << 30) - rest, 3),
    ];
    assert_eq!(extents, expected);
    settled(&server, Style::Structured);
}

#[test]
fn nbdcopy_copies_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    std::fs::write(&there, content()).unwrap();
    for style in [Style::Simple, Style::Structured] {
        let config = Config::new().export(Export::new("disk", 8 << 20));
        let server = liar::start(config.at_most(style));
        run("nbdcopy", &["--flush", path(&there), &server.uri("disk")]);
        assert_eq!(server.unflushed("disk"), 0, "it was flushed");
        run("nbdcopy", &[&server.uri("disk"), path(&back)]);
        assert!(std::fs::read(&back).unwrap() == content(), "{style:?}");
        settled(&server, style);
    }
}

#[test]
fn qemu_io_is_served_in_every_style() {
    for style in STYLES {
        let server = liar::start(Config::new().at_most(style));
        qemu_io(
            &server,
            &[
                "write -P 0x5a 0 1M",
                "write -P 0xa5 -f 512k 64k",
                "read -P 0x5a 0 512k",
                "read -P 0xa5 512k 64k",
                "read -P 0 1M 1M",
                "write -z 64k 64k",
                "write -z -u 128k 64k",
                "read -P 0 64k 128k",
                "discard 0 64k",
                "read -P 0 0 64k",
                "flush",
            ],
        );
        assert_eq!(server.unflushed("disk"), 0);
        settled(&server, style);
        let fua = |flags: u16| flags & CMD_FLAG_FUA != 0;
        let requests = server.requests();
        assert!(
            requests
                .iter()
                .any(|one| one.kind == CMD_WRITE && fua(one.flags))
        );
        for kind in [CMD_READ, CMD_WRITE_ZEROES, CMD_TRIM, CMD_FLUSH] {
            assert!(requests.iter().any(|one| one.kind == kind), "{kind}");
        }
    }
}

#[test]
fn qemu_img_converts_and_compares_in_every_style() {
    let folder = tempfile::tempdir().unwrap();
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    std::fs::write(&there, content()).unwrap();
    for style in STYLES {
        let config = Config::new().export(Export::new("disk", 8 << 20));
        let server = liar::start(config.at_most(style));
        let uri = server.uri("disk");
        let convert = ["convert", "-f", "raw", "-O", "raw"];
        run(
            "qemu-img",
            &[&convert[..], &["-n", path(&there), &uri]].concat(),
        );
        run(
            "qemu-img",
            &["compare", "-f", "raw", "-F", "raw", path(&there), &uri],
        );
        run("qemu-img", &[&convert[..], &[&uri, path(&back)]].concat());
        assert!(std::fs::read(&back).unwrap() == content(), "{style:?}");
        settled(&server, style);
    }
}

/// Holes longer than 2^32 come as one extent, and sparse terabytes cost nothing.
#[test]
fn qemu_img_maps_extended_extents() {
    let server = liar::start(Config::new().export(Export::new("disk", 1 << 44)));
    server.poke("disk", 1 << 43, &[1; 65_536]);
    let map = json(
        "qemu-img",
        &["map", "--output=json", "-f", "raw", &server.uri("disk")],
    );
    let extents: Vec<(u64, u64, bool)> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|extent| {
            let field = |name: &str| extent[name].as_u64().unwrap();
            (
                field("start"),
                field("length"),
                extent["data"].as_bool().unwrap(),
            )
        })
        .collect();
    let rest = (1 << 43) + 65_536;
    let expected = [
        (0, 1 << 43, false),
        (1 << 43, 65_536, true),
        (rest, (1 << 44) - rest, false),
    ];
    assert_eq!(extents, expected);
    settled(&server, Style::Extended);
    let requests = server.requests();
    let status = requests.iter().filter(|one| one.kind == CMD_BLOCK_STATUS);
    assert!(status.clone().any(|one| one.length > 1 << 32));
    assert!(status.count() < 10);
}

#[test]
fn a_unix_socket_serves_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = liar::start(Config::new().unix(folder.path().join("socket")));
    let seen = json("nbdinfo", &["--json", "--no-content", &server.uri("disk")]);
    assert_eq!(seen["exports"][0]["export-size"], 64 << 20);
    qemu_io(&server, &["write -P 1 0 64k", "read -P 1 0 64k"]);
    server.restart();
    qemu_io(&server, &["read -P 1 0 64k"]);
    settled(&server, Style::Extended);
}

#[test]
fn refusals_reach_the_clients() {
    let server = liar::start(Config::new());
    let refused = |change: fn(&mut Config)| {
        server.set(change);
        let uri = server.uri("disk");
        let output = Command::new("timeout")
            .args(["15", "qemu-img", "info", &uri])
            .output();
        let output = output.unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(|config| config.require_tls = true);
    assert!(said.to_lowercase().contains("tls"), "{said}");
    let said = refused(|config| {
        config.require_tls = false;
        config.refusals.push((OPT_GO, REP_ERR_UNKNOWN));
    });
    assert!(said.contains("not available"), "{said}");
    let said = refused(|config| config.refusals = vec![(OPT_GO, REP_ERR_SHUTDOWN)]);
    assert!(said.contains("shutting down"), "{said}");
}

/// A second, non-base context does not disturb a client that asks for it.
#[test]
fn an_unknown_context_is_left_out() {
    let mut config = Config::new();
    config.contexts = vec![Context::zones(1 << 33)];
    let server = liar::start(config);
    qemu_io(&server, &["read -P 0 0 64k"]);
    settled(&server, Style::Extended);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
