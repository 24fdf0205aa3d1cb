//! File systems on a device, and who uses them: they notice no outage.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::kept::{GENEROUS, Kept, SECOND, span};
use crate::machine::Machine;
use crate::network::Net;
use crate::server::{self, Server};

const PORT: u16 = 10900;
const URI: &str = "nbd://127.0.0.1:10900/disk";

fn image(machine: &Machine) -> std::path::PathBuf {
    machine.image("image", 64 << 20)
}

newest!(a_mounted_file_system_notices_nothing, |machine| {
    let image = image(machine);
    let start = || server::nbdkit(&image, PORT, &[], &[]);
    let mut server = start();
    let device = machine.attach(&[URI, "--name", "x"]);
    // Without serialize_overlap this fio reads blocks that it is writing, and finds
    // half of each; without any outage, too (nbdkit's log shows them overlap).
    machine.sh(&format!(
        "mkfs.ext4 -q {device}; mkdir mnt; mount {device} mnt
         fio --name=x --directory=mnt --rw=randrw --bs=16k --size=16m --verify=crc32c \
             --do_verify=1 --verify_backlog=64 --time_based --runtime=12 --direct=1 \
             --ioengine=libaio --iodepth=4 --serialize_overlap=1 --fsync=32 >fio.log 2>&1 &
         echo $! >fio.pid; sleep 4"
    ));
    for _ in 0..2 {
        server.kill();
        thread::sleep(SECOND);
        server = start();
        thread::sleep(2 * SECOND);
    }
    machine.sh(
        "while kill -0 $(cat fio.pid) 2>/dev/null; do sleep 0.1; done
         cat fio.log; if grep -i -e 'error=[1-9]' -e 'verify:' fio.log; then exit 1; fi
         grep 'err= 0' fio.log",
    );
    machine.sh(&format!("umount mnt; e2fsck -fn {device}"));
    assert!(!machine.sh("dmesg").contains("I/O error"));
    machine.detach("x");
    machine.assert_clean();
    drop(server);
});

/// fio writes and verifies what it wrote, run after run, until `ends` is called.
struct Verifier<'a> {
    machine: &'a Machine,
}

impl<'a> Verifier<'a> {
    /// On the file system at `mnt`.
    fn start(machine: &'a Machine) -> Self {
        // serialize_overlap: see above.
        machine.sh("cat >verifier <<'END'
             until test -e enough; do
                 fio --name=x --directory=mnt --rw=randrw --bs=16k --size=8m --verify=crc32c \
                     --do_verify=1 --verify_backlog=64 --time_based --runtime=1 --direct=1 \
                     --ioengine=libaio --iodepth=4 --serialize_overlap=1 --fsync=32 \
                     >>fio.log 2>&1 || exit
                 echo >>runs
             done
             touch all-good
END
             bash verifier >/dev/null 2>&1 & echo $! >verifier.pid");
        let verifier = Self { machine };
        verifier.goes_on(6 * GENEROUS);
        verifier
    }

    fn runs(&self) -> usize {
        let runs = fs::read(self.machine.path("runs"));
        runs.map_or(0, |bytes| bytes.len())
    }

    /// A run ends well that it is in now.
    fn goes_on(&self, limit: Duration) {
        let (runs, until) = (self.runs(), Instant::now() + limit);
        while self.runs() == runs {
            let log = || fs::read_to_string(self.machine.path("fio.log")).unwrap_or_default();
            assert!(Instant::now() < until, "fio does not go on: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn ends(self) {
        self.machine.sh("touch enough
             while kill -0 $(cat verifier.pid) 2>/dev/null; do sleep 0.1; done
             if grep -i -e 'error=[1-9]' -e 'verify:' -e 'err=[ ]*[1-9]' fio.log; then exit 1; fi
             test -e all-good || { cat fio.log; exit 1; }");
    }
}

newest!(
    a_mounted_file_system_is_verified_through_every_fault,
    |machine| {
        let image = image(machine);
        let net = Net::new(machine);
        net.add_address("10.77.0.3");
        machine.name_is("disk.test", &["10.77.0.2"]);
        let at = |address: &str| net.qemu_nbd(&image, PORT, &["-b", address]);
        let mut server = at("10.77.0.2");
        let silence = span(3, 10).as_secs().to_string();
        let settle = span(2, 5);
        let settle_time = settle.as_secs().to_string();
        let extra = ["--silence-timeout", &silence, "--settle-time", &settle_time];
        let kept = Kept::attach(machine, &image, "nbd://disk.test:10900/disk", &extra);
        // Servers in a network namespace have copies of all mounts; this has them gone, too.
        machine.sh("mount --make-rshared /");
        machine.sh("mkfs.ext4 -q /dev/nbd0; mkdir mnt; mount /dev/nbd0 mnt");
        let verifier = Verifier::start(machine);
        type Fault<'a> = &'a dyn Fn(Server) -> Server;
        let outage = || thread::sleep(span(6, 30));
        let during = |begin: &dyn Fn(), end: &dyn Fn(), server: Server| {
            begin();
            outage();
            end();
            server
        };
        let faults: [(&str, Fault<'_>); 8] = [
            ("killed", &|server| {
                server.kill();
                thread::sleep(SECOND);
                at("10.77.0.2")
            }),
            ("cut", &|server| {
                during(&|| net.cut(), &|| net.heal(), server)
            }),
            ("link down", &|server| {
                during(&|| net.link_down(), &|| net.link_up(), server)
            }),
            ("unplugged", &|server| {
                during(&|| net.unplug(), &|| net.plug(), server)
            }),
            ("stopped and killed", &|server| {
                server.stop();
                outage();
                server.kill();
                at("10.77.0.2")
            }),
            ("reset", &|mut server| {
                assert!(net.reset_connections().0 > 0, "nothing was reset");
                let lives = server.is_running();
                if lives { server } else { at("10.77.0.2") }
            }),
            ("at another address", &|server| {
                server.kill();
                machine.name_is("disk.test", &["10.77.0.3"]);
                at("10.77.0.3")
            }),
            ("without a monitor", &|server| {
                kept.kill_monitor();
                server.kill();
                let server = at("10.77.0.3");
                kept.again();
                server
            }),
        ];
        for (what, fault) in faults {
            server = fault(server);
            let back = Instant::now();
            // A name that is looked up every ten seconds, or TCP's own clock after a cut.
            verifier.goes_on(30 * SECOND + settle + 3 * GENEROUS);
            println!("{what}: a run of fio is over after {:.1?}", back.elapsed());
            kept.wait_for("connected", GENEROUS);
        }
        verifier.ends();
        machine.sh("umount mnt; e2fsck -fn /dev/nbd0");
        let log = machine.sh("dmesg");
        assert!(!log.contains("I/O error") && !log.contains("EXT4-fs error"));
        machine.detach("x");
        machine.assert_clean();
        drop(server);
    }
);
