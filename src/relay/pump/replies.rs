//! A server's replies, read one after the other and given to the engine. It must not
//! know what they answer.

use std::sync::Arc;

use nix::errno::Errno;

use super::super::action::{Place, Step};
use super::batch::Batch;
use super::input::{self, Input};
use super::link::Link;
use super::{Core, Pump};
use crate::proto::transmission::{MAX_PREFIX, ReplyHeader, header_len};

/// The thread of a link that reads: until the link ends, which it tells.
pub(super) fn run(pump: &Arc<Pump>, link: &Arc<Link>) {
    let mut reader = Reader {
        pump,
        link,
        input: Input::new(),
        batch: Batch::new(),
        prefix: Box::new([0; MAX_PREFIX]),
    };
    let ended = reader.read();
    reader.batch.carry(pump);
    let why = match ended {
        Ended::Gone(why) => why,
        Ended::Left(why) => {
            link.cut(&why, pump.wires.reset);
            why
        }
        Ended::Over => "it is of no use any more".to_owned(),
    };
    pump.lost(link, &why);
}

struct Reader<'a> {
    pump: &'a Pump,
    link: &'a Arc<Link>,
    input: Input,
    batch: Batch,
    prefix: Box<[u8; MAX_PREFIX]>,
}

/// Why no more is read.
enum Ended {
    /// The server, or its machine, ended the connection: it is at nothing any more.
    Gone(String),
    /// It did not, and may still be at what it had.
    Left(String),
    /// The engine wants no more of it, and has said why.
    Over,
}

/// What the system says of a connection that broke.
fn broke(errno: Errno) -> Ended {
    let why = format!("the connection broke: {}", errno.desc());
    match errno {
        // Nobody answered.
        Errno::ETIMEDOUT | Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ENETUNREACH => {
            Ended::Left(why)
        }
        _ => Ended::Gone(why),
    }
}

impl Reader<'_> {
    fn read(&mut self) -> Ended {
        loop {
            if let Err(why) = self.reply() {
                return why;
            }
        }
    }

    fn reply(&mut self) -> Result<(), Ended> {
        let header = self.header()?;
        let mut step = self.tell(|core, link| core.engine.reply(link.id, &header));
        loop {
            step = match step {
                Step::Header => return Ok(()),
                Step::Over => return Err(Ended::Over),
                Step::Prefix(chunk) => {
                    let length = chunk.prefix_len();
                    self.need(length)?;
                    let bytes = self.input.bytes().get(..length).unwrap_or_default();
                    let place = self.prefix.get_mut(..length).unwrap_or_default();
                    place.copy_from_slice(bytes);
                    self.input.consume(length);
                    let mut core = self.pump.core();
                    let bytes = self.prefix.get(..length).unwrap_or_default();
                    let step = core.engine.reply_prefix(self.link.id, chunk, bytes);
                    self.batch.collect(&mut core, self.pump);
                    step
                }
                Step::Data(place, ending) => {
                    self.data(place)?;
                    self.tell(|core, link| core.engine.reply_end(link.id, ending))
                }
                Step::Zeroes(place, ending) => {
                    if let Some(mut data) = self.pump.buffers.write(place.buffer) {
                        part(&mut data, place).fill(0);
                    }
                    self.tell(|core, link| core.engine.reply_end(link.id, ending))
                }
            };
        }
    }

    /// Something happens to the engine.
    fn tell(&mut self, what: impl FnOnce(&mut Core, &Link) -> Step) -> Step {
        let mut core = self.pump.core();
        let step = what(&mut core, self.link);
        self.batch.collect(&mut core, self.pump);
        step
    }

    fn header(&mut self) -> Result<ReplyHeader, Ended> {
        loop {
            let fault = |fault| Ended::Left(format!("the server breaks the protocol: {fault}"));
            let arrived = self.input.bytes();
            let length = header_len(self.link.style, arrived).map_err(fault)?;
            if let Some(header) = arrived.get(..length) {
                let header = ReplyHeader::parse(self.link.style, header).map_err(fault)?;
                self.input.consume(length);
                return Ok(header);
            }
            self.more()?;
        }
    }

    /// Waits until so many bytes are there; the buffer has room for them.
    fn need(&mut self, length: usize) -> Result<(), Ended> {
        while self.input.bytes().len() < length {
            self.more()?;
        }
        Ok(())
    }

    fn more(&mut self) -> Result<(), Ended> {
        // Nothing that is decided waits for the server.
        self.batch.carry(self.pump);
        match self.input.fill(self.link.socket()) {
            Ok(0) => Err(Ended::Gone("the server hung up".to_owned())),
            Ok(count) => {
                self.link.came(count);
                Ok(())
            }
            Err(errno) => Err(broke(errno)),
        }
    }

    fn data(&mut self, place: Place) -> Result<(), Ended> {
        // Read past it, the stream would be out of step.
        let Some(mut data) = self.pump.buffers.write(place.buffer) else {
            return Err(Ended::Left("a reply has no place".to_owned()));
        };
        let bytes = part(&mut data, place);
        let there = self.input.move_to(bytes);
        let rest = bytes.get_mut(there..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        self.batch.carry(self.pump);
        let count = rest.len();
        match input::fill(self.link.socket(), rest) {
            Ok(true) => {
                self.link.came(count);
                Ok(())
            }
            Ok(false) => Err(Ended::Gone("the server hung up within a reply".to_owned())),
            Err(errno) => Err(broke(errno)),
        }
    }
}

/// The bytes that a place names; the engine has seen to it that they are there.
fn part(data: &mut [u8], place: Place) -> &mut [u8] {
    let at = usize::try_from(place.at).unwrap_or(usize::MAX);
    let length = usize::try_from(place.length).unwrap_or(usize::MAX);
    data.get_mut(at..at.saturating_add(length))
        .unwrap_or_default()
}
