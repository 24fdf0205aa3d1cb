//! The promise, where nobody dies: networks that lose everything, servers that stop.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::kept::{GENEROUS, Kept, SECOND, span};
use crate::load::Plan;
use crate::machine::Machine;
use crate::network::Net;

const PORT: u16 = 10900;
const URI: &str = "nbd://10.77.0.2:10900/disk";

/// As the design has it after a cut.
const SETTLE: Duration = Duration::from_secs(5);

/// What requests in flight take beside: io_timeout, and the timer's rounding.
const IN_FLIGHT: Duration = Duration::from_millis(2300);

/// A device on a server behind a network, with a short time for silence.
fn far<'a>(machine: &'a Machine, image: &Path, extra: &[&str]) -> Kept<'a> {
    // 10 s with `make campaign`.
    let silence = span(3, 10).as_secs().to_string();
    let all = [&["--silence-timeout", &silence], extra].concat();
    Kept::attach(machine, image, URI, &all)
}

fn image(machine: &Machine) -> PathBuf {
    machine.image("image", 64 << 20)
}

/// Longer than silence is borne.
fn outage() -> Duration {
    span(10, 30)
}

fn goes_on_after_a_cut(kept: &Kept<'_>, down: Instant, back: Instant) {
    let fresh = SETTLE + SECOND + GENEROUS;
    kept.resumes(down, back, fresh, fresh + IN_FLIGHT);
}

scenario!(a_network_that_loses_everything_for_a_while, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    // One client at a time: it greets nobody as long as it believes in the old
    // connection.
    let server = net.qemu_nbd(&image, PORT, &["-e", "1"]);
    let kept = far(machine, &image, &[]).loaded();
    type Step = fn(&Net<'_>);
    let faults: [(Step, Step); 3] = [
        (|net| net.cut(), |net| net.heal()),
        (|net| net.link_down(), |net| net.link_up()),
        (|net| net.unplug(), |net| net.plug()),
    ];
    for (begin, end) in faults {
        begin(&net);
        let down = kept.mark();
        thread::sleep(outage());
        assert_eq!(kept.status()["state"], "reconnecting", "it was cut");
        end(&net);
        let back = kept.mark();
        goes_on_after_a_cut(&kept, down, back);
    }
    assert_eq!(kept.number("outages"), 3);
    kept.finish();
    drop(server);
});

newest!(an_idle_device_notices_a_lost_network, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    let server = net.nbdkit(&image, PORT, &[], &[]);
    let kept = far(machine, &image, &[]);
    net.cut();
    kept.wait_for("reconnecting", outage() + GENEROUS);
    net.heal();
    kept.wait_for("connected", SETTLE + SECOND + GENEROUS);
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

newest!(a_reset_connection_is_replaced, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    let mut server = net.qemu_nbd(&image, PORT, &[]);
    let kept = far(machine, &image, &[]).loaded();
    let (ends, down) = net.reset_connections();
    assert!(ends > 0, "nothing was reset");
    if !server.is_running() {
        server = net.qemu_nbd(&image, PORT, &[]);
    }
    kept.resumes(down, down, GENEROUS, IN_FLIGHT + GENEROUS);
    assert!(kept.number("reconnects") > 0);
    kept.finish();
    drop(server);
});

newest!(a_server_that_stops_and_is_killed, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    let server = net.nbdkit(&image, PORT, &[], &[]);
    let kept = far(machine, &image, &[]).loaded();
    // So that it was seen to greet others.
    thread::sleep(8 * SECOND);
    server.stop();
    let down = kept.mark();
    thread::sleep(outage());
    assert_eq!(kept.status()["state"], "reconnecting", "it was cut");
    server.kill();
    let server = net.nbdkit(&image, PORT, &[], &[]);
    let back = kept.mark();
    goes_on_after_a_cut(&kept, down, back);
    kept.finish();
    drop(server);
});

/// What the stopped server had read it does when it goes on; whoever does not
/// wait for that may find newer data overwritten.
fn stopped_and_continued(machine: &Machine, extra: &[&str]) -> usize {
    let image = image(machine);
    let net = Net::new(machine);
    let server = net.qemu_nbd(&image, PORT, &["-e", "32"]);
    let kept = far(machine, &image, extra);
    let kept = kept.under(Plan {
        writers: 8,
        readers: 2,
        blocks: 16,
        ..Plan::default()
    });
    thread::sleep(8 * SECOND);
    server.stop();
    let down = kept.mark();
    thread::sleep(outage());
    server.cont();
    let back = kept.mark();
    let settles = !extra.contains(&"0");
    let limit = SETTLE + SECOND + GENEROUS + IN_FLIGHT;
    assert!(kept.load().wait_until_resumed(limit), "{:#}", kept.status());
    thread::sleep(2 * SECOND);
    println!("{:?}", kept.status());
    let report = kept.load().report();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    let wrong = report.wrong.len();
    let resumed = kept.load().resumed_after(down, back);
    println!("{resumed:?}");
    // Versions may be right by luck, if nobody waits.
    let waited = resumed.fresh.is_some_and(|fresh| fresh > SETTLE - SECOND);
    assert!(waited || !settles, "{resumed:?}");
    if wrong == 0 && settles {
        kept.finish();
    } else {
        kept.abandon();
    }
    drop(server);
    wrong
}

newest!(no_old_write_comes_back_after_the_settle_time, |machine| {
    assert_eq!(stopped_and_continued(machine, &[]), 0);
});

// Its links are shut down by the driver's own timer, before anybody calls it silent.
newest!(several_links_settle_whoever_cut_them, |machine| {
    let extra = ["--connections", "4", "--io-timeout", "2000"];
    assert_eq!(stopped_and_continued(machine, &extra), 0);
});

// With several connections the driver's own timer is faster than we are.
newest!(what_the_drivers_timer_cut_settles, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    let server = net.qemu_nbd(&image, PORT, &[]);
    let options = ["--connections", "2", "--io-timeout", "3000"];
    let kept = Kept::attach(machine, &image, URI, &options).loaded();
    server.stop();
    kept.wait(20 * SECOND, "shut down", |status| {
        status["state"] == "reconnecting"
    });
    server.cont();
    let back = Instant::now();
    kept.wait(SETTLE + 10 * SECOND, "back", |status| {
        status["state"] == "connected"
    });
    let took = back.elapsed();
    assert!(took > SETTLE - SECOND, "{took:?}");
    kept.finish();
    drop(server);
});

newest!(without_a_settle_time_old_writes_may_come_back, |machine| {
    let wrong = stopped_and_continued(machine, &["--settle-time", "0"]);
    println!("{wrong} blocks were seen with an older version");
});

newest!(a_silent_server_that_serves_one_client_is_named, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    let server = net.qemu_nbd(&image, PORT, &["-e", "1"]);
    let kept = far(machine, &image, &[]);
    thread::sleep(9 * SECOND);
    server.stop();
    machine.sh(
        "(dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none; echo $? >read) \
         >/dev/null 2>&1 &",
    );
    kept.wait(outage() + GENEROUS, "told", |status| {
        status["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("cannot be told"))
    });
    assert_eq!(kept.status()["state"], "connected", "it is not cut");
    server.cont();
    machine.sh("while ! test -s read; do sleep 0.05; done; grep -x 0 read");
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

newest!(a_monitor_in_another_network_namespace, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    // The kernel tells the first namespace only of dead links; this one sees them
    // by its descriptors, and its successor by asking.
    let mut server = net.nbdkit(&image, PORT, &[], &[]);
    let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
    let attach = format!("ip netns exec server {nbdctl} attach {URI} --name x --silence-timeout 3");
    machine.sh(&attach);
    let kept = Kept::of_another(machine, &image, URI).loaded();
    for round in 1..=2u64 {
        server.kill();
        let down = kept.mark();
        thread::sleep(SECOND);
        server = net.nbdkit(&image, PORT, &[], &[]);
        let back = kept.mark();
        kept.resumes(down, back, GENEROUS, IN_FLIGHT + GENEROUS);
        assert_eq!(kept.number("reconnects"), round);
        kept.kill_monitor();
        machine.sh(&attach);
    }
    kept.finish();
    drop(server);
});

newest!(silence_is_noticed_in_another_network_namespace, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    let start = || net.qemu_nbd(&image, PORT, &[]);
    let server = start();
    let nbdctl = env!("CARGO_BIN_EXE_nbdctl");
    // All that the two say to each other goes through that namespace's loopback.
    machine.sh(&format!(
        "ip netns exec server {nbdctl} attach {URI} --name x --silence-timeout 3"
    ));
    let kept = Kept::of_another(machine, &image, URI).loaded();
    machine.sh("tc -n server qdisc replace dev lo root netem loss 100%");
    let down = kept.mark();
    thread::sleep(outage());
    assert_eq!(kept.status()["state"], "reconnecting", "it was cut");
    machine.sh("tc -n server qdisc del dev lo root");
    let back = kept.mark();
    goes_on_after_a_cut(&kept, down, back);
    // It has to see first that the server greets others.
    thread::sleep(8 * SECOND);
    server.stop();
    let down = kept.mark();
    thread::sleep(outage());
    assert_eq!(kept.status()["state"], "reconnecting", "it was cut");
    server.kill();
    let server = start();
    let back = kept.mark();
    goes_on_after_a_cut(&kept, down, back);
    assert_eq!(kept.number("outages"), 2);
    kept.finish();
    drop(server);
});

// The one way in which a link without a descriptor can be cut here leaves it with
// data that TCP would deliver when the network is back: an old write, over newer
// ones. (Seen in a campaign, 46 s later.)
newest!(a_successors_cut_leaves_no_old_write_on_its_way, |machine| {
    let image = image(machine);
    let net = Net::new(machine);
    let server = net.qemu_nbd(&image, PORT, &["-e", "8"]);
    let kept = far(machine, &image, &["--settle-time", "2"]).loaded();
    kept.kill_monitor();
    kept.again();
    net.cut();
    let down = kept.mark();
    kept.wait_for("reconnecting", outage() + GENEROUS);
    // Cut, and not yet replaced: there is nothing that it could still send.
    thread::sleep(SECOND);
    let old = machine.sh("ss -Htan '( dport = :10900 )' | grep -v -e SYN-SENT || true");
    assert_eq!(old, "", "the old connection is still there");
    net.heal();
    let back = kept.mark();
    let fresh = SETTLE + SECOND + GENEROUS;
    // io_timeout is 30 s until nothing is in flight.
    kept.resumes(down, back, fresh, 32 * SECOND);
    kept.finish();
    drop(server);
});
