//! `nbdctl config check` and `nbdctl config show NAME`: what the files say, and what
//! is wrong with them. Nothing is attached, and no server is asked.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::ConfigVerb;
use super::{Exit, answer, answer_json, note, show};
use crate::config::{Export, Form, Key, Name, Places, Problem, find, load, unit_name};

pub(super) fn run(verb: &ConfigVerb, places: &Places) -> Exit {
    match verb {
        ConfigVerb::Check { json } => check(places, *json),
        ConfigVerb::Show { name, json } => match found(places, name) {
            Ok(export) if *json => answer_json(&described(&export)),
            Ok(export) => {
                for warning in &export.warnings {
                    note(&warning.to_string());
                }
                answer(table(&export).trim_end());
                Exit::Done
            }
            Err(exit) => exit,
        },
    }
}

/// The export of a NAME; else what is wrong was told.
pub(super) fn found(places: &Places, name: &Name) -> Result<Export, Exit> {
    match find(places, name) {
        Ok(Some(export)) => Ok(export),
        Ok(None) => {
            let [etc, run, nbdtab] = places.of(name).map(|path| path.display().to_string());
            note(&format!(
                "no export is called \"{name}\": there is no {etc} and no {run}, and {nbdtab} has \
                 no such entry: write one, or give a URI (nbd://HOST/EXPORT)"
            ));
            Err(Exit::NotFound)
        }
        Err(problems) => {
            for problem in problems {
                note(&problem.to_string());
            }
            Err(Exit::Failed)
        }
    }
}

fn check(places: &Places, json: bool) -> Exit {
    let configuration = load(places);
    let errors = configuration.problems.iter().filter(|p| p.is_error());
    let errors = errors.count();
    let exit = if errors > 0 { Exit::Failed } else { Exit::Done };
    let exports = configuration.exports.iter();
    if json {
        let names: Vec<_> = exports
            .map(|export| export.settings.name.as_str())
            .collect();
        let problems: Vec<_> = configuration.problems.iter().map(Told::from).collect();
        let told = answer_json(&json!({ "exports": names, "problems": problems }));
        return if errors > 0 { exit } else { told };
    }
    for problem in &configuration.problems {
        answer(&problem.to_string());
    }
    let warnings = configuration.problems.len() - errors;
    let count = |number: usize, what| show::count(number as u64, what);
    answer(&format!(
        "{}, {}, {}",
        count(exports.len(), "export"),
        count(errors, "error"),
        count(warnings, "warning")
    ));
    exit
}

/// A problem for programs.
#[derive(Serialize)]
struct Told<'a> {
    path: String,
    line: Option<usize>,
    column: Option<usize>,
    severity: &'static str,
    export: Option<&'a str>,
    text: &'a str,
}

impl<'a> From<&'a Problem> for Told<'a> {
    fn from(problem: &'a Problem) -> Self {
        Self {
            path: problem.path.display().to_string(),
            line: problem.position.map(|position| position.line),
            column: problem.position.map(|position| position.column),
            severity: if problem.is_error() {
                "error"
            } else {
                "warning"
            },
            export: problem.export.as_ref().map(Name::as_str),
            text: &problem.text,
        }
    }
}

fn origin(export: &Export, key: Key) -> String {
    let origin = export.origins.get(&key);
    origin.map_or_else(|| "default".to_owned(), ToString::to_string)
}

/// A line for each setting: its key, what is done, and where that comes from.
fn table(export: &Export) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str, from: &str| {
        let line = format!("{key:<17} {:<37} {from}", show::text(value));
        let _ = writeln!(text, "{}", line.trim_end());
    };
    let name = &export.settings.name;
    line("name", name.as_str(), &export.source.to_string());
    line("unit", &unit_name(name), "");
    for key in Key::ALL {
        let value = key.value(&export.settings, &export.boot);
        let value = value.unwrap_or_else(|| key.left_open(&export.settings));
        // Words have no unit.
        let unit = key.unit().filter(|_| value.parse::<u64>().is_ok());
        let value = match unit {
            Some(unit) => format!("{value} {unit}"),
            None => value,
        };
        line(key.name(), &value, &origin(export, *key));
    }
    text
}

/// The same for programs; `null` is what is left to the server, the kernel or
/// systemd.
fn described(export: &Export) -> Value {
    let settings: Map<_, _> = Key::ALL
        .iter()
        .map(|key| {
            let value = key.value(&export.settings, &export.boot);
            let from = origin(export, *key);
            let shown = json!({ "value": value.map(|text| typed(*key, text)), "from": from });
            (key.name().to_owned(), shown)
        })
        .collect();
    let warnings: Vec<_> = export.warnings.iter().map(Told::from).collect();
    json!({
        "name": export.settings.name.as_str(),
        "unit": unit_name(&export.settings.name),
        "source": export.source.to_string(),
        "settings": settings,
        "warnings": warnings,
    })
}

/// A value of the type that a file has for it.
fn typed(key: Key, text: String) -> Value {
    match key.form() {
        Form::Text => Value::String(text),
        Form::Switch => Value::Bool(text == "true"),
        Form::Number | Form::NumberOrInfinity => text
            .parse::<u64>()
            .map_or_else(|_| Value::String(text), Value::from),
    }
}
