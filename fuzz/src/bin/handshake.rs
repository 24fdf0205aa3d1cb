//! A server's bytes into the handshake, cut anywhere.
//!
//! The first bytes of the input choose what is wanted and how the rest is cut.
//! Whatever comes: no panic, no event after the end, no session from a handshake
//! that failed, and every question is answered at most once and in order.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nbdctl_fuzz::proto::{Ask, Event, Handshake, Wanted};

fn wanted(choice: u8) -> Wanted {
    let export = || "vm1".to_owned();
    let base = vec!["base:allocation".to_owned()];
    let wanted = match choice % 6 {
        0 => Wanted::compact("vm1"),
        1 => Wanted::best("vm1", &base),
        2 => Wanted::questions(vec![Ask::List, Ask::Info { export: export() }]),
        3 => Wanted::questions(vec![
            Ask::ExtendedHeaders,
            Ask::ListContexts {
                export: export(),
                queries: Vec::new(),
            },
        ]),
        4 => Wanted::compact("vm1").map(Wanted::with_tls),
        _ => Wanted::questions(vec![
            Ask::StructuredReply,
            Ask::SetContexts {
                export: export(),
                queries: base,
            },
            Ask::Abort,
        ]),
    };
    wanted.expect("the strings are short")
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, server @ ..] = data else {
        return;
    };
    let mut handshake = Handshake::new(wanted(*choice));
    let mut over = false;
    let mut answers = 0;
    for piece in server.chunks(usize::from(*cut).max(1)) {
        if handshake.handle_input(piece).is_err() {
            assert_eq!(
                handshake.poll_event(),
                None,
                "an event of a failed handshake"
            );
            assert!(
                handshake.handle_input(&[0]).is_err(),
                "it came back to life"
            );
            return;
        }
        while let Some(event) = handshake.poll_event() {
            assert!(!over, "an event after the end: {event:?}");
            match event {
                Event::StartTls => handshake.tls_established(),
                Event::Ready(_) | Event::Ended => over = true,
                Event::Listed { .. } | Event::Idle => {}
                Event::Style(..)
                | Event::ListEnded(_)
                | Event::Info { .. }
                | Event::Contexts(_) => answers += 1,
            }
            assert!(answers <= 3, "more answers than questions");
        }
        // What it sends is bounded by what was asked.
        let sent = handshake.poll_transmit().map_or(0, |bytes| bytes.len());
        assert!(sent < 1024, "{sent} bytes at once");
    }
});
