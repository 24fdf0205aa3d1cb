//! Parts that dracut's and Debian's forms have in common: a host, a port, the name of
//! an export, as they were typed.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::{Key, Setting};
use crate::uri::{DEFAULT_PORT, Uri};

/// Where an export is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// Empty for the server's default.
    pub(super) export: String,
}

impl Place {
    /// The URI that means the same. The default port is left out, so that it has one
    /// form.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(super) fn uri(&self) -> Result<Uri, String> {
        let export = utf8_percent_encode(&self.export, IN_PATH);
        let host = match self.host.split_once('%') {
            _ if !self.host.contains(':') => utf8_percent_encode(&self.host, IN_HOST).to_string(),
            Some((address, zone)) => {
                format!("[{address}%25{}]", utf8_percent_encode(zone, IN_HOST))
            }
            None => format!("[{}]", self.host),
        };
        let text = match self.port {
            None | Some(DEFAULT_PORT) => format!("nbd://{host}/{export}"),
            Some(port) => format!("nbd://{host}:{port}/{export}"),
        };
        match Setting::read(Key::Uri, &text) {
            Ok(Setting::Uri(uri)) => Ok(uri),
            Ok(_) => Err(String::new()),
            Err(error) => Err(error.to_string()),
        }
    }
}

const IN_HOST: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const IN_PATH: &AsciiSet = &IN_HOST.remove(b'/').remove(b':').remove(b'@');

/// Cuts a host off the front of a text, whose address may be in brackets: the host, and
/// what follows with the character that ended it.
///
/// # Errors
///
/// A bracket that is not closed, or nothing sensible behind it.
pub(super) fn host<'a>(text: &'a str, ends: &[char]) -> Result<(&'a str, &'a str), String> {
    let Some(inner) = text.strip_prefix('[') else {
        let end = text.find(ends).unwrap_or(text.len());
        return Ok(text.split_at(end));
    };
    let Some((address, rest)) = inner.split_once(']') else {
        return Err("the bracket around the address is not closed: write [ADDRESS]".to_owned());
    };
    if !(rest.is_empty() || rest.starts_with(ends)) {
        return Err("there is something behind the ] of the address: write [ADDRESS]:PORT".into());
    }
    Ok((address, rest))
}

/// A port.
///
/// # Errors
///
/// It is none.
pub(super) fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(format!(
            "\"{}\" is no port: give a number from 1 to 65535",
            text.escape_debug()
        )),
    }
}

/// Whether a text is meant as a port: nothing but digits.
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
