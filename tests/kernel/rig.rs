//! What proves the rest is proved itself: a load that recognises every kind of
//! wrong block, and a network that fails as it says.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::liar;
use crate::load::{Content, Load, LoadReport, Plan};
use crate::machine::Machine;
use crate::network::Net;

const BLOCK: u64 = 4096;
const PLAN: Plan = Plan {
    writers: 2,
    readers: 2,
    blocks: 16,
    block_bytes: 4096,
    region_start: 8 * BLOCK,
    seed: 7,
    flush_every: 50,
    pace: None,
};

/// A loop device over an image.
fn disk(machine: &Machine) -> (PathBuf, PathBuf) {
    let image = machine.image("image", 4 << 20);
    let device = machine.sh("modprobe loop; losetup -f --show image");
    (device.into(), image)
}

fn get(image: &Path, block: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let at = PLAN.offset(block);
    File::open(image)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

fn put(image: &Path, block: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(image).unwrap();
    file.write_all_at(bytes, PLAN.offset(block)).unwrap();
}

fn some_load(device: &Path, plan: Plan) -> LoadReport {
    let load = Load::start(device, plan);
    load.wait_until_running();
    thread::sleep(Duration::from_millis(500));
    let report = load.stop();
    report.assert_good();
    report
}

newest!(a_load_finds_each_kind_of_wrong_block, |machine| {
    let (device, image) = disk(machine);
    let report = some_load(&device, PLAN);
    let counts = report.operations;
    assert!(
        counts.reads > 20 && counts.writes > 50 && counts.flushes > 0,
        "{counts:?}"
    );
    println!("{counts:?}");
    assert!(report.verify_device(&device).is_empty());
    assert!(report.verify_file(&image).is_empty());

    let good = get(&image, 3);
    let other = get(&image, 4);
    let version = |by: u64| {
        let mut bytes = good.clone();
        for record in bytes.chunks_exact_mut(32) {
            let old = u64::from_le_bytes(record[16..24].try_into().unwrap());
            record[16..24].copy_from_slice(&old.wrapping_add(by).to_le_bytes());
        }
        bytes
    };
    let flipped = [&good[..4000], &[good[4000] ^ 1], &good[4001..]].concat();
    let torn = [&version(u64::MAX)[..512], &good[512..]].concat();
    let shifted = [&good[512..], &good[..512]].concat();
    for (what, bytes) in [
        ("an older version", version(u64::MAX)),
        ("a later one", version(1)),
        ("nothing", vec![0; 4096]),
        ("another block", other),
        ("a bit", flipped),
        ("half of an older one", torn),
        ("its own records elsewhere", shifted),
    ] {
        put(&image, 3, &bytes);
        for wrong in [report.verify_device(&device), report.verify_file(&image)] {
            assert_eq!(wrong.len(), 1, "{what}");
            assert_eq!(wrong[0].block, 3, "{what}");
            println!("{what}: {}", wrong[0]);
        }
    }
    put(&image, 3, &good);
    assert!(report.verify_device(&device).is_empty());
    machine.sh(&format!("losetup -d {}", device.display()));
});

newest!(a_running_load_sees_a_block_that_goes_back, |machine| {
    let (device, image) = disk(machine);
    let load = Load::start(&device, PLAN);
    load.wait_until_running();
    while matches!(get(&image, 3)[..], [0, ..]) && get(&image, 3).iter().all(|byte| *byte == 0) {
        thread::sleep(Duration::from_millis(10));
    }
    let old = get(&image, 3);
    let acked = load.report().versions[3].0;
    let until = Instant::now() + Duration::from_secs(20);
    // Two versions on, the old one is nobody's write that is still under way.
    while load.report().versions[3].0 < acked + 2 {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(10));
    }
    while load.counts().wrong == 0 {
        assert!(Instant::now() < until, "{:?}", load.counts());
        put(&image, 3, &old);
        thread::sleep(Duration::from_millis(2));
    }
    let report = load.stop();
    let wrong = &report.wrong[0];
    println!("{wrong}");
    assert_eq!(wrong.block, 3);
    assert!(matches!(wrong.got, Content::Version(version) if version < wrong.expected.0));
    assert!(report.errors.is_empty());
    machine.sh(&format!("losetup -d {}", device.display()));
});

newest!(a_load_outlives_a_dead_device, |machine| {
    let image = machine.image("image", 4 << 20);
    let server = crate::server::nbdkit(&image, 10900, &[], &[]);
    let device = machine.attach(&[&server.uri(), "--name", "x"]);
    let device = Path::new(&device);
    let load = Load::start(device, PLAN);
    load.wait_until_running();
    // A short stop: everything waits, and nothing is wrong.
    server.stop();
    let down = load.mark();
    thread::sleep(Duration::from_secs(2));
    assert!(load.is_stuck(Duration::from_secs(1)));
    assert_eq!(load.resumed_after(down, down).fresh, None);
    let back = load.mark();
    server.cont();
    assert!(load.wait_until_resumed(Duration::from_secs(5)));
    println!("{:?}", load.resumed_after(down, back));
    let resumed = load.resumed_after(down, back);
    assert!(
        resumed.fresh.unwrap() < Duration::from_secs(1),
        "{resumed:?}"
    );
    // Whether one was in flight at that very moment is chance.
    assert!(
        resumed.in_flight <= Some(Duration::from_secs(1)),
        "{resumed:?}"
    );
    assert_eq!(load.counts().errors, 0);
    assert!(load.counts().probes >= 2, "{:?}", load.counts());

    // For good: stop() says what it left behind, and how it failed in the end.
    server.stop();
    thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    let report = load.stop_within(Duration::from_secs(2));
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(report.unfinished.len() >= 4, "{:?}", report.unfinished);
    server.kill();
    let forced = machine.nbdctl(&["detach", "x", "--force"]);
    assert_eq!(forced.status, 0, "{forced:?}");
});

/// The device's link, as the kernel has it.
fn dead(net: &Net<'_>) -> bool {
    !net.connections()
        .iter()
        .any(|one| one.contains("10.77.0.1:"))
}

fn within(limit: Duration, what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    println!("{what}: {:?}", begun.elapsed());
}

newest!(a_network_fails_as_it_says, |machine| {
    let image = machine.image("image", 4 << 20);
    let begun = Instant::now();
    let net = Net::new(machine);
    println!("a network takes {:?}", begun.elapsed());
    machine.name_is("disk.test", &["10.77.0.2"]);
    let mut server = net.nbdkit(&image, 10900, &[], &[]);
    assert_eq!(server.uri(), "nbd://10.77.0.2:10900/disk");
    machine.attach(&["nbd://disk.test:10900/disk", "--name", "x"]);
    // What is proved is the network's; nobody is to make it good.
    machine.sh("pkill -9 -x nbdctl");
    let load = Load::start(Path::new("/dev/nbd0"), PLAN);
    type Act = fn(&Net<'_>);
    let outages: [(&str, Act, Act); 3] = [
        ("cut", |net| net.cut(), |net| net.heal()),
        ("link down", |net| net.link_down(), |net| net.link_up()),
        ("unplugged", |net| net.unplug(), |net| net.plug()),
    ];
    for (what, fail, mend) in outages {
        load.wait_until_running();
        fail(&net);
        let down = load.mark();
        thread::sleep(Duration::from_secs(1));
        assert!(load.is_stuck(Duration::from_millis(500)), "{what}");
        mend(&net);
        let back = load.mark();
        // TCP sends again by its own clock, which doubles.
        assert!(load.wait_until_resumed(Duration::from_secs(10)), "{what}");
        println!("{what}: {:?}", load.resumed_after(down, back));
    }
    server.stop();
    net.add_address("10.77.0.3");
    for address in ["10.77.0.3:10900", "[fd77::2]:10900"] {
        let limit = Duration::from_secs(2);
        TcpStream::connect_timeout(&address.parse().unwrap(), limit).unwrap();
    }
    net.remove_address("10.77.0.3");
    server.cont();
    load.wait_until_running();
    let begun = Instant::now();
    let (ends, at) = net.reset_connections();
    assert_eq!(ends, 2, "{:?}", net.connections());
    println!(
        "a reset takes {:?}, {:?} with its proof",
        at - begun,
        begun.elapsed()
    );
    println!("the server survived it: {}", server.is_running());
    within(Duration::from_secs(1), "the link is dead", || dead(&net));
    // The load has it open, and ends as the device does.
    let report = thread::scope(|scope| {
        let ending = scope.spawn(|| load.stop());
        let forced = machine.nbdctl(&["detach", "x", "--force"]);
        assert_eq!(forced.status, 0, "{forced:?}");
        ending.join().unwrap()
    });
    assert!(!report.errors.is_empty() && report.wrong.is_empty());
    drop((server, net));
    machine.assert_clean();
});

newest!(a_server_dies_in_its_network, |machine| {
    let image = machine.image("image", 4 << 20);
    let net = Net::new(machine);
    type Start = fn(&Net<'_>, &Path) -> crate::server::Server;
    let all: [(&str, Start); 3] = [
        ("nbdkit", |net, image| net.nbdkit(image, 10900, &[], &[])),
        ("qemu-nbd", |net, image| net.qemu_nbd(image, 10900, &[])),
        ("nbd-server", |net, image| net.nbd_server(image, 10900)),
    ];
    for (name, start) in all {
        let begun = Instant::now();
        let server = start(&net, &image);
        println!("{name} starts in {:?}", begun.elapsed());
        machine.attach(&[&server.uri(), "--name", "x"]);
        server.stop();
        server.cont();
        machine.sh("dd if=/dev/nbd0 of=/dev/null bs=4k count=1 iflag=direct status=none");
        server.stop();
        server.kill();
        within(Duration::from_secs(2), name, || dead(&net));
        let forced = machine.nbdctl(&["detach", "x", "--force"]);
        assert_eq!(forced.status, 0, "{forced:?}");
    }
});

newest!(every_answer_of_a_slow_server_is_late, |machine| {
    let slow = liar::start(liar::Config::new());
    let device = machine.attach(&[&slow.uri("disk"), "--name", "x"]);
    slow.clear_log();
    slow.set(|config| config.delay = Duration::from_secs(2));
    let begun = Instant::now();
    machine.sh(&format!(
        "for block in 700 800; do
            dd if={device} of=/dev/null bs=4k skip=$block count=1 iflag=direct status=none &
            sleep 0.3
        done
        wait"
    ));
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(2) && took < Duration::from_secs(4),
        "{took:?}"
    );
    let offsets: Vec<u64> = slow.requests().iter().map(|one| one.offset).collect();
    assert_eq!(offsets, [700 * 4096, 800 * 4096], "in order of arrival");
    slow.set(|config| config.delay = Duration::ZERO);
    machine.detach("x");
    machine.assert_clean();
});
