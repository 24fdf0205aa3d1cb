//! What must hold of a session's events, whatever the server sent.

use crate::drive::Told;
use crate::proto::transmission::{
    Command, CommandFlags, ErrorCode, Event, Extent, Outcome, SelectedContext,
};
use crate::script::{Asked, Script};

/// What was told of one request.
#[derive(Default)]
struct Seen {
    spans: Vec<(u64, u64)>,
    contexts: Vec<u32>,
    failed: Option<ErrorCode>,
    done: bool,
}

/// Every request ends once, in what it is owed, or the session in one fault.
pub fn check(script: &Script, told: &Told) {
    let mut seen: Vec<Seen> = Vec::new();
    seen.resize_with(told.begun, Seen::default);
    for (cookie, event) in &told.events {
        let index = usize::try_from(*cookie).expect("cookies are few") - 1;
        let (seen, asked) = (&mut seen[index], &script.asked[index]);
        assert!(!seen.done, "{cookie}: {event:?} after the end");
        seen.take(asked, event);
    }
    for (seen, asked) in seen.iter_mut().zip(&script.asked) {
        seen.spans.sort_unstable();
        for pair in seen.spans.windows(2) {
            assert!(
                pair[0].1 <= pair[1].0,
                "{:?}: told twice: {pair:?}",
                asked.request
            );
        }
        let waits = told.outstanding.contains(&asked.request.cookie);
        assert_eq!(waits, !seen.done, "{:?}", asked.request);
    }
    let expected = script.expected.as_slice();
    if script.right {
        assert_eq!(told.fault, None, "of a server that did no wrong");
        assert_eq!(told.events, merged(expected));
        assert!(!script.finished || told.outstanding.is_empty());
    } else {
        // Mischief may lengthen the last one.
        let sure = merged(expected);
        let sure = &sure[..sure.len().saturating_sub(1)];
        assert!(told.events.starts_with(sure), "{:?} {sure:?}", told.events);
    }
}

/// With data in several pieces put together, as they are told.
fn merged(events: &[(u64, Event)]) -> Vec<(u64, Event)> {
    let mut merged = Vec::new();
    for (cookie, event) in events {
        crate::drive::push(&mut merged, *cookie, event.clone());
    }
    merged
}

impl Seen {
    fn take(&mut self, asked: &Asked, event: &Event) {
        let request = &asked.request;
        let end = request.offset + asked.effect;
        match event {
            Event::Data { offset, bytes } => {
                self.span(asked, *offset, bytes.len() as u64);
            }
            Event::Hole { offset, length } => self.span(asked, *offset, *length),
            Event::Extents { context, extents } => {
                let context = asked.contexts.iter().find(|owed| owed.id == *context);
                let context = context.expect("a context that was asked for");
                assert!(!self.contexts.contains(&context.id), "a context twice");
                self.contexts.push(context.id);
                check_extents(asked, *context, extents);
            }
            Event::Error {
                code,
                message,
                offset,
            } => {
                assert!(code.is_error());
                assert!(message.len() <= 4096 && !message.chars().any(char::is_control));
                assert!(offset.is_none_or(|at| request.offset <= at && at < end));
                self.failed = self.failed.or(Some(code.effective()));
            }
            Event::Done(outcome) => {
                self.done = true;
                match self.failed {
                    Some(code) => assert_eq!(*outcome, Outcome::Failed(code)),
                    None => {
                        assert_eq!(*outcome, Outcome::Good);
                        self.check_good(asked);
                    }
                }
            }
        }
    }

    fn span(&mut self, asked: &Asked, offset: u64, length: u64) {
        assert_eq!(asked.request.command, Command::READ, "data of no read");
        let end = offset.checked_add(length).expect("an offset");
        assert!(length > 0 && offset >= asked.request.offset);
        assert!(end <= asked.request.offset + asked.effect, "data outside");
        self.spans.push((offset, end));
    }

    /// All that is owed is there.
    fn check_good(&mut self, asked: &Asked) {
        let request = &asked.request;
        if request.command == Command::READ {
            self.spans.sort_unstable();
            let mut front = request.offset;
            for (start, end) in &self.spans {
                assert_eq!(*start, front, "a gap, or bytes twice");
                front = *end;
            }
            assert_eq!(front, request.offset + asked.effect, "a gap at the end");
            if request.flags.contains(CommandFlags::DF) {
                assert_eq!(self.spans.len(), 1, "in pieces in spite of DF");
            }
        }
        assert_eq!(self.contexts.len(), asked.contexts.len());
    }
}

fn check_extents(asked: &Asked, context: SelectedContext, extents: &[Extent]) {
    let (last, others) = extents.split_last().expect("at least one extent");
    let before: u64 = others.iter().map(|extent| extent.length).sum();
    assert!(before < asked.effect, "an extent behind the end");
    let end = before.checked_add(last.length).expect("a length");
    assert!(asked.request.offset.checked_add(end).is_some());
    for extent in extents {
        assert!(extent.length > 0);
        assert!(context.wide || extent.status <= u64::from(u32::MAX));
    }
    for pair in extents.windows(2) {
        assert_ne!(pair[0].status, pair[1].status, "not merged");
    }
    if asked.request.flags.contains(CommandFlags::REQ_ONE) {
        assert!(others.is_empty() && end <= asked.effect);
    }
}
