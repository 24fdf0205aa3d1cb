//! What becomes of an export on this machine: bringing its device up, keeping it
//! up through outages, taking it down, and knowing how it is.
//!
//! One process for each export does the keeping: `machine` decides, purely, and
//! `serve` carries out. It must not know how anything is said to a server or to
//! the kernel, only what to ask of [`crate::session`] and [`crate::kernel`], and it
//! prints nothing.

mod adopt;
mod attach;
mod booting;
mod bring_up;
mod control;
mod demands;
mod detach;
mod doctor;
mod doctor_network;
mod error;
mod hook;
mod interrupt;
mod launch;
mod links;
mod lookup;
mod machine;
mod manager;
mod networkd;
mod reconcile;
mod relay;
mod runtime;
mod serve;
mod service;
mod standby;
mod state;
mod status;
mod take_over;
mod unit;

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::Name;
use crate::kernel::{self, Ending};
use control::Request;
use interrupt::Interrupt;
use runtime::Runtime;

pub use attach::{Attached, attach};
pub use booting::{Booting, attached_with, booting, order, ordered_by, start_detached};
pub use detach::{Detached, detach};
pub use doctor::{Finding, Severity, examine};
pub use doctor_network::keep_network;
pub use error::Error;
pub use launch::{Announcement, process_title};
pub use lookup::{Attachment, Target, attached, attachment, attachments, uri_of};
pub use serve::{Announce, Orders, Served, Start, serve};
pub use service::Service;
pub use standby::stand_by;
pub use status::{Connection, DeviceState, Report, is_lost, not_yet, report};
pub use take_over::take_over;
pub use unit::{forget_attempt, is_being_stopped, machine_is_stopping};

/// What a command of the kernel's may take. They are done in milliseconds; one
/// that waits for a full send buffer or another's freeze is not coming back.
const KERNEL_DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for whoever holds a lock. An attach holds that of the index
/// for the time of one CONNECT; 24 at once take their turns within it.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// Tells every monitor that the machine goes down, and how as far as process 1 says;
/// gives those that did not take it.
#[must_use]
pub fn shutting_down() -> Vec<(Name, io::Error)> {
    let failed = tell_all(&shutdown(None, false));
    // It may have to wait for what the monitors do now.
    match manager::ending() {
        Ok(Some(ending)) => drop(tell_all(&shutdown(Some(ending), false))),
        Ok(None) => {}
        Err(error) => tracing::debug!("how the machine is to end is not known: {error}"),
    }
    failed
}

/// The same by the process that process 1 sends a signal for that. Then there is a
/// shutdown, unless process 1 itself says otherwise: a root's monitor may end the machine.
#[must_use]
pub fn shutdown_has_begun() -> Vec<(Name, io::Error)> {
    /// Longer than a root's monitor waits before it does.
    const TRIES: u32 = 12;
    const PAUSE: Duration = Duration::from_secs(3);
    let failed = tell_all(&shutdown(None, true));
    for _ in 0..TRIES {
        match manager::ending() {
            Ok(Some(ending)) => {
                tell_all(&shutdown(Some(ending), true));
                break;
            }
            Ok(None) => {
                tracing::info!("the machine does not end: monitors are as patient as before");
                tell_all(&Request::GoesOn {});
                break;
            }
            // A root that is dead holds it up, perhaps. Who became a monitor since has not
            // heard of it.
            Err(error) => {
                tracing::warn!("how the machine is to end is not known: {error}");
                thread::sleep(PAUSE);
                tell_all(&shutdown(None, true));
            }
        }
    }
    failed
}

fn shutdown(ending: Option<Ending>, begun: bool) -> Request {
    Request::ShuttingDown { ending, begun }
}

fn tell_all(request: &Request) -> Vec<(Name, io::Error)> {
    /// Each is asked by itself; one that is stuck holds up no other.
    const ANSWER: Duration = Duration::from_secs(2);
    let asked: Vec<_> = Runtime::all()
        .into_iter()
        .map(|runtime| {
            let (socket, request) = (runtime.control_socket(), request.clone());
            let ask = move || control::ask(&socket, &request, ANSWER);
            (runtime.name(), thread::spawn(ask))
        })
        .collect();
    let failed = |(name, asked): (Name, JoinHandle<io::Result<_>>)| {
        let error = asked.join().ok()?.err()?;
        // One that hangs up without an answer ends, as every monitor does by then.
        let ends = [
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::UnexpectedEof,
        ];
        (!ends.contains(&error.kind())).then_some((name, error))
    };
    asked.into_iter().filter_map(failed).collect()
}

/// Waits for a signal, from then on in memory with all that [`shutting_down`] takes.
pub fn wait_for_shutdown(mut service: Service) {
    kernel::protect_process();
    kernel::keep_own_text();
    let interrupt = Interrupt::hold();
    service.ready();
    service.status("keeps what tells the monitors of a shutdown in memory");
    while !interrupt.came() {
        interrupt.wait();
    }
}

/// How long the machine has been up, in milliseconds; it goes on in suspend.
fn uptime() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().unwrap_or_default();
    let (whole, hundredths) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    number(whole) * 1000 + number(hundredths) * 10
}
