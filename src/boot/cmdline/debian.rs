//! The forms of Debian's nbd-client in initramfs-tools (its README.Debian):
//!
//! ```text
//! nbdroot=HOST[:[PORT]]/NAME   HOST,NAME-or-PORT[,DEVICE]   dhcp   (empty)
//! ```
//!
//! with `dhcp`, or nothing, for a host that DHCP names, an IPv6 address in brackets,
//! and the device in `nbddev=`.

use super::parts::{Place, host, is_number, port};
use super::plan::Dhcp;
use super::said::{Said, Source};
use crate::config::{device_index, shown};

/// Whether it takes DHCP to know what is meant.
pub(super) fn asks_dhcp(value: &str) -> bool {
    let end = value.find(['/', ',', ':']).unwrap_or(value.len());
    let (host, _) = value.split_at(end);
    matches!(host, "" | "dhcp") && !value.starts_with('[')
}

/// Reads a value; the device is what `nbddev=` says.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub(super) fn read(
    value: &str,
    device: Option<&str>,
    source: &Source,
    dhcp: Option<&Dhcp>,
) -> Result<Said, String> {
    let mut warnings = Vec::new();
    let (named, rest) = host(value, &[',', ':', '/'])?;
    let named = match named {
        "" | "dhcp" => dhcp.and_then(|dhcp| dhcp.server.as_deref()).ok_or(
            "it leaves the host to DHCP, whose answer named none: write HOST/EXPORT, or set the \
             server there",
        )?,
        named => named,
    };
    let mut place = Place {
        host: named.to_owned(),
        ..Place::default()
    };
    let mut third = None;
    if let Some(fields) = rest.strip_prefix(',') {
        let (what, device) = fields.split_once(',').unwrap_or((fields, ""));
        third = Some(device).filter(|device| !device.is_empty());
        if is_number(what) {
            place.port = Some(port(what)?);
            warnings.push(format!(
                "{what} is taken for the port of the server's default export: for an export of \
                 that name write HOST/{what}"
            ));
        } else {
            what.clone_into(&mut place.export);
        }
    } else {
        let (number, export) = match rest.strip_prefix(':') {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", rest.strip_prefix('/').unwrap_or_default()),
        };
        if !number.is_empty() {
            place.port = Some(port(number)?);
        }
        export.clone_into(&mut place.export);
    }
    let mut said = Said::new(place.uri()?, source);
    said.stock = true;
    said.warnings = warnings;
    if let Some(text) = device.filter(|text| !text.is_empty()).or(third) {
        let (index, partition) = node(text).ok_or_else(|| {
            let who = if device.is_some() {
                "nbddev="
            } else {
                "the device "
            };
            format!("{who}{}: give /dev/nbdN", shown(text))
        })?;
        (said.settings.device, said.partition) = (Some(index), partition);
    }
    Ok(said)
}

/// `/dev/nbd0`, `nbd0p1`: the index, and the partition.
pub(super) fn node(text: &str) -> Option<(u32, Option<u32>)> {
    if let Ok(index) = device_index(text) {
        return Some((index, None));
    }
    let (disk, number) = text.rsplit_once('p')?;
    let index = device_index(disk).ok()?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    Some((index, Some(number)))
}
