//! The generator of systemd (systemd.generator(7)): what runs when the program is
//! called `nbdctl-generator`. It waits for nothing and asks no network; early in the
//! boot there is no journal, so it tells the kernel's log.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Exit, note};
use crate::boot;
use crate::config::{self, Places};

const CALLED: &str = "nbdctl-generator";

/// Where the units are installed, for a generator that does not tell by its own
/// place where that is.
const UNITS: &str = "/usr/lib/systemd/system";

pub(super) fn is_called() -> bool {
    let name = std::env::args_os().next();
    let name = name.as_ref().and_then(|name| Path::new(name).file_name());
    name.is_some_and(|name| name == CALLED)
}

/// What is wrong in the configuration is told, and what is right is used. It fails
/// only where nothing can be written.
pub(super) fn run() -> Exit {
    let arguments: Vec<PathBuf> = std::env::args_os().map(PathBuf::from).collect();
    let [program, normal, _early, _late] = arguments.as_slice() else {
        note("systemd calls this with three folders");
        return Exit::Usage;
    };
    let configuration = config::load(&Places::default());
    for problem in &configuration.problems {
        tell(4, &problem.to_string());
    }
    let beside = beside(program);
    let units = boot::generate(&configuration, &beside, has_survival(&beside));
    match boot::write(&units, normal) {
        Ok(()) => Exit::Done,
        Err(failed) => {
            for (path, error) in failed {
                tell(3, &format!("{}: {error}", path.display()));
            }
            Exit::Failed
        }
    }
}

/// `/usr/lib/systemd/system` for `/usr/lib/systemd/system-generators/nbdctl-generator`.
fn beside(program: &Path) -> PathBuf {
    let folder = program.ancestors().nth(2).map(|up| up.join("system"));
    let folder = folder.filter(|folder| folder.is_absolute());
    folder.unwrap_or_else(|| PathBuf::from(UNITS))
}

/// Whether systemd is of version 255 or later, by a program that came with it.
fn has_survival(units: &Path) -> bool {
    let folders = [units, Path::new(UNITS)].into_iter();
    folders
        .filter_map(Path::parent)
        .any(|folder| folder.join("systemd-executor").exists())
}

/// One line, to the kernel's log or else to standard error.
fn tell(priority: u8, text: &str) {
    /// The kernel cuts what is longer.
    const MAX: usize = 900;
    let line: String = text.chars().filter(|c| !c.is_control()).take(MAX).collect();
    let kernel = File::options().append(true).open("/dev/kmsg");
    let written = kernel
        .and_then(|mut file| file.write_all(format!("<{priority}>{CALLED}: {line}").as_bytes()));
    if written.is_err() {
        note(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_beside_the_generator() {
        for (program, units) in [
            ("/usr/lib/systemd/system-generators/nbdctl-generator", UNITS),
            (
                "/usr/local/lib/systemd/system-generators/g",
                "/usr/local/lib/systemd/system",
            ),
            ("nbdctl-generator", UNITS),
            ("x/nbdctl-generator", UNITS),
        ] {
            assert_eq!(beside(Path::new(program)), Path::new(units), "{program}");
        }
    }
}
