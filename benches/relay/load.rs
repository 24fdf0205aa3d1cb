//! Requests on a stream that speaks compact headers, a fixed number at a time, from one
//! thread.

use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The export's size.
pub const SIZE: u64 = 1 << 30;

#[derive(Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub write: bool,
    pub length: u32,
    pub depth: usize,
    pub random: bool,
}

const fn workload(name: &'static str, write: bool, length: u32, depth: usize) -> Workload {
    Workload {
        name,
        write,
        length,
        depth,
        random: length == 4096,
    }
}

impl Workload {
    pub const ALL: [Self; 10] = [
        workload("4 KiB read, depth 1", false, 4096, 1),
        workload("4 KiB read, depth 16", false, 4096, 16),
        workload("4 KiB read, depth 32", false, 4096, 32),
        workload("4 KiB write, depth 1", true, 4096, 1),
        workload("4 KiB write, depth 16", true, 4096, 16),
        workload("4 KiB write, depth 32", true, 4096, 32),
        workload("128 KiB read, depth 4", false, 128 << 10, 4),
        workload("128 KiB write, depth 4", true, 128 << 10, 4),
        workload("1 MiB read, depth 4", false, 1 << 20, 4),
        workload("1 MiB write, depth 4", true, 1 << 20, 4),
    ];

    pub const fn random_read(depth: usize) -> Self {
        workload("4 KiB read", false, 4096, depth)
    }
}

/// What was done.
pub struct Load {
    pub requests: u64,
    pub took: Duration,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    pub fn run(socket: &OwnedFd, workload: Workload, time: Duration) -> Self {
        // TCP or Unix: both are read and written alike.
        let stream = UnixStream::from(socket.try_clone().unwrap());
        let mut requests = Requests::new(workload);
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::with_capacity(256 << 10, stream);
        let mut data = vec![0; workload.length as usize];
        let begin = Instant::now();
        let mut done = 0;
        writer.write_all(requests.next(workload.depth)).unwrap();
        let mut owed = workload.depth;
        while owed > 0 {
            // What came together is answered by as many new ones together.
            let mut came = 0;
            loop {
                let mut header = [0; 16];
                reader.read_exact(&mut header).unwrap();
                assert_eq!(header[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
                if !workload.write {
                    reader.read_exact(&mut data).unwrap();
                }
                came += 1;
                let next = 16 + if workload.write { 0 } else { data.len() };
                if reader.buffer().len() < next.min(64 << 10) || came == owed {
                    break;
                }
            }
            done += came as u64;
            owed -= came;
            if begin.elapsed() < time {
                writer.write_all(requests.next(came)).unwrap();
                owed += came;
            }
        }
        Self {
            requests: done,
            took: begin.elapsed(),
        }
    }
}

/// Requests as they go to the wire, many in a row.
struct Requests {
    workload: Workload,
    bytes: Vec<u8>,
    one: usize,
    dice: u64,
    place: u64,
}

impl Requests {
    fn new(workload: Workload) -> Self {
        let one = 28
            + if workload.write {
                workload.length as usize
            } else {
                0
            };
        Self {
            workload,
            bytes: vec![0x5a; one * workload.depth],
            one,
            dice: 1,
            place: 0,
        }
    }

    fn next(&mut self, count: usize) -> &[u8] {
        let length = u64::from(self.workload.length);
        for n in 0..count {
            self.dice = self
                .dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            self.place = if self.workload.random {
                self.dice >> 33
            } else {
                self.place + 1
            };
            let offset = self.place % (SIZE / length) * length;
            let header = &mut self.bytes[n * self.one..][..28];
            header[..4].copy_from_slice(&0x2560_9513u32.to_be_bytes());
            header[4..6].copy_from_slice(&[0, 0]);
            header[6..8].copy_from_slice(&[0, u8::from(self.workload.write)]);
            header[8..16].copy_from_slice(&self.dice.to_be_bytes());
            header[16..24].copy_from_slice(&offset.to_be_bytes());
            header[24..28].copy_from_slice(&self.workload.length.to_be_bytes());
        }
        &self.bytes[..count * self.one]
    }
}
