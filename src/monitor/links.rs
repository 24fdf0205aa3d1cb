//! The connections of a device, from their dialling until the kernel has them.

use std::time::Duration;

use super::error::Error;
use super::machine::Failure;
use super::relay::{self, Relay, Start};
use super::runtime::Runtime;
use super::serve::Watched;
use super::state::Link;
use crate::config::{DataPath, Settings};
use crate::kernel::geometry::Geometry;
use crate::kernel::{self, KernelSocket};
use crate::relay::message::{Order, Promise};
use crate::session::{Deadline, Session, SocketAddr, identify, open_each, resolve};

/// Sessions that became the kernel's.
pub(super) struct Links {
    pub(super) sockets: Vec<KernelSocket>,
    pub(super) links: Vec<Link>,
    /// What our ends are bound to.
    pub(super) locals: Vec<Option<SocketAddr>>,
    pub(super) geometry: Geometry,
    /// Who carries the I/O, where that is a relay: of one link.
    pub(super) relay: Option<Relay>,
}

impl Links {
    /// Opens what the settings want, or what the server requires.
    pub(super) fn open(
        settings: &Settings,
        runtime: &Runtime,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Self, Error> {
        match settings.path {
            DataPath::Kernel => Self::to_server(settings),
            DataPath::Relay => Self::to_relay(settings, runtime, stopped),
            DataPath::Auto => match Self::to_server(settings) {
                // (A relay of the root would not live through the change of roots.)
                Err(Error::Session(error))
                    if error.fault.requires_extended_headers() && !settings.root =>
                {
                    tracing::info!("the server requires extended headers: a relay speaks them");
                    Self::to_relay(settings, runtime, stopped)
                }
                opened => opened,
            },
        }
    }

    /// Starts a relay, and lets it carry I/O as soon as there is any: whoever finds the
    /// device finds that, too.
    fn to_relay(
        settings: &Settings,
        runtime: &Runtime,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Self, Error> {
        let addresses = resolve(&settings.uri, settings.connect_timeout)?;
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let peer = addresses.first().cloned().unwrap_or_default();
        let starting = Start {
            settings,
            addresses,
            socket: runtime.new_relay_socket(0),
            going_down: false,
            allowed: settings.connect_timeout,
        };
        let mut offering = starting.run(|| {}, stopped)?;
        let geometry = Geometry::new(
            &relay::export(&offering.offered),
            settings.block_size.map(|size| size.bytes()),
            settings.read_only,
        )
        .map_err(kernel::Error::from)?;
        let path = runtime.relay_socket();
        let place = |error| Error::Runtime {
            path: path.clone(),
            error,
        };
        offering.relay.install(&path).map_err(place)?;
        offering.relay.order(&Order::Serve(Promise {
            size: geometry.size,
            flags: geometry.flags.0,
            block_size: geometry.block_size,
            max_request: geometry.max_sectors_kb.saturating_mul(1024),
        }));
        let link = Link {
            peer,
            tcp: false,
            inode: offering.socket.inode(),
            relay: Some(offering.relay.id()),
        };
        Ok(Self {
            sockets: vec![offering.socket],
            links: vec![link],
            locals: vec![None],
            geometry,
            relay: Some(offering.relay),
        })
    }

    /// Each, to be watched.
    pub(super) fn watched(self) -> impl Iterator<Item = Watched> {
        let mut relay = self.relay;
        let links = self.links.into_iter().zip(self.sockets).zip(self.locals);
        links.map(move |((link, socket), local)| match relay.take() {
            Some(relay) => Watched::relay(link, Some(socket), relay),
            None => Watched::own(link, socket, local),
        })
    }

    /// Opens every connection, side by side, and makes sure that they lead to one
    /// export, and to the disk that was asked for.
    fn to_server(settings: &Settings) -> Result<Self, Error> {
        let sessions = open_sessions(settings)?;
        let Some(first) = sessions.first() else {
            return Err(Error::Disagree);
        };
        let geometry = Geometry::new(
            first.export(),
            settings.block_size.map(|size| size.bytes()),
            settings.read_only,
        )
        .map_err(kernel::Error::from)?;
        let mut all = Self {
            sockets: Vec::new(),
            links: Vec::new(),
            locals: Vec::new(),
            geometry,
            relay: None,
        };
        for session in sessions {
            let session = check_identity(session, settings, settings.connect_timeout)?;
            let peer = session.peer().to_owned();
            all.locals.push(session.local_address());
            let compact = session
                .into_compact()
                .map_err(|session| Error::NotCompact(session.header_style().as_str()))?;
            let socket = KernelSocket::from(compact);
            prepare(&socket, settings);
            all.links.push(Link {
                peer,
                tcp: settings.uri.is_tcp(),
                inode: socket.inode(),
                relay: None,
            });
            all.sockets.push(socket);
        }
        Ok(all)
    }
}

fn open_sessions(settings: &Settings) -> Result<Vec<Session>, Error> {
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
    Ok(sessions)
}

/// What a socket must be before the kernel has it: asked four times within the time
/// after which silence is silence, and gone with all that it holds when it is closed.
pub(super) fn prepare(socket: &KernelSocket, settings: &Settings) {
    socket.keep_alive(settings.silence_timeout / 4);
    socket.reset_on_close(true);
}

/// Gives the session back where its disk is the one that was asked for, if one
/// was.
pub(super) fn check_identity(
    session: Session,
    settings: &Settings,
    allowed: Duration,
) -> Result<Session, Error> {
    let Some(wanted) = &settings.identity else {
        return Ok(session);
    };
    let (session, found) = identify(session, &settings.uri, allowed)?;
    if found.iter().any(|identity| identity.id == *wanted) {
        return Ok(session);
    }
    Err(Error::OtherDisk {
        wanted: wanted.clone(),
        there: found
            .iter()
            .map(|identity| format!("{} {}", identity.kind, identity.id))
            .collect(),
    })
}

/// An attempt that came to nothing; a server that was too slow gets longer the next
/// time.
pub(super) fn failure(error: &Error) -> Failure {
    Failure {
        why: error.to_string(),
        stalled: matches!(error, Error::Session(error) if error.fault.is_timeout()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::uri::Uri;

    #[test]
    fn a_server_that_is_too_slow_for_whatever_is_given_longer() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("nbd://{}/x", silent.local_addr().unwrap());
        let deadline = Deadline::after(Duration::from_millis(50));
        let error = Session::open(&Uri::parse(&uri).unwrap(), deadline).unwrap_err();
        assert!(failure(&Error::Session(error)).stalled);
        assert!(!failure(&Error::Disagree).stalled);
    }
}
