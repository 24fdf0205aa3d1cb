//! The connections to a server, and which of them are known to reach the same one.
//! It must not know what is sent on them.
//!
//! A server that died and came back may have forgotten what the one before had
//! answered; but each of several connections finds that out at its own time, and a
//! new connection may reach the new server while an old one still looks alive. So a
//! connection carries I/O only as a *member*: the first one is, and then each for
//! which a member answered a FLUSH that was sent after the newcomer was there.
//!
//! What is relied on: an export is served by one server at a time. The member's
//! answer shows that its server was alive when the newcomer had been connected, so
//! the newcomer reached that one. With `CAN_MULTI_CONN` all members share its
//! cache: a FLUSH on any of them covers what was answered on all, those among them
//! that died since.

use crate::proto::transmission::Terms;

use super::SessionId;

/// The most connections at a time: more than the driver or a server has use for.
pub(super) const MAX_SESSIONS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Member,
    /// Until a FLUSH of this number or a later one is answered.
    Joining(u64),
    /// Nothing is sent or heard any more; whether it was a member.
    Closing(bool),
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    terms: Terms,
    role: Role,
    in_flight: usize,
}

/// All connections, the oldest first.
#[derive(Debug)]
pub(super) struct Sessions {
    list: Vec<Session>,
    next: u64,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            list: Vec::with_capacity(MAX_SESSIONS),
            next: 1,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// A new connection; a member at once, or when the FLUSH `proof` is answered.
    pub(super) fn add(&mut self, terms: Terms, proof: Option<u64>) -> SessionId {
        let id = SessionId(self.next);
        self.next += 1;
        self.list.push(Session {
            id,
            terms,
            role: proof.map_or(Role::Member, Role::Joining),
            in_flight: 0,
        });
        id
    }

    /// The member with the least to do.
    pub(super) fn pick(&self) -> Option<(SessionId, Terms)> {
        let members = self.list.iter().filter(|it| it.role == Role::Member);
        members
            .min_by_key(|session| session.in_flight)
            .map(|session| (session.id, session.terms))
    }

    /// Whether a server that was written to may still be reached.
    pub(super) fn has_members(&self) -> bool {
        let member = |role| matches!(role, Role::Member | Role::Closing(true));
        self.list.iter().any(|session| member(session.role))
    }

    /// Whether replies of this one count.
    pub(super) fn is_open(&self, id: SessionId) -> bool {
        let closing = |role| matches!(role, Role::Closing(_));
        let mut list = self.list.iter();
        list.any(|session| session.id == id && !closing(session.role))
    }

    /// A request was sent to it.
    pub(super) fn sent(&mut self, id: SessionId) {
        if let Some(session) = self.get(id) {
            session.in_flight = session.in_flight.saturating_add(1);
        }
    }

    /// A request was answered by it.
    pub(super) fn answered(&mut self, id: SessionId) {
        if let Some(session) = self.get(id) {
            session.in_flight = session.in_flight.saturating_sub(1);
        }
    }

    /// Whether one waits for a later FLUSH than the one that is under way.
    pub(super) fn wants_proof(&self, under_way: Option<u64>) -> bool {
        self.list.iter().any(|session| match session.role {
            Role::Joining(proof) => under_way.is_none_or(|number| number < proof),
            Role::Member | Role::Closing(_) => false,
        })
    }

    /// A member answered the FLUSH of this number.
    pub(super) fn proved(&mut self, number: u64) {
        for session in &mut self.list {
            if matches!(session.role, Role::Joining(proof) if proof <= number) {
                session.role = Role::Member;
            }
        }
    }

    /// With no member left, the oldest newcomer is the first of the new ones.
    pub(super) fn promote(&mut self) -> bool {
        let mut list = self.list.iter_mut();
        let next = list.find(|session| matches!(session.role, Role::Joining(_)));
        next.map(|session| session.role = Role::Member).is_some()
    }

    /// Nothing more is sent or heard; `false` where that is so already.
    pub(super) fn close(&mut self, id: SessionId) -> bool {
        match self.get(id) {
            Some(session) if !matches!(session.role, Role::Closing(_)) => {
                session.role = Role::Closing(session.role == Role::Member);
                true
            }
            _ => false,
        }
    }

    /// It is gone; whether it was there.
    pub(super) fn remove(&mut self, id: SessionId) -> bool {
        let before = self.list.len();
        self.list.retain(|session| session.id != id);
        self.list.len() < before
    }

    fn get(&mut self, id: SessionId) -> Option<&mut Session> {
        self.list.iter_mut().find(|session| session.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tests::device;

    #[test]
    fn a_newcomer_waits_for_a_flush_that_was_sent_after_it_came() {
        let terms = device().terms;
        let mut sessions = Sessions::new();
        let first = sessions.add(terms, None);
        let second = sessions.add(terms, Some(7));
        assert!(sessions.wants_proof(None) && sessions.wants_proof(Some(6)));
        assert!(!sessions.wants_proof(Some(7)));
        sessions.sent(first);
        sessions.proved(6);
        assert_eq!(sessions.pick(), Some((first, terms)));
        sessions.proved(7);
        assert_eq!(sessions.pick(), Some((second, terms)));
        sessions.answered(first);
        assert_eq!(sessions.pick(), Some((first, terms)));
    }

    #[test]
    fn one_that_closes_holds_its_place_until_it_is_gone() {
        let terms = device().terms;
        let mut sessions = Sessions::new();
        let first = sessions.add(terms, None);
        let second = sessions.add(terms, Some(0));
        assert!(sessions.close(first) && !sessions.close(first));
        assert!(sessions.has_members() && !sessions.is_open(first));
        assert_eq!(sessions.pick(), None);
        assert!(sessions.remove(first) && !sessions.remove(first));
        assert!(!sessions.has_members());
        assert!(sessions.promote());
        assert_eq!(sessions.pick(), Some((second, terms)));
        assert!(!sessions.promote());
    }
}
