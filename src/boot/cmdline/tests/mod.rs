//! Every form, and what is made of it.

#![allow(clippy::indexing_slicing, reason = "it is all tests")]

mod dhcps;
mod dracuts;
mod others;
mod wrong;

use super::*;
use crate::config::to_toml;

/// What a plan is, in few words: for each export its name, device and URI, then what of
/// its settings is not as by default, and the root.
fn told(line: &str, dhcp: Option<&Dhcp>) -> String {
    let plan = read(line, dhcp);
    assert_eq!(plan.problems, Vec::<String>::new(), "{line}");
    let mut all = Vec::new();
    for one in &plan.exports {
        let settings = &one.settings;
        assert!(settings.root && settings.device.is_some(), "{line}");
        let toml = to_toml(settings);
        let others = toml.lines().filter(|line| {
            !["uri =", "device =", "root ="]
                .iter()
                .any(|key| line.starts_with(key))
        });
        let others: String = others
            .map(|line| format!(" {}", line.replace(" = ", "=")))
            .collect();
        let index = settings.device.unwrap();
        all.push(format!("nbd{index} {}{others}", settings.uri));
    }
    if plan.awaits_dhcp {
        all.push("awaits DHCP".to_owned());
    }
    if let Some(root) = plan.root {
        let mount = [plan.mount.fs_type, plan.mount.options];
        let mount: String = mount
            .into_iter()
            .flatten()
            .map(|x| format!(" {x}"))
            .collect();
        all.push(format!("root {root}{mount}"));
    }
    all.join("; ")
}

fn problem(line: &str) -> String {
    let plan = read(line, None);
    assert_eq!(plan.problems.len(), 1, "{line}: {:?}", plan.problems);
    assert_eq!(plan.exports.len(), 0, "{line}");
    plan.problems[0].clone()
}

fn dhcp(root_path: &str, server: &str) -> Dhcp {
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Dhcp {
        root_path: filled(root_path),
        server: filled(server),
    }
}

#[test]
fn a_network_is_asked_for_where_it_is_needed() {
    for (line, needs) in [
        ("root=/dev/sda1", false),
        ("nbdctl=nbd+unix:///x?socket=/s", false),
        ("nbdctl=nbd://h/x", true),
        ("netroot=dhcp", true),
    ] {
        assert_eq!(read(line, None).needs_network(), needs, "{line}");
    }
}

/// What is written is read as what it was.
#[test]
fn the_file_has_all_that_was_said() {
    let line = "rd.nbdctl=nbd://h/x,dead_timeout=9,device_timeout=infinity,nofail,ro,name=disk";
    let plan = read(line, None);
    assert_eq!(
        plan.exports[0].to_toml(),
        format!(
            "# From {line}\nuri = \"nbd://h/x\"\ndevice = \"/dev/nbd0\"\nread_only = true\n\
             dead_timeout = 9\nroot = true\ndevice_timeout = \"infinity\"\nnofail = true\n"
        )
    );
    let folder = tempfile::tempdir().unwrap();
    let places = crate::config::Places::below(folder.path());
    std::fs::create_dir_all(&places.run).unwrap();
    std::fs::write(places.run.join("disk.toml"), plan.exports[0].to_toml()).unwrap();
    let export = crate::config::find(&places, &plan.exports[0].settings.name)
        .unwrap()
        .unwrap();
    assert_eq!(
        (export.settings, export.boot),
        (plan.exports[0].settings.clone(), plan.exports[0].boot)
    );
}

mod any {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_line_makes_it_panic(
            line in "((root|netroot|nbdroot|nbddev|rd.nbdctl|nbdctl)=(nbd:|nbd://)?[\\[\\]a-z0-9:/,=.% \"-]{0,30} ?){0,4}|\\PC{0,60}",
            path in "(nbd:|nbd://)?[\\[\\]a-z0-9:/,=.%-]{0,20}",
        ) {
            let plan = read(&line, Some(&Dhcp { root_path: Some(path), server: None }));
            let mut devices: Vec<_> = plan.exports.iter().map(|one| one.settings.device).collect();
            devices.sort();
            devices.dedup();
            prop_assert_eq!(devices.len(), plan.exports.len());
            for text in plan.problems.iter().chain(&plan.warnings) {
                prop_assert!(text.chars().all(|c| !c.is_control()), "{}", text);
            }
        }
    }
}
