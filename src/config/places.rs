//! Where the configuration is looked for, and the reading of it. Here alone files
//! are read; a file never makes this wait, or take more memory than its bounds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::export::{Export, Found, Kind, Origin};
use super::name::{Name, NameError};
use super::nbdtab;
use super::problem::{Position, Problem};
use super::setting::Key;
use super::toml_file;

/// No file that people write is longer, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// No machine has more exports in a folder: each needs a device of its own.
const MAX_FILES: usize = 4096;

/// Where configuration is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The folder of `NAME.toml`, `/etc/nbdctl`.
    pub etc: PathBuf,
    /// The folder of those that attach makes, `/run/nbdctl`.
    pub run: PathBuf,
    /// `/etc/nbdtab`
    pub nbdtab: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl Places {
    /// The places of a system whose root is mounted at `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            etc: root.join("etc/nbdctl"),
            run: root.join("run/nbdctl"),
            nbdtab: root.join("etc/nbdtab"),
        }
    }

    /// The files that may tell of a NAME, the strongest first. (The second is stronger
    /// yet where `/` is on it.)
    #[must_use]
    pub fn of(&self, name: &Name) -> [PathBuf; 3] {
        let file = format!("{name}.toml");
        [
            self.etc.join(&file),
            self.run.join(&file),
            self.nbdtab.clone(),
        ]
    }
}

/// All that the files say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// The exports that can be used, by NAME; one for each.
    pub exports: Vec<Export>,
    /// All that is wrong, by file and place.
    pub problems: Vec<Problem>,
}

/// Reads everything, and says all that is wrong with it.
#[must_use]
pub fn load(places: &Places) -> Configuration {
    let mut whole = Whole::default();
    whole.folder(&places.etc, Kind::Etc, places);
    whole.folder(&places.run, Kind::Run, places);
    let found = nbdtab_of(&places.nbdtab);
    whole.problems.extend(found.problems);
    for export in found.exports {
        whole.add(export);
    }
    whole.shared_devices();
    let place = |problem: &Problem| (problem.position.is_none(), problem.position);
    let mut problems = whole.problems;
    problems.sort_by(|a, b| a.path.cmp(&b.path).then(place(a).cmp(&place(b))));
    Configuration {
        exports: whole.exports.into_values().collect(),
        problems,
    }
}

/// One export; what is wrong elsewhere does not matter. `None` where nothing tells
/// of it.
///
/// # Errors
///
/// What keeps it from being used, and what else is odd about it.
pub fn find(places: &Places, name: &Name) -> Result<Option<Export>, Vec<Problem>> {
    let [etc, run, nbdtab] = places.of(name);
    let mut found = Found::default();
    if let Some(mut root) = root_of(&run, name) {
        if etc.exists() {
            root.problems.push(hidden_by_root(&etc, name, &run));
        }
        return one(root);
    }
    for (path, kind) in [(etc, Kind::Etc), (run, Kind::Run)] {
        // One that cannot be used is not passed over: it is what is meant.
        if let Some(file) = file_of(&path, kind, name) {
            return one(file);
        }
    }
    let all = nbdtab_of(&nbdtab);
    let its = |problem: &Problem| problem.export.as_ref() == Some(name);
    // A file that cannot be read may tell of any name.
    let unread = |problem: &Problem| problem.position.is_none() && problem.is_error();
    let problems = all.problems.into_iter();
    found.problems = problems.filter(|p| its(p) || unread(p)).collect();
    let mut exports = all.exports.into_iter();
    found.exports = exports
        .find(|export| export.settings.name == *name)
        .into_iter()
        .collect();
    one(found)
}

fn one(found: Found) -> Result<Option<Export>, Vec<Problem>> {
    match found.exports.into_iter().next() {
        Some(export) => Ok(Some(Export {
            warnings: found.problems,
            ..export
        })),
        None if found.problems.iter().any(Problem::is_error) => Err(found.problems),
        None => Ok(None),
    }
}

/// All that was found so far.
#[derive(Default)]
struct Whole {
    exports: BTreeMap<Name, Export>,
    /// Which file a NAME is told of by, also where it cannot be used.
    claimed: BTreeMap<Name, Origin>,
    problems: Vec<Problem>,
}

impl Whole {
    fn folder(&mut self, folder: &Path, kind: Kind, places: &Places) {
        let names = match names(folder) {
            Ok(names) => names,
            Err(problem) => return self.problems.push(problem),
        };
        for file in names {
            let path = folder.join(&file);
            let name = match name_of(&path, kind) {
                Ok(Some(name)) => name,
                Ok(None) => continue,
                Err(text) => {
                    self.problems.push(Problem::warning(&path, text));
                    continue;
                }
            };
            let [_, run, _] = places.of(&name);
            if kind == Kind::Etc && root_of(&run, &name).is_some() {
                self.problems.push(hidden_by_root(&path, &name, &run));
                continue;
            }
            let source = Origin {
                path: path.clone(),
                line: None,
            };
            if let Some(stronger) = self.claimed.get(&name) {
                let problem = Problem::warning(&path, not_used(&name, stronger));
                self.problems.push(problem.of(&name));
                continue;
            }
            self.claimed.insert(name.clone(), source);
            let found = file_of(&path, kind, &name).unwrap_or_else(|| {
                let text = "a link to nothing: remove it, or make what it leads to".to_owned();
                Found::failed(Problem::error(&path, text).of(&name))
            });
            self.problems.extend(found.problems);
            let export = found.exports.into_iter().next();
            self.exports.extend(export.map(|export| (name, export)));
        }
    }

    /// Adds an entry of nbdtab.
    fn add(&mut self, export: Export) {
        let name = export.settings.name.clone();
        match self.claimed.get(&name) {
            Some(stronger) => {
                let text = not_used(&name, stronger);
                self.problems.push(warning_about(&export, text));
            }
            None => {
                self.claimed.insert(name.clone(), export.source.clone());
                self.exports.insert(name, export);
            }
        }
    }

    fn shared_devices(&mut self) {
        let mut first: BTreeMap<u32, &Export> = BTreeMap::new();
        let mut shared = Vec::new();
        for export in self.exports.values() {
            let Some(index) = export.settings.device else {
                continue;
            };
            match first.get(&index) {
                Some(other) => {
                    let text = format!(
                        "/dev/nbd{index} is also the device of \"{}\" ({}): only one of them can \
                         be attached at a time",
                        other.settings.name, other.source
                    );
                    shared.push(warning_about(export, text));
                }
                None => drop(first.insert(index, export)),
            }
        }
        self.problems.extend(shared);
    }
}

fn warning_about(export: &Export, text: String) -> Problem {
    let place = export.origins.get(&Key::Device).unwrap_or(&export.source);
    let problem = Problem::warning(&place.path, text).of(&export.settings.name);
    match place.line {
        Some(line) => problem.at(Position { line, column: 1 }),
        None => problem,
    }
}

fn not_used(name: &Name, stronger: &Origin) -> String {
    format!("\"{name}\" is not used: {stronger} has that name, and comes first")
}

/// What the initramfs wrote of the export that `/` is on. It comes before whatever else
/// has its name, which commonly is what it was made of: that says nothing of a root, and
/// the unit were one that is stopped.
fn root_of(run: &Path, name: &Name) -> Option<Found> {
    let is_root = |found: &Found| found.exports.iter().any(|export| export.settings.root);
    file_of(run, Kind::Run, name).filter(is_root)
}

fn hidden_by_root(path: &Path, name: &Name, run: &Path) -> Problem {
    let run = Origin {
        path: run.to_owned(),
        line: None,
    };
    let text = format!("{}, as / is on it", not_used(name, &run));
    Problem::warning(path, text).of(name)
}

/// The files of a folder, in order. One that is not there has none.
fn names(folder: &Path) -> Result<Vec<OsString>, Problem> {
    let failed = |error: io::Error| {
        let text = format!("cannot be read: {error}: nothing in it is known");
        Problem::error(folder, text)
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        if names.len() == MAX_FILES {
            let text =
                format!("more than {MAX_FILES} files, so none is read: is this the right folder?");
            return Err(Problem::error(folder, text));
        }
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The NAME that a file tells of; `None` for what is none of ours.
///
/// # Errors
///
/// It looks as if it were meant to be one.
fn name_of(path: &Path, kind: Kind) -> Result<Option<Name>, String> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let leftover = file.starts_with(['.', '#'])
        || file.ends_with('~')
        || [".dpkg-", ".ucf-", ".rpmnew", ".rpmsave", ".rpmorig"]
            .iter()
            .any(|mark| file.contains(mark));
    match file.strip_suffix(".toml") {
        _ if leftover => Ok(None),
        Some(stem) => stem
            .parse()
            .map(Some)
            .map_err(|error: NameError| format!("not read: {error}")),
        // That folder has others, too.
        None if kind == Kind::Run || path.is_dir() => Ok(None),
        None => Err("not read: call it NAME.toml, or move it away".to_owned()),
    }
}

/// What a file says; `None` where there is none.
fn file_of(path: &Path, kind: Kind, name: &Name) -> Option<Found> {
    match read_bounded(path) {
        Ok(Some(bytes)) => Some(toml_file::read(path, kind, name, &bytes)),
        Ok(None) => None,
        Err(problem) => Some(Found::failed(problem.of(name))),
    }
}

fn nbdtab_of(path: &Path) -> Found {
    match read_bounded(path) {
        Ok(bytes) => nbdtab::read(path, &bytes.unwrap_or_default()),
        Err(problem) => Found::failed(problem),
    }
}

/// A file's bytes; `None` where there is none.
fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    let failed = |error: io::Error| Problem::error(path, format!("cannot be read: {error}"));
    // Opening a pipe would wait for its writer.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        let text = "no regular file, so it is not read: make it one, or move it away".to_owned();
        return Err(Problem::error(path, text));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        let text =
            format!("longer than {MAX_FILE} bytes, so it is not read: is this the right file?");
        return Err(Problem::error(path, text));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
