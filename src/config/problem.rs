//! What is wrong in a file: where, what, and what to do about it. It must not know
//! any file's grammar.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::name::Name;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What it stands in is not used.
    Error,
    /// It is used, and perhaps not as meant.
    Warning,
}

/// A place in a file, both counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// Where the byte `at` of a text is.
    pub(super) fn of(text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }
}

/// Something wrong. It shows as one line, `PATH:LINE:COLUMN: WHAT: REMEDY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the folder.
    pub path: PathBuf,
    /// Where in it; `None` for all of it.
    pub position: Option<Position>,
    /// Whether the export is lost by it.
    pub severity: Severity,
    /// What it is, and what to do. No character of it needs escaping.
    pub text: String,
    /// Whose it is, as far as that is known.
    pub export: Option<Name>,
}

impl Problem {
    pub(super) fn error(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            position: None,
            severity: Severity::Error,
            text,
            export: None,
        }
    }

    pub(super) fn warning(path: &Path, text: String) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, text)
        }
    }

    pub(super) fn at(self, position: Position) -> Self {
        Self {
            position: Some(position),
            ..self
        }
    }

    /// Where the first byte of a range of a text is.
    pub(super) fn within(self, text: &str, span: &Range<usize>) -> Self {
        self.at(Position::of(text, span.start))
    }

    pub(super) fn of(self, name: &Name) -> Self {
        Self {
            export: Some(name.clone()),
            ..self
        }
    }

    /// Whether something is not used for it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", shown(&self.path.to_string_lossy()))?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        write!(f, " {}", self.text)
    }
}

/// A file's text for a terminal and for one line of a log: what is invisible is
/// escaped, what is endless is cut.
#[must_use]
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 240;
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let place = |at| {
            let Position { line, column } = Position::of("ä = 1\nb", at);
            (line, column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(2), (1, 2));
        assert_eq!(place(7), (2, 1));
        assert_eq!(place(8), (2, 2));
        // Within a character, and behind the end.
        assert_eq!(place(1), (2, 2));
        assert_eq!(place(99), (2, 2));
    }

    #[test]
    fn a_problem_is_one_line_whatever_its_file_is_called() {
        let problem = Problem::warning(Path::new("/a\n\u{202e}"), shown("x\u{9b}\n\"y\""));
        assert_eq!(
            problem.at(Position { line: 3, column: 5 }).to_string(),
            "/a\\n\\u{202e}:3:5: warning: x\\u{9b}\\n\"y\""
        );
        assert!(shown(&"x".repeat(10_000)).len() < 300);
    }
}
