//! A stream that is connected, before anything was said on it.

use std::net::SocketAddr;

use super::address::Address;
use super::deadline::Deadline;
use super::error::{Error, Fault};
use super::stream::Stream;
use super::talk::Talk;
use super::{Session, enter};
use crate::proto::{self, Event, Lack, Wanted};
use crate::uri::Uri;

/// A connected stream.
#[derive(Debug)]
pub struct Dialled {
    stream: Stream,
    address: Address,
    /// For what an error says.
    uri: Uri,
}

impl Address {
    /// Connects to it, over TCP from the local address `from`, or from any where
    /// that cannot be had.
    ///
    /// A server does not learn of a link that was cut while packets were lost, and
    /// one that serves one client at a time then waits for that client for ever. A
    /// SYN from the old port has its kernel ask about the old connection, and ours
    /// deny it (RFC 5961, 4.2): that one ends, and the SYN that is sent again opens
    /// the new one.
    ///
    /// # Errors
    ///
    /// Nobody takes the connection, or not in time.
    pub fn dial(
        &self,
        uri: &Uri,
        deadline: Deadline,
        from: Option<SocketAddr>,
    ) -> Result<Dialled, Error> {
        let stream = self.connect(from, deadline);
        Ok(Dialled {
            stream: stream.map_err(|fault| Error::new(uri, fault))?,
            address: self.clone(),
            uri: uri.clone(),
        })
    }
}

impl Dialled {
    /// Where it leads.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Negotiates the export with compact headers.
    ///
    /// # Errors
    ///
    /// The server refuses, breaks the protocol, or does not answer in time.
    pub fn negotiate(self, uri: &Uri, deadline: Deadline) -> Result<Session, Error> {
        self.want(Wanted::compact(uri.export()), uri, deadline)
    }

    /// Negotiates the export with the best header style that the server grants.
    ///
    /// # Errors
    ///
    /// As [`Dialled::negotiate`].
    pub fn negotiate_best(self, uri: &Uri, deadline: Deadline) -> Result<Session, Error> {
        self.want(Wanted::best(uri.export(), &[]), uri, deadline)
    }

    fn want(
        self,
        wanted: Result<Wanted, proto::Error>,
        uri: &Uri,
        deadline: Deadline,
    ) -> Result<Session, Error> {
        let entered = wanted
            .map_err(Fault::from)
            .and_then(|wanted| enter(self.stream, wanted, deadline));
        let (stream, negotiated) = entered.map_err(|fault| Error::new(uri, fault))?;
        Ok(Session {
            stream,
            peer: self.address.to_string(),
            negotiated,
        })
    }

    /// Whether the server greets by the deadline: one that serves somebody else
    /// takes connections, and is silent. Takes leave then.
    ///
    /// # Errors
    ///
    /// It hangs up, or is no newstyle server.
    pub fn is_greeted(self, deadline: Deadline) -> Result<bool, Error> {
        let Self { stream, uri, .. } = self;
        let greeted = Wanted::questions(Vec::new())
            .map_err(Fault::from)
            .and_then(|wanted| greets(Talk::begin(stream, wanted), deadline));
        greeted.map_err(|fault| Error::new(&uri, fault))
    }
}

fn greets(mut talk: Talk, deadline: Deadline) -> Result<bool, Fault> {
    loop {
        match talk.event(deadline) {
            Ok(Event::Idle) => {
                talk.leave(deadline);
                return Ok(true);
            }
            Ok(_) => {}
            // A greeting without the fixes is one.
            Err(Fault::Protocol(proto::Error::Lacks(Lack::FixedNewstyle))) => return Ok(true),
            // Anything later that did not come came behind a greeting.
            Err(Fault::TimedOut { waits_for, .. }) => {
                return Ok(waits_for != proto::GREETING);
            }
            Err(fault) => return Err(fault),
        }
    }
}
