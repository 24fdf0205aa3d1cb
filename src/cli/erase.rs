//! `nbdctl zero` and `nbdctl discard`

use std::time::{Duration, Instant};

use super::args::RangeArgs;
use super::guard::{self, Suspect};
use super::{Exit, fail, fail_session, note, parse_uri, show};
use crate::session::{Client, Deadline, Erase, Session};
use crate::uri::Uri;

/// How often work that takes long says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(args: &RangeArgs, how: Erase) -> Exit {
    let uri = match parse_uri(&args.uri) {
        Ok(uri) => uri,
        Err(exit) => return exit,
    };
    // Before dialling, too: a server that serves one client at a time is silent
    // to a second one, and the attached device is the first.
    if let Err(exit) = refuse(args, &uri, None) {
        return exit;
    }
    let opened = Session::open_best(&uri, &[], Deadline::after(args.timeout.duration()));
    let mut client = match opened {
        Ok(session) => Client::new(&uri, session, args.answer_timeout()),
        Err(error) => return fail_session(&error),
    };
    if let Err(exit) = refuse(args, &uri, Some(&client)) {
        client.leave();
        return exit;
    }
    let done = erase(&mut client, args, how);
    client.leave();
    match done {
        Ok(()) => Exit::Done,
        Err(error) => fail_session(&error),
    }
}

fn refuse(args: &RangeArgs, uri: &Uri, client: Option<&Client>) -> Result<(), Exit> {
    if args.force {
        return Ok(());
    }
    match guard::suspect(uri, client) {
        Ok(None) => Ok(()),
        Ok(Some(suspect)) => {
            note(&sentence(uri, &suspect));
            Err(Exit::KernelRefused)
        }
        Err(error) => Err(fail(&error.into())),
    }
}

fn sentence(uri: &Uri, suspect: &Suspect) -> String {
    match suspect {
        Suspect::Is(device) => format!(
            "{uri} is attached here as {device}, and whoever uses that would lose what it holds: \
             detach it first, or use --force"
        ),
        Suspect::MayBe(device, why) => format!(
            "{uri} may be what is attached here as {device} ({why}): make sure that it is not, \
             and use --force"
        ),
    }
}

fn erase(client: &mut Client, args: &RangeArgs, how: Erase) -> Result<(), crate::session::Error> {
    let range = client.range(args.offset, args.length)?;
    if range.lost > 0 {
        note(&format!(
            "warning: the export's last {} bytes are no whole block, and stay as they are",
            range.lost
        ));
    }
    let length = range.length;
    let mut told = Instant::now();
    client.erase(how, range, |done| {
        if done < length && told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let percent = u128::from(done) * 100 / u128::from(length.max(1));
            note(&format!(
                "{} of {} ({percent} %)",
                show::size(done),
                show::size(length)
            ));
        }
    })
}
