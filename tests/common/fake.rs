//! A server that says what a test tells it to: right or wrong, whole or cut.
//!
//! It has no codec of its own to be wrong with: tests pass bytes, and the few
//! helpers here write the shapes of the specification by hand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

pub const OPT_EXPORT_NAME: u32 = 1;
pub const OPT_GO: u32 = 7;
pub const REP_ACK: u32 = 1;
pub const REP_INFO: u32 = 3;
pub const ERROR: u32 = 1 << 31;

/// Starts a server on a free port of the loopback; each client gets a thread
/// that runs `serve`. It lives as long as the test's process.
pub fn server(serve: impl Fn(&mut Client) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = std::sync::Arc::clone(&serve);
            thread::spawn(move || {
                let mut client = Client { stream };
                // The client may hang up at any time; that is its right.
                let _ = serve(&mut client);
            });
        }
    });
    address
}

/// One client, seen from the server.
pub struct Client {
    stream: TcpStream,
}

/// A request of the transmission phase (28 bytes).
pub struct Request {
    pub kind: u16,
    pub cookie: u64,
    pub offset: u64,
    pub length: u32,
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send_slowly(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.send(&[*byte])?;
            thread::sleep(pause);
        }
        Ok(())
    }

    pub fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Keeps the connection open and silent until the client hangs up.
    pub fn stay_silent(&mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }

    /// The greeting of a fixed newstyle server, and the client's flags.
    pub fn greet(&mut self) -> io::Result<u32> {
        self.send(&greeting(0b11))?;
        Ok(u32::from_be_bytes(self.read(4)?.try_into().unwrap()))
    }

    /// One option and its data.
    pub fn option(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let header = self.read(16)?;
        assert_eq!(header[..8], *b"IHAVEOPT");
        let option = u32::from_be_bytes(header[8..12].try_into().unwrap());
        let length = u32::from_be_bytes(header[12..].try_into().unwrap());
        let data = self.read(usize::try_from(length).unwrap())?;
        Ok((option, data))
    }

    pub fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        self.send(&reply(option, kind, data))
    }

    /// Greets, answers GO with an export, and enters transmission.
    pub fn go(&mut self, size: u64, flags: u16) -> io::Result<()> {
        self.greet()?;
        let (option, _) = self.option()?;
        assert_eq!(option, OPT_GO);
        self.reply(OPT_GO, REP_INFO, &export_info(size, flags))?;
        self.reply(OPT_GO, REP_ACK, &[])
    }

    /// One compact request, without its payload.
    pub fn request(&mut self) -> io::Result<Request> {
        let bytes = self.read(28)?;
        Ok(Request {
            kind: u16::from_be_bytes(bytes[6..8].try_into().unwrap()),
            cookie: u64::from_be_bytes(bytes[8..16].try_into().unwrap()),
            offset: u64::from_be_bytes(bytes[16..24].try_into().unwrap()),
            length: u32::from_be_bytes(bytes[24..].try_into().unwrap()),
        })
    }

    /// A simple reply without an error.
    pub fn done(&mut self, cookie: u64, data: &[u8]) -> io::Result<()> {
        let head = [
            &[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0][..],
            &cookie.to_be_bytes(),
        ]
        .concat();
        self.send(&[&head[..], data].concat())
    }

    /// Serves zeroes for every READ, and success for all else without payload.
    pub fn serve_zeroes(&mut self) -> io::Result<()> {
        loop {
            let request = self.request()?;
            match request.kind {
                0 => {
                    let length = usize::try_from(request.length).unwrap();
                    self.done(request.cookie, &vec![0; length])?;
                }
                1 => {
                    self.read(usize::try_from(request.length).unwrap())?;
                    self.done(request.cookie, &[])?;
                }
                2 => return Ok(()),
                _ => self.done(request.cookie, &[])?,
            }
        }
    }
}

pub fn greeting(flags: u16) -> Vec<u8> {
    [b"NBDMAGICIHAVEOPT".as_slice(), &flags.to_be_bytes()].concat()
}

/// An oldstyle server's hello: magic, size, flags, 124 zeroes.
pub fn oldstyle_greeting() -> Vec<u8> {
    let magic = [0x00, 0x00, 0x42, 0x02, 0x81, 0x86, 0x12, 0x53];
    let size = (1u64 << 20).to_be_bytes();
    [b"NBDMAGIC".as_slice(), &magic, &size, &[0; 128]].concat()
}

pub fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let magic = [0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9];
    let length = u32::try_from(data.len()).unwrap();
    [
        &magic[..],
        &option.to_be_bytes(),
        &kind.to_be_bytes(),
        &length.to_be_bytes(),
        data,
    ]
    .concat()
}

/// `NBD_INFO_EXPORT`
pub fn export_info(size: u64, flags: u16) -> Vec<u8> {
    [&[0, 0][..], &size.to_be_bytes(), &flags.to_be_bytes()].concat()
}

/// `NBD_INFO_BLOCK_SIZE`
pub fn block_size_info(minimum: u32, preferred: u32, maximum: u32) -> Vec<u8> {
    [
        &[0, 3][..],
        &minimum.to_be_bytes(),
        &preferred.to_be_bytes(),
        &maximum.to_be_bytes(),
    ]
    .concat()
}
