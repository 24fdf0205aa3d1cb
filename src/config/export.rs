//! What a configured export is: its settings, what booting does with it, and where
//! each value comes from. It must not know how files are read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::problem::{Problem, shown};
use super::setting::Key;
use super::settings::Settings;
use super::values::DeviceTimeout;

/// An export that the configuration tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// What attach needs to know.
    pub settings: Settings,
    /// What booting needs to know.
    pub boot: Boot,
    /// What kind of file it is from.
    pub kind: Kind,
    /// The file, and the line of nbdtab.
    pub source: Origin,
    /// Where the values come from; what is not in it is a default.
    pub origins: BTreeMap<Key, Origin>,
    /// What is odd about it, and keeps nothing from working.
    pub warnings: Vec<Problem>,
}

/// What booting does with an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boot {
    /// It is attached when asked for, not at boot.
    pub noauto: bool,
    /// Booting goes on without it.
    pub nofail: bool,
    /// How long booting waits for its device; `None` leaves it to systemd.
    pub device_timeout: Option<DeviceTimeout>,
}

/// Kinds of files, the strongest first: of two exports with one name the first is
/// taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `/etc/nbdctl/NAME.toml`
    Etc,
    /// `/run/nbdctl/NAME.toml`: made by attach, gone at the next boot.
    Run,
    /// A line of `/etc/nbdtab`
    Nbdtab,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; `None` where it is the file as a whole, or its name.
    pub line: Option<usize>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.path.to_string_lossy()))?;
        match self.line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

/// What a reader of one file found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) exports: Vec<Export>,
    pub(super) problems: Vec<Problem>,
    /// How many more there are.
    untold: usize,
}

/// The most problems of one file that are told: whoever has more has the wrong
/// file.
const MAX_PROBLEMS: usize = 100;

impl Found {
    /// Nothing but a problem.
    pub(super) fn failed(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
            ..Self::default()
        }
    }

    /// Notes a problem, unless there are enough.
    pub(super) fn report(&mut self, problem: impl FnOnce() -> Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            let problem = problem();
            self.problems.push(problem);
        } else {
            self.untold += 1;
        }
    }

    /// Puts the problems in the order of the file, and says how many more there are.
    pub(super) fn finish(&mut self, path: &Path) {
        self.problems.sort_by_key(|problem| problem.position);
        if self.untold > 0 {
            let text = format!("{} more problems: is this the right file?", self.untold);
            self.problems.push(Problem::error(path, text));
        }
    }
}
