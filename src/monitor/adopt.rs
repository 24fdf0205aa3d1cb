//! Taking over a device whose monitor died: what its links are is in state.json,
//! and how they are in the kernel.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::error::Error;
use super::hook;
use super::machine::Seen;
use super::manager;
use super::relay::{Heard, Relay};
use super::runtime::Runtime;
use super::serve::Watched;
use super::state::{Link, State};
use super::unit;
use crate::config::BackendIdentifier;
use crate::kernel::{self, Device, FoundLink, KernelSocket, Netlink, holders};
use crate::session::local_address;

/// A device that was found, and its links.
pub(super) struct Adopted {
    pub(super) state: State,
    pub(super) links: Vec<(Watched, Seen)>,
    /// A link is dead, and cannot be seen which.
    pub(super) one_is_dead: bool,
}

/// Takes over the device that has this identifier. `kept` gives the descriptor of a
/// link where the service manager kept one.
///
/// # Errors
///
/// [`Error::NotAdopted`] where its state is lost, torn, or of another version;
/// [`Error::Leaving`] where it was disconnected and only its holders keep it.
pub(super) fn adopt(
    device: &Device,
    identifier: &BackendIdentifier,
    runtime: &Runtime,
    netlink: &Netlink,
    mut kept: impl FnMut(&Link) -> Option<OwnedFd>,
) -> Result<Adopted, Error> {
    let not_adopted = |why: String| Error::NotAdopted {
        device: device.path().display().to_string(),
        why,
    };
    let mut state = match runtime.read() {
        Ok(Some(state)) => state,
        Ok(None) => return Err(not_adopted("/run/nbdctl knows nothing of it".to_owned())),
        Err(error) => return Err(not_adopted(error.to_string())),
    };
    if state.index != device.index() || state.backend_identifier != identifier.to_string() {
        return Err(not_adopted(
            "what /run/nbdctl has is of another device".to_owned(),
        ));
    }
    hook::reached("adopt");
    // It may have grown without a word in the state, or the other way round.
    state.has_size(device.size());
    // And a detach that was killed may have left its order.
    match netlink.disconnect_on_close(state.index, &state.backend_identifier, false) {
        Err(error) if error.is_disconnected() => {
            return Err(Error::Leaving {
                holders: holders::of(device),
                device: device.path().display().to_string(),
            });
        }
        done => done?,
    }
    if state.queue_unset {
        // Whoever had the driver's timer cut a link may have died before it put
        // that back.
        netlink.end_timeout(state.index, &state.backend_identifier)?;
    }
    see_shutdown(&mut state);
    let mut links = if state.by_relay() {
        vec![see_relay(&state, runtime, &mut kept)]
    } else {
        see(&state, &mut kept)
    };
    for (watched, _) in links.iter_mut().filter(|(_, seen)| *seen == Seen::Dead) {
        state.inheritance.settles |= watched.left_at_work();
        if watched.fd().is_some() {
            // Others have descriptors of it, too; it is to send nothing more.
            watched.cut();
        }
    }
    let seen_dead = links.iter().any(|(_, seen)| *seen == Seen::Dead);
    let unknown = links.iter().any(|(_, seen)| *seen == Seen::Unknown);
    let one_is_dead = unknown && !seen_dead && has_dead_link(&state, netlink)?;
    hook::reached("adopted");
    Ok(Adopted {
        state,
        links,
        one_is_dead,
    })
}

/// A shutdown that was called off, or one of user space alone, leaves /run; and one may have
/// begun when there was no monitor. Nothing is executed for a root, which may be dead.
fn see_shutdown(state: &mut State) {
    let inherited = &mut state.inheritance;
    if !state.settings.root {
        inherited.going_down = inherited.going_down && unit::machine_is_stopping();
        return;
    }
    match manager::ending_now() {
        Ok(ending) => {
            inherited.going_down = ending.is_some();
            state.ending = ending;
        }
        // It waits for the root itself, perhaps. What is known holds.
        Err(error) => tracing::debug!("what process 1 is at is not known: {error}"),
    }
}

/// Asks the kernel, which knows of all; it does not say which.
pub(super) fn has_dead_link(state: &State, netlink: &Netlink) -> Result<bool, kernel::Error> {
    let patience = if state.inheritance.gave_up {
        1
    } else {
        state.kernel_patience()
    };
    kernel::has_dead_link(netlink, state.index, &state.backend_identifier, patience)
}

/// The one link of a device with a relay. What was offered last is that, where it
/// lives: one relay at a time has a device, and the one before is ended first.
fn see_relay(
    state: &State,
    runtime: &Runtime,
    kept: &mut impl FnMut(&Link) -> Option<OwnedFd>,
) -> (Watched, Seen) {
    /// What a relay takes to say how it is; one that takes longer is waited for later.
    const ANSWER: Duration = Duration::from_secs(1);
    let path = runtime.relay_socket();
    let candidates = state.offered.iter().chain(&state.links);
    let relays = candidates.filter_map(|link| Some((link, link.relay?)));
    for (link, id) in relays {
        let Some(mut relay) = Relay::adopt(&path, id) else {
            continue;
        };
        if relay.hear_within(ANSWER) != Heard::End {
            let own = kept(link).zip(link.inode);
            let socket = own.and_then(|(fd, inode)| KernelSocket::kept(fd, inode));
            return (Watched::relay(link.clone(), socket, relay), Seen::Alive);
        }
        relay.kill();
    }
    let link = state.links.first().or(state.offered.as_ref()).cloned();
    (Watched::found(link.unwrap_or_default(), None), Seen::Dead)
}

/// The links that the kernel has, one for each connection: what was offered last
/// is one where it lives, as nobody else can have it by now.
fn see(state: &State, kept: &mut impl FnMut(&Link) -> Option<OwnedFd>) -> Vec<(Watched, Seen)> {
    let visible =
        state.network_namespace.is_some() && state.network_namespace == kernel::network_namespace();
    let mut links: Vec<_> = state
        .links
        .iter()
        .map(|link| look(link, visible, kept))
        .collect();
    if let Some(offered) = &state.offered {
        let (watched, seen) = look(offered, visible, kept);
        let dead = links.iter_mut().find(|(_, seen)| *seen == Seen::Dead);
        if let (Seen::Alive, Some(dead)) = (seen, dead) {
            *dead = (watched, seen);
        }
    }
    links
}

fn look(
    link: &Link,
    visible: bool,
    kept: &mut impl FnMut(&Link) -> Option<OwnedFd>,
) -> (Watched, Seen) {
    let own = kept(link).zip(link.inode);
    if let Some(socket) = own.and_then(|(fd, inode)| KernelSocket::kept(fd, inode)) {
        let seen = if socket.is_hung_up() {
            Seen::Dead
        } else {
            Seen::Alive
        };
        let local = local_address(socket.as_fd());
        return (Watched::own(link.clone(), socket, local), seen);
    }
    let mut found = link
        .inode
        .filter(|_| visible)
        .map(|inode| FoundLink::new(inode, link.tcp));
    let seen = match found.as_mut().map(FoundLink::look) {
        Some(kernel::Seen::Alive(_)) => Seen::Alive,
        Some(kernel::Seen::Dead) => Seen::Dead,
        Some(kernel::Seen::Unknown) | None => Seen::Unknown,
    };
    (Watched::found(link.clone(), found), seen)
}
