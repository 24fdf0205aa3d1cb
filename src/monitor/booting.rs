//! How the exports that an initramfs attaches get on, and the starting of their
//! monitors where no service manager does it. What is to be attached is in
//! /run/nbdctl/NAME.toml, for these monitors and for those that take over later.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::control::{Request, ask};
use super::error::Error;
use super::lookup::{Target, by_name};
use super::runtime::Runtime;
use super::unit::store;
use crate::config::{Name, Places, Settings};
use crate::kernel::Device;

/// How an export gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Booting {
    /// Its device can be used, or could, and waits for its server.
    Usable,
    /// Its monitor tries, and met this last; empty where it met nothing yet.
    Trying(String),
    /// It has none.
    NoMonitor,
}

/// What a monitor may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How the export of a NAME gets on.
#[must_use]
pub fn booting(name: &Name) -> Booting {
    let runtime = Runtime::of(name);
    let usable = runtime.load().is_some_and(|state| state.usable);
    if usable && matches!(by_name(name), Ok(Some(_))) {
        return Booting::Usable;
    }
    match ask(&runtime.control_socket(), &Request::Status {}, ANSWER) {
        Ok(Some(answer)) => Booting::Trying(answer.why.or(answer.error).unwrap_or_default()),
        Ok(None) if !runtime.is_monitored() => Booting::NoMonitor,
        _ => Booting::Trying(String::new()),
    }
}

/// What an attached device is attached with, and one of the addresses that its server
/// has, without the port; `None` for a Unix socket.
///
/// # Errors
///
/// It is not attached, or not by nbdctl, or /run does not tell.
pub fn attached_with(device: &Device) -> Result<(Settings, Option<String>), Error> {
    let (_, identifier) = Target::Device(device.clone()).find()?;
    let state = identifier.and_then(|identifier| {
        let state = Runtime::of(identifier.name()).load();
        state.filter(|state| state.backend_identifier == identifier.to_string())
    });
    let Some(state) = state else {
        let what = format!("{}, as far as /run/nbdctl tells,", device.path().display());
        return Err(Error::NotAttached(what));
    };
    let host = |peer: &String| {
        let (host, port) = peer.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        Some(host.trim_matches(['[', ']']).to_owned())
    };
    let peers = state.links.iter().map(|link| &link.peer);
    let address = peers.chain(&state.addresses).find_map(host);
    Ok((state.settings, address))
}

/// Writes what is to be attached as NAME.
///
/// # Errors
///
/// /run cannot be written to.
pub fn order(name: &Name, text: &str) -> Result<(), Error> {
    store(&path_of(name), text)
}

/// The first line of that, which says who wants it.
#[must_use]
pub fn ordered_by(name: &Name) -> Option<String> {
    let text = fs::read_to_string(path_of(name)).ok()?;
    let line = text.lines().next()?.strip_prefix("# From ")?;
    Some(line.to_owned())
}

fn path_of(name: &Name) -> PathBuf {
    Places::default().run.join(format!("{name}.toml"))
}

/// Starts a monitor that outlives whoever starts it, and the initramfs: systemd spares
/// processes of root whose name begins with `@` when it takes over, and at the end.
///
/// # Errors
///
/// It cannot be started.
pub fn start_detached(name: &Name) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("@nbdctl")
        .args(["monitor", name.as_str()])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
