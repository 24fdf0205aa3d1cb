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

const NO_ROOT_PATH: &str =
    "DHCP's answer had no root-path: set option root-path at the DHCP server";

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
        let is_dhcp = |value: &str| matches!(value, "dhcp" | "dhcp4" | "dhcp6");
        let mut asks_dhcp = is_dhcp(root).then(|| Source::new("root", root));
        if root.starts_with("nbd:") {
            let source = Source::new("root", root);
            self.add(dracut::read(root, true, &source), &source);
        }
        for (key, value) in netroots {
            let source = Source::new(key, value);
            if dracut::is_form(value) {
                if root.starts_with("nbd:") {
                    self.plan
                        .warn(&source, "not used: root= names an export itself");
                } else {
                    self.add(dracut::read(value, false, &source), &source);
                }
            }
            if is_dhcp(value) {
                asks_dhcp = Some(source);
            }
        }
        if let Some(source) = asks_dhcp {
            self.root_path(&source);
        }
    }

    /// The root is what DHCP says it is; it may be another kind of root.
    fn root_path(&mut self, source: &Source) {
        let Some(dhcp) = self.dhcp else {
            self.plan.awaits_dhcp = true;
            return;
        };
        let Some(path) = dhcp.root_path.as_deref() else {
            self.plan.warn(source, NO_ROOT_PATH);
            return;
        };
        if dracut::is_form(path) {
            let source = Source::new("DHCP's root-path", path);
            self.add(dracut::read_with_server(path, &source, dhcp), &source);
        }
    }

    fn debian(&mut self, words: &Words) {
        let device = words.last("nbddev").filter(|text| !text.is_empty());
        let Some(value) = words.last("nbdroot") else {
            return self.device_alone(device, words);
        };
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
        match dhcp.root_path.as_deref() {
            Some(path) if whole => self.either_form(path, device, dhcp),
            None if whole => self.plan.fail(
                &source,
                &format!("asks DHCP for the export; {NO_ROOT_PATH}, or write nbdroot=HOST/EXPORT"),
            ),
            _ => {
                let said = debian::read(value, device, &source, Some(dhcp));
                self.add(said, &source);
            }
        }
    }

    /// A device, and nothing says of which export it is to be: for Debian's script that is
    /// as `nbdroot=`. It may be somebody else's device, so that no answer is no error.
    fn device_alone(&mut self, device: Option<&str>, words: &Words) {
        let root = words.last("root").filter(|at| at.starts_with("/dev/nbd"));
        let root = root.map(|value| ("root", value));
        let Some((key, value)) = root.or_else(|| device.map(|value| ("nbddev", value))) else {
            return;
        };
        let is_said = !self.said.is_empty() || !self.plan.problems.is_empty();
        if is_said || words.last("netroot").is_some() {
            return;
        }
        match self.dhcp {
            None => self.plan.awaits_dhcp = true,
            Some(dhcp) => match dhcp.root_path.as_deref() {
                Some(path) => self.either_form(path, device, dhcp),
                None => {
                    let text = format!(
                        "neither nbdctl= nor nbdroot= says of which export; {NO_ROOT_PATH}"
                    );
                    self.plan.warn(&Source::new(key, value), &text);
                }
            },
        }
    }

    /// A root-path that is an export's, whoever's form it has.
    fn either_form(&mut self, path: &str, device: Option<&str>, dhcp: &Dhcp) {
        let source = Source::new("DHCP's root-path", path);
        let said = if dracut::is_form(path) {
            dracut::read_with_server(path, &source, dhcp)
        } else {
            debian::read(path, device, &source, Some(dhcp))
        };
        self.add(said, &source);
    }

    fn add(&mut self, said: Result<Said, String>, source: &Source) {
        let fits = |said: &Said| {
            said.settings
                .may_be_root()
                .map_err(|why| format!("path: {why}"))
        };
        match said.and_then(|said| fits(&said).map(|()| said)) {
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
