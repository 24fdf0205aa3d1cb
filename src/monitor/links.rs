//! The connections of a device, from their dialling until the kernel has them.

use super::error::Error;
use super::runtime::Link;
use crate::config::Settings;
use crate::kernel::geometry::Geometry;
use crate::kernel::{self, KernelSocket};
use crate::session::{Deadline, Session, open_each};

/// Sessions that became the kernel's.
pub(super) struct Links {
    pub(super) sockets: Vec<KernelSocket>,
    pub(super) links: Vec<Link>,
    pub(super) geometry: Geometry,
}

impl Links {
    /// Opens every connection, side by side, and makes sure that they lead to one
    /// export.
    pub(super) fn open(settings: &Settings) -> Result<Self, Error> {
        let deadline = Deadline::after(settings.connect_timeout);
        let count = settings.connections.get();
        let mut sessions: Vec<Session> = Vec::new();
        for session in open_each(&settings.uri, count, deadline)? {
            let session = session?;
            // The first to stand knows; the others may wait in vain at a server
            // that serves one client at a time.
            if count > 1 && !session.export().can_multi_conn() {
                return Err(Error::OneConnection);
            }
            if sessions
                .iter()
                .any(|first| first.export() != session.export())
            {
                return Err(Error::Disagree);
            }
            sessions.push(session);
        }
        let Some(first) = sessions.first() else {
            return Err(Error::Disagree);
        };
        let geometry = Geometry::new(
            first.export(),
            settings.block_size.map(|size| size.bytes()),
            settings.read_only,
        )
        .map_err(kernel::Error::from)?;
        let mut sockets = Vec::new();
        let mut links = Vec::new();
        for session in sessions {
            let peer = session.peer().to_owned();
            let compact = session
                .into_compact()
                .map_err(|session| Error::NotCompact(session.header_style().as_str()))?;
            let socket = KernelSocket::from(compact);
            links.push(Link {
                peer,
                tcp: settings.uri.is_tcp(),
                inode: socket.inode(),
            });
            sockets.push(socket);
        }
        Ok(Self {
            sockets,
            links,
            geometry,
        })
    }
}
