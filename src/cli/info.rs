//! `nbdctl info`

use serde::Serialize;

use super::args::InfoArgs;
use super::{Exit, answer, answer_json, fail_session, parse_uri, show};
use crate::proto::HeaderStyle;
use crate::session::{Deadline, Survey, TlsOffer, survey};
use crate::uri::Uri;

pub(super) fn run(args: &InfoArgs) -> Exit {
    let uri = match parse_uri(&args.uri) {
        Ok(uri) => uri,
        Err(exit) => return exit,
    };
    match survey(&uri, Deadline::after(args.timeout.duration())) {
        Ok(survey) if args.json => answer_json(&Document::new(&uri, &survey)),
        Ok(survey) => {
            for line in lines(&uri, &survey) {
                answer(&line);
            }
            Exit::Done
        }
        Err(error) => fail_session(&error),
    }
}

/// What an export is, for programs.
#[derive(Serialize)]
struct Document<'a> {
    uri: &'a str,
    export: &'a str,
    peer: &'a str,
    size_bytes: u64,
    canonical_name: Option<&'a str>,
    description: Option<&'a str>,
    flags: Vec<String>,
    block_size: BlockSize,
    headers: Headers,
    contexts: &'a [String],
    tls: Option<&'static str>,
}

/// In bytes; the server's word, or the protocol's defaults.
#[derive(Serialize)]
struct BlockSize {
    told: bool,
    minimum: u32,
    preferred: u32,
    maximum_payload: u32,
}

/// Which styles the server grants; null where that could not be tried.
#[derive(Serialize)]
struct Headers {
    best: &'static str,
    compact: Option<bool>,
    structured: bool,
    extended: bool,
}

impl<'a> Document<'a> {
    fn new(uri: &'a Uri, survey: &'a Survey) -> Self {
        let export = &survey.export;
        let sizes = export.block_sizes;
        Self {
            uri: uri.as_str(),
            export: uri.export(),
            peer: &survey.peer,
            size_bytes: export.size,
            canonical_name: export.canonical_name.as_deref(),
            description: export.description.as_deref(),
            flags: export.flags.names(),
            block_size: BlockSize {
                told: export.told_block_sizes,
                minimum: sizes.minimum,
                preferred: sizes.preferred,
                maximum_payload: sizes.maximum_payload,
            },
            headers: Headers {
                best: survey.best().as_str(),
                compact: survey.compact,
                structured: survey.structured,
                extended: survey.extended,
            },
            contexts: &survey.contexts,
            tls: survey.tls.map(tls),
        }
    }
}

fn tls(offer: TlsOffer) -> &'static str {
    match offer {
        TlsOffer::Offered => "offered",
        TlsOffer::Refused => "no",
    }
}

fn lines(uri: &Uri, survey: &Survey) -> Vec<String> {
    let export = &survey.export;
    let sizes = export.block_sizes;
    let mut lines = vec![
        format!(
            "export       \"{}\" at {}",
            show::text(uri.export()),
            survey.peer
        ),
        format!(
            "size         {} ({} bytes)",
            show::size(export.size),
            export.size
        ),
    ];
    let mut optional = |label: &str, text: Option<&str>| {
        lines.extend(text.map(|text| format!("{label:<12} {}", show::text(text))));
    };
    optional("name", export.canonical_name.as_deref());
    optional("description", export.description.as_deref());
    let told = if export.told_block_sizes {
        ""
    } else {
        " (not told, assumed)"
    };
    let payload = match sizes.maximum_payload {
        u32::MAX => "unlimited".to_owned(),
        bytes => bytes.to_string(),
    };
    lines.push(format!("headers      {}", headers(survey)));
    lines.extend(show::wrapped("flags", &export.flags.names()));
    lines.push(format!(
        "block size   minimum {}, preferred {}, maximum payload {payload}{told}",
        sizes.minimum, sizes.preferred
    ));
    lines.extend(show::wrapped("contexts", &survey.contexts));
    lines.push(format!(
        "TLS          {}",
        survey.tls.map_or("unknown", tls)
    ));
    lines
}

fn headers(survey: &Survey) -> String {
    let granted = [
        (HeaderStyle::Extended, Some(survey.extended)),
        (HeaderStyle::Structured, Some(survey.structured)),
        (HeaderStyle::Compact, survey.compact),
    ];
    let words: Vec<_> = granted
        .iter()
        .filter_map(|(style, granted)| match granted {
            Some(true) => Some(style.as_str().to_owned()),
            Some(false) => None,
            None => Some(format!("{} (unknown)", style.as_str())),
        })
        .collect();
    words.join(", ")
}
