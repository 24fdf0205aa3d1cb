//! `nbdctl boot`: what the scripts of an initramfs run. Hidden. What is wrong is told on
//! standard error, which is the console there, with the setting that says so.

mod progress;
mod shell;

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::{Exit, answer, note};
use crate::boot::{Dhcp, Plan, read_command_line, word_of};
use crate::config::Name;
use crate::kernel::Device;
use crate::monitor;

#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct BootArgs {
    #[command(subcommand)]
    verb: BootVerb,
}

#[derive(Debug, Subcommand)]
enum BootVerb {
    /// Read the kernel's command line, write what it asks for to /run/nbdctl, and print
    /// the rest for a shell
    Plan {
        /// Read it from FILE; - is standard input
        #[arg(long, value_name = "FILE", default_value = "/proc/cmdline")]
        cmdline: PathBuf,
        /// DHCP has answered: with this root-path, if there was one
        #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "")]
        root_path: Option<String>,
        /// And with this server for the root
        #[arg(long, value_name = "HOST", requires = "root_path")]
        root_server: Option<String>,
        /// Write nothing
        #[arg(long)]
        dry: bool,
    },
    /// Print what the command line is to say for a device that is attached
    Cmdline {
        /// /dev/nbdN
        #[arg(value_parser = super::args::device)]
        device: Device,
        /// Print its server's address instead, if it has one
        #[arg(long)]
        address: bool,
    },
    /// Start monitors, which outlive the initramfs, where no systemd does it
    Start {
        /// Of which exports
        names: Vec<Name>,
    },
    /// Replace the monitors of a root that is to be unmounted, by some that run from here
    TakeOver,
    /// Tell what keeps exports from being attached, if anything does
    Report {
        /// Of which exports
        names: Vec<Name>,
        /// Say nothing
        #[arg(long)]
        quiet: bool,
    },
    /// Wait until exports are attached, and tell what is met meanwhile
    Wait {
        /// Of which exports
        names: Vec<Name>,
        /// For how many seconds at most
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u32>,
    },
}

pub(super) fn run(args: &BootArgs) -> Exit {
    match &args.verb {
        BootVerb::Plan {
            cmdline,
            root_path,
            root_server,
            dry,
        } => {
            let dhcp = root_path.as_ref().map(|path| Dhcp {
                root_path: Some(path.clone()).filter(|path| !path.is_empty()),
                server: root_server.clone().filter(|server| !server.is_empty()),
            });
            match text_of(cmdline) {
                Ok(text) => plan(&read_command_line(&text, dhcp.as_ref()), *dry),
                Err(error) => {
                    note(&format!("{}: {error}", cmdline.display()));
                    Exit::Failed
                }
            }
        }
        BootVerb::Cmdline { device, address } => cmdline(device, *address),
        BootVerb::Start { names } => start(names),
        BootVerb::TakeOver => match monitor::take_over() {
            Ok(()) => Exit::Done,
            Err(error) => super::fail(&error),
        },
        BootVerb::Report { names, quiet } => progress::report(names, *quiet),
        BootVerb::Wait { names, timeout } => {
            let timeout = timeout.map(|seconds| Duration::from_secs(seconds.into()));
            progress::wait(names, timeout)
        }
    }
}

/// A command line, as far as anybody has one: the kernel's has 2 KiB, or 4.
fn text_of(path: &PathBuf) -> io::Result<String> {
    const MAX: u64 = 256 * 1024;
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(MAX).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?
            .take(MAX)
            .read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn plan(plan: &Plan, dry: bool) -> Exit {
    for warning in &plan.warnings {
        note(&format!("warning: {warning}"));
    }
    for problem in &plan.problems {
        note(problem);
    }
    for one in plan.exports.iter().filter(|_| !dry) {
        if let Err(error) = monitor::order(&one.settings.name, &one.to_toml()) {
            return super::fail(&error);
        }
    }
    answer(&shell::assignments(plan));
    match (plan.problems.is_empty(), plan.is_empty()) {
        (false, _) => Exit::Usage,
        (true, true) => Exit::NotFound,
        (true, false) => Exit::Done,
    }
}

fn cmdline(device: &Device, address: bool) -> Exit {
    match monitor::attached_with(device) {
        Ok((settings, host)) => {
            let text = match word_of(&settings) {
                Ok(_) if address => host,
                Ok(word) => Some(word),
                Err(error) => {
                    note(&format!("{}: path: {error}", device.path().display()));
                    return Exit::Usage;
                }
            };
            if let Some(text) = text {
                answer(&text);
            }
            Exit::Done
        }
        Err(error) => super::fail(&error),
    }
}

fn start(names: &[Name]) -> Exit {
    let mut exit = Exit::Done;
    for name in names {
        if monitor::booting(name) != monitor::Booting::NoMonitor {
            continue;
        }
        if let Err(error) = monitor::start_detached(name) {
            note(&format!("the monitor of \"{name}\": {error}"));
            exit = Exit::Failed;
        }
    }
    exit
}
