//! The forms of dracut's stock module (dracut.cmdline(7)):
//!
//! ```text
//! nbd:SERVER:PORT|NAME|PORT/NAME[:FSTYPE[:MOUNTOPTS[:NBDOPTS]]]
//! ```
//!
//! with an IPv6 address in brackets, and any field empty but the server. Beyond it, a
//! URI may stand for the form, and NBDOPTS may be settings of nbdctl's.

use super::ours;
use super::parts::{Place, host, is_number, port};
use super::plan::{Dhcp, Mount};
use super::said::{Said, Source};
use crate::config::shown;

/// Whether a value is meant for this. A host may be called nbd-something.
pub(super) fn is_form(value: &str) -> bool {
    value.starts_with("nbd:") || is_uri(value)
}

fn is_uri(value: &str) -> bool {
    ["nbd://", "nbds://", "nbd+unix://", "nbds+unix://"]
        .iter()
        .any(|scheme| value.starts_with(scheme))
}

/// Reads a value; `is_root` where it is the root itself.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub(super) fn read(value: &str, is_root: bool, source: &Source) -> Result<Said, String> {
    one(value, is_root, source, None)
}

/// The same for DHCP's root-path, where the server may be left to the answer.
///
/// # Errors
///
/// As [`read`].
pub(super) fn read_with_server(value: &str, source: &Source, dhcp: &Dhcp) -> Result<Said, String> {
    one(value, false, source, dhcp.server.as_deref())
}

fn one(value: &str, is_root: bool, source: &Source, server: Option<&str>) -> Result<Said, String> {
    if is_uri(value) {
        let mut said = ours::read(value, source)?;
        (said.stock, said.is_root) = (true, is_root);
        return Ok(said);
    }
    let rest = value.strip_prefix("nbd:").unwrap_or(value);
    let (named, rest) = host(rest, &[':'])?;
    let named = if named.is_empty() {
        server.unwrap_or_default()
    } else {
        named
    };
    if named.is_empty() {
        return Err("it names no server: write nbd:SERVER:EXPORT".to_owned());
    }
    let rest = rest.strip_prefix(':').unwrap_or_default();
    let mut fields = rest.splitn(4, ':');
    let mut next = || fields.next().unwrap_or_default();
    let (what, fs_type, flags, options) = (next(), next(), next(), next());
    let mut place = Place {
        host: named.to_owned(),
        ..Place::default()
    };
    where_from(&mut place, what)?;
    let mut rest = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let bare = option.trim_start_matches('-');
        match bare.split_once('=') {
            Some(("port", text)) => place.port = Some(port(text)?),
            // As nbd-client calls the export.
            Some(("name" | "N", text)) => text.clone_into(&mut place.export),
            _ => rest.push(bare),
        }
    }
    let mut said = Said::new(place.uri()?, source);
    (said.stock, said.is_root) = (true, is_root);
    said.mount = Mount {
        fs_type: filled(fs_type),
        options: filled(flags),
    };
    for option in rest {
        client_option(&mut said, option)?;
    }
    Ok(said)
}

fn where_from(place: &mut Place, what: &str) -> Result<(), String> {
    if is_number(what) {
        place.port = Some(port(what)?);
        return Ok(());
    }
    match what.split_once('/') {
        Some((number, export)) if is_number(number) => {
            place.port = Some(port(number)?);
            export.clone_into(&mut place.export);
        }
        _ => what.clone_into(&mut place.export),
    }
    Ok(())
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// What was meant for nbd-client.
fn client_option(said: &mut Said, option: &str) -> Result<(), String> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    match name {
        // What they ask for is always so.
        "persist" | "p" | "swap" | "s" | "systemd-mark" | "m" | "netlink" => Ok(()),
        "bs" | "b" | "block-size" => said.option(&format!("block_size={value}")),
        "conns" | "C" | "connections" => said.option(&format!("connections={value}")),
        "dead-timeout" | "T" if value != "0" => said.option(&format!("dead_timeout={value}")),
        "timeout" | "t" | "dead-timeout" | "T" => {
            said.warnings.push(format!(
                "{} is not used: it would cut off a server that is merely slow; \
                 silence_timeout=SECONDS cuts off one that is silent, and dead_timeout=SECONDS is \
                 how long I/O waits for it to return",
                shown(option)
            ));
            Ok(())
        }
        _ => match said.option(option) {
            Err(why) if !why.contains("TLS") && why.starts_with("there is no option") => {
                said.warnings.push(format!("{why} (it is not used)"));
                Ok(())
            }
            result => result,
        },
    }
}
