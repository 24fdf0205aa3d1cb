//! After a link was cut while packets were lost: a server that serves one client
//! at a time, and was never told, still serves the one that is gone.

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nbdctl::session::{Client, Deadline, addresses_now};
use nbdctl::uri::Uri;
use nix::libc;

use crate::server;

const PATIENCE: Duration = Duration::from_secs(20);

/// Ends a connection without closing its socket, which is what the kernel's driver
/// is left with after SOCK_DESTROY.
#[allow(unsafe_code)]
fn cut(socket: &OwnedFd) {
    let nobody = libc::sockaddr {
        sa_family: u16::try_from(libc::AF_UNSPEC).unwrap(),
        sa_data: [0; 14],
    };
    let size = u32::try_from(size_of::<libc::sockaddr>()).unwrap();
    let done = unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, size) };
    assert_eq!(done, 0);
}

scenario!(
    a_dial_from_the_old_port_ends_what_the_server_still_serves,
    |machine| {
        let image = machine.image("image", 1 << 20);
        let server = server::qemu_nbd(&image, 10900, &["-e", "1"]);
        let uri = Uri::parse(&server.uri()).unwrap();
        let address = addresses_now(&uri).unwrap().remove(0);
        let soon = || Deadline::after(PATIENCE);
        let dial = |from| address.dial(&uri, soon(), from).unwrap();
        let mut session = dial(None).negotiate(&uri, soon()).unwrap();
        let mut dead = Vec::new();
        // The second time the port is one that was bound, by a socket still open.
        for _ in 0..2 {
            let old = session.local_address().unwrap();
            let socket = session.into_compact().unwrap().into_stream();
            machine.sh("tc qdisc add dev lo root netem loss 100%");
            cut(&socket);
            thread::sleep(Duration::from_millis(500));
            machine.sh("tc qdisc del dev lo root");
            dead.push(socket);

            let silence = dial(None).is_greeted(Deadline::after(Duration::from_secs(5)));
            assert!(!silence.unwrap(), "it serves nobody else");

            let begun = Instant::now();
            session = dial(Some(old)).negotiate(&uri, soon()).unwrap();
            println!("a session from {old} after {:?}", begun.elapsed());
            assert_eq!(session.local_address(), Some(old));
        }
        let mut client = Client::new(&uri, session, PATIENCE);
        assert_eq!(client.read_bytes(0, 512).unwrap(), [0; 512]);
    }
);
