//! A server and its disk, as bad as servers may be: it does requests in any order,
//! answers them in chunks of any order, forgets what was not flushed when its power
//! is lost, refuses, and lies.

use crate::proto::HeaderStyle;
use crate::proto::transmission::{
    ChunkFlags, ChunkType, Command, CommandFlags, ErrorCode, ExtendedChunk, Request, SimpleReply,
    StructuredChunk,
};

use super::Dice;

pub(super) const BLOCK: u64 = 8;

/// The export: what is in memory, and what may be on the disk.
#[derive(Debug)]
pub(super) struct Disk {
    /// What each block may be on the disk; the last is what is read.
    pub(super) blocks: Vec<Vec<u64>>,
    pub(super) trim_zeroes: bool,
    /// It has no cache to flush.
    pub(super) write_through: bool,
}

impl Disk {
    pub(super) fn new(blocks: usize, trim_zeroes: bool, write_through: bool) -> Self {
        Self {
            blocks: vec![vec![0]; blocks],
            trim_zeroes,
            write_through,
        }
    }

    fn set(&mut self, block: usize, value: u64, durable: bool) {
        let values = &mut self.blocks[block];
        if durable || self.write_through {
            values.clear();
        }
        values.push(value);
        if values.len() > 64 {
            values.remove(0);
        }
    }

    pub(super) fn flush(&mut self) {
        for values in &mut self.blocks {
            values.drain(..values.len() - 1);
        }
    }

    /// Each block ends as any value that it had since it was made durable.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        for values in &mut self.blocks {
            let chosen = values[dice.pick(values.len())];
            *values = vec![chosen];
        }
    }

    pub(super) fn read(&self, block: usize) -> u64 {
        *self.blocks[block].last().unwrap()
    }

    /// Does a change, all of it or as far as `most` blocks.
    fn change(&mut self, request: &Request, data: &[u8], most: usize) {
        let fua = request.flags.contains(CommandFlags::FUA);
        for (index, block) in blocks(request).enumerate().take(most) {
            match request.command {
                Command::WRITE => {
                    let bytes = data[index * 8..][..8].try_into().unwrap();
                    self.set(block, u64::from_be_bytes(bytes), fua);
                }
                Command::TRIM if !self.trim_zeroes => {}
                _ => self.set(block, 0, fua),
            }
        }
    }
}

/// The blocks of a request.
pub(super) fn blocks(request: &Request) -> std::ops::Range<usize> {
    let (start, end) = (request.offset, request.offset + request.length);
    usize::try_from(start / BLOCK).unwrap()..usize::try_from(end / BLOCK).unwrap()
}

/// How often, of 1000, what happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Badness {
    pub(super) errors: u64,
    pub(super) lies: u64,
}

/// Does a request. The messages of its reply: those of a lie are one too many.
pub(super) fn serve(
    disk: &mut Disk,
    dice: &mut Dice,
    style: HeaderStyle,
    (request, data): (&Request, &[u8]),
    badness: Badness,
) -> Vec<Vec<u8>> {
    let refuses = dice.below(1000) < badness.errors;
    let mut messages = match request.command {
        Command::READ => read(disk, dice, style, request, refuses),
        Command::FLUSH if refuses => vec![end(dice, style, request, 5)],
        Command::FLUSH => {
            disk.flush();
            vec![end(dice, style, request, 0)]
        }
        _ => {
            let most = if refuses { dice.pick(4) } else { usize::MAX };
            disk.change(request, data, most);
            let code = match (refuses, dice.below(4)) {
                (false, _) => 0,
                (true, 0) => 108,
                (true, 1) => 28,
                (true, _) => 5,
            };
            vec![end(dice, style, request, code)]
        }
    };
    if dice.below(1000) < badness.lies {
        let again = messages[dice.pick(messages.len())].clone();
        messages.push(again);
    }
    messages
}

fn read(
    disk: &Disk,
    dice: &mut Dice,
    style: HeaderStyle,
    request: &Request,
    fails: bool,
) -> Vec<Vec<u8>> {
    let values: Vec<u64> = blocks(request).map(|block| disk.read(block)).collect();
    if style == HeaderStyle::Compact {
        let mut message = end(dice, style, request, if fails { 5 } else { 0 });
        if !fails {
            message.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        }
        return vec![message];
    }
    let mut messages = Vec::new();
    let mut at = 0;
    while at < values.len() {
        let count = 1 + dice.pick(values.len() - at);
        let piece = &values[at..at + count];
        let offset = request.offset + at as u64 * BLOCK;
        let mut payload = offset.to_be_bytes().to_vec();
        let hole = piece.iter().all(|value| *value == 0) && dice.below(2) == 0;
        let kind = if hole {
            payload.extend(u32::try_from(count as u64 * BLOCK).unwrap().to_be_bytes());
            ChunkType::OFFSET_HOLE
        } else {
            // Of a read that fails later, the data are wrong.
            let wrong = |value: &u64| if fails { !*value } else { *value };
            payload.extend(piece.iter().flat_map(|value| wrong(value).to_be_bytes()));
            ChunkType::OFFSET_DATA
        };
        messages.push((kind, payload));
        at += count;
    }
    dice.shuffle(&mut messages);
    if fails {
        let error = [&5u32.to_be_bytes()[..], &2u16.to_be_bytes(), b"no"].concat();
        messages.push((ChunkType::ERROR, error));
    }
    if dice.below(2) == 0 {
        messages.push((ChunkType::NONE, Vec::new()));
    }
    let last = messages.len() - 1;
    let chunks = messages.into_iter().enumerate();
    chunks
        .map(|(index, (kind, payload))| chunk(style, request, kind, index == last, &payload))
        .collect()
}

/// All of a reply that has no content.
fn end(dice: &mut Dice, style: HeaderStyle, request: &Request, code: u32) -> Vec<u8> {
    let simple =
        style == HeaderStyle::Structured && request.command != Command::READ && dice.below(2) == 0;
    if style == HeaderStyle::Compact || simple {
        let reply = SimpleReply {
            error: ErrorCode(code),
            cookie: request.cookie,
        };
        return reply.encode().to_vec();
    }
    if code == 0 {
        return chunk(style, request, ChunkType::NONE, true, &[]);
    }
    let error = [&code.to_be_bytes()[..], &0u16.to_be_bytes()].concat();
    chunk(style, request, ChunkType::ERROR, true, &error)
}

fn chunk(
    style: HeaderStyle,
    request: &Request,
    kind: ChunkType,
    done: bool,
    payload: &[u8],
) -> Vec<u8> {
    let flags = ChunkFlags(u16::from(done));
    let cookie = request.cookie;
    let mut out = if style == HeaderStyle::Extended {
        let offset = request.offset;
        let length = payload.len() as u64;
        ExtendedChunk {
            flags,
            kind,
            cookie,
            offset,
            length,
        }
        .encode()
        .to_vec()
    } else {
        let length = u32::try_from(payload.len()).unwrap();
        StructuredChunk {
            flags,
            kind,
            cookie,
            length,
        }
        .encode()
        .to_vec()
    };
    out.extend_from_slice(payload);
    out
}
