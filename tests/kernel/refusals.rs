//! One clear line, and its exit status, for everything that can be wrong.

use std::time::{Duration, Instant};

use crate::common::fake::{self, Client, ERROR, OPT_GO, REP_ACK, REP_INFO};
use crate::machine::{Machine, Ran};
use crate::server;

/// attach fails with that status, one line that has every piece, and nothing
/// left behind.
fn fails(machine: &Machine, args: &[&str], status: i32, pieces: &[&str]) {
    let ran = machine.nbdctl(&[&["attach"], args].concat());
    assert_line(&ran, status, pieces);
    machine.assert_clean();
}

fn assert_line(ran: &Ran, status: i32, pieces: &[&str]) {
    assert_eq!(ran.status, status, "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.starts_with("nbdctl: "), "{ran:?}");
    for piece in pieces {
        assert!(ran.stderr.contains(piece), "{piece:?} is not in {ran:?}");
    }
}

fn serving(serve: fn(&mut Client) -> std::io::Result<()>) -> String {
    format!("nbd://{}/vm1", fake::server(serve))
}

/// A server that answers GO with an error.
fn refusing(code: u32, text: &'static str) -> String {
    let address = fake::server(move |client| {
        client.greet()?;
        client.option()?;
        client.reply(OPT_GO, ERROR + code, text.as_bytes())?;
        client.stay_silent()
    });
    format!("nbd://{address}/vm1")
}

newest!(what_the_network_does, |machine| {
    fails(
        machine,
        &["nbd://127.0.0.1:1/vm1"],
        1,
        &[
            "export \"vm1\" at 127.0.0.1:1: nothing listens there",
            "is the server running",
        ],
    );
    fails(
        machine,
        &["nbd://no-such-host.invalid/vm1"],
        1,
        &["the name \"no-such-host.invalid\" does not resolve"],
    );
    fails(
        machine,
        &["nbd+unix:///vm1?socket=/run/no.sock"],
        1,
        &["/run/no.sock: the socket does not exist"],
    );
    let hangs_up = serving(|client| client.greet().map(drop));
    fails(
        machine,
        &[&hangs_up],
        1,
        &["closed the connection before the answer to NBD_OPT_GO"],
    );
    let begun = Instant::now();
    let silent = serving(Client::stay_silent);
    fails(
        machine,
        &[&silent],
        6,
        &["no answer within 10 s: the greeting did not come"],
    );
    let drips =
        serving(|client| client.send_slowly(&fake::greeting(3), Duration::from_millis(800)));
    fails(machine, &[&drips], 6, &["no answer within 10 s"]);
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
});

newest!(what_the_server_is, |machine| {
    let ssh = serving(|client| client.send(b"SSH-2.0-OpenSSH_9.2\r\n"));
    fails(
        machine,
        &[&ssh],
        1,
        &["this is not an NBD server: it greets with \"SSH-2.0-"],
    );
    let oldstyle = serving(|client| client.send(&fake::oldstyle_greeting()));
    fails(
        machine,
        &[&oldstyle],
        4,
        &["oldstyle handshake only: it must be upgraded"],
    );
    let unfixed = serving(|client| client.send(&fake::greeting(0)));
    fails(
        machine,
        &[&unfixed],
        4,
        &["newstyle without its fixed form"],
    );
});

newest!(what_the_server_refuses, |machine| {
    for (code, text, status, pieces) in [
        (6, "", 3, ["no such export", "check the name"]),
        (
            2,
            "go \x1b[2J away",
            4,
            ["does not allow this client", "go \\u{1b}[2J away"],
        ),
        (5, "", 4, ["requires TLS", "vm1"]),
        (7, "", 4, ["is shutting down", "vm1"]),
        (8, "", 4, ["block sizes be honoured", "vm1"]),
        (
            99,
            "",
            4,
            ["refuses NBD_OPT_GO with NBD_REP_0x80000063", "vm1"],
        ),
    ] {
        fails(machine, &[&refusing(code, text)], status, &pieces);
    }
    // Without the path's choice it is the relay's to try (`relay`).
    let pieces = ["requires extended headers", "vm1"];
    fails(
        machine,
        &[&refusing(10, ""), "--path", "kernel"],
        4,
        &pieces,
    );
    let old = serving(|client| {
        client.greet()?;
        client.option()?;
        client.reply(OPT_GO, ERROR + 1, b"")?;
        // EXPORT_NAME is refused by hanging up.
        client.option().map(drop)
    });
    fails(machine, &[&old], 3, &["no such export"]);
});

newest!(what_no_device_can_be, |machine| {
    let empty = serving(|client| client.go(0, 1).and_then(|()| client.stay_silent()));
    fails(machine, &[&empty], 4, &["the export has no bytes"]);
    let huge = serving(|client| client.go(1 << 63, 1).and_then(|()| client.stay_silent()));
    fails(
        machine,
        &[&huge],
        4,
        &["9223372036854775808 bytes", "less than 2^63"],
    );
    let blocks = serving(|client| {
        client.greet()?;
        client.option()?;
        client.reply(OPT_GO, REP_INFO, &fake::export_info(1 << 20, 1))?;
        client.reply(
            OPT_GO,
            REP_INFO,
            &fake::block_size_info(65_536, 65_536, 1 << 20),
        )?;
        client.reply(OPT_GO, REP_ACK, &[])?;
        client.stay_silent()
    });
    fails(
        machine,
        &[&blocks],
        4,
        &["minimum block size is 65536 bytes"],
    );
});

newest!(
    a_server_that_never_answers_the_first_read_hangs_nothing,
    |machine| {
        let uri = serving(|client| client.go(1 << 20, 1).and_then(|()| client.stay_silent()));
        let begun = Instant::now();
        fails(
            machine,
            &[&uri],
            6,
            &[
                "/dev/nbd0 was attached but cannot be used, and was detached again",
                "the first read of /dev/nbd0 within 10 s",
            ],
        );
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "30000");
        // The same device works for a server that does.
        let image = machine.image("image", 1 << 20);
        let server = server::nbdkit(&image, 10900, &[], &[]);
        assert_eq!(machine.attach(&[&server.uri()]), "/dev/nbd0");
        machine.detach("/dev/nbd0");
    }
);

newest!(real_servers_refuse_as_clearly, |machine| {
    let image = machine.image("image", 1 << 20);
    let qemu = server::qemu_nbd(&image, 10900, &[]);
    fails(
        machine,
        &["nbd://127.0.0.1:10900/none"],
        3,
        &["no such export"],
    );
    let old = server::nbd_server(machine, &image, 10901);
    fails(
        machine,
        &["nbd://127.0.0.1:10901/none"],
        3,
        &["no such export"],
    );
    let psk = machine.path("psk");
    std::fs::write(&psk, "alice:0123456789abcdef0123456789abcdef\n").unwrap();
    let psk = format!("--tls-psk={}", psk.display());
    let secure = server::nbdkit(&image, 10902, &["--tls=require", &psk], &[]);
    fails(machine, &[&secure.uri()], 4, &["requires TLS", "disk"]);
    // An nbd-server that serves another network only.
    machine.sh(&format!(
        "echo 192.0.2.0/24 >allowed
         printf '%s\n' '[generic]' port=10903 listenaddr=127.0.0.1 \
             '[disk]' exportname={} authfile=$PWD/allowed >closed.conf
         nbd-server -C closed.conf -p $PWD/closed.pid >/dev/null 2>&1
         for _ in $(seq 400); do
             ! (: >/dev/tcp/127.0.0.1/10903) 2>/dev/null || break
             sleep 0.05
         done",
        image.display()
    ));
    fails(
        machine,
        &["nbd://127.0.0.1:10903/disk"],
        4,
        &["does not allow this client", "Access denied"],
    );
    machine.sh("kill $(cat closed.pid)");
    // localhost is ::1 first, and qemu-nbd is not there.
    let device = machine.attach(&["nbd://localhost:10900/disk"]);
    machine.detach(&device);
    drop((qemu, old, secure));
});

newest!(a_unix_socket_is_as_good, |machine| {
    let image = machine.image("image", 1 << 20);
    let socket = machine.path("sock");
    machine.sh(&format!(
        "nbdkit -P pid -U {} file {}",
        socket.display(),
        image.display()
    ));
    let uri = format!("nbd+unix:///disk?socket={}", socket.display());
    let device = machine.attach(&[&uri]);
    machine.sh(&format!(
        "dd if=/dev/urandom of={device} bs=1M count=1 conv=fsync status=none"
    ));
    machine.detach(&device);
    machine.sh(&format!(
        "! cmp -s -n 1048576 {} /dev/zero; kill $(cat pid)",
        image.display()
    ));
});

newest!(wrong_usage, |machine| {
    for (args, piece) in [
        (["nbds://h/x"].as_slice(), "asks for TLS"),
        (&["nbd://h/x?tls-type=x509"], "asks for TLS"),
        (&["nbd://h/x", "--tls"], "cannot speak TLS"),
        (&["h/x"], "not a URI"),
        (&["nbd+vsock://3/x"], "vsock"),
        (&["nbd+unix:///x?socket=s"], "path from the root"),
        (&["nbd://me:secret@h/x"], "no password"),
    ] {
        fails(machine, args, 2, &[piece]);
    }
    for args in [
        ["nbd://h/x", "--connections", "0"].as_slice(),
        &["nbd://h/x", "--block-size", "3"],
        &["nbd://h/x", "--dead-timeout", "0"],
        &["nbd://h/x", "--device", "/dev/sda"],
        &["nbd://h/x", "--name", "../x"],
        &["nbd://h/x", "--name", "nbd1"],
        &[],
    ] {
        let ran = machine.nbdctl(&[&["attach"], args].concat());
        assert_eq!(ran.status, 2, "{ran:?}");
    }
    assert_line(
        &machine.nbdctl(&["detach", "/dev/nbd0"]),
        3,
        &["/dev/nbd0 is not attached"],
    );
    assert_line(
        &machine.nbdctl(&["detach", "vm1"]),
        3,
        &["\"vm1\" is not attached"],
    );
    assert_line(
        &machine.nbdctl(&["detach", "/dev/sda"]),
        2,
        &["is no device of this driver"],
    );
    assert_line(&machine.nbdctl(&["status", "vm1"]), 3, &["is not attached"]);
});

newest!(
    a_missing_module_is_named,
    env = ["NBDCTL_GUEST_NO_NBD"],
    |machine| {
        // Newer kernels load the module by themselves.
        machine.sh("echo install nbd /bin/false >/etc/modprobe.d/none.conf");
        let ran = machine.nbdctl(&["attach", "nbd://127.0.0.1/x"]);
        assert_line(&ran, 5, &["no \"nbd\" netlink family", "modprobe nbd"]);
        let status = machine.nbdctl(&["status"]);
        assert_eq!((status.status, status.stdout.as_str()), (0, ""));
        let doctor = machine.nbdctl(&["doctor"]);
        assert_eq!(doctor.status, 1);
        assert!(doctor.stdout.contains("remedy: modprobe nbd"), "{doctor:?}");
    }
);

newest!(who_is_not_root_is_told_so, |machine| {
    let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
    for verb in [
        "attach nbd://127.0.0.1/x",
        "detach --all --force",
        "detach nbd0",
    ] {
        let ran = machine.try_sh(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups {nbdctl} {verb}"
        ));
        if verb.contains("--all") {
            // There is nothing to detach, and anyone may find that out.
            assert_eq!(ran.status, 0, "{ran:?}");
        } else {
            assert_line(&ran, 5, &["run it as root"]);
        }
    }
});
