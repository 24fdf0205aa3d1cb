//! What the design leans on and the kernel does not document: these must hold on
//! every kernel that nbdctl is to run on.

use std::thread;
use std::time::{Duration, Instant};

use nbdctl::kernel::{Device, KernelSocket, LinkDeaths, Netlink, Reconfigure, Taken, give_up};
use nbdctl::session::{Deadline, Session};
use nbdctl::uri::Uri;

use crate::direct::Direct;
use crate::machine::Machine;
use crate::server::{self, Server};

const PATIENCE: Duration = Duration::from_secs(10);

/// A device on nbdkit, and all that a monitor would have.
struct Rig<'a> {
    machine: &'a Machine,
    server: Option<Server>,
    uri: String,
    netlink: Netlink,
    deaths: LinkDeaths,
}

impl<'a> Rig<'a> {
    fn new(machine: &'a Machine) -> Self {
        let image = machine.image("image", 16 << 20);
        let server = server::nbdkit(&image, 10900, &[], &[]);
        let uri = server.uri();
        assert_eq!(machine.attach(&[&uri]), "/dev/nbd0");
        // What follows is between the kernel and the test.
        machine.sh("pkill -9 -x nbdctl");
        Self {
            machine,
            server: Some(server),
            uri,
            netlink: Netlink::open(PATIENCE).unwrap(),
            deaths: LinkDeaths::subscribe(PATIENCE).unwrap(),
        }
    }

    fn kill_server(&mut self) {
        self.server.take().unwrap().kill();
        assert_eq!(self.deaths.wait(PATIENCE).unwrap(), [0]);
    }

    fn start_server(&mut self) {
        let image = self.machine.path("image");
        self.server = Some(server::nbdkit(&image, 10900, &[], &[]));
    }

    fn socket(&self) -> KernelSocket {
        let uri = Uri::parse(&self.uri).unwrap();
        let session = Session::open(&uri, Deadline::after(PATIENCE)).unwrap();
        session.into_compact().unwrap().into()
    }

    fn reconfigure(&self, socket: KernelSocket, dead_conn_timeout: u64) -> Taken {
        self.netlink
            .reconfigure(Reconfigure {
                index: 0,
                backend_identifier: Device::new(0).backend().unwrap(),
                dead_conn_timeout,
                socket,
            })
            .unwrap()
    }

    /// Starts a read in the background; `ended` tells how it went.
    fn read_in_background(&self, name: &str, offset: u32) {
        self.machine.sh(&format!(
            "(status=0; dd if=/dev/nbd0 of=/dev/null bs=4k skip={offset} count=1 iflag=direct \
              status=none 2>/dev/null || status=$?; echo $status >{name}) >/dev/null 2>&1 &"
        ));
    }

    /// How the read ended, and when, within `limit`.
    fn ended(&self, name: &str, limit: Duration) -> Option<(String, Duration)> {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            let text = std::fs::read_to_string(self.machine.path(name)).unwrap_or_default();
            if text.ends_with('\n') {
                return Some((text.trim().to_owned(), begun.elapsed()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// A read that the server got and will never answer.
    fn read_in_flight(&self, name: &str) {
        self.machine.sh("pkill -STOP -x nbdkit");
        self.read_in_background(name, 100);
        let until = Instant::now() + PATIENCE;
        while Device::new(0).in_flight() != Some(1) {
            assert!(Instant::now() < until, "the read is not in flight");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn finish(self) {
        self.machine.detach("/dev/nbd0");
        self.machine.assert_clean();
    }
}

scenario!(
    a_second_item_that_is_no_socket_proves_that_the_first_was_taken,
    |machine| {
        let mut rig = Rig::new(machine);
        assert_eq!(rig.reconfigure(rig.socket(), 600), Taken::No, "a live link");
        rig.kill_server();
        rig.start_server();
        assert_eq!(
            rig.reconfigure(rig.socket(), 600),
            Taken::Yes,
            "a dead link"
        );
        assert_eq!(
            rig.reconfigure(rig.socket(), 600),
            Taken::No,
            "a live link again"
        );
        rig.read_in_background("read", 0);
        assert_eq!(rig.ended("read", PATIENCE).unwrap().0, "0");
        rig.finish();
    }
);

scenario!(patience_may_change_while_a_link_lives, |machine| {
    let mut rig = Rig::new(machine);
    let backend = Device::new(0).backend().unwrap();
    for (seconds, waits) in [(2, false), (600, true)] {
        rig.netlink.set_patience(0, &backend, seconds).unwrap();
        rig.kill_server();
        let read = format!("read-{seconds}");
        rig.read_in_background(&read, 100);
        let ended = rig.ended(&read, Duration::from_secs(6));
        assert_eq!(ended.is_none(), waits, "{seconds}: {ended:?}");
        rig.start_server();
        assert_eq!(rig.reconfigure(rig.socket(), seconds), Taken::Yes);
        let revived = format!("revived-{seconds}");
        rig.read_in_background(&revived, 300);
        assert_eq!(rig.ended(&revived, PATIENCE).unwrap().0, "0");
        if waits {
            assert_eq!(rig.ended(&read, PATIENCE).unwrap().0, "0");
        }
    }
    rig.finish();
});

scenario!(a_device_that_gave_up_is_revived_in_place, |machine| {
    let mut rig = Rig::new(machine);
    // Twice: the second outage meets the same bounds as the first.
    for round in ["first", "second"] {
        let (fresh, in_flight, later) = (
            format!("{round}-fresh"),
            format!("{round}-in-flight"),
            format!("{round}-later"),
        );
        rig.read_in_flight(&in_flight);
        rig.kill_server();
        rig.read_in_background(&fresh, 200);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(
            rig.ended(&fresh, Duration::from_millis(1)),
            None,
            "it waits"
        );
        assert!(
            give_up(
                &rig.netlink,
                0,
                &Device::new(0).backend().unwrap(),
                600,
                || {}
            )
            .unwrap()
        );
        // io_timeout (1 s), the timer's own rounding, and the new patience (1 s).
        for read in [&fresh, &in_flight] {
            let (status, _) = rig
                .ended(read, Duration::from_secs(5))
                .unwrap_or_else(|| panic!("{read} still waits"));
            assert_eq!(status, "1", "{read} fails");
        }
        let mut deaths = 0;
        while deaths < 2 {
            deaths += rig.deaths.wait(PATIENCE).unwrap().len();
        }
        rig.read_in_background(&later, 300);
        let (status, _) = rig.ended(&later, Duration::from_secs(3)).unwrap();
        assert_eq!(status, "1", "later reads fail soon");

        rig.start_server();
        assert_eq!(rig.reconfigure(rig.socket(), 600), Taken::Yes);
        let revived = format!("{round}-revived");
        rig.read_in_background(&revived, 400);
        assert_eq!(rig.ended(&revived, PATIENCE).unwrap().0, "0");
        assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "1000");
    }
    rig.finish();
});

scenario!(
    a_device_with_two_connections_gives_up_and_is_revived,
    |machine| {
        let image = machine.image("image", 16 << 20);
        let start = || server::nbdkit(&image, 10900, &[], &[]);
        let mut server = start();
        // Not the 30 s that attach gives it: nothing here is slow.
        let io_timeout = Duration::from_secs(3);
        let direct = Direct::with(machine, &server.uri(), 2, io_timeout);
        direct.read(0);
        for round in ["first", "second"] {
            let name = |what: &str| format!("{round}-{what}");
            machine.sh("pkill -STOP -x nbdkit");
            direct.read_in_flight(&name("in-flight"), 100);
            server.kill();
            direct.expect_deaths(2, Duration::from_secs(1));
            direct.read_in_background(&name("fresh"), 200);
            thread::sleep(Duration::from_millis(300));
            assert_eq!(direct.ended(&name("fresh"), Duration::ZERO), None);
            let begun = Instant::now();
            assert!(give_up(&direct.netlink, 0, direct.backend(), 600, || {}).unwrap());
            for what in ["fresh", "in-flight"] {
                let (status, _) = direct
                    .ended(&name(what), io_timeout + Duration::from_secs(4))
                    .unwrap_or_else(|| panic!("{what} still waits"));
                assert_eq!(status, "1", "{what} fails");
                println!("{round} {what}: {:?} after", begun.elapsed());
            }
            direct.expect_deaths(2, PATIENCE);
            direct.read_in_background(&name("later"), 300);
            let later = direct.ended(&name("later"), Duration::from_secs(3));
            assert_eq!(later.unwrap().0, "1", "later reads fail soon");
            assert_eq!(machine.sh("ps -eo stat= | grep -c ^D || true"), "0");

            server = start();
            direct.reconnect();
            direct.reconnect();
            assert_eq!(direct.reconfigure(&direct.socket()), Taken::No);
            for offset in [400, 500, 600] {
                direct.read(offset);
            }
            assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "3000");
            let deaths = direct.deaths.wait(Duration::from_millis(100));
            assert_eq!(deaths.unwrap(), [0u32; 0]);
        }
        direct.finish();
    }
);

scenario!(
    giving_up_a_device_that_has_a_live_link_costs_time_and_no_io,
    |machine| {
        let image = machine.image("image", 16 << 20);
        let server = server::nbdkit(&image, 10900, &[], &[]);
        let io_timeout = Duration::from_secs(3);
        let direct = Direct::with(machine, &server.uri(), 2, io_timeout);
        direct.read(0);
        assert!(!give_up(&direct.netlink, 0, direct.backend(), 600, || {}).unwrap());
        // The first is the one that this guest's only processor uses.
        direct.sockets[0].cut();
        direct.expect_deaths(1, Duration::from_secs(1));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                direct.read_in_background("read", 100);
            });
            assert!(give_up(&direct.netlink, 0, direct.backend(), 600, || {}).unwrap());
        });
        let (status, after) = direct.ended("read", 2 * io_timeout).unwrap();
        println!("{after:?}");
        assert_eq!(status, "0");
        direct.reconnect();
        assert_eq!(direct.reconfigure(&direct.socket()), Taken::No);
        direct.finish();
    }
);

scenario!(
    requests_in_flight_come_back_at_the_next_io_timeout,
    |machine| {
        let mut rig = Rig::new(machine);
        rig.read_in_flight("in-flight");
        rig.kill_server();
        rig.start_server();
        rig.read_in_background("waiting", 300);
        thread::sleep(Duration::from_millis(200));
        assert_eq!(rig.reconfigure(rig.socket(), 600), Taken::Yes);
        let begun = Instant::now();
        assert_eq!(rig.ended("waiting", Duration::from_secs(1)).unwrap().0, "0");
        assert_eq!(
            rig.ended("in-flight", Duration::from_secs(5)).unwrap().0,
            "0"
        );
        // io_timeout (1 s) and the timer's rounding (1.28 s at 100 Hz), generously.
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{:?}",
            begun.elapsed()
        );
        rig.finish();
    }
);

scenario!(
    the_io_timeout_that_the_kernel_begins_with_is_of_no_use,
    |machine| {
        let mut rig = Rig::new(machine);
        machine.sh("echo 30000 >/sys/block/nbd0/queue/io_timeout");
        rig.read_in_flight("in-flight");
        rig.kill_server();
        rig.start_server();
        assert_eq!(rig.reconfigure(rig.socket(), 600), Taken::Yes);
        assert_eq!(
            rig.ended("in-flight", Duration::from_secs(8)),
            None,
            "it is not sent again yet"
        );
        rig.read_in_background("fresh", 300);
        assert_eq!(rig.ended("fresh", Duration::from_secs(2)).unwrap().0, "0");
        assert_eq!(
            rig.ended("in-flight", Duration::from_secs(40)).unwrap().0,
            "0"
        );
        rig.finish();
    }
);

scenario!(a_slow_server_is_not_cut, |machine| {
    let image = machine.image("image", 16 << 20);
    let server = server::nbdkit(&image, 10900, &["--filter=delay"], &["rdelay=3"]);
    let deaths = LinkDeaths::subscribe(PATIENCE).unwrap();
    let device = machine.attach(&[&server.uri()]);
    machine.sh("pkill -9 -x nbdctl");
    machine.sh(&format!(
        "dd if={device} of=/dev/null bs=4k skip=500 count=1 iflag=direct status=none"
    ));
    assert_eq!(deaths.wait(Duration::from_millis(100)).unwrap(), [0u32; 0]);
    machine.detach(&device);
    machine.assert_clean();
});

scenario!(
    status_is_no_health_check_and_disconnect_no_proof,
    |machine| {
        let mut rig = Rig::new(machine);
        let configured = |rig: &Rig<'_>| rig.netlink.status(Some(0)).unwrap()[0].configured;
        assert!(configured(&rig));
        let socket = rig.socket();
        rig.kill_server();
        assert!(configured(&rig), "in an outage, too");
        assert_eq!(rig.netlink.status(None).unwrap().len(), 16);
        rig.netlink.disconnect(5).unwrap();
        let wrong = rig.netlink.reconfigure(Reconfigure {
            index: 0,
            backend_identifier: "somebody else's".to_owned(),
            dead_conn_timeout: 1,
            socket,
        });
        assert!(
            wrong.unwrap_err().to_string().contains("Invalid argument"),
            "the identifier guards it"
        );
        rig.finish();
    }
);
