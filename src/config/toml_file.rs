//! `NAME.toml`, strictly: whatever is not known is an error, and all errors of a
//! file are told at once. It must not know where the file is looked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeInteger, DeTable, DeValue};

use super::export::{Boot, Export, Found, Kind, Origin};
use super::name::Name;
use super::problem::{Position, Problem, shown};
use super::setting::{Form, Key, Setting, nearest};
use super::settings::Settings;

/// Reads a file: its export, or what keeps it from being one.
pub(super) fn read(path: &Path, kind: Kind, name: &Name, bytes: &[u8]) -> Found {
    let mut found = Found::default();
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let mut reader = Reader {
                path,
                text,
                name,
                values: BTreeMap::new(),
                found: &mut found,
            };
            reader.document();
            if let Some(export) = reader.export(kind) {
                found.exports.push(export);
            }
        }
        Err(error) => {
            let sound = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let sound = String::from_utf8_lossy(sound);
            let problem = Problem::error(path, "what is no UTF-8: write it in UTF-8".to_owned());
            found.report(|| problem.at(Position::of(&sound, sound.len())).of(name));
        }
    }
    found.finish(path);
    found
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    name: &'a Name,
    /// Every key that stands in the file; `None` where its value is wrong.
    values: BTreeMap<Key, Option<(Setting, Range<usize>)>>,
    found: &'a mut Found,
}

impl Reader<'_> {
    fn document(&mut self) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        self.no_toml(&errors);
        // In the order in which they stand there.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            match Key::of(name) {
                // What the parser made of a value that is none would be told twice.
                Some(key) if self.is_broken(&errors, value.span()) => {
                    self.values.insert(key, None);
                }
                Some(key) => self.value(key, value.get_ref(), value.span()),
                None if name.to_ascii_lowercase().starts_with("tls") => {
                    self.error(&key.span(), || NO_TLS.replace("{}", &shown(name)));
                }
                None => self.error(&key.span(), || unknown(name, value.get_ref())),
            }
        }
        if errors.is_empty() && !self.values.contains_key(&Key::Uri) {
            let name = self.name;
            let text = "no uri: add a line like uri = \"nbd://HOST/EXPORT\"".to_owned();
            let problem = Problem::error(self.path, text).of(name);
            self.found.report(|| problem);
        }
    }

    /// What is no TOML, once for each line: what follows on it is mostly nonsense.
    fn no_toml(&mut self, errors: &[toml::de::Error]) {
        let text = self.text;
        let mut spans: Vec<_> = errors
            .iter()
            .map(|error| (error.span().unwrap_or_default(), error.message()))
            .collect();
        spans.sort_by_key(|(span, _)| span.start);
        let mut told = 0;
        for (span, message) in spans {
            if span.start < told {
                continue;
            }
            let line = line_of(text, span.start);
            told = line.end + 1;
            self.error(&span, || {
                let remedy = remedy(text.get(line).unwrap_or_default());
                format!("no TOML: {}", remedy.unwrap_or_else(|| shown(message)))
            });
        }
    }

    fn is_broken(&self, errors: &[toml::de::Error], value: Range<usize>) -> bool {
        let line = line_of(self.text, value.start);
        let mut starts = errors.iter().filter_map(toml::de::Error::span);
        starts.any(|span| (line.start..=line.end).contains(&span.start))
    }

    fn value(&mut self, key: Key, value: &DeValue<'_>, span: Range<usize>) {
        let setting = written(key.form(), value)
            .and_then(|text| Setting::read(key, &text).map_err(|error| error.to_string()));
        let value = match setting {
            Ok(setting) => Some((setting, span)),
            Err(why) => {
                let raw = self.text.get(span.clone()).unwrap_or_default();
                self.error(&span, || format!("{key} = {}: {why}", shown(raw)));
                None
            }
        };
        self.values.insert(key, value);
    }

    fn error(&mut self, span: &Range<usize>, text: impl FnOnce() -> String) {
        let (path, source, name) = (self.path, self.text, self.name);
        self.found
            .report(|| Problem::error(path, text()).within(source, span).of(name));
    }

    /// The export, if all is as it should be.
    fn export(mut self, kind: Kind) -> Option<Export> {
        let Some(Some((Setting::Uri(uri), _))) = self.values.get(&Key::Uri) else {
            return None;
        };
        let mut settings = Settings::new(uri.clone());
        settings.name = self.name.clone();
        let mut boot = Boot::default();
        let mut origins = BTreeMap::new();
        let (mut device, mut path) = (0..0, 0..0);
        for (key, value) in std::mem::take(&mut self.values) {
            let (setting, span) = value?;
            match key {
                Key::Device => device = span.clone(),
                Key::Path => path = span.clone(),
                _ => {}
            }
            let line = Position::of(self.text, span.start).line;
            origins.insert(key, self.origin(Some(line)));
            setting.apply(&mut settings, &mut boot);
        }
        settings.settle(|key| origins.contains_key(&key));
        if let Err(error) = settings.agree() {
            self.error(&device, || format!("device: {error}"));
        }
        if let Err(error) = settings.may_be_root() {
            self.error(&path, || format!("path: {error}"));
        }
        if settings.device.is_some() {
            let named = self.origin(None);
            origins.entry(Key::Device).or_insert(named);
        }
        self.found.problems.is_empty().then(|| Export {
            settings,
            boot,
            kind,
            source: self.origin(None),
            origins,
            warnings: Vec::new(),
        })
    }

    fn origin(&self, line: Option<usize>) -> Origin {
        Origin {
            path: self.path.to_owned(),
            line,
        }
    }
}

/// The bytes of the line that has the byte `at`, without its end.
fn line_of(text: &str, at: usize) -> Range<usize> {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = after
        .find('\n')
        .map_or(text.len(), |newline| before.len() + newline);
    start..end
}

/// What to do about a line that gives one of our keys a value that is none: the
/// parser cannot know what was meant.
fn remedy(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let key = Key::of(key.trim())?;
    let quoted = value.trim_start().starts_with(['"', '\'']);
    (!quoted).then(|| format!("{key}: {}", how_to_write(key.form())))
}

const NO_TLS: &str = "{} asks for TLS, which this version of nbdctl cannot speak yet, and it will \
     not fall back to plaintext: remove it if plaintext will do";

fn unknown(name: &str, value: &DeValue<'_>) -> String {
    let shown = shown(name);
    let known = || Key::ALL.iter().map(|key| key.name());
    if let Some(near) = nearest(name, known()) {
        return format!("unknown key \"{shown}\": did you mean \"{near}\"?");
    }
    if value.is_table() {
        return format!("unknown table \"{shown}\": a file has no tables but its keys");
    }
    let known: Vec<_> = known().collect();
    format!("unknown key \"{shown}\": the keys are {}", known.join(", "))
}

/// A value's text, where it is of the right type.
fn written(form: Form, value: &DeValue<'_>) -> Result<String, String> {
    match (form, value) {
        (Form::Text, DeValue::String(text)) => Ok(text.clone().into_owned()),
        (Form::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Form::Number | Form::NumberOrInfinity, DeValue::Integer(number)) => {
            // What is no such number will be no such setting.
            Ok(decimal(number).unwrap_or_default())
        }
        (Form::NumberOrInfinity, DeValue::String(text)) if text == "infinity" => {
            Ok("infinity".to_owned())
        }
        (form, _) => Err(how_to_write(form).to_owned()),
    }
}

fn how_to_write(form: Form) -> &'static str {
    match form {
        Form::Text => "write it in quotes",
        Form::Switch => "write true or false, without quotes",
        Form::Number => "write a whole number, without quotes and unit",
        Form::NumberOrInfinity => {
            "write a whole number of seconds, without quotes, or \"infinity\""
        }
    }
}

fn decimal(number: &DeInteger<'_>) -> Option<String> {
    let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
    Some(number.to_string())
}

/// The file that [`read`] makes these settings of. What is as by default is left
/// out; so is the name, which is the file's.
#[must_use]
pub fn to_toml(settings: &Settings) -> String {
    let boot = Boot::default();
    let mut usual = Settings::new(settings.uri.clone());
    usual.root = settings.root;
    usual.settle(|_| false);
    let mut text = String::new();
    for key in Key::ALL {
        let value = key.value(settings, &boot);
        let told = *key == Key::Uri || (*key == Key::Root && settings.root);
        if !told && value == key.value(&usual, &boot) {
            continue;
        }
        let Some(value) = value else { continue };
        let value = match key.form() {
            Form::Text => quoted(&value),
            Form::NumberOrInfinity if value == "infinity" => quoted(&value),
            _ => value,
        };
        text.push_str(&format!("{key} = {value}\n"));
    }
    text
}

/// A basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[path = "toml_file_tests.rs"]
mod tests;
