//! Is an export attached on this machine? Whoever is to erase one asks here.
//!
//! One server has many addresses and an export may have many names, so that two
//! URIs do not show what they lead to; nor can everyone read /run/nbdctl. What
//! cannot be told apart is suspect.

use crate::kernel;
use crate::monitor::{Attachment, attachments};
use crate::session::{Client, same_peer};
use crate::uri::{Endpoint, Uri};

/// Why an export is not to be touched.
pub(super) enum Suspect {
    /// It is attached as this device.
    Is(String),
    /// It may be, for this reason.
    MayBe(String, &'static str),
}

/// Looks at every device of ours; `client` is a session on the export, where
/// there is one already.
pub(super) fn suspect(
    uri: &Uri,
    client: Option<&Client>,
) -> Result<Option<Suspect>, kernel::Error> {
    let all = attachments()?;
    Ok(all.iter().find_map(|one| judge(one, uri, client)))
}

fn judge(one: &Attachment, uri: &Uri, client: Option<&Client>) -> Option<Suspect> {
    let device = one.device.path().display().to_string();
    if one.identifier.is_of(uri) {
        return Some(Suspect::Is(device));
    }
    let Some((text, peers)) = &one.origin else {
        let why = "/run/nbdctl does not tell where that comes from; root may see more";
        return Some(Suspect::MayBe(device, why));
    };
    let Ok(its) = Uri::parse(text) else {
        return Some(Suspect::MayBe(device, "its URI cannot be read"));
    };
    let by_name = same_endpoint(its.endpoint(), uri.endpoint());
    let by_peer =
        client.is_some_and(|client| peers.iter().any(|peer| same_peer(peer, client.peer())));
    if !by_name && !by_peer {
        return None;
    }
    if its.export() == uri.export() {
        return Some(Suspect::Is(device));
    }
    // Some servers have one disk under every name.
    let block = u64::from(one.device.block_size().unwrap_or(512));
    let size = client?.export().size;
    (size - size % block == one.device.size()).then_some(Suspect::MayBe(
        device,
        "the same server, and the same size under another name",
    ))
}

fn same_endpoint(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Unix { path: one }, Endpoint::Unix { path: other }) => {
            let real =
                |path: &std::path::PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
            real(one) == real(other)
        }
        _ => one == other,
    }
}
