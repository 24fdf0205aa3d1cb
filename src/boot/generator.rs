//! From the configuration to what systemd is told of it. A pure function: what it
//! returns is written by `write`, and held by the trees in tests/generator.
//!
//! - An export that is not `noauto` is wanted by `remote-nbd.target`, which the boot
//!   wants, and by the unit of each name that its device and its partitions will
//!   have. So a line of fstab or crypttab that names one of those starts it.
//!   *Wanted*, not required: whoever requires it is stopped when it is restarted, and
//!   a monitor is restarted under mounts.
//! - The unit is never ordered before a device's: systemd ignores that. Nor is the
//!   device ordered behind the unit: with a mount that lacks `_netdev` that were a
//!   loop, and systemd would break it by leaving out whatever it likes.
//! - The export that `/` is on is up already. Its unit takes its monitor over, where that
//!   is not it already, and stays to the very end; it is early and waits for nothing. So
//!   does the network that it is reached by: whoever manages that is told so.
//! - A swap on such a device is not waited for by swap.target, for that comes before
//!   sysinit.target, and the network after: fstab's `_netdev` does not change that.

use std::path::Path;

use super::names::{PARTITIONS, StableNames};
use crate::config::{Configuration, Export, Kind, device_unit, escape_path, unit_name};

/// Something to be made in the generator's folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    /// Where, from that folder.
    pub path: String,
    /// What.
    pub content: Content,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A file.
    Text(String),
    /// A symbolic link to this.
    Link(String),
}

/// Names of files that the fstab generator, which writes to the same folder, does not
/// use. Its time-outs, which are in 50-device-timeout.conf, come later and prevail.
fn drop_in_name(export: &Export) -> String {
    format!("40-nbdctl-{}.conf", export.settings.name)
}

/// A `connect_timeout` that the template's own TimeoutStartSec leaves room for: it
/// counts for the session, and again until the device can be read.
const SHORT_CONNECT: u64 = 30;

/// The longest name of a file; what is longer no unit file can have.
const LONGEST: usize = 255;

/// The order of an export that `/` is on. The file beside the template that has this name
/// is not taken for it.
const ORDER: &str = "10-order.conf";
const ROOT_ORDER: &str = include_str!("../../systemd/root-order.conf");

/// Those who manage networks would take the root's away with its last writes still to come.
/// (NetworkManager leaves it up by itself.)
const KEEP_NETWORK: &str = "50-nbdctl-root.conf";
const IFUPDOWN: &str = include_str!("../../systemd/root-ifupdown.conf");
const NETWORKD: &str = include_str!("../../systemd/root-networkd.conf");
const MANAGERS: [(&str, &str); 3] = [
    ("networking.service", IFUPDOWN),
    ("ifup@.service", IFUPDOWN),
    ("systemd-networkd.service", NETWORKD),
];

/// What systemd has known since version 255; an older one would warn of it, and go by the
/// monitor's title alone.
const SURVIVE: &str = "\n[Unit]\nSurviveFinalKillSignal=yes\n";

/// All that systemd is to be given, by path. `units` is the folder where the
/// template and the target are installed; `survival` says whether units can survive the
/// killing at the end.
///
/// What attach put in /run is none of this, as it ends with the boot; but the root is,
/// which the initramfs put there.
#[must_use]
pub fn generate(configuration: &Configuration, units: &Path, survival: bool) -> Vec<Unit> {
    let exports = configuration
        .exports
        .iter()
        .filter(|export| export.kind != Kind::Run || export.settings.root);
    let mut all = Vec::new();
    let mut automatic = false;
    for export in exports {
        if export.settings.root {
            all.extend(root(export, units, survival));
            continue;
        }
        automatic |= !export.boot.noauto;
        all.extend(drop_in(export));
        all.extend(pulled_in(export, units));
    }
    if let Some(root) = configuration.exports.iter().find(|it| it.settings.root) {
        all.extend(network(root, units));
    }
    if automatic {
        for target in ["multi-user.target", "remote-fs.target"] {
            all.push(link(&format!("{target}.wants"), "remote-nbd.target", units));
        }
    }
    all.sort();
    // Several exports of a root have one nbdctl-root.service, and a link is made once.
    all.dedup();
    all
}

/// Where `/` is on it.
fn root(export: &Export, units: &Path, survival: bool) -> [Unit; 3] {
    let service = unit_name(&export.settings.name);
    let survive = if survival { SURVIVE } else { "" };
    [
        file(
            format!("{service}.d/{ORDER}"),
            export,
            &format!("{ROOT_ORDER}{survive}"),
        ),
        template("sysinit.target.wants", &service, units),
        link("sysinit.target.wants", "nbdctl-root.service", units),
    ]
}

/// The network that `/` is reached by stays.
fn network(root: &Export, units: &Path) -> Vec<Unit> {
    let kept = MANAGERS.map(|(manager, text)| {
        let path = format!("{manager}.d/{KEEP_NETWORK}");
        file(path, root, text)
    });
    let begins = ["sysinit.target.wants", "systemd-networkd.service.wants"];
    let begins = begins.map(|folder| link(folder, "nbdctl-network.service", units));
    kept.into_iter().chain(begins).collect()
}

/// What is this export's own in its unit.
fn drop_in(export: &Export) -> Option<Unit> {
    let mut text = String::new();
    // A server that may be missing holds nothing up, and a network that may be
    // missing, neither.
    if !export.boot.nofail {
        text.push_str("\n[Unit]\nAfter=network-online.target\n");
    }
    let connect = export.settings.connect_timeout.as_secs();
    if connect > SHORT_CONNECT {
        let start = connect.saturating_mul(2).saturating_add(SHORT_CONNECT);
        text.push_str(&format!("\n[Service]\nTimeoutStartSec={start}\n"));
    }
    let (unit, file_name) = (unit_name(&export.settings.name), drop_in_name(export));
    let path = format!("{unit}.d/{file_name}");
    (!text.is_empty()).then(|| file(path, export, &text))
}

/// Links to the unit from all that may be waited for, and what those need.
fn pulled_in(export: &Export, units: &Path) -> Vec<Unit> {
    let service = unit_name(&export.settings.name);
    let mut all = Vec::new();
    if !export.boot.noauto {
        let how = if export.boot.nofail {
            "wants"
        } else {
            "requires"
        };
        all.push(template(
            &format!("remote-nbd.target.{how}"),
            &service,
            units,
        ));
    }
    for node in nodes(export) {
        if let Some(device) = device_unit(&node) {
            if !export.boot.noauto {
                all.push(template(&format!("{device}.wants"), &service, units));
            }
            if let Some(timeout) = export.boot.device_timeout {
                let text = format!("\n[Unit]\nJobRunningTimeoutSec={timeout}\n");
                all.push(file(
                    format!("{device}.d/{}", drop_in_name(export)),
                    export,
                    &text,
                ));
            }
        }
        if let Some(stem) = escape_path(&node) {
            let text = format!(
                "\n[Unit]\nDefaultDependencies=no\nAfter={service}\n\
                 Conflicts=umount.target\nBefore=umount.target\n"
            );
            all.push(file(
                format!("{stem}.swap.d/{}", drop_in_name(export)),
                export,
                &text,
            ));
        }
    }
    all.retain(|unit| unit.path.split('/').all(|part| part.len() <= LONGEST));
    all
}

/// The paths that the disk and its partitions will have.
fn nodes(export: &Export) -> Vec<String> {
    let settings = &export.settings;
    let names = StableNames::new(&settings.name, Some(&settings.uri));
    let kernels = settings.device.map(|index| format!("/dev/nbd{index}"));
    let stable = names.paths().map(|path| (path, "-part"));
    let kernels = kernels.into_iter().map(|path| (path, "p"));
    stable
        .chain(kernels)
        .flat_map(|(disk, separator)| {
            let partition = format!("{disk}{separator}");
            std::iter::once(disk).chain((1..=PARTITIONS).map(move |n| format!("{partition}{n}")))
        })
        .collect()
}

/// `FOLDER/nbdctl@NAME.service`, which is made from the template.
fn template(folder: &str, service: &str, units: &Path) -> Unit {
    let target = units.join("nbdctl@.service");
    Unit {
        path: format!("{folder}/{service}"),
        content: Content::Link(target.display().to_string()),
    }
}

fn link(folder: &str, unit: &str, units: &Path) -> Unit {
    Unit {
        path: format!("{folder}/{unit}"),
        content: Content::Link(units.join(unit).display().to_string()),
    }
}

fn file(path: String, export: &Export, text: &str) -> Unit {
    let source = &export.source;
    Unit {
        path,
        content: Content::Text(format!("# Made by nbdctl-generator from {source}\n{text}")),
    }
}
