//! What comes out of a command line: exports with names and devices of their own, and
//! what the root is.

use std::collections::BTreeSet;

use super::debian::node;
use super::said::{Said, Source};
use super::words::Words;
use crate::config::{Boot, Settings, shown, to_toml};

/// What DHCP said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dhcp {
    /// Option 17, root-path.
    pub root_path: Option<String>,
    /// The server that it names for the root.
    pub server: Option<String>,
}

/// How a file system is to be mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Its type.
    pub fs_type: Option<String>,
    /// Options, with commas between.
    pub options: Option<String>,
}

/// An export that is to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// The setting that says so.
    pub said_by: String,
    /// Its settings; the device is chosen.
    pub settings: Settings,
    /// What booting does with it.
    pub boot: Boot,
}

impl Ordered {
    /// The file in /run that tells of it, as every NAME.toml does.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = format!("# From {}\n{}", self.said_by, to_toml(&self.settings));
        if let Some(timeout) = self.boot.device_timeout {
            let quote = if timeout.to_string() == "infinity" {
                "\""
            } else {
                ""
            };
            text.push_str(&format!("device_timeout = {quote}{timeout}{quote}\n"));
        }
        if self.boot.nofail {
            text.push_str("nofail = true\n");
        }
        text
    }
}

/// All that is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The exports, in order.
    pub exports: Vec<Ordered>,
    /// The device that the root is on, where `root=` does not tell it by itself.
    pub root: Option<String>,
    /// How that is mounted.
    pub mount: Mount,
    /// Nothing more is known before DHCP has answered.
    pub awaits_dhcp: bool,
    /// What is used otherwise than it was perhaps meant.
    pub warnings: Vec<String>,
    /// What cannot be used.
    pub problems: Vec<String>,
}

/// What says that the root is whatever the network brings.
const OPEN_ROOTS: [&str; 5] = ["", "/dev/root", "dhcp", "dhcp4", "dhcp6"];

impl Plan {
    /// Whether there is anything to be done, or told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exports.is_empty() && !self.awaits_dhcp && self.problems.is_empty()
    }

    /// Whether it takes a network.
    #[must_use]
    pub fn needs_network(&self) -> bool {
        self.awaits_dhcp || self.exports.iter().any(|one| one.settings.uri.is_tcp())
    }

    pub(super) fn warn(&mut self, source: &Source, text: &str) {
        self.warnings.push(format!("{source}: {text}"));
    }

    pub(super) fn fail(&mut self, source: &Source, text: &str) {
        self.problems.push(format!("{source}: {text}"));
    }

    pub(super) fn finish(mut self, said: Vec<Said>, words: &Words) -> Self {
        let root = words.last("root").unwrap_or_default();
        let mut said = self.one_for_each_name(said);
        self.choose_devices(&mut said, node(root).map(|(index, _)| index));
        let open = OPEN_ROOTS.contains(&root);
        let explicit = said.iter().find(|one| one.is_root);
        let stock = || said.iter().find(|one| open && one.stock);
        let first = || said.first().filter(|_| open && !self.awaits_dhcp);
        if let Some(one) = explicit.or_else(stock).or_else(first) {
            let device = one.settings.device.map(|index| match one.partition {
                Some(number) => format!("/dev/nbd{index}p{number}"),
                None => format!("/dev/nbd{index}"),
            });
            self.root = device;
            self.mount = self.mount_of(one, words);
        }
        for one in said.iter().filter(|_| self.root.is_none()) {
            if one.mount != Mount::default() {
                let text = "file system type and mount options are not used, as root= names the \
                            root: rootfstype= and rootflags= say them";
                self.warnings.push(format!("{}: {text}", one.source));
            }
        }
        self.exports = said
            .into_iter()
            .map(|one| Ordered {
                said_by: one.source.to_string(),
                settings: one.settings,
                boot: one.boot,
            })
            .collect();
        self
    }

    /// Of two with one NAME the later: what is typed at a boot loader comes behind what
    /// an initramfs brought along.
    fn one_for_each_name(&mut self, said: Vec<Said>) -> Vec<Said> {
        let mut kept: Vec<Said> = Vec::new();
        for one in said {
            let same = kept
                .iter_mut()
                .find(|before| before.settings.name == one.settings.name);
            match same {
                Some(before) => {
                    if before.source != one.source {
                        let text =
                            format!("not used: {} has its name, and comes later", one.source);
                        self.warnings.push(format!("{}: {text}", before.source));
                    }
                    *before = one;
                }
                None => kept.push(one),
            }
        }
        kept
    }

    /// Gives each a device: the order in which they come up is nobody's to say. Where
    /// the root is one by its node, that is the first one's.
    fn choose_devices(&mut self, said: &mut Vec<Said>, root: Option<u32>) {
        let mut taken = BTreeSet::new();
        let mut doubled = Vec::new();
        said.retain(|one| match one.settings.device {
            Some(index) if !taken.insert(index) => {
                doubled.push((one.source.clone(), index));
                false
            }
            _ => true,
        });
        for (source, index) in doubled {
            let text = format!("/dev/nbd{index} is another one's: choose another device");
            self.fail(&source, &text);
        }
        let mut wanted = root.filter(|index| !taken.contains(index));
        let order = |one: &&mut Said| !one.stock;
        let mut open: Vec<_> = said
            .iter_mut()
            .filter(|one| one.settings.device.is_none())
            .collect();
        open.sort_by_key(order);
        for one in open {
            let free = (0..).find(|index| !taken.contains(index));
            let index = wanted.take().or(free).unwrap_or_default();
            taken.insert(index);
            one.settings.device = Some(index);
        }
    }
}

/// What a type and options of a mount are made of. They end up in a shell's file and in a
/// unit, and DHCP's answer is whosesoever that is on this network.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.,=:/@+-".contains(c)
}

impl Plan {
    /// What is said of the mount itself, and by the kernel's own words for it; `ro` and
    /// `rw` of the command line count.
    fn mount_of(&mut self, one: &Said, words: &Words) -> Mount {
        let flags = self.sound(one, one.mount.options.as_deref(), "rootflags", words);
        let (access, mut flags): (Vec<_>, Vec<_>) = flags
            .split(',')
            .filter(|flag| !flag.is_empty())
            .partition(|flag| matches!(*flag, "ro" | "rw"));
        let typed = words.last_flag(&["ro", "rw"]);
        flags.extend(typed.or_else(|| access.last().copied()));
        let fs_type = self.sound(one, one.mount.fs_type.as_deref(), "rootfstype", words);
        Mount {
            fs_type: Some(fs_type).filter(|text| !text.is_empty()),
            options: (!flags.is_empty()).then(|| flags.join(",")),
        }
    }

    /// What is said, or else the kernel's own word; nothing where that is unfit.
    fn sound(&mut self, one: &Said, said: Option<&str>, key: &str, words: &Words) -> String {
        let typed = words.last(key).unwrap_or_default();
        let text = said.unwrap_or(typed);
        let Some(c) = text.chars().find(|c| !is_plain(*c)) else {
            return text.to_owned();
        };
        let source = match said {
            Some(_) => one.source.clone(),
            None => Source::new(key, typed),
        };
        let what = if key == "rootflags" {
            "mount options have"
        } else {
            "a file system type has"
        };
        let text = format!(
            "{what} no \"{}\": letters, digits and _ . , = : / @ + - can be used",
            shown(&c.to_string())
        );
        self.fail(&source, &text);
        String::new()
    }
}
