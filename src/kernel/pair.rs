//! The socket pair between the driver and a relay. It must not know what a relay is.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{setsockopt, sockopt};

use super::error::Error;
use super::socket::KernelSocket;

/// What each end may hold that the other has not read: a few of the largest requests,
/// so that neither side waits for the other to be scheduled.
const BUFFER: usize = 4 << 20;

impl KernelSocket {
    /// A pair: the driver's end, and that of the one who is to serve it with compact
    /// headers. No other copy of the latter may stay anywhere, or the driver would not
    /// see its end.
    ///
    /// # Errors
    ///
    /// No descriptor is to be had.
    pub fn pair() -> Result<(Self, OwnedFd), Error> {
        let (ours, theirs) = Self::to_nobody()?;
        widen(&ours);
        widen(&theirs);
        Ok((ours, theirs))
    }
}

fn widen(socket: &impl AsFd) {
    let forced = setsockopt(socket, sockopt::SndBufForce, &BUFFER);
    // Without CAP_NET_ADMIN as much as the system allows everyone.
    if let Err(errno) = forced.or_else(|_| setsockopt(socket, sockopt::SndBuf, &BUFFER)) {
        tracing::debug!("SO_SNDBUF: {}", errno.desc());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_end_that_is_closed_is_seen_at_the_other() {
        let (ours, theirs) = KernelSocket::pair().unwrap();
        assert!(!ours.is_hung_up());
        drop(theirs);
        assert!(ours.is_hung_up());
    }

    #[test]
    fn it_takes_a_request_of_the_usual_size_though_nobody_reads() {
        let (_ours, theirs) = KernelSocket::pair().unwrap();
        let mut theirs = UnixStream::from(theirs);
        theirs.set_nonblocking(true).unwrap();
        // What anybody gets: 208 KiB by default, twice that with the system's own.
        theirs.write_all(&[0; 128 << 10]).unwrap();
    }
}
