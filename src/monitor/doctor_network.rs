//! Who manages the interface that the root's server is reached by, and whether he leaves
//! it alone: a root is lost with its address. Only files are looked at, below a folder
//! that tests choose.

use std::fs;
use std::path::{Path, PathBuf};

use super::doctor::{Finding, Severity};
use super::runtime::Runtime;
use crate::session::Address;

/// For each export that is the root.
pub(super) fn examine() -> Vec<Finding> {
    let states = Runtime::all().into_iter().filter_map(|it| it.load());
    let roots = states.filter(|state| state.settings.root);
    roots
        .filter_map(|state| {
            let peer: Address = state.links.first()?.peer.parse().ok()?;
            let interface = peer.interface()?;
            let subject = format!("{} of the root \"{}\"", interface, state.settings.name);
            Some(keeper(Path::new("/"), &interface, subject))
        })
        .collect()
}

fn keeper(base: &Path, interface: &str, subject: String) -> Finding {
    if let Some(file) = networkd(base, interface) {
        return if keeps_configuration(base, &file) {
            let file = file.display();
            Finding::fine(
                subject,
                format!("systemd-networkd leaves it as it is ({file})"),
            )
        } else {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            Finding::bad(
                Severity::Problem,
                subject,
                &format!(
                    "systemd-networkd may take its address away ({})",
                    file.display()
                ),
                &format!(
                    "write the lines [Network] and KeepConfiguration=yes to \
                     /etc/systemd/network/{name}.d/nbdctl.conf, then networkctl reload"
                ),
            )
        };
    }
    if let Some(method) = ifupdown(base, interface).filter(|method| method != "manual") {
        return Finding::bad(
            Severity::Problem,
            subject,
            &format!("ifupdown takes it down at a shutdown, or anew at boot (inet {method})"),
            &format!(
                "in /etc/network/interfaces: iface {interface} inet manual, and no other stanza \
                 of it: what the initramfs set up stays"
            ),
        );
    }
    Finding::fine(subject, "nobody takes its address away")
}

/// The .network file by which systemd-networkd manages it.
fn networkd(base: &Path, interface: &str) -> Option<PathBuf> {
    let read = |path: String| fs::read_to_string(base.join(path)).ok();
    let index = read(format!("sys/class/net/{interface}/ifindex"))?;
    let state = read(format!("run/systemd/netif/links/{}", index.trim()))?;
    let file = state
        .lines()
        .find_map(|line| line.strip_prefix("NETWORK_FILE="))?;
    Some(PathBuf::from(file))
}

/// Whether the file, or what is dropped beside it, says so. Of several the last counts
/// (systemd.network(5)).
fn keeps_configuration(base: &Path, file: &Path) -> bool {
    let below = |path: &Path| base.join(path.strip_prefix("/").unwrap_or(path));
    let mut dropped = Vec::new();
    if let Some(name) = file.file_name().and_then(|name| name.to_str()) {
        for folder in ["usr/lib", "run", "etc"] {
            let folder = base.join(format!("{folder}/systemd/network/{name}.d"));
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            dropped.extend(entries.map(|entry| entry.path()));
        }
    }
    dropped.retain(|path| path.extension().is_some_and(|it| it == "conf"));
    dropped.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    let all = std::iter::once(below(file)).chain(dropped);
    let texts = all.filter_map(|path| fs::read_to_string(path).ok());
    let mut said = texts.filter_map(|text| {
        let mut lines = text.lines().rev();
        lines.find_map(|line| Some(line.trim().strip_prefix("KeepConfiguration=")?.to_owned()))
    });
    said.next_back()
        .is_some_and(|value| ["yes", "true", "on", "1"].contains(&value.trim()))
}

/// The method of its stanza, where it has one that is acted on.
fn ifupdown(base: &Path, interface: &str) -> Option<String> {
    // The package may be gone and its file left.
    if !base.join("sbin/ifup").exists() {
        return None;
    }
    let text = fs::read_to_string(base.join("etc/network/interfaces")).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.next() == Some("iface") && words.next() == Some(interface);
        let method = words.nth(1)?;
        is_it.then(|| method.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let base = tempfile::TempDir::new().unwrap();
        for (path, text) in files {
            let path = base.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        base
    }

    fn severity(files: &[(&str, &str)]) -> Severity {
        let base = tree(files);
        keeper(base.path(), "eth0", "eth0".to_owned()).severity
    }

    const INDEX: (&str, &str) = ("sys/class/net/eth0/ifindex", "2\n");
    const LINK: (&str, &str) = (
        "run/systemd/netif/links/2",
        "OPER_STATE=routable\nNETWORK_FILE=/etc/systemd/network/eth.network\n",
    );
    const FILE: &str = "etc/systemd/network/eth.network";

    #[test]
    fn networkd_is_to_keep_what_it_finds() {
        let plain = (FILE, "[Network]\nDHCP=yes\n");
        assert_eq!(severity(&[INDEX, LINK, plain]), Severity::Problem);
        for (word, expected) in [
            ("yes", Severity::Fine),
            ("dhcp-on-stop", Severity::Problem),
            ("no", Severity::Problem),
        ] {
            let text = format!("[Network]\nKeepConfiguration={word}\n");
            assert_eq!(severity(&[INDEX, LINK, (FILE, &text)]), expected, "{word}");
        }
        let dropped = (
            "etc/systemd/network/eth.network.d/nbdctl.conf",
            "[Network]\nKeepConfiguration=yes\n",
        );
        assert_eq!(severity(&[INDEX, LINK, plain, dropped]), Severity::Fine);
        let other = (
            "run/systemd/network/eth.network.d/zz.conf",
            "[Network]\nKeepConfiguration=no\n",
        );
        let all = [INDEX, LINK, plain, dropped, other];
        assert_eq!(severity(&all), Severity::Problem, "the last counts");
    }

    #[test]
    fn ifupdown_is_to_leave_it_alone() {
        let ifup = ("sbin/ifup", "");
        let interfaces = |text| ("etc/network/interfaces", text);
        let dhcp = interfaces("auto eth0\niface eth0 inet dhcp\n");
        assert_eq!(severity(&[ifup, dhcp]), Severity::Problem);
        assert_eq!(severity(&[dhcp]), Severity::Fine, "it is not installed");
        let manual = interfaces("iface eth0 inet manual\niface eth1 inet dhcp\n");
        assert_eq!(severity(&[ifup, manual]), Severity::Fine);
        assert_eq!(severity(&[ifup, interfaces("")]), Severity::Fine);
    }

    #[test]
    fn loopback_is_reached_by_its_own_interface() {
        let address: Address = "127.0.0.1:10809".parse().unwrap();
        assert_eq!(address.interface().as_deref(), Some("lo"));
    }
}
