//! What the kernel's command line asks of an initramfs: which exports to attach, and
//! which of them is the root. A pure function of texts; it must not know how anything
//! is attached, nor which initramfs asks: every form is understood in each of them.
//!
//! | form | whose |
//! |---|---|
//! | `rd.nbdctl=URI[,OPTION…]`, `nbdctl=` | ours (`ours`) |
//! | `root=nbd:…`, `netroot=nbd:…`, DHCP's root-path | dracut's (`dracut`) |
//! | `nbdroot=…`, `nbddev=…` | Debian's (`debian`) |
//!
//! Whatever is wrong is told with the setting that says so, and costs the export.

mod debian;
mod dracut;
mod ours;
mod parts;
mod plan;
mod said;
mod word;
mod words;

pub use plan::{Dhcp, Mount, Ordered, Plan};
pub use word::word_of;

use said::{Said, Source};
use words::Words;

/// Reads a command line. `dhcp` is what the network said, where it was asked already.
#[must_use]
pub fn read(text: &str, dhcp: Option<&Dhcp>) -> Plan {
    let words = Words::of(text);
    let mut reader = Reader {
        dhcp,
        said: Vec::new(),
        plan: Plan::default(),
    };
    reader.ours(&words);
    reader.dracut(&words);
    reader.debian(&words);
    let Reader { said, plan, .. } = reader;
    plan.finish(said, &words)
}

struct Reader<'a> {
    dhcp: Option<&'a Dhcp>,
    said: Vec<Said>,
    plan: Plan,
}

impl Reader<'_> {
    fn ours(&mut self, words: &Words) {
        for (key, value) in words.of_keys(&["rd.nbdctl", "nbdctl"]) {
            if matches!(value, "0" | "no" | "off") {
                // As rd.luks=0: for when what an initramfs brings along is not wanted.
                self.said.clear();
                self.plan.problems.clear();
                continue;
            }
            let source = Source::new(key, value);
            self.add(ours::read(value, &source), &source);
        }
    }

    fn dracut(&mut self, words: &Words) {
        let root = words.last("root").unwrap_or_default();
        let netroots: Vec<_> = words.of_keys(&["netroot"]).collect();
        let mut asks_dhcp = matches!(root, "dhcp" | "dhcp4" | "dhcp6");
        if root.starts_with("nbd:") {
            let source = Source::new("root", root);
            self.add(dracut::read(root, true, &source), &source);
        }
        for (key, value) in netroots {
            let source = Source::new(key, value);
            if value.starts_with("nbd:") || value.starts_with("nbd+unix:") {
                if root.starts_with("nbd:") {
                    self.plan
                        .warn(&source, "not used: root= names an export itself");
                } else {
                    self.add(dracut::read(value, false, &source), &source);
                }
            }
            asks_dhcp |= matches!(value, "dhcp" | "dhcp4" | "dhcp6");
        }
        if asks_dhcp {
            self.root_path();
        }
    }

    /// The root is what DHCP says it is; it may be another kind of root.
    fn root_path(&mut self) {
        let Some(dhcp) = self.dhcp else {
            self.plan.awaits_dhcp = true;
            return;
        };
        let Some(path) = dhcp.root_path.as_deref() else {
            return;
        };
        if path.starts_with("nbd:") || path.starts_with("nbd+unix:") {
            let source = Source::new("DHCP's root-path", path);
            self.add(dracut::read_with_server(path, &source, dhcp), &source);
        }
    }

    fn debian(&mut self, words: &Words) {
        let Some(value) = words.last("nbdroot") else {
            return;
        };
        let device = words.last("nbddev");
        let source = Source::new("nbdroot", value);
        if !debian::asks_dhcp(value) {
            let said = debian::read(value, device, &source, None);
            self.add(said, &source);
            return;
        }
        let Some(dhcp) = self.dhcp else {
            self.plan.awaits_dhcp = true;
            return;
        };
        let whole = matches!(value, "" | "dhcp");
        match dhcp.root_path.as_deref().filter(|path| !path.is_empty()) {
            Some(path) if whole && path.starts_with("nbd") && path.contains(':') => {
                let source = Source::new("DHCP's root-path", path);
                let said = dracut::read_with_server(path, &source, dhcp);
                self.add(said, &source);
            }
            Some(path) if whole => {
                let source = Source::new("DHCP's root-path", path);
                let said = debian::read(path, device, &source, Some(dhcp));
                self.add(said, &source);
            }
            None if whole => self.plan.fail(
                &source,
                "asks DHCP for the export, and the answer had no root-path: set option \
                 root-path at the DHCP server, or write nbdroot=HOST/EXPORT",
            ),
            _ => {
                let said = debian::read(value, device, &source, Some(dhcp));
                self.add(said, &source);
            }
        }
    }

    fn add(&mut self, said: Result<Said, String>, source: &Source) {
        match said {
            Ok(mut said) => {
                for warning in std::mem::take(&mut said.warnings) {
                    self.plan.warn(source, &warning);
                }
                self.said.push(said);
            }
            Err(why) => self.plan.fail(source, &why),
        }
    }
}

#[cfg(test)]
mod tests;
