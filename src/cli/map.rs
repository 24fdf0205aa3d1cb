//! `nbdctl map`

use std::ops::ControlFlow;

use serde::Serialize;

use super::args::MapArgs;
use super::layout::Layout;
use super::{Exit, answer, answer_json, fail, fail_session, parse_uri, show};
use crate::monitor::{self, Target};
use crate::proto::transmission::allocation_words;
use crate::session::{Client, Deadline, Error, Range, Session, contexts};
use crate::uri::Uri;

pub(super) fn run(args: &MapArgs) -> Exit {
    let uri = match export(&args.export) {
        Ok(uri) => uri,
        Err(exit) => return exit,
    };
    if args.list_contexts {
        return list_contexts(&uri, args);
    }
    let deadline = Deadline::after(args.timeout.duration());
    let session = Session::open_best(&uri, std::slice::from_ref(&args.context), deadline);
    match session {
        Ok(session) => {
            let client = Client::new(&uri, session, args.timeout.duration());
            map(client, args)
        }
        Err(error) => fail_session(&error),
    }
}

/// A URI as it stands, or that of an attached device.
fn export(text: &str) -> Result<Uri, Exit> {
    if text.contains(':') {
        return parse_uri(text);
    }
    let uri = Target::parse(text)
        .and_then(|target| monitor::uri_of(&target))
        .map_err(|error| fail(&error))?;
    parse_uri(&uri)
}

fn list_contexts(uri: &Uri, args: &MapArgs) -> Exit {
    match contexts(uri, Deadline::after(args.timeout.duration())) {
        Ok(names) if args.json => answer_json(&names),
        Ok(names) => {
            for name in names {
                answer(&show::text(&name));
            }
            Exit::Done
        }
        Err(error) => fail_session(&error),
    }
}

fn map(mut client: Client, args: &MapArgs) -> Exit {
    let told = client
        .only_context()
        .and_then(|_| client.range(args.offset, args.length))
        .and_then(|range| {
            if args.json {
                map_json(&mut client, args, range)
            } else {
                map_lines(&mut client, args, range)
            }
        });
    client.leave();
    match told {
        Ok(()) => Exit::Done,
        Err(error) => fail_session(&error),
    }
}

/// Whether it is of use to go on.
fn flow(written: bool) -> ControlFlow<()> {
    if written {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// One extent, for programs.
#[derive(Serialize)]
struct Entry {
    offset: u64,
    length: u64,
    status: u64,
    description: Option<&'static str>,
}

/// An array, written as it comes: a fragmented disk has millions.
fn map_json(client: &mut Client, args: &MapArgs, range: Range) -> Result<(), Error> {
    let mut comma = "[";
    client.map(range, |offset, extent| {
        let entry = Entry {
            offset,
            length: extent.length,
            status: extent.status,
            description: allocation_words(&args.context, extent.status),
        };
        // Numbers and fixed words: it cannot fail.
        let line = format!(
            "{comma}{}",
            serde_json::to_string(&entry).unwrap_or_default()
        );
        comma = ",";
        flow(answer(&line))
    })?;
    answer(if comma == "[" { "[]" } else { "]" });
    Ok(())
}

fn map_lines(client: &mut Client, args: &MapArgs, range: Range) -> Result<(), Error> {
    answer(&format!("{:>20} {:>20}  STATUS", "OFFSET", "LENGTH"));
    let mut layout = Layout::new(range.offset, range.length);
    client.map(range, |offset, extent| {
        layout.add(offset, extent);
        flow(answer(&format!(
            "{offset:>20} {:>20}  {}",
            extent.length,
            words(&args.context, extent.status)
        )))
    })?;
    for line in layout.lines(|status| words(&args.context, status)) {
        answer(&line);
    }
    Ok(())
}

/// In words where the context is known, else the raw number.
fn words(context: &str, status: u64) -> String {
    allocation_words(context, status).map_or_else(|| format!("{status:#x}"), str::to_owned)
}
