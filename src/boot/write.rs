//! Puts the generator's units where systemd looks for them. It must not know what
//! they say.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::generator::{Content, Unit};

/// Writes every unit. systemd has emptied the folder.
///
/// # Errors
///
/// Those that could not be written; the others were.
pub fn write(units: &[Unit], folder: &Path) -> Result<(), Vec<(PathBuf, io::Error)>> {
    let mut failed = Vec::new();
    for unit in units {
        let path = folder.join(&unit.path);
        if let Err(error) = one(&path, &unit.content) {
            failed.push((path, error));
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed)
    }
}

fn one(path: &Path, content: &Content) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match content {
        Content::Text(text) => fs::write(path, text),
        Content::Link(target) => symlink(target, path),
    }
}
