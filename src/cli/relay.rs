//! `nbdctl relay`: what a monitor starts, with its two sockets as standard input and
//! output.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::process::abort;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::{dup2_stdin, dup2_stdout, setsid};

use super::{Exit, note};
use crate::kernel::{self, Keeps, wire};
use crate::relay::message::Begin;
use crate::relay::pump::{self, Facts, Relaying, Wires};
use crate::session::{self, Address};

pub(super) fn run() -> Exit {
    kernel::set_process_name("nbdctl-relay");
    let (control, kernel) = match sockets() {
        Ok(both) => both,
        Err(why) => {
            note(&why);
            return Exit::Usage;
        }
    };
    // Half of a relay is worse than none: its successor sends everything again.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |told| {
        hook(told);
        abort();
    }));
    // It ends when the kernel's end does: not with a terminal, a monitor or a unit.
    let _ = setsid();
    let mut ignored = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        ignored.add(signal);
    }
    let _ = ignored.thread_block();
    kernel::protect_process();
    let relaying = Relaying {
        control,
        kernel,
        wires: WIRES,
        exit_of: |error: &session::Error| Exit::of_session(&error.fault) as u8,
        confine: &confine,
    };
    match pump::run(relaying) {
        Ok(()) => Exit::Done,
        Err((why, exit)) => {
            tracing::error!("{why}");
            Exit::of_number(Some(exit))
        }
    }
}

/// Takes both, so that no other copy of them is left.
fn sockets() -> Result<(OwnedFd, OwnedFd), String> {
    let none = |error: io::Error| error.to_string();
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(none)?;
    let kernel = io::stdout().as_fd().try_clone_to_owned().map_err(none)?;
    for socket in [&control, &kernel] {
        if getsockopt(socket, sockopt::SockType) != Ok(SockType::Stream) {
            return Err("a monitor starts this, with sockets; see nbdctl attach --path".to_owned());
        }
    }
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(none)?;
    dup2_stdin(&null).map_err(|error| none(error.into()))?;
    dup2_stdout(&null).map_err(|error| none(error.into()))?;
    Ok((control, kernel))
}

fn confine(begin: &Begin) -> Result<(), String> {
    let by_network = |text: &String| text.parse::<Address>().is_ok_and(|it| it.is_tcp());
    kernel::confine(if begin.addresses.iter().all(by_network) {
        Keeps::Nothing
    } else {
        Keeps::Sockets
    })
}

const WIRES: Wires = Wires {
    prepare: |socket, silence| {
        wire::keep_alive(socket, silence / 4);
        wire::reset_on_close(socket, true);
    },
    facts: |socket| {
        let facts = wire::tcp_facts(socket)?;
        Some(Facts {
            since_ack: facts.since_ack,
            unanswered: facts.unanswered,
            rtt_us: u32::try_from(facts.rtt.as_micros()).unwrap_or(u32::MAX),
        })
    },
    reset: wire::cut,
    linger: |socket| wire::reset_on_close(socket, false),
};
