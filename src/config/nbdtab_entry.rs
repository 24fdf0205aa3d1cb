//! One entry of nbdtab: what its words mean here. It must not know how a line is
//! cut into words.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::export::{Boot, Export, Kind, Origin};
use super::name::Name;
use super::problem::{Severity, shown};
use super::setting::{Form, Key, Setting, nearest};
use super::settings::Settings;
use super::values::device_index;
use crate::uri::DEFAULT_PORT;

/// What is understood of an entry, and what is to be said of it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Of its device.
    pub(super) index: Option<u32>,
    /// Column, whether it costs the entry, and the words.
    pub(super) remarks: Vec<(usize, Severity, String)>,
    name: Option<Name>,
    port: Option<u16>,
    unix: bool,
    /// Every option that was given, for one that comes again.
    seen: Vec<String>,
    /// What asks for TLS.
    tls: Vec<String>,
    values: BTreeMap<Key, Setting>,
}

/// A line of which there is more to say is no entry.
const ENOUGH: usize = 20;

/// What nbd-client knows, with what it takes.
const FLAGS: &[&str] = &["persist", "swap", "unix", "no_optgo", "preinit", "tls"];
const PROPERTIES: &[&str] = &["port", "bs", "timeout", "dead-timeout", "conns"];
const TLS: &[&str] = &[
    "tls",
    "certfile",
    "keyfile",
    "cacertfile",
    "tlshostname",
    "priority",
];

impl Entry {
    /// Reads the words of a line. The export, if all is as it should be.
    pub(super) fn read(&mut self, words: &[(usize, &str)], origin: &Origin) -> Option<Export> {
        let [
            (dev_at, dev),
            (host_at, host),
            (export_at, export),
            options @ ..,
        ] = words
        else {
            let at = words.first().map_or(1, |(at, _)| *at);
            self.wrong(
                at,
                "an entry is DEVICE HOST EXPORT, and perhaps OPTION,OPTION behind it".to_owned(),
            );
            return None;
        };
        match device_index(dev) {
            Ok(index) => self.index = Some(index),
            Err(error) => self.wrong(*dev_at, format!("device \"{}\": {error}", shown(dev))),
        }
        for (at, word) in [(host_at, host), (export_at, export)] {
            if word.contains([',', '=']) {
                self.wrong(
                    *at,
                    format!(
                        "\"{}\": here nbdtab has no commas and equals signs: put a blank before \
                         options, or describe the export in a file NAME.toml",
                        shown(word)
                    ),
                );
            }
        }
        for (at, word) in options {
            let mut column = *at;
            for option in word.split(',') {
                if self.remarks.len() > ENOUGH {
                    break;
                }
                if !option.is_empty() {
                    self.option(column, option);
                }
                column += option.chars().count() + 1;
            }
        }
        self.refuse_tls();
        let uri = match Setting::read(Key::Uri, &self.uri(host, export)) {
            Ok(Setting::Uri(uri)) => uri,
            Ok(_) => return None,
            Err(error) => {
                self.wrong(*host_at, error.to_string());
                return None;
            }
        };
        self.finish(Settings::new(uri), *dev_at, origin)
    }

    /// What it is called, as far as that is known.
    pub(super) fn name(&self) -> Option<Name> {
        self.name
            .clone()
            .or_else(|| self.index.map(Name::of_device))
    }

    fn finish(&mut self, mut settings: Settings, at: usize, origin: &Origin) -> Option<Export> {
        settings.name = self.name()?;
        settings.device = self.index;
        let mut boot = Boot::default();
        let mut origins: BTreeMap<_, _> = [Key::Uri, Key::Device]
            .map(|key| (key, origin.clone()))
            .into();
        for (key, setting) in std::mem::take(&mut self.values) {
            setting.apply(&mut settings, &mut boot);
            origins.insert(key, origin.clone());
        }
        settings.settle(|key| origins.contains_key(&key));
        if let Err(error) = settings.agree() {
            self.wrong(at, error.to_string());
        }
        let sound = |(_, severity, _): &(_, Severity, _)| *severity == Severity::Warning;
        self.remarks.iter().all(sound).then(|| Export {
            settings,
            boot,
            kind: Kind::Nbdtab,
            source: origin.clone(),
            origins,
            warnings: Vec::new(),
        })
    }

    fn option(&mut self, at: usize, option: &str) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let tls = TLS.contains(&name) || name.trim_start_matches('_').starts_with("tls");
        if tls {
            let name = shown(name);
            if self.tls.len() < ENOUGH && !self.tls.contains(&name) {
                self.tls.push(name);
            }
            return;
        }
        if name.starts_with('_') {
            return self.local(at, name, value);
        }
        if !FLAGS.contains(&name) && !PROPERTIES.contains(&name) {
            return self.wrong(at, unknown(name));
        }
        if self.is_again(at, name) {
            return;
        }
        match (name, value) {
            (flag, Some(_)) if FLAGS.contains(&flag) => {
                self.wrong(at, format!("{flag} takes no value: write {flag}"));
            }
            (flag, None) if FLAGS.contains(&flag) => self.flag(at, flag),
            (name, None | Some("")) => {
                self.wrong(at, format!("{name} needs a value: write {name}=NUMBER"));
            }
            (name, Some(value)) => self.property(at, name, value),
        }
    }

    fn flag(&mut self, at: usize, flag: &str) {
        match flag {
            "unix" => self.unix = true,
            "preinit" => self.odd(
                at,
                "preinit is not used: nbdctl asks the server for the size".to_owned(),
            ),
            // What they ask for is always so: it reconnects; no process of its own
            // is in the way of swap; old servers are noticed.
            _ => {}
        }
    }

    fn property(&mut self, at: usize, name: &str, value: &str) {
        let number = value.parse::<u32>();
        match (name, number) {
            // The service of that name has it.
            ("port", _) if value == "nbd" => self.port = Some(DEFAULT_PORT),
            ("port", _) => match value.parse() {
                Ok(port @ 1..) => self.port = Some(port),
                _ => self.wrong(at, format!("port={}: give 1 to 65535", shown(value))),
            },
            ("dead-timeout", Ok(0)) => self.odd(
                at,
                "dead-timeout=0 would make I/O fail as soon as its server is away: the default \
                 of 600 s is used"
                    .to_owned(),
            ),
            ("timeout", Ok(0)) => {}
            ("timeout", Ok(_)) => self.odd(
                at,
                format!(
                    "{name}={value} is not used: it would cut off a server that is merely slow; \
                     _silence_timeout=SECONDS cuts off one that is silent, and dead-timeout=SECONDS \
                     is how long I/O waits for it to return"
                ),
            ),
            ("timeout", Err(_)) => {
                self.wrong(at, format!("timeout={}: give whole seconds", shown(value)));
            }
            ("bs", _) => self.set(at, name, Key::BlockSize, value),
            ("conns", _) => self.set(at, name, Key::Connections, value),
            _ => self.set(at, name, Key::DeadTimeout, value),
        }
    }

    /// An option that nbd-client leaves to others. Those of ours are named as in
    /// NAME.toml; the rest is somebody else's.
    fn local(&mut self, at: usize, name: &str, value: Option<&str>) {
        let plain = name.trim_start_matches('_');
        if name == "_name" {
            if self.is_again(at, name) {
                return;
            }
            match value.unwrap_or_default().parse() {
                Ok(name) => self.name = Some(name),
                Err(error) => self.wrong(at, format!("_name: {error}")),
            }
            return;
        }
        // The entry's first words say these.
        let fixed = |key: &Key| matches!(key, Key::Uri | Key::Device);
        let ours = || Key::ALL.iter().filter(|key| !fixed(key));
        let key = Key::of(plain).filter(|key| !fixed(key));
        let Some(key) = key.filter(|_| name.len() == plain.len() + 1) else {
            let near = nearest(plain, ours().map(|key| key.name()));
            if let Some(near) = near {
                self.odd(
                    at,
                    format!("{} is not used: did you mean _{near}?", shown(name)),
                );
            }
            return;
        };
        if self.is_again(at, name) {
            return;
        }
        match (key.form(), value) {
            (Form::Switch, None) => self.set(at, name, key, "true"),
            (_, None) => self.wrong(at, format!("{name} needs a value: write {name}=VALUE")),
            (_, Some(value)) => self.set(at, name, key, value),
        }
    }

    fn set(&mut self, at: usize, name: &str, key: Key, value: &str) {
        match Setting::read(key, value) {
            Ok(_) if self.values.contains_key(&key) => {
                self.wrong(at, format!("{name} sets {key} again: leave one of them"));
            }
            Ok(setting) => drop(self.values.insert(key, setting)),
            Err(error) => self.wrong(at, format!("{name}={}: {error}", shown(value))),
        }
    }

    fn is_again(&mut self, at: usize, name: &str) -> bool {
        let again = self.seen.iter().any(|seen| seen == name);
        if again {
            self.wrong(at, format!("{name} is there twice: leave one of them"));
        } else {
            self.seen.push(name.to_owned());
        }
        again
    }

    fn refuse_tls(&mut self) {
        if !self.tls.is_empty() {
            let names = self.tls.join(", ");
            let verb = if self.tls.len() == 1 { "asks" } else { "ask" };
            self.wrong(
                1,
                format!(
                    "{names} {verb} for TLS, which this version of nbdctl cannot speak yet, and it \
                     will not fall back to plaintext: the entry is not used"
                ),
            );
        }
    }

    /// The URI that means the same. The default port is left out, so that it has
    /// one form.
    fn uri(&self, host: &str, export: &str) -> String {
        let export = utf8_percent_encode(export, IN_PATH);
        if self.unix {
            let socket = utf8_percent_encode(host, IN_PATH);
            return format!("nbd+unix:///{export}?socket={socket}");
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = match bare.split_once('%') {
            _ if !bare.contains(':') => utf8_percent_encode(bare, IN_HOST).to_string(),
            Some((address, zone)) => {
                format!("[{address}%25{}]", utf8_percent_encode(zone, IN_HOST))
            }
            None => format!("[{bare}]"),
        };
        match self.port {
            None | Some(DEFAULT_PORT) => format!("nbd://{host}/{export}"),
            Some(port) => format!("nbd://{host}:{port}/{export}"),
        }
    }

    fn wrong(&mut self, at: usize, text: String) {
        self.remarks.push((at, Severity::Error, text));
    }

    fn odd(&mut self, at: usize, text: String) {
        self.remarks.push((at, Severity::Warning, text));
    }
}

const IN_HOST: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const IN_PATH: &AsciiSet = &IN_HOST.remove(b'/').remove(b':').remove(b'@');

fn unknown(name: &str) -> String {
    let ours: Vec<_> = Key::ALL.iter().map(|key| format!("_{key}")).collect();
    let known = FLAGS.iter().chain(PROPERTIES).copied();
    let known = known.chain(ours.iter().map(String::as_str));
    let text = format!("unknown option \"{}\"", shown(name));
    match nearest(name, known) {
        Some(near) => format!("{text}: did you mean {near}?"),
        None => format!("{text}: remove it, or put a _ before what is meant for other programs"),
    }
}
