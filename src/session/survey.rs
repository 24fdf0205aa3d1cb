//! What a server offers, asked without entering transmission.

use std::time::Duration;

use super::deadline::Deadline;
use super::error::{Error, Fault};
use super::resolve::resolve_here;
use super::talk::Talk;
use super::{Client, Session, each_address};
use crate::proto::{self, Ask, Event, Export, HeaderStyle, Refusal, ReplyType, Wanted};
use crate::uri::Uri;

/// How much may be asked in one write: it must fit the buffers between the two,
/// or both would wait for the other to read.
const BATCH_BYTES: usize = 16 * 1024;

/// The most memory that a list may take with what each export is; the names
/// alone are bounded where they are read.
const LIST_BYTES: usize = 8 * 1024 * 1024;

/// A probe that tells one thing more has no claim to the user's whole patience.
const PROBE: Duration = Duration::from_secs(2);

/// One export of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// What the server tells people of it; often empty.
    pub description: String,
    /// What it is, or why the server does not say.
    pub export: Result<Export, Refusal>,
}

/// Whether a server speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsOffer {
    /// It agreed to it.
    Offered,
    /// It does not.
    Refused,
}

/// What a server offers for one export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The address that answered.
    pub peer: String,
    /// The export.
    pub export: Export,
    /// Whether requests may have compact headers and replies be simple; `None`
    /// where a second connection to try that did not come about.
    pub compact: Option<bool>,
    /// Whether replies may be structured.
    pub structured: bool,
    /// Whether headers may be extended.
    pub extended: bool,
    /// The metadata contexts that it lists.
    pub contexts: Vec<String>,
    /// Whether it speaks TLS; `None` as above.
    pub tls: Option<TlsOffer>,
}

impl Survey {
    /// The best header style that it grants.
    #[must_use]
    pub fn best(&self) -> HeaderStyle {
        match (self.extended, self.structured) {
            (true, _) => HeaderStyle::Extended,
            (false, true) => HeaderStyle::Structured,
            (false, false) => HeaderStyle::Compact,
        }
    }
}

/// Asks about the URI's export.
///
/// # Errors
///
/// There is no answer, or it is a refusal.
pub fn survey(uri: &Uri, deadline: Deadline) -> Result<Survey, Error> {
    let export = uri.export().to_owned();
    let asks = vec![
        Ask::StructuredReply,
        Ask::ExtendedHeaders,
        Ask::ListContexts {
            export: export.clone(),
            queries: Vec::new(),
        },
        Ask::Info { export },
    ];
    let (peer, events) = ask_all(uri, asks, deadline)?;
    let mut survey = Gathered::default();
    for event in events {
        survey.take(event).map_err(|fault| Error::new(uri, fault))?;
    }
    let export = survey.export.ok_or_else(|| {
        Error::new(
            uri,
            proto::Error::from(proto::Violation::NoExportInfo).into(),
        )
    })?;
    let (compact, gone) = grants_compact(uri);
    // nbd-server 3.24 tells no size before it is gone to.
    let export = gone.filter(|_| export.size == 0).unwrap_or(export);
    Ok(Survey {
        peer,
        export,
        compact,
        structured: survey.structured,
        extended: survey.extended,
        contexts: survey.contexts,
        tls: offers_tls(uri),
    })
}

/// Lists the metadata contexts of the URI's export.
///
/// # Errors
///
/// There is no answer, or the server does not say.
pub fn contexts(uri: &Uri, deadline: Deadline) -> Result<Vec<String>, Error> {
    let asks = vec![
        Ask::StructuredReply,
        Ask::ExtendedHeaders,
        Ask::ListContexts {
            export: uri.export().to_owned(),
            queries: Vec::new(),
        },
    ];
    let (_, events) = ask_all(uri, asks, deadline)?;
    let answer = events.into_iter().find_map(|event| match event {
        Event::Contexts(answer) => Some(answer),
        _ => None,
    });
    let contexts = answer.unwrap_or_else(|| Ok(Vec::new()));
    let contexts = contexts.map_err(|e| Error::new(uri, proto::Error::from(e).into()))?;
    Ok(contexts.into_iter().map(|context| context.name).collect())
}

#[derive(Default)]
struct Gathered {
    export: Option<Export>,
    structured: bool,
    extended: bool,
    contexts: Vec<String>,
}

impl Gathered {
    fn take(&mut self, event: Event) -> Result<(), Fault> {
        match event {
            Event::Style(HeaderStyle::Extended, answer) => self.extended = answer.is_ok(),
            Event::Style(_, answer) => self.structured = answer.is_ok(),
            // A server that knows no contexts has none.
            Event::Contexts(answer) => {
                self.contexts = answer
                    .unwrap_or_default()
                    .into_iter()
                    .map(|context| context.name)
                    .collect();
            }
            Event::Info { answer, .. } => {
                self.export = Some(answer.map_err(proto::Error::from)?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Asks, and gathers the answers until it is idle.
fn ask_all(uri: &Uri, asks: Vec<Ask>, deadline: Deadline) -> Result<(String, Vec<Event>), Error> {
    let wanted = Wanted::questions(asks).map_err(|e| Error::new(uri, e.into()))?;
    let targets = resolve_here(uri, deadline)?;
    each_address(uri, &targets, deadline, |stream, share| {
        let mut talk = Talk::begin(stream, wanted.clone());
        let events = until_idle(&mut talk, share)?;
        talk.leave(share);
        Ok(events)
    })
}

fn until_idle(talk: &mut Talk, deadline: Deadline) -> Result<Vec<Event>, Fault> {
    let mut events = Vec::new();
    loop {
        match talk.event(deadline)? {
            Event::Idle => return Ok(events),
            event => events.push(event),
        }
    }
}

/// Only a connection that asks for nothing better can tell; and what the export
/// is to one that enters transmission.
fn grants_compact(uri: &Uri) -> (Option<bool>, Option<Export>) {
    match Session::open(uri, Deadline::after(PROBE)) {
        Ok(session) => {
            let export = session.export().clone();
            Client::new(uri, session, PROBE).leave();
            (Some(true), Some(export))
        }
        Err(error) => {
            let style = ReplyType::ERR_EXT_HEADER_REQD;
            let refused = matches!(&error.fault,
                Fault::Protocol(proto::Error::Refused(refusal)) if refusal.reply == style);
            (refused.then_some(false), None)
        }
    }
}

/// A connection that asks for TLS, and goes away when it is granted.
fn offers_tls(uri: &Uri) -> Option<TlsOffer> {
    let deadline = Deadline::after(PROBE);
    let wanted = Wanted::questions(Vec::new()).ok()?.with_tls();
    let targets = resolve_here(uri, deadline).ok()?;
    let answer = each_address(uri, &targets, deadline, |stream, share| {
        Talk::begin(stream, wanted.clone()).starts_tls(share)
    });
    match answer {
        Ok((_, true)) => Some(TlsOffer::Offered),
        Ok((_, false)) => Some(TlsOffer::Refused),
        Err(_) => None,
    }
}

/// Lists the exports of the URI's server, and what each is.
///
/// # Errors
///
/// There is no answer, or the server lists nothing to this client. What it does
/// not tell of one export is told with that.
pub fn list(uri: &Uri, deadline: Deadline) -> Result<Vec<Listing>, Error> {
    let wanted = Wanted::questions(vec![Ask::StructuredReply, Ask::ExtendedHeaders, Ask::List])
        .map_err(|e| Error::new(uri, e.into()))?;
    let targets = resolve_here(uri, deadline)?;
    let (_, listings) = each_address(uri, &targets, deadline, |stream, share| {
        let mut talk = Talk::begin(stream, wanted.clone());
        let names = names(until_idle(&mut talk, share)?)?;
        let listings = describe(&mut talk, names, share)?;
        talk.leave(Deadline::after(PROBE));
        Ok(listings)
    })?;
    Ok(listings)
}

fn names(events: Vec<Event>) -> Result<Vec<(String, String)>, Fault> {
    let mut names = Vec::new();
    for event in events {
        match event {
            Event::Listed { name, description } => names.push((name, description)),
            Event::ListEnded(answer) => answer.map_err(proto::Error::from)?,
            _ => {}
        }
    }
    Ok(names)
}

/// Asks about each, as many in one write as is safe, all by the one deadline.
fn describe(
    talk: &mut Talk,
    names: Vec<(String, String)>,
    deadline: Deadline,
) -> Result<Vec<Listing>, Fault> {
    let mut room = LIST_BYTES;
    let mut listings = Vec::new();
    let mut names = names.into_iter().peekable();
    while names.peek().is_some() {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while let Some((name, _)) = names.peek() {
            bytes += name.len() + 64;
            if bytes > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            batch.extend(names.next());
        }
        let asks = batch.iter().map(|(name, _)| Ask::Info {
            export: name.clone(),
        });
        talk.ask(asks.collect())?;
        let answers = until_idle(talk, deadline)?;
        for ((name, description), event) in batch.into_iter().zip(answers) {
            if let Event::Info { answer, .. } = event {
                room = room.checked_sub(weight(&name, &answer)).ok_or_else(|| {
                    proto::Error::from(proto::Violation::EndlessList {
                        asked: proto::OptionCode::INFO,
                        limit: LIST_BYTES,
                    })
                })?;
                listings.push(Listing {
                    name,
                    description,
                    export: answer,
                });
            }
        }
    }
    Ok(listings)
}

/// What an entry takes.
fn weight(name: &str, answer: &Result<Export, Refusal>) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let told = match answer {
        Ok(export) => text(&export.description) + text(&export.canonical_name),
        Err(refusal) => refusal.message.len(),
    };
    256 + name.len() + told
}
