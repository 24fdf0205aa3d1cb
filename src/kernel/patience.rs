//! Ending the patience of a device whose links are dead: its I/O fails, and the
//! device stays, to be revived by a RECONFIGURE with a real socket.
//!
//! DEAD_CONN_TIMEOUT is a clock per request, fixed when the request begins to
//! wait (`wait_for_reconnect`), and no message ends it. What a waiting request
//! does look at is whether there is a live link *at the moment that it runs*: a
//! socket that is found dead at once wakes it to find none, and it waits on
//! (seen on 6.1 and 6.12). Hence two sockets. The first stays alive until all
//! that wait have sent themselves into it; they are in flight then, on a link
//! that is dead. The second is dead from the start, and makes what is in flight
//! be sent anew at its next io_timeout (`nbd_xmit_timeout` compares the socket's
//! number, not its health); it finds no link, and waits for the new, short time.
//! With several connections the first takes the requests of all of them, and that
//! timer sends them anew in any case.

use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::netlink::{Netlink, Reconfigure, Taken};
use super::socket::KernelSocket;

/// How long requests that come later wait, in seconds: the least there is.
const SHORTEST: u64 = 1;

/// How long the first socket lives: until every waiting request was scheduled.
/// There are 128 at most, and each has only to wake up.
const WAKE_UP: Duration = Duration::from_millis(250);

/// How long the driver may take to see that a link is dead; it does at once.
const NOTICE: Duration = Duration::from_secs(2);

/// Makes all I/O of a device without a live connection fail: what waits or is in
/// flight within `io_timeout` (1 s as attach sets it, 30 s with several
/// connections) and 2.5 s, what comes later within a second. The device stays as
/// it is. Two LINK_DEAD of this making follow.
///
/// All of its connections must be dead. False when none is: all stay in use, and
/// later requests wait for `patience` seconds again. Where
/// some are, requests are sent to nobody, and anew at their io_timeout. `between` is
/// called when the first socket is taken and the second is not yet: where a test dies.
///
/// # Errors
///
/// As any command; [`Error::Stuck`] when the driver does not notice a dead link.
pub fn give_up(
    netlink: &Netlink,
    index: u32,
    backend_identifier: &str,
    patience: u64,
    between: impl FnOnce(),
) -> Result<bool, Error> {
    let replace = |socket| {
        netlink.reconfigure(Reconfigure {
            index,
            backend_identifier: backend_identifier.to_owned(),
            dead_conn_timeout: SHORTEST,
            socket,
        })
    };
    let (living, other_end) = KernelSocket::to_nobody()?;
    if replace(living)? == Taken::No {
        // The driver has the short time all the same.
        has_dead_link(netlink, index, backend_identifier, patience)?;
        return Ok(false);
    }
    thread::sleep(WAKE_UP);
    between();
    drop(other_end);
    let until = Instant::now() + NOTICE;
    loop {
        let (dead, other_end) = KernelSocket::to_nobody()?;
        drop(other_end);
        if replace(dead)? == Taken::Yes {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Err(Error::Stuck {
                what: format!("noticing that a link of /dev/nbd{index} is dead"),
                allowed: NOTICE,
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a link of a device is dead, where no link can be seen: the driver is
/// offered a socket that is dead from the start, and takes it in the place of a
/// dead one only. `patience` is what it has, in seconds.
///
/// # Errors
///
/// As any command.
pub fn has_dead_link(
    netlink: &Netlink,
    index: u32,
    backend_identifier: &str,
    patience: u64,
) -> Result<bool, Error> {
    let (socket, other_end) = KernelSocket::to_nobody()?;
    drop(other_end);
    let taken = netlink.reconfigure(Reconfigure {
        index,
        backend_identifier: backend_identifier.to_owned(),
        dead_conn_timeout: patience,
        socket,
    })?;
    Ok(taken == Taken::Yes)
}
