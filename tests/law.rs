//! Holds the code to the import law that stands in `src/lib.rs`, and its files to
//! a length.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of the crate each module may name.
const LAW: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("uri", &[]),
    ("config", &["uri"]),
    ("session", &["proto", "uri"]),
    ("kernel", &["proto"]),
    ("relay", &["session", "proto", "uri"]),
    // Of the relay only what is said to it: PARTS.
    ("monitor", &["kernel", "session", "config", "relay"]),
    ("boot", &["config", "uri"]),
    (
        "cli",
        &[
            "monitor", "relay", "boot", "kernel", "session", "config", "uri", "proto",
        ],
    ),
];

/// Who may name no more of a module than a part of it.
const PARTS: &[(&str, &str, &str)] = &[("monitor", "relay", "relay::message")];

/// Crates, and parts of std, that only some modules may name, or parts of modules.
const RESERVED: &[(&str, &[&str])] = &[
    ("neli", &["kernel"]),
    ("clap", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("tracing_subscriber", &["cli"]),
    ("toml::", &["config"]),
    ("strsim", &["config"]),
    ("seccompiler", &["kernel"]),
    ("std::net", &["session", "relay/pump"]),
    // The monitor's own socket, for whoever asks how things are; the journal's.
    (
        "std::os::unix::net",
        &["session", "monitor", "cli", "relay/pump"],
    ),
    (
        "std::time",
        &[
            "session",
            "kernel",
            "monitor",
            "config",
            "cli",
            // Durations; the time itself is the pump's.
            "relay/reconnect",
            "relay/pump",
        ],
    ),
    (
        "Instant::now",
        &["session", "kernel", "monitor", "cli", "relay/pump"],
    ),
    ("println!", &[]),
    ("eprintln!", &[]),
    ("unsafe {", &["kernel"]),
];

/// Lines of a file, without its tests.
const LONGEST: usize = 400;

#[test]
fn the_code_keeps_the_law() {
    let sources = sources();
    assert!(sources.len() > 10, "found {} files only", sources.len());
    let broken: Vec<_> = sources
        .iter()
        .flat_map(|(path, source)| breaches(path, source))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, source) in sources() {
        assert!(source.starts_with("//! "), "{path} has no module doc");
    }
}

#[test]
fn no_file_is_too_long() {
    for (path, source) in sources() {
        let length = lines(&source).count();
        assert!(length <= LONGEST, "{path} has {length} lines");
    }
}

/// The law itself must be able to fail.
#[test]
fn a_breach_is_seen() {
    for source in [
        "use crate::kernel;",
        "use crate::kernel::Device;",
        "pub use crate::kernel::Device;",
        "pub(crate) use crate::kernel::Device;",
        "    use crate::kernel::Device;",
        "use crate::{kernel::Device, uri::Uri};",
        "use crate::{\n    kernel::Device, // a comment\n    uri::Uri,\n};",
        "use crate::{\n    uri::{A, B},\n    kernel::{\n        C,\n        sysfs::{D, E},\n    },\n};",
        "use crate::kernel::{\n    Device,\n    Netlink,\n};",
        "use {\n    std::fs,\n    crate::{\n        kernel::Device,\n    },\n};",
        "use super::super::kernel::Device;",
        "use super::{\n    super::{kernel, uri},\n    talk,\n};",
        "use crate::*;",
        "use crate::{self as all};",
        "let x = crate::kernel::devices();",
        "fn x(device: &super::super::kernel::Device) {}",
        "use std::fs;\n#[cfg(test)]\nmod tests;\nuse crate::kernel;",
        "#[cfg(test)]\nmod tests {\n    use x;\n}\nuse crate::kernel;",
        "use neli::Size;",
        "use {\n    neli::Size,\n};",
        "println!();",
    ] {
        let found = breaches("src/session/talk.rs", source);
        assert_eq!(found.len(), 1, "{source}\n{found:#?}");
    }
    for source in [
        "use crate::{\n    proto::{A, kernel},\n    uri::Uri,\n};",
        "use super::kernel::Device;",
        "use std::{\n    time::Instant,\n    os::unix::net::UnixStream,\n};",
        "// use crate::kernel;",
        "#[cfg(test)]\nuse crate::kernel;",
        "#[cfg(test)]\nmod tests {\n    use crate::kernel;\n}",
    ] {
        let found = breaches("src/session/talk.rs", source);
        assert!(found.is_empty(), "{source}\n{found:#?}");
    }
    for (source, count) in [
        ("use crate::relay::message::Order;", 0),
        ("use crate::relay::Engine;", 1),
        ("use crate::relay::{Engine, message};", 1),
        ("use crate::relay;", 1),
    ] {
        assert_eq!(breaches("src/monitor/links.rs", source).len(), count);
    }
    let clock = "let now = Instant::now();";
    assert_eq!(breaches("src/relay/plan.rs", clock).len(), 1);
    assert_eq!(breaches("src/relay/pump/link.rs", clock).len(), 0);
    // There, `super` is the crate.
    for path in ["src/session/mod.rs", "src/session.rs"] {
        assert_eq!(breaches(path, "use super::kernel::Device;").len(), 1);
        assert_eq!(breaches(path, "use super::{\n    kernel,\n};").len(), 1);
    }
    let std =
        "use std::{\n    fs,\n    process::{\n        Command,\n    },\n    net::TcpStream,\n};";
    assert_eq!(
        breaches("src/kernel/talk.rs", std),
        ["src/kernel/talk.rs:1: kernel uses std::net"]
    );
    assert_eq!(
        breaches("src/uri.rs", "\nuse crate::{\n    proto,\n};"),
        ["src/uri.rs:2: uri names proto"]
    );
}

/// What a file does against LAW and RESERVED. The two roots may do all.
fn breaches(path: &str, source: &str) -> Vec<String> {
    let parts: Vec<_> = path.split('/').skip(1).collect();
    let module = parts[0].trim_end_matches(".rs");
    if module == "lib" || module == "main" {
        return Vec::new();
    }
    let law = LAW.iter().find(|(name, _)| *name == module);
    let Some((_, allowed)) = law else {
        return vec![format!("{path}: a new module, give it a line in LAW")];
    };
    let depth = parts.len() - usize::from(path.ends_with("/mod.rs"));
    let root = "super::".repeat(depth);
    let mut broken = Vec::new();
    for (number, statement) in statements(source) {
        for name in paths(&statement) {
            let name = name.replace(&root, "crate::");
            for other in name.split("crate::").skip(1) {
                let end = other.find(|c: char| !c.is_alphanumeric() && c != '_');
                let other = &other[..end.unwrap_or(other.len())];
                let all = other.is_empty() || other == "self";
                let is_module = LAW.iter().any(|(name, _)| *name == other);
                if all || is_module && other != module && !allowed.contains(&other) {
                    let other = if all { "everything" } else { other };
                    broken.push(format!("{path}:{number}: {module} names {other}"));
                }
            }
            for (who, whose, part) in PARTS {
                let whole = name.contains(&format!("crate::{whose}"));
                if *who == module && whole && !name.contains(part) {
                    broken.push(format!("{path}:{number}: {module} names all of {whose}"));
                }
            }
            for (what, modules) in RESERVED {
                let may = |who: &&str| {
                    *who == module || who.contains('/') && path.starts_with(&format!("src/{who}/"))
                };
                if name.contains(what) && !modules.iter().any(may) {
                    broken.push(format!("{path}:{number}: {module} uses {what}"));
                }
            }
        }
    }
    broken.dedup();
    broken
}

/// The code's lines, without comments, each `use` joined up to its `;`.
fn statements(source: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut in_use = false;
    for (number, line) in lines(source) {
        let line = line.trim();
        if line.starts_with("//") {
            continue;
        }
        let starts = use_tree(line).is_some();
        let line = match line.split_once("//") {
            Some((code, _)) if in_use || starts => code,
            _ => line,
        };
        match found.last_mut() {
            Some((_, statement)) if in_use => statement.push_str(line),
            _ => found.push((number, line.to_owned())),
        }
        in_use = (in_use || starts) && !line.contains(';');
    }
    found
}

/// Every path that a `use` names, or the statement as it is.
fn paths(statement: &str) -> Vec<String> {
    use_tree(statement).map_or_else(|| vec![statement.to_owned()], branches)
}

fn branches(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let mut depth = 0;
    inner
        .split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|branch| !branch.is_empty())
        .flat_map(branches)
        .map(|branch| format!("{head}{branch}"))
        .collect()
}

/// What stands behind `use`, whoever may see it.
fn use_tree(statement: &str) -> Option<&str> {
    let (before, tree) = statement.split_once("use ")?;
    let visible = before.starts_with("pub(") && before.ends_with(") ");
    (before.is_empty() || before == "pub " || visible).then_some(tree)
}

/// A file's numbered lines, without the items that are there for tests only.
fn lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_test = false;
    (1..).zip(source.lines()).filter(move |(_, line)| {
        in_test |= line.starts_with("#[cfg(test)]");
        let kept = !in_test;
        if !line.starts_with(' ') && line.ends_with([';', '}']) {
            in_test = false;
        }
        kept
    })
}

/// Path and text of every file.
fn sources() -> Vec<(String, String)> {
    let paths = files(Path::new("src"));
    let read = |path: PathBuf| {
        let source = fs::read_to_string(&path).unwrap();
        (path.to_str().unwrap().to_owned(), source)
    };
    paths.into_iter().map(read).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
