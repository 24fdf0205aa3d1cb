//! The content chunks of a READ, and the lies they can tell.
//!
//! It must not know storage or sockets.

use super::answer::Piece;
use super::chunk::Chunk;
use super::lie::Lie;
use super::twist::Context;
use super::wire::*;

/// How far a lie goes beyond the request.
const BEYOND: u64 = 512;

/// Data of all pieces, in order: a simple reply's.
pub fn assemble(pieces: Vec<Piece>) -> Vec<u8> {
    let parts = pieces.into_iter().map(|piece| match piece {
        Piece::Data { bytes, .. } => bytes,
        Piece::Hole { length, .. } => vec![0; size(length)],
    });
    parts.collect::<Vec<_>>().concat()
}

/// The chunks of a READ without DONE.
pub fn chunks(context: &Context<'_>, pieces: Vec<Piece>) -> Vec<Chunk> {
    let mut pieces = pieces;
    if context.lies(Lie::NoHoles) {
        for piece in &mut pieces {
            fill(piece);
        }
    }
    let df = context.request.has(CMD_FLAG_DF);
    for lie in context.lies {
        match lie {
            Lie::SplitChunks(longest) if !df => pieces = split(pieces, (*longest).into()),
            Lie::FragmentedDespiteDf if df => {
                pieces = split(pieces, context.request.length.div_ceil(2));
            }
            Lie::DataGap => gap(&mut pieces),
            Lie::DataMissing => pieces.clear(),
            _ => {}
        }
    }
    let (style, request) = (context.style(), context.request);
    let word = |piece: &Piece| match piece {
        Piece::Data { offset, bytes } => Chunk::data(style, request, *offset, bytes),
        Piece::Hole { offset, length } => {
            Chunk::hole(style, request, *offset, (*length).try_into().unwrap())
        }
    };
    let mut chunks: Vec<Chunk> = pieces.iter().map(word).collect();
    add(context, &mut chunks);
    replace(context, &mut chunks);
    chunks
}

/// Lies that are one chunk more.
fn add(context: &Context<'_>, chunks: &mut Vec<Chunk>) {
    let (style, request) = (context.style(), context.request);
    let end = request.offset + request.length;
    if context.lies(Lie::DataOutside) {
        let outside = vec![0x4c; size(BEYOND)];
        chunks.push(Chunk::data(style, request, end, &outside));
    }
    if context.lies(Lie::DataOverlap) && !chunks.is_empty() {
        chunks.insert(1, chunks[0].clone());
    }
    if context.lies(Lie::DataEmpty) {
        chunks.insert(0, Chunk::data(style, request, request.offset, &[]));
    }
    if context.lies(Lie::DataShort) {
        let short = Chunk::new(style, request, CHUNK_OFFSET_DATA, vec![0; 4]);
        chunks.insert(0, short);
    }
    if context.lies(Lie::HoleEmpty) {
        chunks.insert(0, Chunk::hole(style, request, request.offset, 0));
    }
}

/// Lies that are one chunk in place of all.
fn replace(context: &Context<'_>, chunks: &mut Vec<Chunk>) {
    let (style, request) = (context.style(), context.request);
    let data = |length| {
        let bytes = vec![0x4c; size(length)];
        vec![Chunk::data(style, request, request.offset, &bytes)]
    };
    if context.lies(Lie::DataPastRequest) {
        *chunks = data(request.length + BEYOND);
    }
    if context.lies(Lie::DataTooLong) {
        *chunks = data(u64::from(context.session.export.block.maximum) + 1);
    }
    if context.lies(Lie::HolePastRequest) {
        let length = u32::try_from(request.length + BEYOND).unwrap();
        *chunks = vec![Chunk::hole(style, request, request.offset, length)];
    }
}

/// Cuts pieces into parts of at most `longest` bytes.
fn split(pieces: Vec<Piece>, longest: u64) -> Vec<Piece> {
    let longest = longest.max(1);
    let mut parts = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Data { offset, bytes } => {
                for (start, part) in (offset..)
                    .step_by(size(longest))
                    .zip(bytes.chunks(size(longest)))
                {
                    let bytes = part.to_vec();
                    let offset = start;
                    parts.push(Piece::Data { offset, bytes });
                }
            }
            Piece::Hole { offset, length } => {
                let end = offset + length;
                for offset in (offset..end).step_by(size(longest)) {
                    let length = longest.min(end - offset);
                    parts.push(Piece::Hole { offset, length });
                }
            }
        }
    }
    parts
}

/// Takes the first half off the first piece, or all of it if it is one byte.
fn gap(pieces: &mut Vec<Piece>) {
    let whole = match pieces.first_mut() {
        Some(Piece::Data { offset, bytes }) => {
            let half = bytes.len().div_ceil(2);
            bytes.drain(..half);
            *offset += u64::try_from(half).unwrap();
            bytes.is_empty()
        }
        Some(Piece::Hole { offset, length }) => {
            let half = length.div_ceil(2);
            *offset += half;
            *length -= half;
            *length == 0
        }
        None => false,
    };
    if whole {
        pieces.remove(0);
    }
}

fn fill(piece: &mut Piece) {
    if let Piece::Hole { offset, length } = *piece {
        let bytes = vec![0; size(length)];
        *piece = Piece::Data { offset, bytes };
    }
}

fn size(value: u64) -> usize {
    value.try_into().unwrap()
}
