//! A handshake driven over a stream: dial, negotiate, hand over; and, pure, when to
//! dial again (`pace`), and whether a silent server is gone (`silence`).
//!
//! It must not know what the session is for; every wait in it ends at the
//! caller's deadline.

mod address;
mod client;
mod deadline;
mod dial;
mod dialled;
mod error;
mod identify;
mod identity;
mod pace;
mod peer;
mod resolve;
mod silence;
mod stream;
mod survey;
mod talk;

pub use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver};
use std::thread;

pub use address::{Address, BadAddress, Source, addresses_now};
pub use client::{Client, Erase, Range};
pub use deadline::Deadline;
pub use dialled::Dialled;
pub use error::{Error, Fault};
pub use identify::identify;
pub use identity::Identity;
pub use pace::Jitter;
pub use peer::same_peer;
pub use resolve::{MAX_ADDRESSES, RESOLVE, lookup, resolve};
pub use silence::{Acks, CutReason, Probe, Sample, Silence, Suspicion};
pub use survey::{Listing, Survey, TlsOffer, contexts, list, survey};

use crate::proto::{self, Compact, Event, Export, HeaderStyle, Negotiated, Wanted};
use crate::uri::Uri;
use resolve::resolve_here;
use stream::Stream;
use talk::Talk;

/// A connection in transmission.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    peer: String,
    negotiated: Negotiated,
}

impl Session {
    /// Dials the URI's endpoint, each of its addresses until one answers, and
    /// negotiates the export with compact headers.
    ///
    /// # Errors
    ///
    /// What the last address did, where none gave a session before the deadline;
    /// a refusal ends the search, as the other addresses are the same server's.
    pub fn open(uri: &Uri, deadline: Deadline) -> Result<Self, Error> {
        let targets = resolve_here(uri, deadline)?;
        Self::negotiate(uri, &targets, Wanted::compact(uri.export()), deadline)
    }

    /// The same with the best header style that the server grants, and with
    /// these metadata contexts as far as it has them.
    ///
    /// # Errors
    ///
    /// As [`Session::open`].
    pub fn open_best(uri: &Uri, contexts: &[String], deadline: Deadline) -> Result<Self, Error> {
        let targets = resolve_here(uri, deadline)?;
        let wanted = Wanted::best(uri.export(), contexts);
        Self::negotiate(uri, &targets, wanted, deadline)
    }

    fn negotiate(
        uri: &Uri,
        targets: &[Address],
        wanted: Result<Wanted, proto::Error>,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let wanted = wanted.map_err(|e| Error::new(uri, e.into()))?;
        let (peer, (stream, negotiated)) =
            each_address(uri, targets, deadline, |stream, share| {
                enter(stream, wanted.clone(), share)
            })?;
        Ok(Self {
            stream,
            peer,
            negotiated,
        })
    }

    /// What the server said of the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        self.negotiated.export()
    }

    /// The header style that was agreed on.
    #[must_use]
    pub fn header_style(&self) -> HeaderStyle {
        self.negotiated.header_style()
    }

    /// The address that answered, as users write it.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The local end of a TCP connection.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.stream.local_address()
    }

    /// What was agreed, and the socket: for whoever carries requests in its style.
    #[must_use]
    pub fn into_parts(self) -> (Negotiated, OwnedFd) {
        (self.negotiated, self.stream.into_fd())
    }

    /// The socket, for the kernel's driver or whoever speaks compact headers.
    ///
    /// # Errors
    ///
    /// Gives the session back where another header style was agreed.
    pub fn into_compact(self) -> Result<Compact<OwnedFd>, Box<Self>> {
        let Self {
            stream,
            peer,
            negotiated,
        } = self;
        match negotiated.into_compact(stream) {
            Ok(compact) => Ok(compact.map(Stream::into_fd)),
            Err((negotiated, stream)) => Err(Box::new(Self {
                stream,
                peer,
                negotiated,
            })),
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Opens `count` sessions with compact headers, and gives each as it stands, or
/// fails: all with the server that gave the first, as two of one name may have a
/// cache each. A receiver that is dropped early leaves the rest to end by themselves
/// at the deadline.
///
/// # Errors
///
/// The name does not resolve.
pub fn open_each(
    uri: &Uri,
    count: u32,
    deadline: Deadline,
) -> Result<Receiver<Result<Session, Error>>, Error> {
    let targets = resolve_here(uri, deadline)?;
    open_each_of(uri, &targets, count, deadline)
}

/// The same at these addresses.
///
/// # Errors
///
/// No thread could be started.
pub fn open_each_of(
    uri: &Uri,
    targets: &[Address],
    count: u32,
    deadline: Deadline,
) -> Result<Receiver<Result<Session, Error>>, Error> {
    let (sender, receiver) = mpsc::channel();
    let rest = |target: &Address| -> Result<(), Error> {
        for _ in 1..count {
            let (theirs, target, sender) = (uri.clone(), target.clone(), sender.clone());
            let dialling = move || {
                let wanted = Wanted::compact(theirs.export());
                // Whoever waited may have seen enough.
                let _ = sender.send(Session::negotiate(&theirs, &[target], wanted, deadline));
            };
            thread::Builder::new()
                .name("dial".to_owned())
                .spawn(dialling)
                .map_err(|e| Error::new(uri, Fault::Io(e)))?;
        }
        Ok(())
    };
    // Where there is but one, all go there at once; else the first shows the way.
    if let [only] = targets {
        rest(only)?;
    }
    let first = Session::negotiate(uri, targets, Wanted::compact(uri.export()), deadline);
    let peer = first.as_ref().ok().map(|session| session.peer.clone());
    let _ = sender.send(first);
    let leads = |target: &&Address| Some(target.to_string()) == peer;
    if let Some(target) = targets.iter().find(leads).filter(|_| targets.len() > 1) {
        rest(target)?;
    }
    Ok(receiver)
}

/// Haggles until transmission begins.
fn enter(
    stream: Stream,
    wanted: Wanted,
    deadline: Deadline,
) -> Result<(Stream, Negotiated), Fault> {
    let mut talk = Talk::begin(stream, wanted);
    loop {
        if let Event::Ready(negotiated) = talk.event(deadline)? {
            return Ok((talk.into_stream()?, negotiated));
        }
    }
}

/// Dials one address after the other until `converse` comes to an end on one; a
/// refusal ends the search, as the other addresses are the same server's.
fn each_address<T>(
    uri: &Uri,
    targets: &[Address],
    deadline: Deadline,
    mut converse: impl FnMut(Stream, Deadline) -> Result<T, Fault>,
) -> Result<(String, T), Error> {
    let context = |fault| Error::new(uri, fault);
    let mut failures = Vec::new();
    for (tried, target) in targets.iter().enumerate() {
        // An address that swallows packets may have its share of the time, and
        // no more.
        let share = deadline.share(targets.len() - tried);
        let attempt = target
            .connect(None, share)
            .and_then(|stream| converse(stream, share));
        match attempt {
            Ok(done) => return Ok((target.to_string(), done)),
            Err(fault) if fault.is_networks() => failures.push((target.to_string(), fault)),
            Err(fault) => return Err(context(fault)),
        }
    }
    Err(context(Fault::all(failures)))
}

/// What our end of a TCP connection is bound to; `None` for what is no such.
#[must_use]
pub fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let socket = TcpStream::from(socket.try_clone_to_owned().ok()?);
    socket.local_addr().ok()
}
