//! Dialling one address: from a given port, to a server that may be silent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::fake::{self, greeting, oldstyle_greeting};
use nbdctl::session::{Address, Deadline, Dialled, RESOLVE, addresses_now, open_each_of};
use nbdctl::uri::Uri;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{getsockopt, sockopt};

const PATIENCE: Duration = Duration::from_secs(20);
const ABORT: u32 = 2;

fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

fn uri(server: SocketAddr) -> Uri {
    Uri::parse(&format!("nbd://{server}/disk")).unwrap()
}

fn dial(server: SocketAddr, from: Option<SocketAddr>) -> Dialled {
    let uri = uri(server);
    let [address]: [Address; 1] = addresses_now(&uri).unwrap().try_into().unwrap();
    let dialled = address.dial(&uri, soon(), from).unwrap();
    assert_eq!(dialled.address(), &address);
    dialled
}

/// The local address of a session that was dialled so.
fn local(server: SocketAddr, from: Option<SocketAddr>) -> SocketAddr {
    let session = dial(server, from).negotiate(&uri(server), soon()).unwrap();
    assert_eq!(session.peer(), server.to_string());
    session.local_address().unwrap()
}

fn zeroes() -> SocketAddr {
    fake::server(|client| {
        client.go(1 << 20, 1)?;
        client.serve_zeroes()
    })
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn the_local_end_is_the_one_that_was_asked_for() {
    let from = free();
    assert_eq!(local(zeroes(), Some(from)), from);
}

/// Two servers of one name have a cache each, or a disk each.
#[test]
fn all_sessions_of_a_device_are_with_one_server() {
    let greeted = AtomicBool::new(false);
    let first = fake::server(move |client| {
        if greeted.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        client.go(1 << 20, 1)?;
        client.serve_zeroes()
    });
    let addresses = [first, zeroes()].map(|server| server.to_string().parse().unwrap());
    let opened = open_each_of(&uri(first), &addresses, 3, soon()).unwrap();
    let found: Vec<_> = opened.iter().map(|session| session.is_ok()).collect();
    assert_eq!(found, [true, false, false]);
}

#[test]
fn a_local_end_that_cannot_be_had_is_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for from in [
        taken.local_addr().unwrap(),
        "192.0.2.1:7000".parse().unwrap(),
        "[::1]:7000".parse().unwrap(),
    ] {
        assert_ne!(local(zeroes(), Some(from)), from);
    }
    // The very connection is there already.
    let server = zeroes();
    let session = dial(server, Some(free())).negotiate(&uri(server), soon());
    let session = session.unwrap();
    let from = session.local_address().unwrap();
    assert_ne!(local(server, Some(from)), from);
}

#[test]
fn a_session_is_left_without_traces_of_dialling() {
    let server = zeroes();
    let session = dial(server, None).negotiate(&uri(server), soon()).unwrap();
    let socket = session.into_compact().unwrap().into_stream();
    let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK));
    let wait = getsockopt(&socket, sockopt::ReceiveTimeout).unwrap();
    assert_eq!((wait.tv_sec(), wait.tv_usec()), (0, 0));
    let wait = getsockopt(&socket, sockopt::SendTimeout).unwrap();
    assert_eq!((wait.tv_sec(), wait.tv_usec()), (0, 0));
    assert!(getsockopt(&socket, sockopt::TcpNoDelay).unwrap());
}

/// The child's half of `session::resolve`.
#[test]
fn the_hidden_verb_prints_one_address_a_line() {
    let resolve = |host: &str| {
        let mut nbdctl = Command::new(env!("CARGO_BIN_EXE_nbdctl"));
        nbdctl.args([RESOLVE, "--", host, "7"]).output().unwrap()
    };
    let output = resolve("localhost");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        let address: Address = line.parse().unwrap();
        assert!(address.is_tcp() && line.ends_with(":7"), "{line}");
    }
    // A host is no option, whatever it is called.
    for host in ["--help", "-v", "--", "no.such.invalid"] {
        let output = resolve(host);
        assert_eq!(output.status.code(), Some(1), "{host}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn nobody_there_is_told_with_what_it_may_mean() {
    let server = free();
    let address = addresses_now(&uri(server)).unwrap().remove(0);
    let error = address.dial(&uri(server), soon(), None).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("(connection refused)") && text.contains("--persistent"));
}

fn greeted(hello: &'static [u8], allowed: Duration) -> Result<bool, String> {
    let server = fake::server(move |client| {
        client.send(hello)?;
        client.stay_silent()
    });
    let greeted = dial(server, None).is_greeted(Deadline::after(allowed));
    greeted.map_err(|error| error.to_string())
}

#[test]
fn a_greeting_is_told_from_silence_and_from_nonsense() {
    let leak = |bytes: Vec<u8>| -> &'static [u8] { bytes.leak() };
    assert_eq!(greeted(leak(greeting(0b11)), PATIENCE), Ok(true));
    assert_eq!(greeted(leak(greeting(0)), PATIENCE), Ok(true));
    let begun = Instant::now();
    let short = Duration::from_millis(300);
    assert_eq!(greeted(b"", short), Ok(false));
    assert_eq!(greeted(b"NBDMAGICIHAV", short), Ok(false));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let oldstyle = greeted(leak(oldstyle_greeting()), PATIENCE).unwrap_err();
    assert!(oldstyle.contains("oldstyle"), "{oldstyle}");
    assert!(greeted(b"SSH-2.0-OpenSSH_9.2p1\r\n", PATIENCE).is_err());
    let server = fake::server(|_| Ok(()));
    let error = dial(server, None).is_greeted(soon()).unwrap_err();
    assert!(error.to_string().contains("closed the connection"));
}

#[test]
fn who_was_greeted_takes_leave() {
    let (sender, receiver) = mpsc::channel();
    let server = fake::server(move |client| {
        client.greet()?;
        let (option, _) = client.option()?;
        sender.send(option).unwrap();
        Ok(())
    });
    assert!(dial(server, None).is_greeted(soon()).unwrap());
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(ABORT));
}
