//! Reading what identifies a disk, before it is anybody's.

use std::time::Duration;

use super::Session;
use super::client::Client;
use super::deadline::Deadline;
use super::error::Error;
use super::identity::{EXTENT, Identity, identities};
use crate::uri::Uri;

/// What identifies the disk behind a session, and the session as it was: nothing
/// in flight, nothing unread. An export that is too small for a signature does not
/// have it.
///
/// # Errors
///
/// The server fails to read, breaks the protocol, or does not answer in time. The
/// session is over then.
pub fn identify(
    session: Session,
    uri: &Uri,
    allowed: Duration,
) -> Result<(Session, Vec<Identity>), Error> {
    let deadline = Deadline::after(allowed);
    let mut client = Client::new(uri, session, allowed);
    let disk = beginning(&mut client, deadline)?;
    Ok((client.into_session()?, identities(&disk)))
}

/// The bytes that matter, in whole blocks, no more at a time than the server takes.
fn beginning(client: &mut Client, deadline: Deadline) -> Result<Vec<u8>, Error> {
    let export = client.export();
    let sizes = export.block_sizes;
    let block = u64::from(sizes.minimum);
    let end = EXTENT
        .next_multiple_of(block)
        .min(export.size - export.size % block);
    // Not less than a block: `BlockSizes` sees to that.
    let most = u64::from(sizes.maximum_payload.min(Client::MAX_READ));
    let step = most - most % block;
    let mut disk = Vec::new();
    let mut at = 0;
    while at < end {
        let length = step.min(end - at);
        let length32 = u32::try_from(length).unwrap_or(Client::MAX_READ);
        disk.extend(client.read_bytes_by(deadline, at, length32)?);
        at += length;
    }
    Ok(disk)
}
