//! How links are, watched and cut, with a descriptor of them and without.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nbdctl::kernel::{Cut, FoundLink, KernelSocket, Seen, TcpFacts};

use crate::direct::Direct;
use crate::machine::Machine;
use crate::server::{self, Server};

const PATIENCE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn nbdkit(machine: &Machine) -> Server {
    let image = machine.path("image");
    if !image.exists() {
        machine.image("image", 16 << 20);
    }
    server::nbdkit(&image, 10900, &[], &[])
}

/// nbdkit at a Unix socket, and the URI of it.
fn nbdkit_unix(machine: &Machine) -> String {
    machine.image("image", 16 << 20);
    machine.sh("rm -f socket; nbdkit -U $PWD/socket -P pid file image");
    format!("nbd+unix:///?socket={}", machine.path("socket").display())
}

fn kill_unix(machine: &Machine) {
    machine.sh("kill -9 $(cat pid)");
}

/// The server's side of its TCP connections that still are, in any state.
fn servers_links(machine: &Machine) -> String {
    machine.sh("ss -Htn state connected '( sport = :10900 )'")
}

/// Polls until it is dead.
fn wait_until_dead(link: &mut FoundLink) {
    let until = Instant::now() + SECOND;
    while link.look() != Seen::Dead {
        assert!(Instant::now() < until, "{:?}", link.look());
        thread::sleep(Duration::from_millis(10));
    }
}

fn facts(socket: &KernelSocket) -> TcpFacts {
    socket.tcp_facts().unwrap()
}

scenario!(a_cut_link_is_dead_at_once_and_replaced, |machine| {
    let server = nbdkit(machine);
    let direct = Direct::new(machine, &server.uri());
    direct.read(0);
    // With nothing to do, and with a server that says nothing.
    for stopped in [false, true] {
        let socket = if stopped {
            direct.reconnect()
        } else {
            direct.sockets[0].clone()
        };
        assert!(facts(&socket).established);
        assert!(!socket.is_hung_up());
        if stopped {
            machine.sh("pkill -STOP -x nbdkit");
            direct.read_in_flight("read", 100);
        }
        assert_ne!(servers_links(machine), "");
        socket.cut();
        assert!(socket.is_hung_up());
        direct.expect_deaths(1, SECOND);
        assert!(socket.is_hung_up(), "the driver shut it down");
        assert!(!facts(&socket).established);
        // A FIN would have left it in CLOSE-WAIT.
        assert_eq!(servers_links(machine), "", "the server saw the end");
        if stopped {
            machine.sh("pkill -CONT -x nbdkit");
        }
    }
    direct.reconnect();
    assert_eq!(direct.ended("read", PATIENCE).unwrap().0, "0");
    direct.read(200);
    direct.finish();
});

scenario!(every_end_of_a_link_shows_as_hung_up, |machine| {
    let mut server = nbdkit(machine);
    let direct = Direct::new(machine, &server.uri());
    let mut socket = direct.sockets[0].clone();
    for end in ["FIN", "RST", "shutdown", "kill of the connection"] {
        direct.read(0);
        assert!(!socket.is_hung_up(), "{end}");
        match end {
            "FIN" => server.kill(),
            "RST" => {
                // It dies with a request unread.
                machine.sh("pkill -STOP -x nbdkit");
                direct.read_in_flight("read", 100);
                server.kill();
            }
            "shutdown" => {
                socket.shut_down();
                server.kill();
            }
            _ => {
                socket.cut();
                server.kill();
            }
        }
        direct.expect_deaths(1, SECOND);
        assert!(socket.is_hung_up(), "{end}");
        server = nbdkit(machine);
        socket = direct.reconnect();
    }
    assert_eq!(direct.ended("read", PATIENCE).unwrap().0, "0");
    direct.netlink.disconnect(0).unwrap();
    let until = Instant::now() + SECOND;
    while !socket.is_hung_up() {
        assert!(Instant::now() < until, "a disconnect");
        thread::sleep(Duration::from_millis(10));
    }
    direct.finish();
});

scenario!(a_tcp_link_is_watched_by_its_inode, |machine| {
    let server = nbdkit(machine);
    let mut direct = Direct::new(machine, &server.uri());
    let inode = direct.sockets[0].inode().unwrap();
    // Nobody has a descriptor of it any more.
    direct.sockets.clear();
    let mut link = FoundLink::new(inode, true);
    let facts = |link: &mut FoundLink| match link.look() {
        Seen::Alive(Some(facts)) => facts,
        other => panic!("{other:?}"),
    };
    let before = (facts(&mut link), direct.device.completed().unwrap());
    direct.read(0);
    let after = (facts(&mut link), direct.device.completed().unwrap());
    assert!(after.0.established);
    let received = |facts: TcpFacts| facts.bytes_received.unwrap();
    // A simple reply's header and the block.
    assert!(received(after.0) >= received(before.0) + 16 + 4096);
    assert!(after.0.bytes_sent.unwrap() > before.0.bytes_sent.unwrap());
    assert!(after.0.since_data < PATIENCE);
    assert!(after.1 > before.1);
    let begun = Instant::now();
    for _ in 0..100 {
        facts(&mut link);
    }
    println!("a look takes {:?}", begun.elapsed() / 100);

    server.kill();
    direct.expect_deaths(1, SECOND);
    wait_until_dead(&mut link);
    assert_eq!(FoundLink::new(inode, true).look(), Seen::Dead);

    let _server = nbdkit(machine);
    let inode = direct.reconnect().inode().unwrap();
    let mut link = FoundLink::new(inode, true);
    assert!(facts(&mut link).established);
    let cut = link.cut().unwrap();
    println!("SOCK_DESTROY: {cut:?}");
    match cut {
        Cut::Closed => {
            direct.expect_deaths(1, SECOND);
            wait_until_dead(&mut link);
            assert_eq!(servers_links(machine), "", "the server saw the end");
            direct.reconnect();
        }
        Cut::Unable(_) => assert!(facts(&mut link).established),
    }
    direct.read(100);
    direct.finish();
});

scenario!(a_unix_link_is_watched_by_its_inode, |machine| {
    let uri = nbdkit_unix(machine);
    let mut direct = Direct::new(machine, &uri);
    let socket = direct.sockets.remove(0);
    // They are for TCP.
    assert_eq!(socket.tcp_facts(), None);
    socket.keep_alive(SECOND);
    let mut link = FoundLink::new(socket.inode().unwrap(), false);
    assert_eq!(link.look(), Seen::Alive(None));
    socket.cut();
    assert!(socket.is_hung_up());
    direct.expect_deaths(1, SECOND);
    assert_eq!(link.look(), Seen::Dead);

    drop(socket);
    let inode = direct.reconnect().inode().unwrap();
    assert_eq!(link.look(), Seen::Dead, "the driver let go of it");
    let mut link = FoundLink::new(inode, false);
    direct.read(0);
    assert_eq!(link.cut().unwrap(), Cut::Unable(0));
    assert_eq!(link.look(), Seen::Alive(None));
    kill_unix(machine);
    direct.expect_deaths(1, SECOND);
    assert_eq!(link.look(), Seen::Dead);
    nbdkit_unix(machine);
    direct.reconnect();
    direct.read(100);
    direct.finish();
});

scenario!(
    a_kernel_without_unix_diag_tells_nothing_of_a_unix_link,
    env = ["NBDCTL_GUEST_NO_NBD"],
    |machine| {
        machine.sh("modprobe nbd max_part=16");
        let never = "/etc/modprobe.d/never.conf";
        fs::write(never, "install unix_diag /bin/false\n").unwrap();
        let uri = nbdkit_unix(machine);
        let direct = Direct::new(machine, &uri);
        let mut link = FoundLink::new(direct.sockets[0].inode().unwrap(), false);
        assert_eq!(link.look(), Seen::Unknown);
        assert_eq!(
            FoundLink::new(1, false).look(),
            Seen::Dead,
            "no such socket"
        );
        fs::remove_file(never).unwrap();
        assert_eq!(link.look(), Seen::Alive(None));
        direct.finish();
    }
);

scenario!(probes_show_whether_an_idle_peer_is_there, |machine| {
    let server = nbdkit(machine);
    let direct = Direct::new(machine, &server.uri());
    direct.read(0);
    let socket = &direct.sockets[0];
    thread::sleep(3 * SECOND);
    assert!(facts(socket).since_ack > 2 * SECOND, "nobody asks");
    socket.keep_alive(SECOND);
    thread::sleep(3 * SECOND);
    let idle = facts(socket);
    assert!(idle.since_ack < 2 * SECOND, "{idle:?}");
    assert_eq!(idle.unanswered, 0);
    assert!(idle.since_data > 4 * SECOND, "probes are no data");

    let inode = socket.inode().unwrap();
    machine.sh("tc qdisc add dev lo root netem loss 100%");
    thread::sleep(5 * SECOND);
    let silent = facts(socket);
    println!("after 5 s of silence: {silent:?}");
    assert!(silent.since_ack > 4 * SECOND, "{silent:?}");
    assert!(silent.unanswered >= 2, "{silent:?}");
    // The same without the descriptor, but for the time between.
    match FoundLink::new(inode, true).look() {
        Seen::Alive(Some(found)) => {
            assert!(found.unanswered >= silent.unanswered);
            assert!(found.since_ack >= silent.since_ack);
        }
        other => panic!("{other:?}"),
    }
    // A request in the same silence: it is sent again and again instead.
    direct.read_in_flight("read", 100);
    thread::sleep(3 * SECOND);
    let waiting = facts(socket);
    println!("with a request: {waiting:?}");
    assert!(waiting.unanswered >= 2, "{waiting:?}");
    assert!(waiting.since_ack > 7 * SECOND, "{waiting:?}");
    assert!(waiting.established && !socket.is_hung_up());

    machine.sh("tc qdisc del dev lo root");
    assert_eq!(direct.ended("read", PATIENCE).unwrap().0, "0");
    thread::sleep(2 * SECOND);
    let back = facts(socket);
    assert!(back.since_ack < 2 * SECOND, "{back:?}");
    assert_eq!(back.unanswered, 0);
    direct.finish();
});

scenario!(the_drivers_timer_cuts_a_silent_link, |machine| {
    let io_timeout = || machine.sh("cat /sys/block/nbd0/queue/io_timeout");
    for tcp in [true, false] {
        let (server, uri) = if tcp {
            let server = nbdkit(machine);
            let uri = server.uri();
            (Some(server), uri)
        } else {
            (None, nbdkit_unix(machine))
        };
        let direct = Direct::new(machine, &uri);
        let cut = |link: &mut FoundLink| {
            let begun = Instant::now();
            let cut = direct
                .netlink
                .cut_by_timeout(0, direct.backend(), || link.look() == Seen::Dead);
            println!("{uri}: {cut:?} after {:?}", begun.elapsed());
            cut.unwrap()
        };
        let mut link = FoundLink::new(direct.sockets[0].inode().unwrap(), tcp);
        direct.read(0);
        assert!(!cut(&mut link), "nothing is in flight");
        assert_eq!(io_timeout(), "1000", "so it was left alone");

        machine.sh("pkill -STOP -x nbdkit");
        let read = format!("read-{tcp}");
        direct.read_in_flight(&read, 100);
        assert!(cut(&mut link));
        direct.expect_deaths(1, SECOND);
        machine.sh("pkill -CONT -x nbdkit");
        direct.reconnect();
        // It was sent anew by the timer, and has only to wait for a link.
        assert_eq!(direct.ended(&read, 3 * SECOND).unwrap().0, "0");
        assert_eq!(io_timeout(), "30000");
        assert_eq!(direct.device.in_flight(), Some(0));
        machine.sh("echo 1000 >/sys/block/nbd0/queue/io_timeout");

        // A slow server is not cut any more.
        machine.sh("pkill -STOP -x nbdkit");
        let slow = format!("slow-{tcp}");
        direct.read_in_flight(&slow, 200);
        let deaths = direct.deaths.wait(4 * SECOND);
        assert_eq!(deaths.unwrap(), [0u32; 0]);
        machine.sh("pkill -CONT -x nbdkit");
        assert_eq!(direct.ended(&slow, PATIENCE).unwrap().0, "0");
        direct.finish();
        drop(server);
        machine.sh("pkill -9 -x nbdkit || true");
    }
});

scenario!(
    the_drivers_timer_cuts_no_link_that_a_sender_holds,
    |machine| {
        machine.image("image", 64 << 20);
        let server = nbdkit(machine);
        let direct = Direct::new(machine, &server.uri());
        let mut link = FoundLink::new(direct.sockets[0].inode().unwrap(), true);
        direct.read(0);
        // Open already, or it would begin with a look for partitions.
        let script = "exec 3<>/dev/nbd0; pkill -STOP -x nbdkit; \
                      (status=0; dd if=/dev/zero of=/dev/nbd0 bs=64M count=1 oflag=direct \
                      status=none || status=$?; echo $status >write) >/dev/null 2>&1 &";
        machine.sh(script);
        thread::sleep(2 * SECOND);
        assert!(direct.device.in_flight().unwrap() > 1);
        let cut = direct
            .netlink
            .cut_by_timeout(0, direct.backend(), || link.look() == Seen::Dead);
        assert!(!cut.unwrap());
        // An RST does.
        direct.sockets[0].cut();
        direct.expect_deaths(1, SECOND);
        assert_eq!(link.look(), Seen::Dead);
        machine.sh("pkill -CONT -x nbdkit");
        direct.reconnect();
        assert_eq!(direct.ended("write", 20 * SECOND).unwrap().0, "0");
        direct.finish();
    }
);

scenario!(an_idle_live_device_grows, |machine| {
    let server = nbdkit(machine);
    let direct = Direct::new(machine, &server.uri());
    let queue = || {
        machine.sh("cd /sys/block/nbd0/queue; \
             grep . io_timeout max_sectors_kb read_ahead_kb logical_block_size")
    };
    // As attach does after CONNECT.
    machine.sh("echo 4096 >/sys/class/bdi/43:0/read_ahead_kb");
    direct.read(0);
    let before = queue();
    assert_eq!(direct.device.size(), 16 << 20);
    let beyond = 6000;
    machine.sh("truncate -s 32M image");
    // To a session that began before, nbdkit serves the size of then.
    direct.sockets[0].cut();
    direct.expect_deaths(1, SECOND);
    direct.reconnect();
    direct
        .netlink
        .resize(0, direct.backend(), 32 << 20)
        .unwrap();
    assert_eq!(direct.device.size(), 32 << 20);
    direct.read(beyond);
    assert_eq!(queue(), before, "its queue is as it was");
    let wrong = direct.netlink.resize(0, "somebody else's", 64 << 20);
    assert!(wrong.unwrap_err().to_string().contains("Invalid argument"));
    assert_eq!(direct.device.size(), 32 << 20);
    direct.finish();
});
