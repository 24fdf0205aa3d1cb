//! A stand-in for the kernel's driver: compact requests on one end of a socket pair,
//! many at a time, and simple replies, which are judged.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISC: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const ZEROES: u16 = 6;
pub const FUA: u16 = 1;

use nbdctl::relay::message::Begin;

use crate::load::Disk;
use crate::rig::Relay;

/// No answer takes longer where the server is there; tests of outages are quicker.
const PATIENCE: Duration = Duration::from_secs(60);

/// The data of a READ, or an error number.
pub type Answer = Result<Vec<u8>, u32>;

struct Waiting {
    read: usize,
    answer: Sender<Answer>,
}

#[derive(Default)]
struct Table {
    next: u64,
    waiting: HashMap<u64, Waiting>,
    over: bool,
}

#[derive(Clone)]
pub struct Driver {
    socket: Arc<Mutex<UnixStream>>,
    table: Arc<Mutex<Table>>,
}

/// A request without its answer.
pub struct Asked(Receiver<Answer>);

impl Asked {
    pub fn answer(self) -> Answer {
        self.0.recv_timeout(PATIENCE).expect("an answer in time")
    }

    pub fn is_answered_within(&self, time: Duration) -> Option<Answer> {
        self.0.recv_timeout(time).ok()
    }
}

impl Driver {
    pub fn new(socket: UnixStream) -> Self {
        let driver = Self {
            socket: Arc::new(Mutex::new(socket.try_clone().unwrap())),
            table: Arc::default(),
        };
        let table = Arc::clone(&driver.table);
        thread::spawn(move || read(socket, &table));
        driver
    }

    pub fn ask(&self, command: u16, flags: u16, offset: u64, length: u32, data: &[u8]) -> Asked {
        let (answer, asked) = channel();
        let mut table = self.table.lock().unwrap();
        table.next += 1;
        // Not a small number: the kernel's are not, either.
        let cookie = table.next | 0xabcd << 48;
        let read = if command == READ { length as usize } else { 0 };
        table.waiting.insert(cookie, Waiting { read, answer });
        drop(table);
        let mut message = 0x2560_9513u32.to_be_bytes().to_vec();
        message.extend(flags.to_be_bytes());
        message.extend(command.to_be_bytes());
        message.extend(cookie.to_be_bytes());
        message.extend(offset.to_be_bytes());
        message.extend(length.to_be_bytes());
        message.extend(data);
        // A relay that is gone answers nothing.
        let _ = self.socket.lock().unwrap().write_all(&message);
        Asked(asked)
    }

    pub fn read(&self, offset: u64, length: u32) -> Answer {
        self.ask(READ, 0, offset, length, &[]).answer()
    }

    pub fn write(&self, offset: u64, data: &[u8]) -> Answer {
        let length = u32::try_from(data.len()).unwrap();
        self.ask(WRITE, 0, offset, length, data).answer()
    }

    pub fn flush(&self) -> Answer {
        self.ask(FLUSH, 0, 0, 0, &[]).answer()
    }

    /// As the driver takes leave.
    pub fn disconnect(&self) {
        let _ = self.ask(DISC, 0, 0, 0, &[]);
    }

    pub fn hang_up(&self) {
        let _ = self.socket.lock().unwrap().shutdown(Shutdown::Both);
    }

    /// Takes no more answers.
    pub fn go_deaf(&self) {
        let _ = self.socket.lock().unwrap().shutdown(Shutdown::Read);
    }

    /// The relay closed its end.
    pub fn is_over(&self) -> bool {
        self.table.lock().unwrap().over
    }
}

impl Disk for Driver {
    fn read(&self, offset: u64, length: u32) -> Vec<u8> {
        Self::read(self, offset, length).unwrap()
    }

    fn write(&self, offset: u64, data: &[u8], durable: bool) {
        let flags = if durable { FUA } else { 0 };
        let asked = self.ask(WRITE, flags, offset, data.len() as u32, data);
        asked.answer().unwrap();
    }

    fn zero(&self, offset: u64, length: u32) {
        self.ask(ZEROES, 0, offset, length, &[]).answer().unwrap();
    }

    fn trim(&self, offset: u64, length: u32) {
        self.ask(TRIM, 0, offset, length, &[]).answer().unwrap();
    }

    fn flush(&self) {
        Self::flush(self).unwrap();
    }
}

fn read(mut socket: UnixStream, table: &Mutex<Table>) {
    let mut header = [0; 16];
    while socket.read_exact(&mut header).is_ok() {
        assert_eq!(header[..4], 0x6744_6698u32.to_be_bytes());
        let error = u32::from_be_bytes(header[4..8].try_into().unwrap());
        let cookie = u64::from_be_bytes(header[8..].try_into().unwrap());
        let waiting = table.lock().unwrap().waiting.remove(&cookie);
        let waiting = waiting.expect("each request is answered once");
        let mut data = vec![0; if error == 0 { waiting.read } else { 0 }];
        if socket.read_exact(&mut data).is_err() {
            break;
        }
        let answer = if error == 0 { Ok(data) } else { Err(error) };
        // Nobody may want to know.
        let _ = waiting.answer.send(answer);
    }
    table.lock().unwrap().over = true;
}

impl Relay<Driver> {
    pub fn dial(begin: Begin) -> Self {
        Self::dialling(begin, Driver::new)
    }

    pub fn start(begin: Begin) -> Self {
        Self::serving(begin, Driver::new)
    }
}
