//! From a host's name to addresses.
//!
//! getaddrinfo(3) takes no deadline, may hang for ever, and loads what
//! nsswitch.conf(5) names into its process. A process that stays asks a child.

use std::fs::File;
use std::io::{self, Read};
use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::address::{Address, addresses_now};
use super::deadline::Deadline;
use super::error::{Error, Fault};
use crate::uri::{Endpoint, Uri};

/// The verb that runs in a child; hidden from users.
pub const RESOLVE: &str = "resolve";

/// The most addresses that a name is taken to have.
pub const MAX_ADDRESSES: usize = 64;

/// The most that is read of what a child says.
const MAX_TEXT: u64 = 8192;

/// How often a child is looked at.
const TICK: Duration = Duration::from_millis(10);

/// How long a child that was killed may take to be gone.
const LAST: Duration = Duration::from_secs(1);

/// With more than these there is no use in another.
const MAX_LEFT: usize = 4;

/// Children that were killed and did not end, to be reaped when they have.
static LEFT: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Every address of the URI's endpoint, in the resolver's order, by a child
/// process where a resolver is needed.
///
/// # Errors
///
/// The name has no address, or the resolver does not answer in time.
pub fn resolve(uri: &Uri, allowed: Duration) -> Result<Vec<Address>, Error> {
    let by_child = |host: &str, port| {
        let program = Command::new("/proc/self/exe");
        ask_child(program, host, port, Deadline::after(allowed))
    };
    addresses(uri, by_child)
}

/// The same by a thread, which ends with a process that does one thing.
pub(super) fn resolve_here(uri: &Uri, deadline: Deadline) -> Result<Vec<Address>, Error> {
    addresses(uri, |host, port| lookup(host, port, deadline))
}

fn addresses(
    uri: &Uri,
    by_name: impl FnOnce(&str, u16) -> Result<Vec<Address>, Fault>,
) -> Result<Vec<Address>, Error> {
    match (addresses_now(uri), uri.endpoint()) {
        (Some(addresses), _) => Ok(addresses),
        (None, Endpoint::Tcp { host, port }) => {
            let mut found = by_name(host, *port).map_err(|fault| Error::new(uri, fault))?;
            let mut seen = std::collections::HashSet::new();
            found.retain(|address| seen.insert(address.clone()));
            Ok(found)
        }
        (None, Endpoint::Unix { .. }) => Ok(Vec::new()),
    }
}

/// Asks the resolver in a thread, which is left behind where it outlasts the
/// deadline. At least one address, and not more than [`MAX_ADDRESSES`].
///
/// # Errors
///
/// As [`resolve`].
pub fn lookup(host: &str, port: u16, deadline: Deadline) -> Result<Vec<Address>, Fault> {
    let (sender, receiver) = mpsc::channel();
    let query = (host.to_owned(), port);
    thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || {
            let answer = query.to_socket_addrs().map(|addresses| {
                let addresses = addresses.map(Address::tcp);
                addresses.take(MAX_ADDRESSES).collect::<Vec<_>>()
            });
            // The caller may have given up.
            let _ = sender.send(answer);
        })
        .map_err(Fault::Io)?;
    match receiver.recv_timeout(deadline.remaining().unwrap_or_default()) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(unresolved(host, "it has no address")),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(unresolved(host, &plain(&error))),
        Err(_) => Err(timed_out(deadline)),
    }
}

/// std wraps what getaddrinfo says into a sentence of its own.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text)
        .to_owned()
}

fn unresolved(host: &str, why: &str) -> Fault {
    Fault::Unresolved {
        host: host.to_owned(),
        why: why.to_owned(),
    }
}

fn timed_out(deadline: Deadline) -> Fault {
    Fault::TimedOut {
        waits_for: "the resolver",
        allowed: deadline.allowed(),
    }
}

/// Runs the program with `resolve -- HOST PORT`.
fn ask_child(
    mut program: Command,
    host: &str,
    port: u16,
    deadline: Deadline,
) -> Result<Vec<Address>, Fault> {
    let helper = |error: io::Error| unresolved(host, &format!("a helper process: {error}"));
    if reap_left() >= MAX_LEFT {
        return Err(unresolved(host, "earlier attempts hang in the kernel"));
    }
    let mut child = program
        .args([RESOLVE, "--", host, &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A ^C is for us, who know what to do about it.
        .process_group(0)
        .spawn()
        .map_err(helper)?;
    let ended = wait(&mut child, deadline);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    finish(child);
    let Some(status) = ended.map_err(helper)? else {
        return Err(timed_out(deadline));
    };
    if status.success() {
        let said = text_of(stdout.map(OwnedFd::from)).map_err(helper)?;
        return parsed(&said, port).ok_or_else(|| unresolved(host, "its addresses make no sense"));
    }
    let said = text_of(stderr.map(OwnedFd::from)).map_err(helper)?;
    Err(unresolved(host, last_words(&said)))
}

/// `None` when the deadline has passed. What a child of ours says fits the pipes.
fn wait(child: &mut Child, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let Some(left) = deadline.remaining() else {
            return Ok(None);
        };
        thread::sleep(left.min(TICK));
    }
}

/// Makes sure that a child is gone, or is known to be left.
fn finish(mut child: Child) {
    let _ = child.kill();
    if !matches!(wait(&mut child, Deadline::after(LAST)), Ok(Some(_))) {
        // It waits uninterruptibly, for a file of the resolver's perhaps.
        left().push(child);
    }
}

fn left() -> MutexGuard<'static, Vec<Child>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many are still there.
fn reap_left() -> usize {
    let mut left = left();
    left.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    left.len()
}

/// One address a line.
fn parsed(text: &str, port: u16) -> Option<Vec<Address>> {
    let right = |address: &Address| address.has_port(port);
    let parse = |line: &str| line.parse().ok().filter(right);
    let addresses: Option<Vec<_>> = text.strip_suffix('\n')?.split('\n').map(parse).collect();
    addresses.filter(|addresses| addresses.len() <= MAX_ADDRESSES)
}

/// Why it failed, without its name.
fn last_words(said: &str) -> &str {
    let line = said.trim().lines().last().unwrap_or_default();
    match line.trim_start_matches("nbdctl: ") {
        "" => "a helper process ended without a word",
        why => why,
    }
}

/// What is in a pipe now: somebody whom the child left behind may hold it open.
fn text_of(pipe: Option<OwnedFd>) -> io::Result<String> {
    let Some(pipe) = pipe else {
        return Ok(String::new());
    };
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut bytes = Vec::new();
    match File::from(pipe).take(MAX_TEXT).read_to_end(&mut bytes) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    /// Asks a script in the place of this program.
    fn ask(script: &str, allowed: Duration) -> Result<Vec<Address>, String> {
        let mut program = Command::new("bash");
        program.args(["-c", script]);
        ask_child(program, "h", 7, Deadline::after(allowed)).map_err(|fault| fault.to_string())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_childs_addresses_are_taken_one_a_line() {
        let script = r#"[[ "$0 $*" == "resolve -- h 7" ]] && echo "[::1]:7" && echo 10.0.0.5:7"#;
        let addresses = ask(script, LONG).unwrap();
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["[::1]:7", "10.0.0.5:7"]);
    }

    #[test]
    fn what_is_no_list_of_addresses_is_refused_and_bounded() {
        for script in [
            "true",
            "echo",
            "echo 10.0.0.5:8",
            "echo /run/socket",
            "echo 10.0.0.5:7; echo",
            "echo ' 10.0.0.5:7'",
            "printf 10.0.0.5:7",
            "for n in {1..65}; do echo 10.0.0.$n:7; done",
            "for n in {1..3000}; do echo 10.0.0.5:7; done",
        ] {
            let error = ask(script, LONG).unwrap_err();
            assert!(error.contains("make no sense"), "{script}: {error}");
        }
    }

    #[test]
    fn a_childs_reason_is_told() {
        let error = ask("echo nbdctl: Name unknown >&2; exit 1", LONG).unwrap_err();
        assert!(
            error.contains("\"h\" does not resolve (Name unknown)"),
            "{error}"
        );
        let error = ask("exit 1", LONG).unwrap_err();
        assert!(error.contains("without a word"), "{error}");
        let missing = ask_child(Command::new("/no/such"), "h", 7, Deadline::after(LONG));
        assert!(missing.unwrap_err().to_string().contains("No such file"));
    }

    /// Whoever it leaves behind may hold the pipe; nobody waits for that.
    #[test]
    fn a_pipe_that_stays_open_holds_nothing_up() {
        let begun = Instant::now();
        let addresses = ask("sleep 10 & echo 10.0.0.5:7", LONG).unwrap();
        assert_eq!(addresses.len(), 1);
        assert!(begun.elapsed() < Duration::from_secs(9));
    }

    #[test]
    fn a_child_that_hangs_is_killed_at_the_deadline_and_reaped() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("echo $$ >{}; exec sleep 60", pid.display());
        let begun = Instant::now();
        let error = ask(&script, Duration::from_secs(1)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(error.contains("within 1 s: the resolver"), "{error}");
        let pid = fs::read_to_string(pid).unwrap();
        // A zombie would be there.
        assert!(!Path::new("/proc").join(pid.trim()).exists());
        assert_eq!(reap_left(), 0);
    }

    #[test]
    fn a_thread_asks_the_resolver_itself() {
        let uri = Uri::parse("nbd://localhost:7").unwrap();
        let addresses = resolve_here(&uri, Deadline::after(LONG)).unwrap();
        assert!(addresses.iter().all(|address| address.has_port(7)));
    }
}
