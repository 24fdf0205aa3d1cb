//! One export, as one setting of the command line says it.

use std::fmt;

use super::plan::Mount;
use crate::config::{Boot, Key, Setting, Settings, nearest, shown};
use crate::uri::Uri;

/// Who says it: what every error about it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    key: String,
    value: String,
}

impl Source {
    pub(super) fn new(key: &str, value: &str) -> Self {
        Self {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.key.contains(' ') { " " } else { "=" };
        write!(f, "{}{between}{}", self.key, shown(&self.value))
    }
}

/// What it says.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) source: Source,
    pub(super) settings: Settings,
    pub(super) boot: Boot,
    /// It takes the place of a stock client, whose device was always the first.
    pub(super) stock: bool,
    /// It is the root itself, whatever else is said.
    pub(super) is_root: bool,
    /// How its file system is to be mounted, and which partition it is on.
    pub(super) mount: Mount,
    pub(super) partition: Option<u32>,
    pub(super) warnings: Vec<String>,
}

impl Said {
    /// As by default for what the boot goes on from: it is waited for without end.
    pub(super) fn new(uri: Uri, source: &Source) -> Self {
        let mut settings = Settings::new(uri);
        settings.root = true;
        settings.settle(|_| false);
        Self {
            source: source.clone(),
            settings,
            boot: Boot::default(),
            stock: false,
            is_root: false,
            mount: Mount::default(),
            partition: None,
            warnings: Vec::new(),
        }
    }

    /// One of nbdctl's own settings, `NAME=VALUE`; a switch needs no value, and a `-`
    /// will do for a `_`.
    ///
    /// # Errors
    ///
    /// There is no such setting, or no such value.
    pub(super) fn option(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let plain = name.replace('-', "_");
        if plain.starts_with("tls") {
            return Err(format!(
                "{} asks for TLS, which this version of nbdctl cannot speak yet, and it will not \
                 fall back to plaintext: remove it if plaintext will do",
                shown(name)
            ));
        }
        if plain == "name" {
            let name = value.unwrap_or_default().parse();
            self.settings.name = name.map_err(|error| format!("name: {error}"))?;
            return Ok(());
        }
        let plain = if plain == "ro" { "read_only" } else { &plain };
        let key = Key::of(plain).filter(|key| !UNSAID.contains(key));
        let key = key.ok_or_else(|| unknown(name))?;
        let value = match (value, key) {
            (Some(value), _) => value,
            (None, Key::ReadOnly | Key::Nofail) => "true",
            (None, key) => return Err(format!("{key} needs a value: write {key}=VALUE")),
        };
        let setting = Setting::read(key, value)
            .map_err(|error| format!("{}={}: {error}", shown(name), shown(value)))?;
        setting.apply(&mut self.settings, &mut self.boot);
        Ok(())
    }
}

/// Said by the URI, or by its being here.
const UNSAID: [Key; 3] = [Key::Uri, Key::Noauto, Key::Root];

fn unknown(name: &str) -> String {
    let known = Key::ALL.iter().filter(|key| !UNSAID.contains(key));
    let known: Vec<_> = std::iter::once("name")
        .chain(known.map(|key| key.name()))
        .collect();
    let text = format!("there is no option \"{}\"", shown(name));
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("{text}: did you mean {near}?"),
        None => format!(
            "{text}: there are {}; a comma in the export's name is %2C",
            known.join(", ")
        ),
    }
}
