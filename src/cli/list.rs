//! `nbdctl list`

use serde::Serialize;

use super::args::ListArgs;
use super::{Exit, answer, answer_json, fail_session, parse_uri, show};
use crate::proto::Export;
use crate::session::{Deadline, Listing, list};

pub(super) fn run(args: &ListArgs) -> Exit {
    let uri = match parse_uri(&args.uri) {
        Ok(uri) => uri,
        Err(exit) => return exit,
    };
    let listings = match list(&uri, Deadline::after(args.timeout.duration())) {
        Ok(listings) => listings,
        Err(error) => return fail_session(&error),
    };
    if args.json {
        let entries: Vec<_> = listings.iter().map(Entry::from).collect();
        return answer_json(&entries);
    }
    for line in table(&listings) {
        answer(&line);
    }
    Exit::Done
}

/// One export, for programs.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    size_bytes: Option<u64>,
    read_only: Option<bool>,
    description: Option<&'a str>,
    error: Option<String>,
}

impl<'a> From<&'a Listing> for Entry<'a> {
    fn from(listing: &'a Listing) -> Self {
        let export = listing.export.as_ref();
        Self {
            name: &listing.name,
            size_bytes: export.ok().and_then(told_size),
            read_only: export.ok().map(|export| export.is_read_only()),
            description: description(listing),
            error: export.err().map(ToString::to_string),
        }
    }
}

/// nbd-server 3.24 tells no size to who only asks; no export that can be used has
/// none.
fn told_size(export: &Export) -> Option<u64> {
    Some(export.size).filter(|size| *size > 0)
}

/// What the list said, or else what the export itself says.
fn description(listing: &Listing) -> Option<&str> {
    let listed = Some(listing.description.as_str()).filter(|text| !text.is_empty());
    let told = || listing.export.as_ref().ok()?.description.as_deref();
    listed.or_else(told)
}

fn table(listings: &[Listing]) -> Vec<String> {
    let mut lines = vec![format!("{:>9} {:<2}  EXPORT", "SIZE", "")];
    for listing in listings {
        let name = if listing.name.is_empty() {
            "\"\"".to_owned()
        } else {
            show::text(&listing.name)
        };
        let (size, mode) = match &listing.export {
            Ok(export) => (
                told_size(export).map_or_else(|| "?".to_owned(), show::size),
                if export.is_read_only() { "ro" } else { "rw" },
            ),
            Err(_) => ("?".to_owned(), ""),
        };
        lines.push(format!("{size:>9} {mode:<2}  {name}"));
        if let Some(text) = description(listing) {
            lines.push(format!("{:14}{}", "", show::text(text)));
        }
        if let Err(refusal) = &listing.export {
            lines.push(format!("{:14}{refusal}", ""));
        }
    }
    lines
}
