//! udev's rules, as they stand in the files. That they do what they should, on a real
//! device, `kernel/names.rs` shows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "it is all tests")]

use std::fs;
use std::path::PathBuf;

/// What may stand for something in what is run: the kernel's names, and a volume
/// group's, whose letters LVM limits.
const HARMLESS: &[&str] = &["%k", "$env{DEVNAME}", "$env{LVM_VG_NAME_COMPLETE}"];

fn rules() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir("udev")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let rules = entries.filter(|path| path.extension().is_some_and(|is| is == "rules"));
    let all: Vec<_> = rules
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    assert_eq!(all.len(), 3, "{all:?}");
    all
}

/// The lines that say something, continued ones joined.
fn lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_rule_writes_to_a_device() {
    for (path, text) in rules() {
        for line in lines(&text) {
            for key in ["ATTR{", "SYSCTL{"] {
                for (at, _) in line.match_indices(key) {
                    let rest = line.get(at..).unwrap();
                    let operator = rest.split_once('}').unwrap().1;
                    assert!(
                        operator.starts_with("==") || operator.starts_with("!="),
                        "{}: {line}",
                        path.display()
                    );
                }
            }
            assert!(!line.contains("queue/"), "{}: {line}", path.display());
        }
    }
}

/// Of what a device says of itself, nothing is put into a command or a name.
#[test]
fn only_what_was_looked_at_gets_into_a_command_or_a_name() {
    for (path, text) in rules() {
        for line in lines(&text) {
            let said = format!("{}: {line}", path.display());
            assert!(!line.contains("$attr") && !line.contains("%s{"), "{said}");
            assert!(
                !line.contains("PROGRAM") && !line.contains("/bin/sh"),
                "{said}"
            );
            let runs = line.contains("RUN") || line.contains("IMPORT{program}");
            let mut rest = line.clone();
            let made_by_us = ["$env{NBDCTL_BY_ID}", "$env{NBDCTL_BY_PATH}"];
            for known in if runs { HARMLESS } else { &made_by_us } {
                rest = rest.replace(known, "");
            }
            assert!(!rest.contains(['$', '%']), "{said}");
        }
    }
}

/// Every jump has its end, behind it.
#[test]
fn every_goto_has_its_label() {
    for (path, text) in rules() {
        let lines = lines(&text);
        let label = lines
            .last()
            .unwrap()
            .strip_prefix("LABEL=")
            .unwrap()
            .to_owned();
        for line in &lines {
            if let Some((_, to)) = line.split_once("GOTO=") {
                assert_eq!(to, label, "{}: {line}", path.display());
            }
        }
    }
}

#[test]
fn the_module_is_loaded_with_the_partitions_that_have_names() {
    let conf = fs::read_to_string("udev/modprobe.conf").unwrap();
    let options = format!("options nbd max_part={}", nbdctl::boot::PARTITIONS);
    assert_eq!(lines(&conf), [options]);
    let load = fs::read_to_string("udev/modules-load.conf").unwrap();
    assert_eq!(lines(&load), ["nbd"]);
}
