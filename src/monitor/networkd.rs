//! The .network files of systemd-networkd: which of them may be an interface's, what they
//! say of leaving it alone, and a file beside each that says so where it does not say
//! anything. Only files are looked at, below a folder that tests choose; what a connection
//! is it does not know.
//!
//! systemd-networkd takes away what it did not set up itself when it begins, what it got by
//! DHCP when it ends, and both when the carrier is lost. It spares a root on NFS by itself,
//! and knows nothing of one on a block device.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::net::if_::if_nametoindex;

/// Where they are; of two with one name the later counts (systemd.network(5)).
const FOLDERS: [&str; 4] = [
    "usr/lib/systemd/network",
    "usr/local/lib/systemd/network",
    "run/systemd/network",
    "etc/systemd/network",
];

/// Ours. Whatever else is beside the same file comes after it.
const OURS: &str = "10-nbdctl-root.conf";

pub(super) const KEEP: &str = "KeepConfiguration";
/// The second is what the first is where it is not said.
const CARRIER: [&str; 2] = ["IgnoreCarrierLoss", "ConfigureWithoutCarrier"];

/// A file, and what is beside it.
pub(super) struct NetworkFile {
    /// `eth.network`
    pub(super) name: String,
    text: String,
    /// Whose names are in order, which is that in which they count.
    beside: BTreeMap<String, String>,
}

impl NetworkFile {
    /// That of a path that systemd-networkd names.
    pub(super) fn at(base: &Path, path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_owned();
        let text = fs::read_to_string(base.join(path.strip_prefix("/").unwrap_or(path))).ok()?;
        let folder = format!("{name}.d");
        let beside = in_folders(base, &folder, "conf").into_iter();
        let beside = beside.filter_map(|(name, path)| Some((name, fs::read_to_string(path).ok()?)));
        Some(Self {
            name,
            text,
            beside: beside.collect(),
        })
    }

    /// Whether it leaves an interface what somebody else gave it, to the end and beyond.
    pub(super) fn keeps(&self) -> bool {
        let said = self
            .texts()
            .filter_map(|text| value(text, KEEP))
            .next_back();
        said.is_some_and(|value| ["yes", "true", "on", "1"].contains(&value))
    }

    fn texts(&self) -> impl DoubleEndedIterator<Item = &str> {
        let beside = self.beside.values().map(String::as_str);
        std::iter::once(self.text.as_str()).chain(beside)
    }

    /// Whether somebody else than we wrote anything of it.
    pub(super) fn says(&self, key: &str) -> bool {
        let others = self.beside.iter().filter(|(name, _)| *name != OURS);
        std::iter::once(&self.text)
            .chain(others.map(|(_, text)| text))
            .any(|text| value(text, key).is_some())
    }

    /// Whether its [Match] leaves room for it: more is systemd-networkd's to know.
    fn may_be_of(&self, interface: &Interface) -> bool {
        let all: Vec<_> = self.texts().collect();
        let is_asked = |key| !assigned(&all, key).is_empty();
        let names = assigned(&all, "Name");
        let addresses = assigned(&all, "MACAddress");
        let is_another_kind = interface.is_hardware && is_asked("Kind")
            || interface.is_wired && is_asked("WLANInterfaceType");
        let is_called = names.is_empty() || names.iter().any(|name| interface.may_be_called(name));
        let is_at = addresses.is_empty() || addresses.iter().any(|it| interface.has_address(it));
        !is_another_kind && is_called && is_at
    }

    /// What is to be beside it; nothing where all is said.
    fn wanted(&self) -> Option<String> {
        let mut lines = Vec::new();
        if !self.says(KEEP) {
            lines.push(format!("{KEEP}=yes\n"));
        }
        if !CARRIER.iter().any(|key| self.says(key)) {
            lines.push(format!("{}=yes\n", CARRIER[0]));
        }
        let lines = lines.concat();
        (!lines.is_empty()).then(|| {
            format!(
                "# By nbdctl, as / is on an export. What other files say of these prevails.\n\
                 [Network]\n{lines}"
            )
        })
    }
}

/// What an interface is known by.
pub(super) struct Interface {
    name: String,
    address: Option<String>,
    /// Such a one has no kind.
    is_hardware: bool,
    is_wired: bool,
}

impl Interface {
    pub(super) fn new(base: &Path, name: &str) -> Self {
        let folder = base.join("sys/class/net").join(name);
        let address = fs::read_to_string(folder.join("address"));
        Self {
            name: name.to_owned(),
            address: address.ok().map(|text| text.trim().to_owned()),
            is_hardware: folder.join("device").exists(),
            is_wired: !folder.join("phy80211").exists(),
        }
    }

    /// By this name or pattern. A pattern may be about one of its other names.
    fn may_be_called(&self, name: &str) -> bool {
        let index = |name: &str| if_nametoindex(name).ok();
        name == self.name
            || name.contains(['*', '?', '[', '!'])
            || index(name).is_some_and(|it| Some(it) == index(&self.name))
    }

    fn has_address(&self, address: &str) -> bool {
        let plain = |text: &str| text.replace(['-', '.'], ":").to_lowercase();
        self.address
            .as_deref()
            .is_none_or(|ours| plain(ours) == plain(address))
    }
}

/// Has each file that may be one of these interfaces' leave it alone; every file where none
/// is known.
pub(super) fn keep(base: &Path, interfaces: &[Interface]) -> io::Result<()> {
    for (name, path) in in_folders(base, "", "network") {
        let inside = Path::new("/").join(path.strip_prefix(base).unwrap_or(&path));
        let Some(file) = NetworkFile::at(base, &inside) else {
            continue;
        };
        let folder = base.join(format!("run/systemd/network/{name}.d"));
        let is_it = interfaces.is_empty() || interfaces.iter().any(|it| file.may_be_of(it));
        if let Some(text) = file.wanted().filter(|_| is_it) {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(OURS), text)?;
        } else {
            let removed = fs::remove_file(folder.join(OURS));
            removed.or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
    }
    Ok(())
}

/// The files of a kind in a folder of each of [`FOLDERS`], by name.
fn in_folders(base: &Path, folder: &str, extension: &str) -> BTreeMap<String, PathBuf> {
    let folders = FOLDERS.iter().map(|it| base.join(it).join(folder));
    let entries = folders.filter_map(|it| fs::read_dir(it).ok()).flatten();
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)))
        .collect()
}

/// The last assignment's.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    assignments(text, key).next_back()
}

/// The words that are assigned, of which an empty assignment leaves none.
fn assigned<'a>(texts: &[&'a str], key: &str) -> Vec<&'a str> {
    let mut words = Vec::new();
    for value in texts.iter().flat_map(|text| assignments(text, key)) {
        if value.is_empty() {
            words.clear();
        }
        words.extend(value.split_whitespace());
    }
    words
}

fn assignments<'a>(text: &'a str, key: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (said, value) = line.split_once('=')?;
        (said.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A folder with these files, by their paths below it.
    pub(in crate::monitor) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let base = tempfile::TempDir::new().unwrap();
        for (path, text) in files {
            let path = base.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        base
    }

    /// What is beside `eth.network` of /etc once it was seen to.
    fn beside(files: &[(&str, &str)]) -> Option<String> {
        let base = tree(files);
        let lo = Interface::new(base.path(), "lo");
        keep(base.path(), &[lo]).unwrap();
        let ours = base
            .path()
            .join("run/systemd/network/eth.network.d")
            .join(OURS);
        let text = fs::read_to_string(ours).ok()?;
        Some(text.lines().skip(2).collect::<Vec<_>>().join(" "))
    }

    const BOTH: Option<&str> = Some("KeepConfiguration=yes IgnoreCarrierLoss=yes");

    #[test]
    fn what_nobody_says_is_said() {
        let eth = |text| [("etc/systemd/network/eth.network", text)];
        for (text, expected) in [
            ("[Network]\nDHCP=yes\n", BOTH),
            (
                "[Network]\nKeepConfiguration = no\n",
                Some("IgnoreCarrierLoss=yes"),
            ),
            (
                "[Network]\nIgnoreCarrierLoss=5s\n",
                Some("KeepConfiguration=yes"),
            ),
            (
                "[Network]\n#KeepConfiguration=no\nConfigureWithoutCarrier=no\n",
                Some("KeepConfiguration=yes"),
            ),
            (
                "[Network]\nKeepConfiguration=no\nIgnoreCarrierLoss=no\n",
                None,
            ),
        ] {
            assert_eq!(beside(&eth(text)).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn it_is_said_of_what_may_be_the_interfaces() {
        let address = ("sys/class/net/lo/address", "00:00:00:AA:00:0b\n");
        let hardware = ("sys/class/net/lo/device/vendor", "");
        for (matched, is_it) in [
            ("", true),
            ("Name=lo", true),
            ("Name=eth0 lo", true),
            ("Name=en*", true),
            ("Name=!eth0", true),
            ("Name=eth7", false),
            ("Name=eth7\nName=", true),
            ("MACAddress=00:00:00:aa:00:0b", true),
            ("MACAddress=00-00-00-00-00-01", false),
            ("Name=lo\nMACAddress=00:00:00:00:00:01", false),
            ("Name=ve-*\nKind=veth", false),
            ("Type=wlan\nWLANInterfaceType=ad-hoc", false),
        ] {
            let text = format!("[Match]\n{matched}\n[Network]\nDHCP=yes\n");
            let file = ("usr/lib/systemd/network/eth.network", text.as_str());
            assert_eq!(
                beside(&[address, hardware, file]).as_deref(),
                BOTH.filter(|_| is_it),
                "{matched}"
            );
        }
    }

    #[test]
    fn what_was_said_once_is_said_no_more_than_is_needed() {
        let eth = ("etc/systemd/network/eth.network", "[Network]\n");
        let ours = (
            "run/systemd/network/eth.network.d/10-nbdctl-root.conf",
            "[Network]\nKeepConfiguration=yes\nIgnoreCarrierLoss=yes\n",
        );
        assert_eq!(
            beside(&[eth, ours]).as_deref(),
            BOTH,
            "it does not count itself"
        );
        let theirs = (
            "etc/systemd/network/eth.network.d/my.conf",
            "[Network]\nKeepConfiguration=no\nIgnoreCarrierLoss=no\n",
        );
        assert_eq!(beside(&[eth, ours, theirs]), None);
    }
}
