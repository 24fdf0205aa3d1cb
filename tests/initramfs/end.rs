//! What the hooks do in the initramfs that a machine ends in, as dracut calls them there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::text;

/// Sources the hook that detaches, with an nbdctl that ends so: whether it is done with,
/// and what it tells.
fn detaching(status: u8, last: bool) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("nbdctl");
    let script = format!("#!/bin/sh\necho \"told $*\"\nexit {status}\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let hook = fs::read_to_string("initramfs/dracut/95nbdctl/nbdctl-detach.sh").unwrap();
    let hook = hook.replace("/usr/sbin/nbdctl", &program.display().to_string());
    fs::write(folder.path().join("hook.sh"), hook).unwrap();
    let caller = format!(
        "info() {{ echo \"$*\"; }}; final={}; . ./hook.sh $final",
        if last { "final" } else { "" }
    );
    let output = Command::new("dash")
        .args(["-c", &caller])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(text(&output.stderr), "");
    (output.status.success(), text(&output.stdout))
}

#[test]
fn devices_in_use_are_detached_later() {
    let told = "nbdctl detach: told detach --all\n".to_owned();
    assert_eq!(detaching(0, false), (true, told.clone()));
    // In use: without a word, until there is no other time.
    assert_eq!(detaching(5, false), (false, String::new()));
    assert_eq!(detaching(5, true), (false, told.clone()));
    // What else fails, fails again.
    assert_eq!(detaching(6, false), (true, told));
}
