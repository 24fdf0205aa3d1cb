//! `nbdctl zero` and `nbdctl discard`

use std::time::{Duration, Instant};

use super::args::RangeArgs;
use super::{Exit, fail, fail_session, note, parse_uri, show};
use crate::monitor;
use crate::session::{Client, Deadline, Erase, Session};
use crate::uri::Uri;

/// How often work that takes long says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(args: &RangeArgs, how: Erase) -> Exit {
    let uri = match parse_uri(&args.uri) {
        Ok(uri) => uri,
        Err(exit) => return exit,
    };
    let opened = Session::open_best(&uri, &[], Deadline::after(args.timeout.duration()));
    let mut client = match opened {
        Ok(session) => Client::new(&uri, session, args.answer_timeout()),
        Err(error) => return fail_session(&error),
    };
    if !args.force {
        let same = |other: &str, peers: &[String]| is_same(&uri, client.peer(), other, peers);
        match monitor::attached_from(same) {
            Ok(None) => {}
            Ok(Some(device)) => {
                note(&format!(
                    "{uri} is attached here as {}, and whoever uses that would lose what it \
                     holds: detach it first, or use --force",
                    device.path().display()
                ));
                return Exit::Failed;
            }
            Err(error) => return fail(&error.into()),
        }
    }
    let offset = args.offset;
    let length = args
        .length
        .unwrap_or_else(|| client.export().size.saturating_sub(offset));
    let mut told = Instant::now();
    let done = client.erase(how, offset, length, |done| {
        let late = told.elapsed() >= TELL_EVERY;
        if done < length && late {
            told = Instant::now();
            let percent = u128::from(done) * 100 / u128::from(length.max(1));
            note(&format!(
                "{} of {} ({percent} %)",
                show::size(done),
                show::size(length)
            ));
        }
    });
    client.leave();
    match done {
        Ok(()) => Exit::Done,
        Err(error) => fail_session(&error),
    }
}

/// Whether two URIs lead to one export: by what they say, or by who answers.
fn is_same(uri: &Uri, peer: &str, other: &str, peers: &[String]) -> bool {
    Uri::parse(other).is_ok_and(|other| {
        let same_place =
            other.endpoint() == uri.endpoint() || peers.iter().any(|known| known == peer);
        same_place && other.export() == uri.export()
    })
}
