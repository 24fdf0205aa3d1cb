//! The command line: one file per verb, and the only place that prints.
//!
//! Standard output is for the answer, standard error for everything else. It
//! must not decide anything about a device; it asks `monitor` and tells.

mod args;
mod attach;
mod boot;
mod config;
mod detach;
mod doctor;
mod erase;
mod exit;
mod generate;
mod generator;
mod guard;
mod hidden_args;
mod info;
mod layout;
mod list;
mod log;
mod map;
mod monitor;
mod on_device;
mod relay;
mod resolve;
mod show;
mod status;
mod udev_names;
mod unit;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Places;
use crate::session::Erase;
use crate::uri::Uri;
use args::{Args, Verb};
use clap::Parser;
pub use exit::Exit;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    if generator::is_called() {
        return generator::run().into();
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers; they come this way, too.
            let _ = error.print();
            let usage = error.use_stderr();
            return if usage { Exit::Usage } else { Exit::Done }.into();
        }
    };
    log::set_up(
        args.verbose,
        matches!(args.verb, Verb::Monitor(_) | Verb::Relay),
    );
    let places = Places::below(&args.config_root);
    let exit = match args.verb {
        Verb::Attach(args) => attach::run(*args, &places),
        Verb::Detach(args) => detach::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::List(args) => list::run(&args),
        Verb::Info(args) => info::run(&args),
        Verb::Map(args) => map::run(&args),
        Verb::Zero(args) => erase::run(
            &args.range,
            Erase::Zero {
                no_hole: args.no_hole,
                fast: args.fast,
            },
        ),
        Verb::Discard(args) => erase::run(&args, Erase::Discard),
        Verb::Monitor(args) => monitor::run(&args),
        Verb::Relay => relay::run(),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Config(args) => config::run(&args.verb, &places),
        Verb::OnDevice(args) => return on_device::run(&args).into(),
        Verb::Resolve(args) => resolve::run(&args),
        Verb::UnitStop(args) => unit::stop(&args),
        Verb::ShuttingDown(args) => unit::shutting_down(&args),
        Verb::KeepNetwork => unit::keep_network(),
        Verb::UdevNames(args) => udev_names::run(&args),
        Verb::Boot(args) => boot::run(&args),
        Verb::Generate(args) => generate::run(&args),
    };
    if LOST.load(Ordering::Relaxed) {
        note("the answer could not be written to standard output");
        return Exit::Failed.into();
    }
    exit.into()
}

/// An answer could not be written, and nobody has it.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints an answer. Whoever stopped reading does not want the rest; any other
/// failure is told at the end. False when there is no use in more.
fn answer(text: &str) -> bool {
    let mut stdout = io::stdout();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Err(error) = &written {
        if error.kind() != io::ErrorKind::BrokenPipe {
            LOST.store(true, Ordering::Relaxed);
        }
    }
    written.is_ok()
}

/// Prints what is not the answer.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "nbdctl: {text}");
}

/// Prints a value as JSON.
fn answer_json<T: serde::Serialize>(value: &T) -> Exit {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            answer(&show::json_text(&text));
            Exit::Done
        }
        Err(error) => {
            note(&error.to_string());
            Exit::Failed
        }
    }
}

/// Prints why something failed, and gives its exit status.
fn fail(error: &crate::monitor::Error) -> Exit {
    note(&error.to_string());
    Exit::of(error)
}

/// The same for what needs no device.
fn fail_session(error: &crate::session::Error) -> Exit {
    note(&error.to_string());
    Exit::of_session(&error.fault)
}

/// Reads a URI that was typed.
fn parse_uri(text: &str) -> Result<Uri, Exit> {
    Uri::parse(text).map_err(|error| {
        note(&format!("{}: {error}", text.escape_debug()));
        Exit::Usage
    })
}
