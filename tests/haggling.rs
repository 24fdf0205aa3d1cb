//! Option haggling without a socket: what is asked in one write, what waits, and
//! what every answer leads to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

mod common;

use common::fake::{ERROR, OPT_GO, REP_ACK, REP_INFO, export_info, greeting, reply};
use nbdctl::proto::{
    Ask, Context, Error, Event, Handshake, HeaderStyle, MAX_QUERIES, OptionCode, ReplyType,
    Violation, Wanted,
};

const LIST: u32 = 3;
const STARTTLS: u32 = 5;
const INFO: u32 = 6;
const STRUCTURED: u32 = 8;
const LIST_CONTEXTS: u32 = 9;
const SET_CONTEXTS: u32 = 10;
const EXTENDED: u32 = 11;
const REP_SERVER: u32 = 2;
const REP_CONTEXT: u32 = 4;
const UNSUP: u32 = ERROR + 1;

/// A client that has been greeted.
struct Client(Handshake);

impl Client {
    /// With the options that it asks at once.
    fn new(wanted: Wanted) -> (Self, Vec<u32>) {
        let mut handshake = Handshake::new(wanted);
        handshake.handle_input(&greeting(0b11)).unwrap();
        let sent = handshake.poll_transmit().unwrap();
        assert_eq!(sent[..4], [0, 0, 0, 3]);
        (Self(handshake), options(&sent[4..]))
    }

    /// The server answers; what the client sends then.
    fn hears(&mut self, option: u32, kind: u32, data: &[u8]) -> Vec<u32> {
        self.tries(option, kind, data).unwrap();
        options(&self.0.poll_transmit().unwrap_or_default())
    }

    fn tries(&mut self, option: u32, kind: u32, data: &[u8]) -> Result<(), Error> {
        // Byte by byte, always: the cuts must not matter.
        reply(option, kind, data)
            .iter()
            .try_for_each(|byte| self.0.handle_input(&[*byte]))
    }

    fn fails(&mut self, option: u32, kind: u32, data: &[u8]) -> Violation {
        match self.tries(option, kind, data) {
            Err(Error::Violation(violation)) => violation,
            other => panic!("{other:?}"),
        }
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.0.poll_event()).collect()
    }

    fn style(&mut self) -> (HeaderStyle, Vec<Context>) {
        match self.events().pop() {
            Some(Event::Ready(negotiated)) => {
                (negotiated.header_style(), negotiated.contexts().to_vec())
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The options in what was sent.
fn options(mut bytes: &[u8]) -> Vec<u32> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[..8], *b"IHAVEOPT");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        options.push(number(8));
        bytes = &bytes[16 + usize::try_from(number(12)).unwrap()..];
    }
    options
}

fn context(id: u32, name: &str) -> Vec<u8> {
    [&id.to_be_bytes(), name.as_bytes()].concat()
}

fn server(name: &[u8], description: &[u8]) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap();
    [&length.to_be_bytes(), name, description].concat()
}

fn go(client: &mut Client) {
    client.hears(OPT_GO, REP_INFO, &export_info(1 << 20, 1));
    client.hears(OPT_GO, REP_ACK, &[]);
}

fn base() -> Vec<String> {
    vec!["base:allocation".to_owned()]
}

#[test]
fn styles_and_go_leave_in_one_write() {
    let (mut client, asked) = Client::new(Wanted::best("x", &[]).unwrap());
    assert_eq!(asked, [STRUCTURED, EXTENDED, OPT_GO]);
    client.hears(STRUCTURED, REP_ACK, &[]);
    client.hears(EXTENDED, REP_ACK, &[]);
    go(&mut client);
    assert_eq!(client.style().0, HeaderStyle::Extended);
}

#[test]
fn a_style_is_what_was_granted_and_nothing_else() {
    for (structured, extended, style) in [
        (REP_ACK, REP_ACK, HeaderStyle::Extended),
        (UNSUP, REP_ACK, HeaderStyle::Extended),
        (REP_ACK, UNSUP, HeaderStyle::Structured),
        (UNSUP, UNSUP, HeaderStyle::Compact),
        (ERROR + 2, ERROR + 3, HeaderStyle::Compact),
    ] {
        let (mut client, _) = Client::new(Wanted::best("x", &[]).unwrap());
        client.hears(STRUCTURED, structured, &[]);
        client.hears(EXTENDED, extended, &[]);
        go(&mut client);
        assert_eq!(client.style().0, style);
    }
}

#[test]
fn a_kernel_session_asks_for_no_other_style() {
    let (mut client, asked) = Client::new(Wanted::compact("x").unwrap());
    assert_eq!(asked, [OPT_GO]);
    go(&mut client);
    assert_eq!(client.style().0, HeaderStyle::Compact);
}

#[test]
fn only_a_compact_session_becomes_a_kernel_socket() {
    let (mut client, _) = Client::new(Wanted::best("x", &[]).unwrap());
    client.hears(STRUCTURED, REP_ACK, &[]);
    client.hears(EXTENDED, UNSUP, &[]);
    go(&mut client);
    let Some(Event::Ready(negotiated)) = client.events().pop() else {
        panic!("no session");
    };
    let (negotiated, stream) = negotiated.into_compact("stream").unwrap_err();
    assert_eq!(negotiated.header_style(), HeaderStyle::Structured);
    assert_eq!(stream, "stream");
}

#[test]
fn contexts_wait_until_replies_are_known_to_be_structured() {
    let (mut client, asked) = Client::new(Wanted::best("x", &base()).unwrap());
    assert_eq!(asked, [STRUCTURED, EXTENDED]);
    assert_eq!(client.hears(STRUCTURED, REP_ACK, &[]), [0u32; 0]);
    assert_eq!(client.hears(EXTENDED, UNSUP, &[]), [SET_CONTEXTS, OPT_GO]);
    client.hears(SET_CONTEXTS, REP_CONTEXT, &context(7, "base:allocation"));
    client.hears(SET_CONTEXTS, REP_ACK, &[]);
    go(&mut client);
    let (style, contexts) = client.style();
    assert_eq!(style, HeaderStyle::Structured);
    assert_eq!((contexts[0].id, contexts.len()), (7, 1));
}

#[test]
fn contexts_are_never_asked_for_where_replies_are_simple() {
    let (mut client, _) = Client::new(Wanted::best("x", &base()).unwrap());
    client.hears(STRUCTURED, UNSUP, &[]);
    assert_eq!(client.hears(EXTENDED, UNSUP, &[]), [OPT_GO]);
    assert_eq!(client.events().pop(), Some(Event::Contexts(Ok(Vec::new()))));
}

#[test]
fn a_refused_selection_selects_nothing() {
    let (mut client, _) = Client::new(Wanted::best("x", &base()).unwrap());
    client.hears(STRUCTURED, REP_ACK, &[]);
    client.hears(EXTENDED, REP_ACK, &[]);
    client.hears(SET_CONTEXTS, REP_CONTEXT, &context(7, "base:allocation"));
    client.hears(SET_CONTEXTS, ERROR + 9, b"too many");
    go(&mut client);
    assert_eq!(client.style().1, []);
}

#[test]
fn contexts_that_were_not_asked_for_are_refused() {
    let selecting = || {
        let queries = vec!["base:allocation".to_owned(), "x-a:b".to_owned()];
        let (mut client, _) = Client::new(Wanted::best("x", &queries).unwrap());
        client.hears(STRUCTURED, REP_ACK, &[]);
        client.hears(EXTENDED, REP_ACK, &[]);
        client
    };
    let set =
        |client: &mut Client, id, name| client.fails(SET_CONTEXTS, REP_CONTEXT, &context(id, name));
    assert_eq!(
        set(&mut selecting(), 1, "base:other"),
        Violation::UnaskedContext("base:other".to_owned())
    );
    assert_eq!(
        set(&mut selecting(), 1, "qemu:x"),
        Violation::UnaskedContext("qemu:x".to_owned())
    );
    let mut twice = selecting();
    twice.hears(SET_CONTEXTS, REP_CONTEXT, &context(1, "base:allocation"));
    // What a query of another namespace means is that namespace's affair.
    twice.hears(SET_CONTEXTS, REP_CONTEXT, &context(2, "x-a:something"));
    assert_eq!(
        set(&mut twice, 2, "x-a:b"),
        Violation::RepeatedContext("x-a:b".to_owned())
    );
    let mut same = selecting();
    same.hears(SET_CONTEXTS, REP_CONTEXT, &context(1, "base:allocation"));
    assert_eq!(
        set(&mut same, 2, "base:allocation"),
        Violation::RepeatedContext("base:allocation".to_owned())
    );
}

#[test]
fn a_list_is_told_one_by_one_and_more_can_be_asked_after_it() {
    let (mut client, asked) = Client::new(Wanted::questions(vec![Ask::List]).unwrap());
    assert_eq!(asked, [LIST]);
    client.hears(LIST, REP_SERVER, &server(b"a", b"first"));
    client.hears(LIST, REP_SERVER, &server("ü".as_bytes(), b""));
    client.hears(LIST, REP_ACK, &[]);
    let listed = |name: &str, description: &str| Event::Listed {
        name: name.to_owned(),
        description: description.to_owned(),
    };
    assert_eq!(
        client.events(),
        [
            listed("a", "first"),
            listed("ü", ""),
            Event::ListEnded(Ok(())),
            Event::Idle
        ]
    );
    let info = |export: &str| Ask::Info {
        export: export.to_owned(),
    };
    client
        .0
        .ask(vec![info("a"), info("ü"), Ask::Abort])
        .unwrap();
    let sent = client.0.poll_transmit().unwrap();
    assert_eq!(options(&sent), [INFO, INFO, 2]);
    client.hears(INFO, REP_INFO, &export_info(512, 1));
    client.hears(INFO, REP_INFO, b"\0\x02a description");
    client.hears(INFO, REP_ACK, &[]);
    client.hears(INFO, ERROR + 6, b"gone");
    client.hears(2, REP_ACK, &[]);
    let events = client.events();
    assert!(
        matches!(&events[0], Event::Info { export, answer: Ok(found) }
        if export == "a" && found.size == 512 && found.description.as_deref() == Some("a description"))
    );
    assert!(
        matches!(&events[1], Event::Info { export, answer: Err(refusal) }
        if export == "ü" && refusal.reply == ReplyType::ERR_UNKNOWN && refusal.message == "gone")
    );
    assert_eq!(events[2], Event::Ended);
}

#[test]
fn broken_lists_are_violations() {
    let listing = || Client::new(Wanted::questions(vec![Ask::List]).unwrap()).0;
    let truncated = listing().fails(LIST, REP_SERVER, &[0, 0, 0, 9, b'a']);
    assert!(matches!(truncated, Violation::Truncated { .. }));
    let not_utf8 = listing().fails(LIST, REP_SERVER, &server(b"\xff", b""));
    assert!(matches!(not_utf8, Violation::NotUtf8 { .. }));
    let long = listing().fails(LIST, REP_SERVER, &server(&[b'a'; 4097], b""));
    assert!(matches!(long, Violation::LongString { length: 4097, .. }));
    let wrong = listing().fails(LIST, REP_INFO, &[]);
    assert!(matches!(wrong, Violation::WrongReply { .. }));
}

#[test]
fn a_list_without_end_is_refused_within_bounded_memory() {
    let (mut client, _) = Client::new(Wanted::questions(vec![Ask::List]).unwrap());
    let entry = reply(LIST, REP_SERVER, &server(&[b'a'; 4000], &[b'b'; 4000]));
    let mut replies = 0;
    let violation = loop {
        match client.0.handle_input(&entry) {
            Ok(()) => replies += 1,
            Err(error) => break error,
        }
        assert!(replies < 10_000);
    };
    assert!(matches!(
        violation,
        Error::Violation(Violation::EndlessList {
            asked: OptionCode::LIST,
            ..
        })
    ));
}

#[test]
fn listed_contexts_need_no_ids() {
    let ask = Ask::ListContexts {
        export: "x".to_owned(),
        queries: Vec::new(),
    };
    let (mut client, asked) =
        Client::new(Wanted::questions(vec![Ask::ExtendedHeaders, ask]).unwrap());
    assert_eq!(asked, [EXTENDED]);
    assert_eq!(client.hears(EXTENDED, REP_ACK, &[]), [LIST_CONTEXTS]);
    client.hears(LIST_CONTEXTS, REP_CONTEXT, &context(0, "base:allocation"));
    client.hears(
        LIST_CONTEXTS,
        REP_CONTEXT,
        &context(0, "qemu:dirty-bitmap:"),
    );
    client.hears(LIST_CONTEXTS, REP_ACK, &[]);
    let events = client.events();
    assert!(matches!(&events[1], Event::Contexts(Ok(contexts)) if contexts.len() == 2));
}

#[test]
fn tls_comes_before_everything_else() {
    let (mut client, asked) = Client::new(Wanted::compact("x").unwrap().with_tls());
    assert_eq!(asked, [STARTTLS]);
    assert_eq!(client.hears(STARTTLS, REP_ACK, &[]), [0u32; 0]);
    assert_eq!(client.events(), [Event::StartTls]);
    client.0.tls_established();
    assert_eq!(options(&client.0.poll_transmit().unwrap()), [OPT_GO]);
    go(&mut client);
    assert_eq!(client.style().0, HeaderStyle::Compact);
}

#[test]
fn plaintext_behind_the_consent_to_tls_is_an_attack() {
    let consent = reply(STARTTLS, REP_ACK, &[]);
    let injected = [consent.clone(), reply(OPT_GO, REP_ACK, &[])].concat();
    let tls = || Client::new(Wanted::compact("x").unwrap().with_tls()).0;
    let mut at_once = tls();
    let error = at_once.0.handle_input(&injected).unwrap_err();
    assert_eq!(
        error,
        Error::Violation(Violation::PlaintextBehindStartTls(20))
    );
    assert_eq!(at_once.events(), [], "TLS must not be begun");
    let mut later = tls();
    later.0.handle_input(&consent).unwrap();
    let error = later.0.handle_input(&[0]).unwrap_err();
    assert_eq!(
        error,
        Error::Violation(Violation::PlaintextBehindStartTls(1))
    );
}

#[test]
fn without_tls_there_is_no_session_that_was_to_have_it() {
    let (mut client, _) = Client::new(Wanted::compact("x").unwrap().with_tls());
    let error = client.tries(STARTTLS, UNSUP, &[]).unwrap_err();
    assert!(matches!(error, Error::Refused(refusal) if refusal.option == OptionCode::STARTTLS));
}

#[test]
fn who_is_refused_takes_leave() {
    let (mut client, _) = Client::new(Wanted::compact("x").unwrap());
    client.tries(OPT_GO, ERROR + 6, b"").unwrap_err();
    assert_eq!(options(&client.0.poll_transmit().unwrap()), [2]);
    let (mut client, _) = Client::new(Wanted::compact("x").unwrap());
    client.tries(LIST, REP_ACK, b"").unwrap_err();
    assert_eq!(
        client.0.poll_transmit(),
        None,
        "nothing is owed to who breaks the protocol"
    );
}

#[test]
fn extended_headers_forbid_the_old_way_in() {
    let (mut client, _) = Client::new(Wanted::best("x", &[]).unwrap());
    client.hears(STRUCTURED, REP_ACK, &[]);
    client.hears(EXTENDED, REP_ACK, &[]);
    assert_eq!(
        client.fails(OPT_GO, UNSUP, &[]),
        Violation::ExtendedWithoutGo
    );
}

#[test]
fn an_idle_server_has_nothing_to_say() {
    let (mut client, _) = Client::new(Wanted::questions(vec![Ask::List]).unwrap());
    client.hears(LIST, REP_ACK, &[]);
    let error = client.0.handle_input(&[0]).unwrap_err();
    assert_eq!(error, Error::Violation(Violation::Unasked(1)));
}

#[test]
fn a_caller_cannot_ask_for_too_much() {
    let long = "a".repeat(4097);
    assert!(Wanted::compact(&long).is_err());
    assert!(Wanted::best("x", &[format!("x:{long}")]).is_err());
    assert!(Wanted::best("x", &vec!["x:y".to_owned(); MAX_QUERIES + 1]).is_err());
}
