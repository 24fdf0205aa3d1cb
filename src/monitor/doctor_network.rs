//! Who manages the interface that the root's server is reached by, and whether he leaves
//! it alone: a root is lost with its address. Only files are looked at, below a folder
//! that tests choose.

use std::fs;
use std::path::{Path, PathBuf};

use nix::net::if_::if_nametoindex;

use super::doctor::{Finding, Severity};
use super::networkd::{self, Interface, NetworkFile};
use super::runtime::Runtime;
use crate::config::Name;
use crate::kernel;
use crate::session::{Address, Source};

/// The file that the generator puts beside the units of ifupdown.
const KEPT_UP: &str = "50-nbdctl-root.conf";

/// Before the name of an interface whose address was DHCP's for a time. (No NAME of an export
/// begins with a dot.)
const DHCP_MARK: &str = ".dhcp-";

/// For each export that is the root.
pub(super) fn examine() -> Vec<Finding> {
    let base = Path::new("/");
    let examined = roots().into_iter().map(|(source, name)| {
        let interface = source.interface;
        let subject = format!("{interface} of the root \"{name}\"");
        keeper(base, &interface, subject)
    });
    examined.collect()
}

/// Makes the addresses that the root's servers are reached from stay: those who manage
/// networks are about to begin.
///
/// # Errors
///
/// What was not done; the rest was.
pub fn keep_network() -> Result<(), Vec<String>> {
    let base = Path::new("/");
    let (mut interfaces, mut failed) = (Vec::new(), Vec::new());
    for (source, _) in roots() {
        if let Err(why) = outlives_its_lease(&source) {
            failed.push(format!("the address of {}: {why}", source.interface));
        }
        interfaces.push(Interface::new(base, &source.interface));
    }
    if let Err(error) = networkd::keep(base, &interfaces) {
        failed.push(format!("/run/systemd/network: {error}"));
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed)
    }
}

/// Who renews the lease gives it a time again, and where nobody does, it is not to run out.
/// It does not look like DHCP's any more, which an initramfs for this machine has to know.
fn outlives_its_lease(source: &Source) -> Result<(), String> {
    let index = if_nametoindex(source.interface.as_str()).map_err(|it| it.desc().to_owned())?;
    if kernel::keep_own_address(index, &source.address).map_err(|it| it.to_string())? {
        let mark = format!("/run/nbdctl/{DHCP_MARK}{}", source.interface);
        fs::write(&mark, "").map_err(|error| format!("{mark}: {error}"))?;
    }
    Ok(())
}

/// From where an export is reached, and its name, for each that is the root.
fn roots() -> Vec<(Source, Name)> {
    let states = Runtime::all().into_iter().filter_map(|it| it.load());
    let roots = states.filter(|state| state.settings.root);
    roots
        .filter_map(|state| {
            let peer: Address = state.links.first()?.peer.parse().ok()?;
            Some((peer.source()?, state.settings.name))
        })
        .collect()
}

fn keeper(base: &Path, interface: &str, subject: String) -> Finding {
    if let Some(path) = managed_by(base, interface) {
        return networkd_finding(base, &path, subject);
    }
    let Some(method) = ifupdown(base, interface).filter(|method| method != "manual") else {
        return Finding::fine(subject, "nobody takes its address away");
    };
    if is_kept_up(base) {
        let found = format!("ifupdown (inet {method}) leaves it up at a shutdown");
        return Finding::fine(subject, found);
    }
    Finding::bad(
        Severity::Problem,
        subject,
        &format!("ifupdown takes it down at a shutdown (inet {method})"),
        &format!(
            "systemctl daemon-reload, and away with {KEPT_UP} in /etc/systemd/system; or, in \
             /etc/network/interfaces: iface {interface} inet manual, and no other stanza of it: \
             what the initramfs set up stays"
        ),
    )
}

fn networkd_finding(base: &Path, path: &Path, subject: String) -> Finding {
    let shown = path.display();
    let file = NetworkFile::at(base, path);
    if file.as_ref().is_some_and(NetworkFile::keeps) {
        let found = format!("systemd-networkd leaves it as it is ({shown})");
        return Finding::fine(subject, found);
    }
    let remedy = match file {
        Some(file) if file.says(networkd::KEEP) => format!(
            "write the lines [Network] and KeepConfiguration=yes to \
             /etc/systemd/network/{}.d/nbdctl.conf, then networkctl reload",
            file.name
        ),
        _ => "systemctl daemon-reload, then systemctl restart systemd-networkd: it is told to \
              leave it when it begins"
            .to_owned(),
    };
    let found = format!("systemd-networkd may take its address away ({shown})");
    Finding::bad(Severity::Problem, subject, &found, &remedy)
}

/// The .network file by which systemd-networkd manages it. One that ran in the initramfs only
/// leaves its files, too.
fn managed_by(base: &Path, interface: &str) -> Option<PathBuf> {
    // Of units that are active; it leads nowhere.
    const RUNS: &str = "run/systemd/units/invocation:systemd-networkd.service";
    fs::symlink_metadata(base.join(RUNS)).ok()?;
    let read = |path: String| fs::read_to_string(base.join(path)).ok();
    let index = read(format!("sys/class/net/{interface}/ifindex"))?;
    let state = read(format!("run/systemd/netif/links/{}", index.trim()))?;
    let file = state
        .lines()
        .find_map(|line| line.strip_prefix("NETWORK_FILE="))?;
    Some(PathBuf::from(file))
}

/// The method of its stanza, where it has one that is acted on.
fn ifupdown(base: &Path, interface: &str) -> Option<String> {
    // The package may be gone and its file left.
    if !base.join("sbin/ifup").exists() {
        return None;
    }
    let more = fs::read_dir(base.join("etc/network/interfaces.d"));
    let more = more.into_iter().flatten().flatten().map(|it| it.path());
    std::iter::once(base.join("etc/network/interfaces"))
        .chain(more)
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|text| method(&text, interface))
}

fn method(text: &str, interface: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.next() == Some("iface") && words.next() == Some(interface);
        let method = words.nth(1)?;
        is_it.then(|| method.to_owned())
    })
}

/// Whether systemd is told not to have ifdown run, and nobody prevails who says otherwise.
fn is_kept_up(base: &Path) -> bool {
    ["networking.service", "ifup@.service"].iter().all(|unit| {
        let is_in = |folder| base.join(format!("{folder}/{unit}.d/{KEPT_UP}")).exists();
        is_in("run/systemd/generator") && !is_in("etc/systemd/system")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::networkd::tests::tree;

    fn severity(files: &[(&str, &str)]) -> Severity {
        let base = tree(files);
        keeper(base.path(), "eth0", "eth0".to_owned()).severity
    }

    const RUNS: (&str, &str) = ("run/systemd/units/invocation:systemd-networkd.service", "");
    const INDEX: (&str, &str) = ("sys/class/net/eth0/ifindex", "2\n");
    const LINK: (&str, &str) = (
        "run/systemd/netif/links/2",
        "OPER_STATE=routable\nNETWORK_FILE=/etc/systemd/network/eth.network\n",
    );
    const FILE: &str = "etc/systemd/network/eth.network";

    #[test]
    fn networkd_is_to_keep_what_it_finds() {
        let plain = (FILE, "[Network]\nDHCP=yes\n");
        assert_eq!(severity(&[RUNS, INDEX, LINK, plain]), Severity::Problem);
        assert_eq!(severity(&[INDEX, LINK, plain]), Severity::Fine, "it did");
        for (word, expected) in [
            ("yes", Severity::Fine),
            ("dhcp-on-stop", Severity::Problem),
            ("no", Severity::Problem),
        ] {
            let text = format!("[Network]\nKeepConfiguration={word}\n");
            assert_eq!(
                severity(&[RUNS, INDEX, LINK, (FILE, &text)]),
                expected,
                "{word}"
            );
        }
        let dropped = (
            "etc/systemd/network/eth.network.d/nbdctl.conf",
            "[Network]\nKeepConfiguration=yes\n",
        );
        assert_eq!(
            severity(&[RUNS, INDEX, LINK, plain, dropped]),
            Severity::Fine
        );
        let other = (
            "run/systemd/network/eth.network.d/zz.conf",
            "[Network]\nKeepConfiguration=no\n",
        );
        let all = [RUNS, INDEX, LINK, plain, dropped, other];
        assert_eq!(severity(&all), Severity::Problem, "the last counts");
    }

    #[test]
    fn ifupdown_is_to_leave_it_alone() {
        let ifup = ("sbin/ifup", "");
        let interfaces = |text| ("etc/network/interfaces", text);
        let dhcp = interfaces("auto eth0\niface eth0 inet dhcp\n");
        assert_eq!(severity(&[ifup, dhcp]), Severity::Problem);
        let [networking, hotplug, ours] = [
            "run/systemd/generator/networking.service.d/50-nbdctl-root.conf",
            "run/systemd/generator/ifup@.service.d/50-nbdctl-root.conf",
            "etc/systemd/system/networking.service.d/50-nbdctl-root.conf",
        ]
        .map(|path| (path, ""));
        assert_eq!(severity(&[ifup, dhcp, networking, hotplug]), Severity::Fine);
        assert_eq!(severity(&[ifup, dhcp, networking]), Severity::Problem);
        let prevails = [ifup, dhcp, networking, hotplug, ours];
        assert_eq!(severity(&prevails), Severity::Problem);
        let beside = ("etc/network/interfaces.d/eth0", "iface eth0 inet dhcp\n");
        assert_eq!(severity(&[ifup, beside]), Severity::Problem);
        assert_eq!(severity(&[dhcp]), Severity::Fine, "it is not installed");
        let manual = interfaces("iface eth0 inet manual\niface eth1 inet dhcp\n");
        assert_eq!(severity(&[ifup, manual]), Severity::Fine);
        assert_eq!(severity(&[ifup, interfaces("")]), Severity::Fine);
    }

    #[test]
    fn loopback_is_reached_by_its_own_interface() {
        let address: Address = "127.0.0.1:10809".parse().unwrap();
        let source = address.source().unwrap();
        assert_eq!(source.interface, "lo");
        assert_eq!((source.address, source.prefix), (vec![127, 0, 0, 1], 8));
    }
}
