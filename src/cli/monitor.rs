//! `nbdctl monitor`

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::args::MonitorArgs;
use super::{Exit, fail, note};
use crate::config::{Kind, Name, Places, Settings, find};
use crate::kernel;
use crate::monitor::{self, Announcement, Error, Orders, Served, Service, Start};

pub(super) fn run(args: &MonitorArgs) -> Exit {
    // What a service manager passed on is taken before anything is kept open.
    let (found, service) = if args.standby {
        kernel::set_process_name("nbdctl-standby");
        if !monitor::stand_by(&args.name) {
            return Exit::Done;
        }
        // The configuration may be on a disk that is not to be had.
        let found = Found {
            start: Start::InPlace,
            ..Found::nothing(None)
        };
        (found, Service::none())
    } else if args.for_attach {
        match typed() {
            Ok(found) => (found, Service::none()),
            Err(exit) => return exit,
        }
    } else {
        let found = configured(&args.name);
        found.settings.iter().for_each(take_title);
        (found, Service::from_environment())
    };
    kernel::set_process_name("nbdctl");
    let start = found.start;
    let announce: monitor::Announce<'_> = if args.for_attach {
        Box::new(|said| announce(&said))
    } else {
        Box::new(|said| {
            if let Announcement::Usable { index, warnings } = said {
                for warning in warnings {
                    tracing::warn!("/dev/nbd{index}: {warning}");
                }
                tracing::info!("/dev/nbd{index} is usable");
            }
        })
    };
    let by_unit = service.is_there();
    let exit_of = |error: &Error| Exit::of(error) as u8;
    let orders = Orders {
        name: &args.name,
        settings: found.settings.as_ref(),
        misconfigured: found.problems,
        start,
        announce,
        exit_of,
        service,
    };
    match monitor::serve(orders) {
        Ok(Served::Left) if by_unit => Exit::Left,
        Ok(_) => Exit::Done,
        Err(error) => {
            if start == Start::Once && found.settings.is_some() {
                // Whoever asked for it may be gone, and it is not to be tried for ever.
                monitor::forget_attempt(&args.name);
            }
            let for_good = matches!(error, Error::NotAdopted { .. });
            let exit = fail(&error);
            if by_unit && for_good {
                Exit::Refused
            } else {
                exit
            }
        }
    }
}

/// Goes on as the same process under the title that the settings ask for, whoever started
/// it under whichever. It comes back where it has that, or cannot have it.
fn take_title(settings: &Settings) {
    let title = monitor::process_title(settings);
    let mut words = std::env::args_os();
    let has_mark = |word: &OsStr| word.as_encoded_bytes().starts_with(b"@");
    let is_marked = words.next().is_some_and(|word| has_mark(&word));
    if is_marked == has_mark(OsStr::new(title)) {
        return;
    }
    let error = Command::new("/proc/self/exe")
        .arg0(title)
        .args(words)
        .exec();
    tracing::warn!("this process is not called {title}: {error}");
}

/// What a monitor is to serve.
struct Found {
    settings: Option<Settings>,
    start: Start,
    /// Why there are no settings.
    problems: Option<String>,
}

impl Found {
    fn nothing(problems: Option<String>) -> Self {
        Self {
            settings: None,
            start: Start::Once,
            problems,
        }
    }
}

/// What attach was asked for.
fn typed() -> Result<Found, Exit> {
    // A ^C at the terminal is for attach; and its folder may be unmounted.
    let _ = setsid();
    let _ = std::env::set_current_dir("/");
    match read() {
        Ok(settings) => Ok(Found {
            settings: Some(settings),
            start: Start::ForAttach,
            problems: None,
        }),
        Err(error) => {
            note(&format!("the settings on standard input: {error}"));
            Err(Exit::Usage)
        }
    }
}

/// What the configuration has. Without, or with a broken one, there may be a device
/// to take over all the same.
fn configured(name: &Name) -> Found {
    match find(&Places::default(), name) {
        Ok(None) => Found::nothing(None),
        Ok(Some(export)) => {
            for warning in &export.warnings {
                tracing::warn!("{warning}");
            }
            // What an initramfs found on the kernel's command line nobody waits at a
            // terminal for.
            let start = if export.kind == Kind::Run && !export.settings.root {
                Start::Once
            } else {
                Start::Insist {
                    ready_at_once: export.boot.nofail,
                }
            };
            Found {
                settings: Some(export.settings),
                start,
                problems: None,
            }
        }
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            for problem in &problems {
                tracing::error!("{problem}");
            }
            Found::nothing(Some(problems.join("\n")))
        }
    }
}

fn read() -> io::Result<Settings> {
    /// Two URIs of 16 KiB, escaped, and a few words.
    const MAX: u64 = 256 * 1024;
    let mut text = String::new();
    io::stdin().take(MAX).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Tells attach, and lets go of what is its.
fn announce(said: &Announcement) {
    let text = serde_json::to_string(said).unwrap_or_default();
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Ok(null) = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
    {
        let _ = dup2_stdin(&null);
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
    }
}
