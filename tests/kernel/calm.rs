//! Servers that are slow, and not gone. They are waited for beside the others, from the
//! beginning: tests begin in the order of their names.

use std::thread;
use std::time::Duration;

use crate::kept::{SECOND, span};
use crate::liar;
use crate::machine::Machine;

/// Every answer takes longer than silence may last; requests fill the window.
fn slow(machine: &Machine, connections: &str) {
    let (delay, silence) = (45 * SECOND, 30 * SECOND);
    let server = liar::start(liar::Config::new());
    let uri = server.uri("disk");
    let io_timeout = (delay * 2).as_millis().to_string();
    let silence = silence.as_secs().to_string();
    let mut extra = vec!["--silence-timeout", &silence, "--connections", connections];
    if connections != "1" {
        extra.extend(["--io-timeout", &io_timeout]);
    }
    machine.attach(&[&[uri.as_str(), "--name", "x"], &extra[..]].concat());
    thread::sleep(8 * SECOND);
    server.set(|config| config.slowness = delay);
    let seconds = span(120, 600).as_secs();
    machine.sh(&format!(
        "fio --name=x --filename=/dev/nbd0 --rw=randrw --bs=256k --direct=1 --ioengine=libaio \
             --iodepth=32 --time_based --runtime={seconds} --size=60m >fio.log 2>&1
         grep 'err= 0' fio.log"
    ));
    server.set(|config| config.slowness = Duration::ZERO);
    let ran = machine.nbdctl(&["status", "x", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(all[0]["reconnects"], 0, "{ran:?}");
    assert_eq!(all[0]["outages"], 0, "{ran:?}");
    machine.detach("x");
    machine.assert_clean();
}

newest!(a_slow_server_is_left_alone, |machine| slow(machine, "1"));

newest!(
    a_slow_server_with_four_connections_is_left_alone,
    |machine| {
        slow(machine, "4");
    }
);
