//! Holds the code to the import law that stands in `src/lib.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "it is all tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of the crate each module may name.
const LAW: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("uri", &[]),
    ("config", &["uri"]),
    ("session", &["proto", "uri"]),
    ("kernel", &["proto"]),
    ("monitor", &["kernel", "session", "config"]),
    (
        "cli",
        &["monitor", "kernel", "session", "config", "uri", "proto"],
    ),
];

/// Crates, and parts of std, that only some modules may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("neli", &["kernel"]),
    ("clap", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("tracing_subscriber", &["cli"]),
    ("std::net", &["session"]),
    ("std::os::unix::net", &["session"]),
    ("std::time", &["session", "kernel", "monitor", "config"]),
    ("Instant::now", &["session", "kernel", "monitor"]),
    ("println!", &[]),
    ("eprintln!", &[]),
    ("unsafe {", &["kernel"]),
];

#[test]
fn imports_go_one_way() {
    let mut broken = Vec::new();
    for (module, source) in sources() {
        let allowed = LAW
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} is a new module: give it a line in LAW"))
            .1;
        for (number, line) in code(&source) {
            for (other, _) in LAW {
                let named = line.contains(&format!("crate::{other}"))
                    || (line.contains("crate::{") && line.contains(other));
                if named && *other != module && !allowed.contains(other) {
                    broken.push(format!("{module} names {other}, line {number}: {line}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn some_things_stay_where_they_belong() {
    let mut broken = Vec::new();
    for (module, source) in sources() {
        for (number, line) in code(&source) {
            for (what, modules) in RESERVED {
                if line.contains(what) && !modules.contains(&module.as_str()) {
                    broken.push(format!("{module} uses {what}, line {number}: {line}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in files(Path::new("src")) {
        let source = fs::read_to_string(&path).unwrap();
        assert!(
            source.starts_with("//! "),
            "{} has no module doc",
            path.display()
        );
    }
}

/// The law itself must be able to fail.
#[test]
fn a_breach_is_seen() {
    let source = "//! x\nuse crate::session::Session;\n#[cfg(test)]\nuse crate::kernel;\n";
    let lines: Vec<_> = code(source).collect();
    assert_eq!(lines, [(2, "use crate::session::Session;")]);
}

/// Lines of code up to a file's tests, without comments.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(source.lines())
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Module and text of every file but the two roots.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for path in files(Path::new("src")) {
        let inner = path.strip_prefix("src").unwrap();
        let first = inner.components().next().unwrap().as_os_str();
        let module = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module != "lib" && module != "main" {
            sources.push((module, fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(sources.len() > 10, "found {} files only", sources.len());
    sources
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
