//! The multicast group, on which the driver tells of dead links.

use std::fmt;
use std::time::Duration;

use neli::consts::nl::GenlId;
use neli::err::SocketError;
use neli::socket::synchronous::NlSocketHandle;
use neli::utils::Groups;

use super::error::Error;
use super::exchange::{open_socket, resolve};
use super::family::{self, Message, NbdCommand};
use super::{helper, sys};

/// The links that the kernel declares dead (`nbd_mcast_index`), from now on.
/// They reach the initial network namespace only.
#[derive(Debug)]
pub struct LinkDeaths {
    handle: Listener,
}

struct Listener(NlSocketHandle);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl LinkDeaths {
    /// Joins the multicast group.
    ///
    /// # Errors
    ///
    /// [`Error::NoFamily`] when the driver is not loaded.
    pub fn subscribe(allowed: Duration) -> Result<Self, Error> {
        let handle = helper::run("the look-up of the nbd family", allowed, || {
            let handle = open_socket()?;
            let group = resolve(&handle)?.group.ok_or(Error::NoFamily)?;
            handle
                .add_mcast_membership(Groups::new_groups(&[group]))
                .map_err(|e| Error::Netlink(e.to_string()))?;
            Ok(Listener(handle))
        })?;
        Ok(Self { handle })
    }

    /// The indices of devices that lost a link, one for each link; empty when
    /// none did within `wait`.
    ///
    /// # Errors
    ///
    /// The socket failed; one that was flooded lost messages.
    pub fn wait(&self, wait: Duration) -> Result<Vec<u32>, Error> {
        let failed = |e: SocketError| Error::Netlink(e.to_string());
        let readable = sys::wait_readable(&self.handle.0, wait)
            .map_err(|e| Error::Netlink(e.desc().to_owned()))?;
        if !readable {
            return Ok(Vec::new());
        }
        let mut dead = Vec::new();
        let (messages, _) = self.handle.0.recv::<GenlId, Message>().map_err(failed)?;
        for message in messages {
            let message = message.map_err(failed)?;
            if let Some(payload) = message.get_payload() {
                if *payload.cmd() == NbdCommand::LinkDead {
                    dead.extend(family::index(payload));
                }
            }
        }
        Ok(dead)
    }
}
