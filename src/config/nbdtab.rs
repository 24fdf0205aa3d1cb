//! `/etc/nbdtab`, leniently: what nbd-client reads is read, and what it would
//! refuse the whole file for costs a warning, or one entry. It is never written. It
//! must not know where the file is.
//!
//! An entry is `DEVICE HOST EXPORT [OPTION[,OPTION...]]`. A word is a run without
//! blank, tab, comma, equals sign; there is no quoting.

use std::collections::BTreeMap;
use std::path::Path;

use super::export::{Found, Origin};
use super::name::Name;
use super::nbdtab_entry::Entry;
use super::problem::{Position, Problem};

/// No machine has more devices to attach.
const MAX_ENTRIES: usize = 4096;

/// Reads the file: the entries that can be used, and all that is wrong.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Found {
    let mut tab = Tab {
        path,
        found: Found::default(),
        devices: BTreeMap::new(),
        names: BTreeMap::new(),
    };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut crlf = false;
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if tab.devices.len() >= MAX_ENTRIES {
            let text = format!("more than {MAX_ENTRIES} entries: from here on none is read");
            let problem = Problem::error(path, text);
            tab.found.report(|| problem.at(place(number, 1)));
            break;
        }
        let plain = line.strip_suffix(b"\r").unwrap_or(line);
        if plain.len() < line.len() && !crlf {
            crlf = true;
            let text = "lines end in CR LF, and nbd-client takes the CR for a part of the last \
                        word: end them in LF";
            tab.found
                .report(|| Problem::warning(path, text.to_owned()).at(place(number, line.len())));
        }
        tab.line(number, plain);
    }
    tab.found.finish(path);
    tab.found
}

fn place(line: usize, column: usize) -> Position {
    Position { line, column }
}

struct Tab<'a> {
    path: &'a Path,
    found: Found,
    /// Where a device was first told of; nbd-client takes that line.
    devices: BTreeMap<u32, usize>,
    names: BTreeMap<Name, usize>,
}

impl Tab<'_> {
    fn line(&mut self, number: usize, bytes: &[u8]) {
        let path = self.path;
        let Ok(text) = std::str::from_utf8(bytes) else {
            let text = "what is no UTF-8: write the line in UTF-8".to_owned();
            return self
                .found
                .report(|| Problem::error(path, text).at(place(number, 1)));
        };
        let line = Line::of(text);
        if !line.oddities.is_empty() {
            let text = format!(
                "nbd-client refuses the whole file for {}: nbdctl reads it all the same",
                line.oddities.join(" and ")
            );
            self.found
                .report(|| Problem::warning(path, text).at(place(number, 1)));
        }
        if line.words.is_empty() {
            return;
        }
        let origin = Origin {
            path: path.to_owned(),
            line: Some(number),
        };
        let mut entry = Entry::default();
        let export = entry.read(&line.words, &origin);
        let twice = self.twice(&entry, number);
        let name = entry.name();
        for (column, severity, text) in entry.remarks {
            let mut problem = Problem::error(path, text).at(place(number, column));
            problem.severity = severity;
            problem.export.clone_from(&name);
            self.found.report(|| problem);
        }
        match twice {
            Some(problem) => self.found.report(|| problem),
            None => self.found.exports.extend(export),
        }
    }

    /// What is wrong with an entry whose device, or name, an earlier one has.
    fn twice(&mut self, entry: &Entry, number: usize) -> Option<Problem> {
        if let Some(index) = entry.index {
            if let Some(first) = self.devices.get(&index) {
                let text = format!(
                    "/dev/nbd{index} is told of in line {first}, which counts: this one is not used"
                );
                return Some(Problem::warning(self.path, text).at(place(number, 1)));
            }
            self.devices.insert(index, number);
        }
        let name = entry.name()?;
        if let Some(first) = self.names.get(&name) {
            let text = format!("the name \"{name}\" is taken by line {first}: choose another");
            return Some(Problem::error(self.path, text).at(place(number, 1)));
        }
        self.names.insert(name, number);
        None
    }
}

/// A line as a lexer sees it.
struct Line<'a> {
    /// What stands between blanks, with its column.
    words: Vec<(usize, &'a str)>,
    /// What nbd-client's grammar does not have.
    oddities: Vec<&'static str>,
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Self {
        let (body, comment) = cut_comment(text);
        let blank = |c: char| c == ' ' || c == '\t';
        let mut words = Vec::new();
        let mut start = None;
        for (column, (at, c)) in (1..).zip(body.char_indices()) {
            match start {
                None if !blank(c) => start = Some((column, at)),
                Some((column, from)) if blank(c) => {
                    words.push((column, body.get(from..at).unwrap_or_default()));
                    start = None;
                }
                _ => {}
            }
        }
        if let Some((column, from)) = start {
            words.push((column, body.get(from..).unwrap_or_default()));
        }
        let entry = !words.is_empty();
        let mut oddities = Vec::new();
        let odd = [
            (
                body.starts_with(blank),
                "a blank at the beginning of a line",
            ),
            (
                entry && body.ends_with(blank) && !comment,
                "a blank at the end of a line",
            ),
            (entry && comment, "a comment behind an entry"),
            (words.len() > 4, "a blank between options"),
            (
                words.iter().any(|(_, word)| word.contains(",,"))
                    || words.iter().skip(3).any(|(_, word)| word.starts_with(','))
                    || words.len() > 3 && words.last().is_some_and(|(_, w)| w.ends_with(',')),
                "a comma without an option",
            ),
            (
                words
                    .iter()
                    .skip(3)
                    .flat_map(|(_, word)| word.split(','))
                    .any(|option| option.matches('=').count() > 1),
                "an equals sign within a value",
            ),
        ];
        oddities.extend(odd.iter().filter(|(is, _)| *is).map(|(_, what)| *what));
        Self { words, oddities }
    }
}

/// A comment begins where a word could: `a#b` is a word.
fn cut_comment(text: &str) -> (&str, bool) {
    let mut fresh = true;
    for (at, c) in text.char_indices() {
        if c == '#' && fresh {
            return (text.get(..at).unwrap_or_default(), true);
        }
        fresh = matches!(c, ' ' | '\t' | ',' | '=');
    }
    (text, false)
}

#[cfg(test)]
#[path = "nbdtab_tests.rs"]
mod tests;
