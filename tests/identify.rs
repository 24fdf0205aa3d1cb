//! What identifies a disk is read in every header style and block size, and the
//! session is as good as new.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it is all tests"
)]

#[path = "liar/mod.rs"]
mod liar;

mod common;

use std::time::{Duration, Instant};

use common::fake;
use liar::{Config, Export, Handle, Style};
use nbdctl::session::{Client, Deadline, Fault, Identity, Session, identify};
use nbdctl::uri::Uri;

const PATIENCE: Duration = Duration::from_secs(20);
const ID: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";

fn raw() -> Vec<u8> {
    (0..16).collect()
}

fn server(style: Style, export: Export) -> Handle {
    liar::start(Config::new().export(export).at_most(style))
}

fn ask(server: &Handle, best: bool) -> (Session, Vec<Identity>) {
    let uri = Uri::parse(&server.uri("disk")).unwrap();
    let deadline = Deadline::after(PATIENCE);
    let session = if best {
        Session::open_best(&uri, &[], deadline)
    } else {
        Session::open(&uri, deadline)
    };
    identify(session.unwrap(), &uri, PATIENCE).unwrap()
}

fn identity(kind: &'static str) -> Identity {
    let id = ID.to_owned();
    Identity { kind, id }
}

#[test]
fn it_is_read_in_every_style_and_the_session_goes_on() {
    for style in [Style::Simple, Style::Structured, Style::Extended] {
        let server = server(style, Export::new("disk", 1 << 20));
        server.poke("disk", 0, b"XFSB");
        server.poke("disk", 32, &raw());
        server.poke("disk", 65_600, b"_BHRfS_M");
        server.poke("disk", 65_568, &raw());
        let (session, found) = ask(&server, true);
        assert_eq!(found, [identity("xfs"), identity("btrfs")], "{style:?}");
        let uri = Uri::parse(&server.uri("disk")).unwrap();
        let mut client = Client::new(&uri, session, PATIENCE);
        assert_eq!(client.read_bytes(0, 4).unwrap(), b"XFSB");
        assert_eq!(server.complaints(), [""; 0]);
    }
}

#[test]
fn whole_blocks_are_read_as_many_as_the_server_takes() {
    for (block, most) in [(1, 4096), (512, 512), (4096, 4096), (65_536, 65_536)] {
        let export = Export::new("disk", 1 << 20).block(block, most.max(512), most);
        let server = server(Style::Simple, export);
        server.poke("disk", 65_600, b"_BHRfS_M");
        server.poke("disk", 65_568, &raw());
        let (_, found) = ask(&server, false);
        assert_eq!(found, [identity("btrfs")]);
        assert_eq!(server.complaints(), [""; 0]);
    }
}

#[test]
fn a_small_export_has_what_fits() {
    for size in [0, 1, 511, 512, 1024, 4096, 65_536, 69_632] {
        let server = server(Style::Simple, Export::new("disk", size));
        if size >= 48 {
            server.poke("disk", 0, b"XFSB");
            server.poke("disk", 32, &raw());
        }
        let (session, found) = ask(&server, false);
        assert_eq!(found.len(), usize::from(size >= 48), "{size}");
        assert!(session.into_compact().is_ok());
        assert_eq!(server.complaints(), [""; 0]);
    }
}

fn failing(
    serve: impl Fn(&mut fake::Client, u64, usize) -> std::io::Result<()> + Send + Sync + 'static,
) -> Fault {
    let address = fake::server(move |client| {
        client.go(1 << 20, 1)?;
        let request = client.request()?;
        serve(
            client,
            request.cookie,
            usize::try_from(request.length).unwrap(),
        )?;
        client.stay_silent()
    });
    let uri = Uri::parse(&format!("nbd://{address}/disk")).unwrap();
    let session = Session::open(&uri, Deadline::after(PATIENCE)).unwrap();
    let begun = Instant::now();
    let error = identify(session, &uri, Duration::from_secs(1)).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
    error.fault
}

#[test]
fn a_session_with_something_unread_is_none() {
    let whole = failing(|client, cookie, length| {
        let mut data = vec![0; length];
        data.extend([0x67, 0x44, 0x66, 0x98]);
        data.extend([0; 12]);
        client.done(cookie, &data)
    });
    assert!(
        whole.to_string().contains("it was asked nothing"),
        "{whole}"
    );
    let begun = failing(|client, cookie, length| {
        let mut data = vec![0; length];
        data.extend([0x67, 0x44]);
        client.done(cookie, &data)
    });
    assert!(
        begun.to_string().contains("2 bytes that nothing"),
        "{begun}"
    );
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_once() {
    let silent = failing(|_, _, _| Ok(()));
    assert!(matches!(silent, Fault::TimedOut { .. }), "{silent}");
}
