//! A client of raw sockets, for `tests/liar.rs` alone: it takes apart what the
//! server says and judges nothing.
//!
//! It shares the server's constants, but none of its encoding of replies.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::liar::wire::{self, Bytes, Request};
use crate::liar::{Handle, Style};

/// No read waits longer; an honest server answers in microseconds.
const DEADLINE: Duration = Duration::from_secs(5);

pub struct Probe {
    stream: TcpStream,
    pub style: Style,
    cookie: u64,
}

/// An option reply.
#[derive(Debug, PartialEq, Eq)]
pub struct OptionReply {
    pub option: u32,
    pub kind: u32,
    pub data: Vec<u8>,
}

/// A message of the transmission phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub style: Style,
    pub done: bool,
    /// Of chunks.
    pub kind: u16,
    /// Of simple replies.
    pub error: u32,
    pub cookie: u64,
    /// Of extended chunks.
    pub offset: u64,
    pub length: u64,
    pub payload: Vec<u8>,
}

impl Probe {
    /// Connected; nothing said.
    pub fn connect(server: &Handle) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let style = Style::Simple;
        Self {
            stream,
            style,
            cookie: 0,
        }
    }

    /// Greeted.
    pub fn greet(server: &Handle) -> Self {
        let mut probe = Self::connect(server);
        assert_eq!(probe.take(18), *b"NBDMAGICIHAVEOPT\0\x03");
        probe.send(&[0, 0, 0, 3]);
        probe
    }

    /// In transmission with this style; with contexts if the style has any.
    pub fn go(server: &Handle, style: Style, contexts: &[&str]) -> Self {
        let mut probe = Self::greet(server);
        probe.style = style;
        match style {
            Style::Simple => {}
            Style::Structured => probe.must(wire::OPT_STRUCTURED_REPLY, &[]),
            Style::Extended => probe.must(wire::OPT_EXTENDED_HEADERS, &[]),
        }
        if !contexts.is_empty() {
            let data = wire::meta_request("disk", contexts);
            probe.must(wire::OPT_SET_META_CONTEXT, &data);
        }
        let data = wire::info_request("disk", &[wire::INFO_BLOCK_SIZE]);
        probe.must(wire::OPT_GO, &data);
        probe
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// All that comes until the server hangs up.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("no hang-up: {error}"),
        }
    }

    /// Whether nothing comes for a while.
    pub fn is_silent(&mut self) -> bool {
        let pause = Duration::from_millis(50);
        self.stream.set_read_timeout(Some(pause)).unwrap();
        let silent = matches!(self.stream.read(&mut [0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        silent
    }

    // ── options ──

    /// All replies to an option, the last one included.
    pub fn option(&mut self, option: u32, data: &[u8]) -> Vec<OptionReply> {
        self.send(&wire::option_request(option, data));
        self.option_replies()
    }

    pub fn option_replies(&mut self) -> Vec<OptionReply> {
        let mut replies = Vec::new();
        loop {
            let reply = self.option_reply();
            let last = reply.kind == wire::REP_ACK || reply.kind >> 31 == 1;
            replies.push(reply);
            if last {
                return replies;
            }
        }
    }

    pub fn option_reply(&mut self) -> OptionReply {
        let header = self.take(20);
        let mut header = Bytes(&header);
        assert_eq!(header.u64(), Some(wire::OPTION_REPLY_MAGIC));
        let (option, kind) = (header.u32().unwrap(), header.u32().unwrap());
        let length = header.u32().unwrap();
        assert!(length < 1 << 20, "{length} bytes in an option reply");
        let data = self.take(length.try_into().unwrap());
        OptionReply { option, kind, data }
    }

    /// An option that succeeds.
    fn must(&mut self, option: u32, data: &[u8]) {
        let replies = self.option(option, data);
        let last = replies.last().unwrap();
        assert_eq!(last.kind, wire::REP_ACK, "option {option}: {replies:?}");
    }

    /// The last reply's type.
    pub fn verdict(&mut self, option: u32, data: &[u8]) -> u32 {
        self.option(option, data).last().unwrap().kind
    }

    // ── requests ──

    /// Sends a request; returns its cookie.
    pub fn request(
        &mut self,
        kind: u16,
        flags: u16,
        offset: u64,
        length: u64,
        payload: &[u8],
    ) -> u64 {
        self.cookie += 1;
        let request = Request {
            flags,
            kind,
            cookie: self.cookie,
            offset,
            length,
        };
        let bytes = [request.encode(self.style).as_slice(), payload].concat();
        self.send(&bytes);
        self.cookie
    }

    pub fn read_request(&mut self, offset: u64, length: u64) -> u64 {
        self.request(wire::CMD_READ, 0, offset, length, &[])
    }

    pub fn write_request(&mut self, flags: u16, offset: u64, data: &[u8]) -> u64 {
        let mut flags = flags;
        if self.style == Style::Extended {
            flags |= wire::CMD_FLAG_PAYLOAD_LEN;
        }
        let length = data.len().try_into().unwrap();
        self.request(wire::CMD_WRITE, flags, offset, length, data)
    }

    /// The next message; a simple reply has `data` bytes if it has no error.
    pub fn message(&mut self, data: usize) -> Message {
        let magic = self.take(4);
        let (style, rest) = match Bytes(&magic).u32().unwrap() {
            wire::SIMPLE_REPLY_MAGIC => (Style::Simple, 12),
            wire::STRUCTURED_REPLY_MAGIC => (Style::Structured, 16),
            wire::EXTENDED_REPLY_MAGIC => (Style::Extended, 28),
            magic => panic!("reply magic {magic:#x}"),
        };
        let header = self.take(rest);
        let mut header = Bytes(&header);
        let mut message = Message {
            style,
            done: true,
            kind: 0,
            error: 0,
            cookie: 0,
            offset: 0,
            length: 0,
            payload: Vec::new(),
        };
        if style == Style::Simple {
            message.error = header.u32().unwrap();
        } else {
            message.done = header.u16().unwrap() & wire::REPLY_FLAG_DONE != 0;
            message.kind = header.u16().unwrap();
        }
        message.cookie = header.u64().unwrap();
        message.length = match style {
            Style::Simple if message.error != 0 => 0,
            Style::Simple => data.try_into().unwrap(),
            Style::Structured => header.u32().unwrap().into(),
            Style::Extended => {
                message.offset = header.u64().unwrap();
                header.u64().unwrap()
            }
        };
        if message.length <= 64 << 20 {
            message.payload = self.take(message.length.try_into().unwrap());
        }
        message
    }

    /// Messages up to and with the first DONE.
    pub fn reply(&mut self, data: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.message(data));
            if messages.last().unwrap().done {
                return messages;
            }
        }
    }

    /// A request that has to succeed, without data in its answer.
    pub fn do_request(&mut self, kind: u16, flags: u16, offset: u64, length: u64) {
        let cookie = self.request(kind, flags, offset, length, &[]);
        self.done(cookie);
    }

    pub fn write(&mut self, flags: u16, offset: u64, data: &[u8]) {
        let cookie = self.write_request(flags, offset, data);
        self.done(cookie);
    }

    fn done(&mut self, cookie: u64) {
        let reply = self.reply(0);
        let last = reply.last().unwrap();
        let good = (last.kind, last.error, last.cookie) == (wire::CHUNK_NONE, 0, cookie);
        assert!(good && reply.len() == 1, "{reply:?}");
    }

    /// The data of a READ that has to succeed.
    pub fn read(&mut self, offset: u64, length: usize) -> Vec<u8> {
        let cookie = self.read_request(offset, length.try_into().unwrap());
        let reply = self.reply(length);
        assert!(reply.iter().all(|message| message.cookie == cookie));
        let mut data = vec![0xee; length];
        for message in reply {
            assert_eq!(message.error, 0);
            let mut payload = Bytes(&message.payload);
            if message.style == Style::Simple {
                return message.payload;
            }
            if message.kind == wire::CHUNK_NONE {
                continue;
            }
            let at = usize::try_from(payload.u64().unwrap() - offset).unwrap();
            match message.kind {
                wire::CHUNK_OFFSET_DATA => {
                    data[at..at + payload.0.len()].copy_from_slice(payload.0);
                }
                wire::CHUNK_OFFSET_HOLE => {
                    let length = usize::try_from(payload.u32().unwrap()).unwrap();
                    data[at..at + length].fill(0);
                }
                kind => panic!("chunk type {kind}"),
            }
        }
        data
    }

    /// The error of a request that has to fail.
    pub fn failure(&mut self, kind: u16, flags: u16, offset: u64, length: u64) -> u32 {
        let cookie = self.request(kind, flags, offset, length, &[]);
        self.error_of(cookie)
    }

    pub fn error_of(&mut self, cookie: u64) -> u32 {
        let reply = self.reply(0);
        let last = reply.last().unwrap();
        assert_eq!(last.cookie, cookie);
        match last.style {
            Style::Simple => last.error,
            _ if last.kind == wire::CHUNK_ERROR => Bytes(&last.payload).u32().unwrap(),
            _ => panic!("no error: {reply:?}"),
        }
    }
}
