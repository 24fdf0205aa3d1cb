//! From addresses to a session with the disk that is wanted. It must not know when.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::super::message::{Begin, Failed};
use crate::session::{Address, Deadline, Error, Probe, Session, SocketAddr, identify};
use crate::uri::Uri;

/// Where the server is, and what is wanted of it.
pub(super) struct Dialler {
    uri: Uri,
    addresses: Mutex<Vec<Address>>,
    identity: Option<String>,
    exit_of: fn(&Error) -> u8,
}

impl Dialler {
    /// As a monitor ordered it.
    ///
    /// # Errors
    ///
    /// The order makes no sense.
    pub(super) fn new(begin: &Begin, exit_of: fn(&Error) -> u8) -> Result<Self, String> {
        let uri = Uri::parse(&begin.uri).map_err(|error| error.to_string())?;
        let addresses = parse(&begin.addresses);
        if addresses.is_empty() {
            return Err(format!(
                "there is no address to dial in {:?}",
                begin.addresses
            ));
        }
        Ok(Self {
            uri,
            addresses: Mutex::new(addresses),
            identity: begin.identity.clone(),
            exit_of,
        })
    }

    /// Other addresses, if there are any.
    pub(super) fn set(&self, addresses: &[String]) {
        let addresses = parse(addresses);
        if !addresses.is_empty() {
            *self.lock() = addresses;
        }
    }

    /// The first session: each address gets its share of the time.
    pub(super) fn first(&self, allowed: Duration) -> Result<Session, Failed> {
        let count = u32::try_from(self.lock().len()).unwrap_or(1).max(1);
        self.attempt(allowed / count, allowed / count, None, None)
    }

    /// Tries each address; `from` is the local address that is to be dialled from where
    /// that can be had. Beside a connection that lives, to the peer `beside`, no other
    /// server will do: what one has in its cache, a FLUSH at another does not reach.
    pub(super) fn attempt(
        &self,
        connect: Duration,
        handshake: Duration,
        from: Option<SocketAddr>,
        beside: Option<&str>,
    ) -> Result<Session, Failed> {
        let mut failed = Failed {
            why: "there is no address to dial".to_owned(),
            exit: 1,
            stalled: false,
        };
        let addresses = match beside.map(str::parse) {
            Some(Ok(peer)) => vec![peer],
            Some(Err(_)) | None => self.lock().clone(),
        };
        for address in addresses {
            let stalled = failed.stalled;
            match self.one(&address, connect, handshake, from) {
                Ok(session) => return Ok(session),
                Err(other) => failed = other,
            }
            failed.stalled |= stalled;
        }
        Err(failed)
    }

    fn one(
        &self,
        address: &Address,
        connect: Duration,
        handshake: Duration,
        from: Option<SocketAddr>,
    ) -> Result<Session, Failed> {
        let failed = |error: &Error, connected| Failed {
            why: error.to_string(),
            exit: (self.exit_of)(error),
            stalled: connected && error.fault.is_timeout(),
        };
        let dialled = address
            .dial(&self.uri, Deadline::after(connect), from)
            .map_err(|error| failed(&error, false))?;
        let session = dialled
            .negotiate_best(&self.uri, Deadline::after(handshake))
            .map_err(|error| failed(&error, true))?;
        let Some(wanted) = &self.identity else {
            return Ok(session);
        };
        let (session, found) =
            identify(session, &self.uri, handshake).map_err(|error| failed(&error, true))?;
        if found.iter().any(|identity| identity.id == *wanted) {
            return Ok(session);
        }
        let found: Vec<_> = found.iter().map(|identity| identity.id.as_str()).collect();
        Err(Failed {
            why: format!(
                "{address} serves another disk: {wanted} is wanted, there is {}",
                if found.is_empty() {
                    "none that is known".to_owned()
                } else {
                    found.join(", ")
                }
            ),
            exit: 1,
            stalled: false,
        })
    }

    /// Whether the server at `peer` greets a second client.
    pub(super) fn probe(&self, peer: &str, allowed: Duration) -> Probe {
        let Ok(address) = peer.parse::<Address>() else {
            return Probe::Unreachable;
        };
        let deadline = Deadline::after(allowed);
        let Ok(dialled) = address.dial(&self.uri, deadline, None) else {
            return Probe::Unreachable;
        };
        match dialled.is_greeted(deadline) {
            Ok(true) => Probe::Greeted,
            Ok(false) => Probe::Silent,
            Err(_) => Probe::Unreachable,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Address>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(addresses: &[String]) -> Vec<Address> {
    addresses
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}
