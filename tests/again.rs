//! `tests/again` tries again what failed, and nothing else: a second run that passes
//! because it ran too little would hide everything.

#![allow(clippy::unwrap_used, reason = "it is all tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// As `cargo test --no-fail-fast` says it.
const TWO_FAILED: &str = "
     Running unittests src/lib.rs (target/debug/deps/nbdctl-1)
test relay::passes ... ok
test relay::fails ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s
error: test failed, to rerun pass `--lib`
     Running tests/kernel/main.rs (target/debug/deps/kernel-1)
test outages::slow::linux_6_1 ... FAILED
test outages::slow::linux_6_12 ... ok
test result: FAILED. 1 passed; 1 failed; 7 ignored; 0 measured; 0 filtered out; finished in 9s
error: test failed, to rerun pass `--test kernel`
     Running tests/law.rs (target/debug/deps/law-1)
test law ... ok
error: 2 targets failed:
    `--lib`
    `--test kernel`
";

/// Whether it succeeds, and what it told a cargo to do that fails with what is called
/// `stubborn`.
fn again(log: &str) -> (bool, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("log"), log).unwrap();
    let script = "#!/bin/sh
        echo \"$@\" >>$0.told
        case $* in
            *stubborn*) echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored;'; exit 101 ;;
            *elsewhere*) echo 'test result: ok. 0 passed; 0 failed; 0 ignored;' ;;
            *) echo 'test result: ok. 1 passed; 0 failed; 0 ignored;' ;;
        esac
        ";
    fs::write(path("cargo"), script).unwrap();
    fs::set_permissions(path("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("tests/again")
        .arg(path("log"))
        .env("CARGO", path("cargo"))
        .output()
        .unwrap();
    let told = fs::read_to_string(path("cargo.told")).unwrap_or_default();
    let told = told.lines().map(str::to_owned).collect();
    (output.status.success(), told)
}

#[test]
fn what_failed_is_tried_again_alone() {
    let all = [
        "test --locked --lib -- --exact relay::fails",
        "test --locked --test kernel -- --exact outages::slow::linux_6_1",
    ];
    assert_eq!(again(TWO_FAILED), (true, all.map(str::to_owned).to_vec()));
}

#[test]
fn what_fails_twice_fails() {
    let (passed, told) = again(&TWO_FAILED.replace("relay::fails", "relay::stubborn"));
    assert!(!passed);
    assert_eq!(told.len(), 2, "{told:?}");
    // Nor does what runs nothing pass.
    assert!(!again(&TWO_FAILED.replace("relay::fails", "relay::elsewhere")).0);
}

#[test]
fn what_is_no_failed_test_is_not_tried_again() {
    let crash = "Caused by:\n  process didn't exit successfully: `kernel-1` (signal: 6)\n";
    let many: String = (0..7).map(|n| format!("test n{n} ... FAILED\n")).collect();
    for log in [
        String::new(),
        "error: could not compile `nbdctl`\n".to_owned(),
        format!("{TWO_FAILED}    `--doc`\n"),
        TWO_FAILED.replace("test relay::fails ... FAILED\n", ""),
        TWO_FAILED.replace(
            "     Running tests/law",
            &format!("{crash}     Running tests/law"),
        ),
        TWO_FAILED.replace("test relay::fails ... FAILED\n", &many),
        // A line is hidden behind what a child wrote.
        TWO_FAILED.replace("1 failed; 0", "2 failed; 0").replace(
            "test relay::passes ... ok",
            "a child's words test relay::other ... FAILED",
        ),
    ] {
        assert_eq!(again(&log), (false, Vec::new()), "{log}");
    }
}
