//! Servers that forget what was not flushed, and that come back, under requests that
//! overlap: on the real driver what `tests/relay` does at its stand-in.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::{O_DIRECT, O_DSYNC};

use crate::kept::{GENEROUS, span};
use crate::liar::{self, PowerLoss};
use crate::load::{Buffer, read_block, write_block};
use crate::machine::Machine;
use crate::overlapping::{BLOCK, BLOCKS, Disk, Load};

/// A device as the driver has it, past the page cache.
#[derive(Clone)]
struct Raw {
    path: String,
    file: Arc<File>,
    /// Each write to it is durable when it is answered.
    durable: Arc<File>,
}

impl Raw {
    fn open(path: &str) -> Self {
        let open = |flags| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(flags);
            Arc::new(options.open(path).unwrap())
        };
        Self {
            path: path.to_owned(),
            file: open(O_DIRECT),
            durable: open(O_DIRECT | O_DSYNC),
        }
    }

    fn deallocate(&self, flags: FallocateFlags, offset: u64, length: u32) {
        let offset = i64::try_from(offset).unwrap();
        fallocate(&*self.file, flags, offset, length.into()).unwrap();
    }
}

impl Disk for Raw {
    fn read(&self, offset: u64, length: u32) -> Vec<u8> {
        let mut buffer = Buffer::new(length as usize);
        read_block(&self.file, &mut buffer, offset).unwrap();
        buffer.to_vec()
    }

    fn write(&self, offset: u64, data: &[u8], durable: bool) {
        let mut buffer = Buffer::new(data.len());
        buffer.copy_from_slice(data);
        let file = if durable { &self.durable } else { &self.file };
        write_block(file, &buffer, offset).unwrap();
    }

    fn zero(&self, offset: u64, length: u32) {
        self.deallocate(FallocateFlags::FALLOC_FL_ZERO_RANGE, offset, length);
    }

    fn trim(&self, offset: u64, length: u32) {
        let (offset, length) = (offset.to_string(), length.to_string());
        let ran = Command::new("blkdiscard")
            .args(["-f", "-o", &offset, "-l", &length, &self.path])
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
    }

    fn flush(&self) {
        self.file.sync_data().unwrap();
    }
}

fn loss(number: u64) -> PowerLoss {
    if number % 2 == 0 {
        PowerLoss::All
    } else {
        PowerLoss::Subset { seed: number }
    }
}

scenario!(
    what_a_server_forgets_under_load_the_relay_tells_it_again,
    |machine| {
        let server = liar::start(liar::Config::new());
        let attach = ["--name", "x", "--path", "relay"];
        let device = machine.attach(&[&[server.uri("disk").as_str()], &attach[..]].concat());
        let disk = Raw::open(&device);
        let load = Load::run(&disk, 8, 1);
        let mut forgotten = 0;
        for number in 0..span(10, 100).as_secs() {
            load.wait_for(40);
            server.stop();
            forgotten += server.unflushed("disk");
            server.lose_power(loss(number));
            load.judge(&server.peek_durable("disk", 0, BLOCKS * BLOCK));
            server.start();
        }
        load.wait_for(40);
        load.end(&disk);
        println!("{forgotten} changes were forgotten and told again");
        assert!(forgotten > 0, "there was nothing to lose");
        drop(disk);
        machine.detach("x");
        machine.assert_clean();
        assert_eq!(server.complaints(), [] as [String; 0]);
    }
);

newest!(
    what_a_server_forgets_under_load_is_lost_on_the_kernels_path,
    |machine| {
        let server = liar::start(liar::Config::new());
        let device = machine.attach(&[&server.uri("disk"), "--name", "x", "--path", "kernel"]);
        let disk = Raw::open(&device);
        let load = Load::run(&disk, 8, 1);
        let mut losses = 0;
        while !load.has_failed() {
            assert!(losses < 20, "nothing was lost: is README wrong?");
            let until = Instant::now() + GENEROUS;
            while !load.has_failed() && server.unflushed("disk") == 0 {
                assert!(Instant::now() < until, "nothing is written");
                thread::sleep(Duration::from_millis(1));
            }
            server.lose_power(loss(losses));
            server.start();
            losses += 1;
            thread::sleep(2 * GENEROUS / 5);
        }
        println!("the load saw it after {losses} losses of power");
        load.abandon();
        drop(disk);
        machine.detach("x");
        machine.assert_clean();
    }
);

/// Until the driver has handed over so many requests that have no answer.
fn wait_for_in_flight(machine: &Machine, count: u64) {
    let until = Instant::now() + GENEROUS;
    loop {
        let both = machine.sh("cat /sys/block/nbd0/inflight");
        let all: u64 = both
            .split_whitespace()
            .map(|one| one.parse::<u64>().unwrap())
            .sum();
        if all >= count {
            return;
        }
        assert!(Instant::now() < until, "in flight: {both}");
    }
}

newest!(
    what_a_relay_says_again_comes_before_what_is_new,
    |machine| {
        let server = liar::start(liar::Config::new());
        let device = machine.attach(&[&server.uri("disk"), "--name", "x", "--path", "relay"]);
        assert_eq!(Path::new(&device), Path::new("/dev/nbd0"));
        let disk = Raw::open(&device);
        for round in 0..span(10, 100).as_secs() {
            // Answered and not flushed; then in flight.
            disk.write(0, &[1; 4096], false);
            disk.write(8192, &[2; 4096], false);
            server.pause();
            thread::scope(|scope| {
                scope.spawn(|| disk.write(16_384, &[3; 4096], false));
                wait_for_in_flight(machine, 1);
                server.stop();
                server.clear_log();
                for number in 8..12u64 {
                    let disk = &disk;
                    scope.spawn(move || disk.read(number * 4096, 4096));
                }
                wait_for_in_flight(machine, 5);
                server.resume();
                server.start();
            });
            let seen: Vec<_> = server
                .requests()
                .into_iter()
                .map(|request| (request.kind, request.offset))
                .collect();
            let mut first = seen[..2].to_vec();
            first.sort_unstable();
            assert_eq!(first, [(1, 0), (1, 8192)], "round {round}: {seen:?}");
            assert_eq!(seen[2], (1, 16_384), "round {round}: {seen:?}");
            assert_eq!(seen.len(), 7, "round {round}: {seen:?}");
            assert!(seen[3..].iter().all(|(kind, _)| *kind == 0), "{seen:?}");
            disk.flush();
        }
        drop(disk);
        machine.detach("x");
        machine.assert_clean();
        assert_eq!(server.complaints(), [] as [String; 0]);
    }
);
