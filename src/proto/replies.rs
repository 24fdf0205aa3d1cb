//! Options were asked, and their answers arrive in the order of the asking
//! ("Option haggling").
//!
//! What does not depend on another's answer is sent at once; what does waits
//! here. Each answer is gathered until its last reply, then told as one event.

use std::collections::VecDeque;

use super::ask::Ask;
use super::codec::{Reader, put_option};
use super::error::{Error, Refusal, Violation};
use super::export::{BlockSizes, Export};
use super::handshake::Event;
use super::negotiated::{Context, HeaderStyle, Negotiated};
use super::number::{InfoType, OptionCode, ReplyType};
use super::option_reply::{OptionReply, option_reply_frame};
use super::state::{Effects, ExpectExport, Next, State};

/// Pieces of information about one export: four kinds exist. A server that
/// sends more for ever would be waited for until the deadline.
const MAX_INFOS: u32 = 64;

/// The most memory that one list may take, of exports or contexts: names of 100
/// bytes for ten thousand exports, twice over.
const MAX_LIST: usize = 8 * 1024 * 1024;

/// What an entry takes beside its strings.
const ENTRY: usize = 256;

/// Waits for the answer to the first of `asked`; with none it is idle.
#[derive(Debug)]
pub(super) struct ExpectReply {
    no_zeroes: bool,
    header_style: HeaderStyle,
    /// Of the last SET_META_CONTEXT, which replaces those before it.
    selected: Vec<Context>,
    asked: VecDeque<Ask>,
    unsent: VecDeque<Ask>,
    partial: Partial,
}

/// What has arrived of the answer that is under way.
#[derive(Debug, Default)]
struct Partial {
    export: Option<Export>,
    block_sizes: Option<BlockSizes>,
    canonical_name: Option<String>,
    description: Option<String>,
    infos: u32,
    contexts: Vec<Context>,
    list_bytes: usize,
}

impl ExpectReply {
    pub(super) fn new(no_zeroes: bool) -> Self {
        Self {
            no_zeroes,
            header_style: HeaderStyle::Compact,
            selected: Vec::new(),
            asked: VecDeque::new(),
            unsent: VecDeque::new(),
            partial: Partial::default(),
        }
    }

    pub(super) fn ask(mut self, asks: Vec<Ask>, effects: &mut Effects<'_>) -> Self {
        self.unsent.extend(asks);
        self.send(effects);
        self
    }

    /// Sends what may be sent. Contexts must not be asked for before replies are
    /// structured, nor at all where they are not to be.
    fn send(&mut self, effects: &mut Effects<'_>) {
        while let Some(ask) = self.unsent.pop_front() {
            if ask.needs_structured_replies() {
                if self.asked.iter().any(Ask::decides_style) {
                    self.unsent.push_front(ask);
                    return;
                }
                if self.header_style == HeaderStyle::Compact {
                    effects.events.push_back(Event::Contexts(Ok(Vec::new())));
                    continue;
                }
            }
            ask.put(effects.out);
            self.asked.push_back(ask);
        }
        if self.asked.is_empty() {
            effects.events.push_back(Event::Idle);
        }
    }

    pub(super) fn frame(&self, input: &[u8]) -> Result<Option<usize>, Violation> {
        if self.asked.is_empty() && !input.is_empty() {
            return Err(Violation::Unasked(input.len()));
        }
        option_reply_frame(input)
    }

    pub(super) fn waits_for(&self) -> &'static str {
        match self.asked.front() {
            None => "nothing",
            Some(Ask::StructuredReply) => "the answer to NBD_OPT_STRUCTURED_REPLY",
            Some(Ask::ExtendedHeaders) => "the answer to NBD_OPT_EXTENDED_HEADERS",
            Some(Ask::List) => "the answer to NBD_OPT_LIST",
            Some(Ask::Info { .. }) => "the answer to NBD_OPT_INFO",
            Some(Ask::ListContexts { .. }) => "the answer to NBD_OPT_LIST_META_CONTEXT",
            Some(Ask::SetContexts { .. }) => "the answer to NBD_OPT_SET_META_CONTEXT",
            Some(Ask::Go { .. }) => "the answer to NBD_OPT_GO",
            Some(Ask::Abort) => "the answer to NBD_OPT_ABORT",
        }
    }

    pub(super) fn handle(
        mut self,
        message: &[u8],
        effects: &mut Effects<'_>,
    ) -> Result<Next, Error> {
        let Some(ask) = self.asked.pop_front() else {
            return Err(Violation::Unasked(message.len()).into());
        };
        let reply = OptionReply::parse(ask.option(), message)?;
        if !reply.kind.is_error() && reply.kind != ReplyType::ACK {
            self.partial.take(&ask, &reply, effects)?;
            self.asked.push_front(ask);
            return Ok(Next::State(State::Reply(Box::new(self))));
        }
        let partial = std::mem::take(&mut self.partial);
        let answer = if reply.kind == ReplyType::ACK {
            Reader::new("NBD_REP_ACK", reply.data).finish()?;
            Ok(())
        } else {
            Err(reply.refusal(ask.option()))
        };
        self.answered(ask, partial, answer, effects)
    }

    /// An answer is whole.
    fn answered(
        mut self,
        ask: Ask,
        partial: Partial,
        answer: Result<(), Refusal>,
        effects: &mut Effects<'_>,
    ) -> Result<Next, Error> {
        let event = match ask {
            Ask::Abort => {
                effects.events.push_back(Event::Ended);
                return Ok(Next::Over);
            }
            Ask::Go { export } => return self.gone(&export, partial, answer, effects),
            Ask::StructuredReply => self.style(HeaderStyle::Structured, answer),
            Ask::ExtendedHeaders => self.style(HeaderStyle::Extended, answer),
            Ask::List => Event::ListEnded(answer),
            Ask::Info { export } => Event::Info {
                export,
                answer: match answer {
                    Ok(()) => Ok(partial.into_export()?),
                    Err(refusal) => Err(refusal),
                },
            },
            Ask::ListContexts { .. } => Event::Contexts(answer.map(|()| partial.contexts)),
            Ask::SetContexts { .. } => {
                self.selected = match &answer {
                    Ok(()) => partial.contexts.clone(),
                    Err(_) => Vec::new(),
                };
                Event::Contexts(answer.map(|()| partial.contexts))
            }
        };
        effects.events.push_back(event);
        self.send(effects);
        Ok(Next::State(State::Reply(Box::new(self))))
    }

    fn style(&mut self, style: HeaderStyle, answer: Result<(), Refusal>) -> Event {
        // Extended headers take precedence, whatever else is granted.
        if answer.is_ok() && self.header_style != HeaderStyle::Extended {
            self.header_style = style;
        }
        Event::Style(style, answer)
    }

    /// GO was answered: transmission, the old way, or the end.
    fn gone(
        self,
        export: &str,
        partial: Partial,
        answer: Result<(), Refusal>,
        effects: &mut Effects<'_>,
    ) -> Result<Next, Error> {
        match answer {
            Ok(()) => {
                let export = partial.into_export()?;
                let negotiated = Negotiated::new(export, self.header_style, self.selected);
                effects.events.push_back(Event::Ready(negotiated));
                Ok(Next::Over)
            }
            Err(refusal) if refusal.reply != ReplyType::ERR_UNSUP => Err(refusal.into()),
            // From before NBD_OPT_GO.
            Err(_) if self.header_style == HeaderStyle::Extended => {
                Err(Violation::ExtendedWithoutGo.into())
            }
            Err(_) => {
                put_option(effects.out, OptionCode::EXPORT_NAME, export.as_bytes());
                Ok(Next::State(State::ExportName(ExpectExport {
                    no_zeroes: self.no_zeroes,
                    header_style: self.header_style,
                })))
            }
        }
    }
}

impl Partial {
    /// One reply before the last.
    fn take(
        &mut self,
        ask: &Ask,
        reply: &OptionReply<'_>,
        effects: &mut Effects<'_>,
    ) -> Result<(), Violation> {
        match (ask, reply.kind) {
            (Ask::Go { .. } | Ask::Info { .. }, ReplyType::INFO) => self.learn(reply.data),
            (Ask::List, ReplyType::SERVER) => {
                self.count(OptionCode::LIST, reply.data)?;
                let mut reader = Reader::new("NBD_REP_SERVER", reply.data);
                let length = reader.length()?;
                effects.events.push_back(Event::Listed {
                    name: reader.string(length)?,
                    description: reader.rest_string()?,
                });
                Ok(())
            }
            (Ask::ListContexts { .. }, ReplyType::META_CONTEXT) => {
                self.count(OptionCode::LIST_META_CONTEXT, reply.data)?;
                self.contexts.push(context(reply.data)?);
                Ok(())
            }
            (Ask::SetContexts { queries, .. }, ReplyType::META_CONTEXT) => {
                self.select(queries, context(reply.data)?)
            }
            _ => Err(reply.wrong(ask.option())),
        }
    }

    fn count(&mut self, asked: OptionCode, data: &[u8]) -> Result<(), Violation> {
        self.list_bytes += data.len() + ENTRY;
        if self.list_bytes > MAX_LIST {
            return Err(Violation::EndlessList {
                asked,
                limit: MAX_LIST,
            });
        }
        Ok(())
    }

    /// A selected context: one that was asked for, by its name or by what its
    /// namespace means by the query, and only once.
    fn select(&mut self, queries: &[String], context: Context) -> Result<(), Violation> {
        let namespace = |text: &str| text.split_once(':').map(|(space, _)| space.to_owned());
        let asked = queries.iter().any(|query| {
            *query == context.name
                || (namespace(query) == namespace(&context.name)
                    && namespace(query).as_deref() != Some("base"))
        });
        if !asked {
            return Err(Violation::UnaskedContext(readable(&context.name)));
        }
        let repeated = |other: &Context| other.id == context.id || other.name == context.name;
        if self.contexts.iter().any(repeated) {
            return Err(Violation::RepeatedContext(readable(&context.name)));
        }
        self.count(OptionCode::SET_META_CONTEXT, context.name.as_bytes())?;
        self.contexts.push(context);
        Ok(())
    }

    fn learn(&mut self, data: &[u8]) -> Result<(), Violation> {
        self.infos += 1;
        if self.infos > MAX_INFOS {
            return Err(Violation::TooManyInfos { limit: MAX_INFOS });
        }
        let mut reader = Reader::new("NBD_REP_INFO", data);
        match InfoType(reader.u16()?) {
            InfoType::EXPORT => {
                let export = Export::parse(&mut reader)?;
                if self.export.as_ref().is_some_and(|first| *first != export) {
                    return Err(Violation::TwoExports);
                }
                self.export = Some(export);
                reader.finish()
            }
            InfoType::BLOCK_SIZE => {
                self.block_sizes = Some(BlockSizes::parse(reader)?);
                Ok(())
            }
            InfoType::NAME => {
                self.canonical_name = Some(reader.rest_string()?);
                Ok(())
            }
            InfoType::DESCRIPTION => {
                self.description = Some(reader.rest_string()?);
                Ok(())
            }
            // "The client MUST ignore information types it does not know."
            _ => Ok(()),
        }
    }

    fn into_export(self) -> Result<Export, Violation> {
        let mut export = self.export.ok_or(Violation::NoExportInfo)?;
        if let Some(sizes) = self.block_sizes {
            export.block_sizes = sizes;
            export.told_block_sizes = true;
        }
        export.canonical_name = self.canonical_name;
        export.description = self.description;
        Ok(export)
    }
}

/// `NBD_REP_META_CONTEXT`
fn context(data: &[u8]) -> Result<Context, Violation> {
    let mut reader = Reader::new("NBD_REP_META_CONTEXT", data);
    Ok(Context {
        id: reader.u32()?,
        name: reader.rest_string()?,
    })
}

fn readable(name: &str) -> String {
    super::codec::readable(name.as_bytes())
}
