//! The promise, where nbdctl itself dies, is replaced, or is told something.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::kept::{GENEROUS, Kept, SECOND, span};
use crate::load::Random;
use crate::machine::Machine;
use crate::server;

const PORT: u16 = 10900;
const URI: &str = "nbd://127.0.0.1:10900/disk";
const IN_FLIGHT: Duration = Duration::from_millis(2300);

/// An idle monitor has no more.
const MOST_MEMORY_KB: u64 = 5 << 10;

fn image(machine: &Machine) -> PathBuf {
    machine.image("image", 64 << 20)
}

/// One request on the control socket, and the answer.
fn say(machine: &Machine, request: &str) -> String {
    machine.sh(&saying(request))
}

pub fn saying(request: &str) -> String {
    format!(
        "python3 - <<'END'
import socket
s = socket.socket(socket.AF_UNIX)
s.connect('/run/nbdctl/x/control.sock')
s.sendall(b'{request}\\n')
print(s.makefile().readline().strip())
END"
    )
}

newest!(
    monitors_die_at_random_and_outages_come_while_none_lives,
    |machine| {
        let image = image(machine);
        let start = || server::nbdkit(&image, PORT, &[], &[]);
        let mut server = start();
        let kept = Kept::attach(machine, &image, URI, &[]).loaded();
        let mut random = Random(7);
        let mut pause = |most: u64| thread::sleep(Duration::from_millis(random.below(most)));
        for round in 0..span(8, 50).as_secs() {
            let down = kept.mark();
            kept.kill_monitor();
            pause(300);
            if round % 2 == 0 {
                // It begins, and sometimes ends, while nobody looks.
                server.kill();
                pause(800);
                if round % 4 == 0 {
                    server = start();
                    kept.again();
                } else {
                    let child = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
                        .args(["attach", URI, "--name", "x"])
                        .stdout(Stdio::null())
                        .spawn();
                    pause(800);
                    server = start();
                    assert!(child.unwrap().wait().unwrap().success());
                }
            } else {
                kept.again();
            }
            let back = kept.mark();
            kept.resumes(down, back, GENEROUS, IN_FLIGHT + GENEROUS);
        }
        kept.finish();
        drop(server);
    }
);

newest!(
    a_state_that_cannot_be_written_is_tried_now_and_then,
    |machine| {
        let image = image(machine);
        let start = || server::nbdkit(&image, PORT, &[], &[]);
        let server = start();
        let kept = Kept::attach(machine, &image, URI, &[]).loaded();
        machine.sh("mkdir /run/nbdctl/x/state.json.new");
        server.kill();
        // It would dial, and write, four times a second.
        thread::sleep(8 * SECOND);
        let server = start();
        kept.wait(GENEROUS, "connected", |status| {
            status["state"] == "connected"
        });
        let said = machine.sh("dmesg | grep -c 'state.json.new\\|Is a directory' || true");
        assert!((1..=12).contains(&said.parse::<u32>().unwrap()), "{said}");
        machine.sh("rmdir /run/nbdctl/x/state.json.new; sleep 11");
        machine.sh("grep -q '\"reconnects\": 1' /run/nbdctl/x/state.json");
        kept.finish();
        drop(server);
    }
);

newest!(a_signal_ends_the_monitor_and_leaves_the_device, |machine| {
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let server = start();
    let kept = Kept::attach(machine, &image, URI, &[]).loaded();
    for signal in ["TERM", "INT", "HUP"] {
        let pid = kept.number("monitor_pid");
        machine.sh(&format!(
            "kill -{signal} {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.02; done"
        ));
        assert_eq!(machine.sh("ls /run/nbdctl/x"), "state.json");
        kept.load().wait_until_running();
        let status = machine.nbdctl(&["status", "x"]);
        assert!(
            status.stdout.contains("no monitor would reconnect it"),
            "{status:?}"
        );
        let doctor = machine.nbdctl(&["doctor"]);
        assert!(doctor.stdout.contains("no monitor"), "{doctor:?}");
        kept.again();
    }
    // In the foreground, without settings: there is a device to serve.
    let pid = kept.number("monitor_pid");
    let second = machine.nbdctl(&["monitor", "x"]);
    assert_eq!(second.status, 1, "{second:?}");
    assert!(
        second.stderr.contains("served by another monitor"),
        "{second:?}"
    );
    machine.sh(&format!("kill {pid}; sleep 0.2"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_nbdctl"))
        .args(["monitor", "x"])
        .spawn()
        .unwrap();
    kept.wait(GENEROUS, "served", |status| {
        status["monitor_pid"] == child.id()
    });
    kept.finish_beside();
    assert!(child.wait().unwrap().success(), "it ends with its device");
    let none = machine.nbdctl(&["monitor", "x"]);
    assert_eq!(none.status, 3, "{none:?}");
    assert!(
        none.stderr.contains("nbdctl attach URI --name x"),
        "{none:?}"
    );
    machine.assert_clean();
    drop(server);
});

newest!(
    a_state_that_cannot_be_used_is_refused_with_a_sentence,
    |machine| {
        let image = image(machine);
        let server = server::nbdkit(&image, PORT, &[], &[]);
        for (ruin, word) in [
            ("echo '{' >state.json", "torn"),
            (
                "sed -i 's/\"version\": 3/\"version\": 99/' state.json",
                "of version 99",
            ),
            (
                "sed -i 's/nbdctl1:x:/nbdctl1:y:/' state.json",
                "of another device",
            ),
            ("rm state.json", "knows nothing of it"),
        ] {
            machine.attach(&[URI, "--name", "x"]);
            machine.sh(&format!(
                "pkill -9 -x nbdctl; sleep 0.1; cd /run/nbdctl/x; {ruin}"
            ));
            let refused = machine.nbdctl(&["monitor", "x"]);
            assert_eq!(refused.status, 1, "{refused:?}");
            assert!(refused.stderr.contains(word), "{refused:?}");
            assert!(refused.stderr.contains("it stays as it is"), "{refused:?}");
            machine.sh("dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none");
            assert_eq!(machine.nbdctl(&["detach", "x"]).status, 0);
            machine.assert_clean();
        }
        drop(server);
    }
);

newest!(what_run_lost_is_written_again, |machine| {
    let image = image(machine);
    let server = server::nbdkit(&image, PORT, &[], &[]);
    let kept = Kept::attach(machine, &image, URI, &["--silence-timeout", "2"]);
    let pid = kept.number("monitor_pid");
    machine.sh("rm -r /run/nbdctl");
    kept.wait(GENEROUS, "back", |status| status["monitor_pid"] == pid);
    machine.sh("cd /run/nbdctl/x; test -S control.sock; test -s state.json");
    kept.kill_monitor();
    kept.again();
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

newest!(
    a_device_that_somebody_else_disconnects_is_let_go_of,
    |machine| {
        let image = image(machine);
        let server = server::nbdkit(&image, PORT, &[], &[]);
        let kept = Kept::attach(machine, &image, URI, &["--silence-timeout", "2"]);
        let pid = kept.number("monitor_pid");
        machine.sh(&format!(
            "nbd-client -d /dev/nbd0 >/dev/null
         for _ in $(seq 200); do kill -0 {pid} 2>/dev/null || exit 0; sleep 0.05; done; exit 1"
        ));
        machine.assert_clean();
        assert_eq!(machine.sh("cat /sys/block/nbd0/queue/io_timeout"), "30000");
        // Held open, it is not brought back either.
        let kept = Kept::attach(machine, &image, URI, &["--silence-timeout", "2"]);
        let pid = kept.number("monitor_pid");
        machine.sh(&format!(
            "sleep 60 </dev/nbd0 >/dev/null 2>&1 & holder=$!
         nbd-client -d /dev/nbd0 >/dev/null
         for _ in $(seq 200); do kill -0 {pid} 2>/dev/null || break; sleep 0.05; done
         if kill -0 {pid} 2>/dev/null; then exit 1; fi; kill $holder; sleep 0.5"
        ));
        assert_eq!(machine.nbdctl(&["detach", "x"]).status, 3);
        machine.assert_clean();
        drop(server);
    }
);

newest!(the_control_socket_answers_what_it_is_asked, |machine| {
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let server = start();
    let kept = Kept::attach(machine, &image, URI, &["--dead-timeout", "infinity"]);
    for (request, answer) in [
        ("{\"request\":\"status\"}", "\"state\":\"connected\""),
        ("{\"request\":\"reconnect\"}", "{\"ok\":true}"),
        (
            "{\"request\":\"explode\"}",
            "\"ok\":false,\"error\":\"this request is not understood",
        ),
        ("nonsense", "\"exit\":2"),
    ] {
        let said = say(machine, request);
        assert!(said.contains(answer), "{request}: {said}");
    }
    assert_eq!(
        kept.number("reconnects"),
        0,
        "there was nothing to reconnect"
    );
    assert_eq!(
        machine.sh("stat -c %a /run/nbdctl /run/nbdctl/x"),
        "700\n700"
    );
    // Whoever connects and says nothing holds nobody up.
    machine.sh("python3 -c \"
import socket, time
all = [socket.socket(socket.AF_UNIX) for _ in range(40)]
for s in all: s.connect('/run/nbdctl/x/control.sock')
open('/tmp/held', 'w').close()
time.sleep(3)\" >/dev/null 2>&1 &
        while ! test -e /tmp/held; do sleep 0.05; done");
    thread::sleep(4 * SECOND);
    assert_eq!(kept.status()["state"], "connected");
    // The machine goes down: the server that is gone is not waited for.
    server.kill();
    kept.wait_for("reconnecting", GENEROUS);
    assert_eq!(
        say(machine, "{\"request\":\"shutting-down\"}"),
        "{\"ok\":true}"
    );
    kept.wait_for("dead", 5 * SECOND + GENEROUS);
    let server = start();
    kept.wait_for("connected", GENEROUS);
    assert_eq!(say(machine, "{\"request\":\"detach\"}"), "{\"ok\":true}");
    machine.assert_clean();
    drop(server);
});

newest!(a_detach_in_an_outage_says_what_it_did, |machine| {
    let image = image(machine);
    let server = server::nbdkit(&image, PORT, &[], &[]);
    machine.attach(&[URI, "--name", "x"]);
    server.kill();
    machine.sh("sleep 0.3");
    machine.detach("x");
    machine.assert_clean();
    assert_eq!(
        fs::read_to_string("/sys/block/nbd0/queue/io_timeout").unwrap(),
        "30000\n"
    );
});

/// As users have it: the other one's code alone takes three times the memory.
fn optimized() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = target.join("release/nbdctl");
    let advice = "cargo build --release makes it, as make test does";
    assert!(program.exists(), "no {}: {advice}", program.display());
    program
}

newest!(an_idle_monitor_is_small_and_sleeps, |machine| {
    let image = image(machine);
    let server = server::nbdkit(&image, PORT, &[], &[]);
    machine.sh(&format!("{} attach {URI} --name x", optimized().display()));
    let kept = Kept::of_another(machine, &image, URI);
    let pid = kept.number("monitor_pid");
    // Past the one question whether the server greets others.
    thread::sleep(9 * SECOND);
    let switches = || -> u64 {
        let tasks = machine.sh(&format!(
            "grep -h voluntary_ctxt /proc/{pid}/task/*/status | grep -v non | awk '{{s+=$2}} END {{print s}}'"
        ));
        tasks.parse().unwrap()
    };
    let before = switches();
    thread::sleep(15 * SECOND);
    let wakes = switches() - before;
    // The C library's share is its own: nobody else here has it mapped for long.
    let rollup = machine.sh(&format!(
        "grep -E '^(Pss|Rss|Pss_Anon|Pss_File|Locked):' /proc/{pid}/smaps_rollup"
    ));
    println!("{wakes} wake-ups in 15 s\n{rollup}");
    assert!(wakes <= 15, "{wakes} in 15 s");
    let pss = machine.sh(&format!(
        "awk '$1 == \"Pss:\" {{print $2}}' /proc/{pid}/smaps_rollup"
    ));
    let pss: u64 = pss.parse().unwrap();
    assert!(pss <= MOST_MEMORY_KB, "{rollup}");
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

scenario!(
    a_successor_cuts_a_silent_link_that_it_has_no_descriptor_of,
    |machine| {
        let image = image(machine);
        let server = server::nbdkit(&image, PORT, &[], &[]);
        let extra = ["--silence-timeout", "3", "--settle-time", "2"];
        let kept = Kept::attach(machine, &image, URI, &extra);
        kept.kill_monitor();
        kept.again();
        // It has to see first that the server greets others.
        thread::sleep(8 * SECOND);
        // One read, so that no send buffer is full: nothing cuts such a link here.
        server.stop();
        machine.sh(
        "(dd if=/dev/nbd0 of=/dev/null bs=4k skip=50 count=1 iflag=direct status=none 2>/dev/null
          echo $? >read) >/dev/null 2>&1 &",
    );
        kept.wait_for("reconnecting", 15 * SECOND);
        server.kill();
        let server = server::nbdkit(&image, PORT, &[], &[]);
        kept.wait_for("connected", 2 * SECOND + GENEROUS);
        machine.sh(
            "for _ in $(seq 800); do ! test -s read || break; sleep 0.05; done; grep -x 0 read",
        );
        // As it was before the driver's timer had to do it.
        machine.sh("for _ in $(seq 200); do
             ! grep -qx 1000 /sys/block/nbd0/queue/io_timeout || break; sleep 0.05
         done; grep -x 1000 /sys/block/nbd0/queue/io_timeout");
        kept.loaded().finish();
        drop(server);
    }
);

newest!(
    a_monitor_logs_to_the_journal_or_to_the_kernels_log,
    |machine| {
        let image = image(machine);
        let server = server::nbdkit(&image, PORT, &[], &[]);
        let kept = Kept::attach(machine, &image, URI, &[]);
        server.kill();
        kept.wait_for("reconnecting", GENEROUS);
        machine.sh(
            "dmesg | grep 'nbdctl\\[[0-9]*\\]: /dev/nbd0: the server is gone; I/O waits for it'",
        );
        machine.detach("x");
        // What stands for journald; it takes a few messages, and reads no more.
        machine.sh("mkdir -p /run/systemd/journal
         python3 -c \"
import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('/run/systemd/journal/socket')
open('/tmp/journal', 'wb').write(s.recv(4096))
time.sleep(60)\" >/dev/null 2>&1 &
         while ! test -S /run/systemd/journal/socket; do sleep 0.05; done");
        let start = || server::nbdkit(&image, PORT, &[], &[]);
        let mut server = start();
        let kept = Kept::attach(machine, &image, URI, &[]);
        for round in 1..=10u64 {
            server.kill();
            kept.wait_for("reconnecting", GENEROUS);
            server = start();
            kept.wait(GENEROUS, "back", |status| status["reconnects"] == round);
        }
        machine.sh("grep -x SYSLOG_IDENTIFIER=nbdctl /tmp/journal
         grep -x PRIORITY=4 /tmp/journal
         grep -x 'MESSAGE=/dev/nbd0: the server is gone; I/O waits for it' /tmp/journal
         rm /run/systemd/journal/socket");
        machine.detach("x");
        machine.assert_clean();
        drop(server);
    }
);

newest!(whoever_is_not_root_sees_what_sysfs_shows, |machine| {
    let image = image(machine);
    let server = server::nbdkit(&image, PORT, &[], &[]);
    machine.attach(&[URI, "--name", "x"]);
    let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
    let ran = machine.try_sh(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups {nbdctl} status"
    ));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(ran.stdout.contains("connected"), "{ran:?}");
    assert!(!ran.stdout.contains("monitor"), "{ran:?}");
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

newest!(a_detach_is_a_farewell_and_no_outage, |machine| {
    let image = image(machine);
    machine.sh(&format!(
        "nbdkit -v -P nbdkit.pid -p {PORT} file {} 2>nbdkit.log
         for _ in $(seq 100); do ! test -s nbdkit.pid || break; sleep 0.05; done",
        image.display()
    ));
    for _ in 0..10 {
        machine.attach(&[URI, "--name", "x"]);
        machine.detach("x");
    }
    machine.assert_clean();
    machine.sh("sleep 0.3; kill $(cat nbdkit.pid)");
    // The ten that were wanted, and none that thought the server gone.
    assert_eq!(machine.sh("grep -c 'accepted connection' nbdkit.log"), "10");
    assert_eq!(
        machine.sh("grep -c 'reset by peer' nbdkit.log || true"),
        "0"
    );
});
