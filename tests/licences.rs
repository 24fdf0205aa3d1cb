//! Every dependency's licence is one that `deny.toml` allows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "it is all tests")]

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_licence_is_allowed() {
    let allowed = allowed();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 20);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(
            satisfied(licence, &allowed),
            "{}: {licence}",
            package["name"]
        );
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT".to_owned(), "Unicode-3.0".to_owned()];
    assert!(satisfied("MIT OR GPL-3.0", &allowed));
    assert!(satisfied("(MIT OR Apache-2.0) AND Unicode-3.0", &allowed));
    assert!(!satisfied("MIT AND GPL-3.0", &allowed));
    assert!(!satisfied("none", &allowed));
}

/// Of each part that AND joins, one alternative must be allowed.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    expression.split(" AND ").all(|part| {
        part.trim_matches(['(', ')'])
            .split(" OR ")
            .flat_map(|alternative| alternative.split('/'))
            .any(|licence| allowed.iter().any(|name| name == licence.trim()))
    })
}

/// The list `licenses.allow` of deny.toml.
fn allowed() -> Vec<String> {
    let text = fs::read_to_string("deny.toml").unwrap();
    let list = text.split_once("allow = [").unwrap().1;
    let list = list.split_once(']').unwrap().0;
    list.lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once('"'))
        .map(|(name, _)| name.to_owned())
        .collect()
}
