//! `rd.nbdctl=URI[,OPTION…]`: options are called as the keys of NAME.toml.

use super::said::{Said, Source};
use crate::config::{Key, Setting};

/// Reads a value.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub(super) fn read(value: &str, source: &Source) -> Result<Said, String> {
    let mut options = value.split(',');
    let uri = options.next().unwrap_or_default();
    let uri = match Setting::read(Key::Uri, uri) {
        Ok(Setting::Uri(uri)) => uri,
        Ok(_) => return Err(String::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut said = Said::new(uri, source);
    for option in options.filter(|option| !option.is_empty()) {
        said.option(option)?;
    }
    said.settings.agree().map_err(|error| error.to_string())?;
    Ok(said)
}
