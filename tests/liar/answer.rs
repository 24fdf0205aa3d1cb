//! What a request does to the storage, and its honest answer.
//!
//! It must not know header styles beyond what they permit, nor bytes.

use std::sync::Mutex;

use super::config::{Config, Values};
use super::disk::{Change, Disk};
use super::haggle::Session;
use super::image::State;
use super::lie::Lie;
use super::wire::*;

/// The longest extent of a 32-bit chunk: every block size divides it.
const LONGEST_NARROW: u64 = 0xffff_0000;

/// Success, before it is put into messages.
pub enum Answer {
    Done,
    /// Content of a READ, in order.
    Content(Vec<Piece>),
    /// Context ids and their extents: length and status.
    Status(Vec<(u32, Vec<(u64, u64)>)>),
}

pub enum Piece {
    Data { offset: u64, bytes: Vec<u8> },
    Hole { offset: u64, length: u64 },
}

/// An error reply.
pub struct Refusal {
    pub error: u32,
    pub message: String,
    /// The client had no right to ask.
    pub forbidden: bool,
}

fn forbid<T>(error: u32, message: &str) -> Result<T, Refusal> {
    Err(Refusal {
        error,
        message: message.to_owned(),
        forbidden: true,
    })
}

pub fn answer(
    session: &Session,
    config: &Config,
    disk: &Mutex<Disk>,
    request: &Request,
    payload: &[u8],
) -> Result<Answer, Refusal> {
    if let Some(error) = failure(config, request.kind) {
        return Err(Refusal {
            error,
            message: "failed as configured".to_owned(),
            forbidden: false,
        });
    }
    check_command(session, request)?;
    check_flags(session, request)?;
    let mut disk = disk.lock().unwrap();
    if request.kind == CMD_BLOCK_STATUS {
        return block_status(session, config, &disk, request, payload);
    }
    if request.kind == CMD_FLUSH {
        if request.offset != 0 || request.length != 0 {
            return forbid(EINVAL, "FLUSH with offset or length");
        }
        if !config.lies.contains(&Lie::FlushForgets) {
            disk.flush();
        }
        return Ok(Answer::Done);
    }
    check_range(session, request, request.length)?;
    let fua = request.has(CMD_FLAG_FUA) && !config.lies.contains(&Lie::FuaForgets);
    match request.kind {
        CMD_READ => return read(session, &disk, request),
        CMD_WRITE => disk.change(Change::data(request.offset, payload.to_vec()), fua),
        CMD_TRIM | CMD_WRITE_ZEROES => {
            let reserve = request.has(CMD_FLAG_NO_HOLE);
            let change = Change::zero(request.offset, request.length, reserve);
            disk.change(change, fua);
        }
        // CACHE: memory is as fast as it gets.
        _ => {}
    }
    Ok(Answer::Done)
}

fn failure(config: &Config, kind: u16) -> Option<u32> {
    config.lies.iter().find_map(|lie| match lie {
        Lie::Fail { command, error } if *command == kind => Some(*error),
        _ => None,
    })
}

/// Whether the session has the command at all.
fn check_command(session: &Session, request: &Request) -> Result<(), Refusal> {
    let flags = session.export.flags;
    let needed = match request.kind {
        CMD_READ | CMD_WRITE => HAS_FLAGS,
        CMD_FLUSH => SEND_FLUSH,
        CMD_TRIM => SEND_TRIM,
        CMD_CACHE => SEND_CACHE,
        CMD_WRITE_ZEROES => SEND_WRITE_ZEROES,
        CMD_BLOCK_STATUS if session.contexts.is_empty() => {
            return forbid(EINVAL, "BLOCK_STATUS without a context");
        }
        CMD_BLOCK_STATUS => HAS_FLAGS,
        _ => return forbid(EINVAL, "unknown command"),
    };
    if flags & needed == 0 {
        return forbid(EINVAL, "a command that was not advertised");
    }
    let writes = matches!(request.kind, CMD_WRITE | CMD_TRIM | CMD_WRITE_ZEROES);
    if writes && flags & READ_ONLY != 0 {
        return forbid(EPERM, "a write to a read-only export");
    }
    Ok(())
}

fn check_flags(session: &Session, request: &Request) -> Result<(), Refusal> {
    let advertised = |flag| session.export.flags & flag != 0;
    let mut allowed = 0;
    if advertised(SEND_FUA) {
        allowed |= CMD_FLAG_FUA;
    }
    match request.kind {
        CMD_READ if advertised(SEND_DF) => allowed |= CMD_FLAG_DF,
        CMD_WRITE if session.style == Style::Extended => {
            allowed |= CMD_FLAG_PAYLOAD_LEN;
        }
        CMD_WRITE_ZEROES => {
            allowed |= CMD_FLAG_NO_HOLE;
            if advertised(SEND_FAST_ZERO) {
                allowed |= CMD_FLAG_FAST_ZERO;
            }
        }
        CMD_BLOCK_STATUS => {
            allowed |= CMD_FLAG_REQ_ONE;
            if advertised(BLOCK_STATUS_PAYLOAD) {
                allowed |= CMD_FLAG_PAYLOAD_LEN;
            }
        }
        _ => {}
    }
    if request.flags & !allowed != 0 {
        return forbid(EINVAL, "a flag that this command does not have");
    }
    Ok(())
}

/// Alignment and bounds of an effect.
fn check_range(session: &Session, request: &Request, length: u64) -> Result<(), Refusal> {
    let export = &session.export;
    let minimum = u64::from(export.block.minimum);
    if request.offset % minimum != 0 || length % minimum != 0 {
        return forbid(EINVAL, "a request that is not aligned");
    }
    let end = request.offset.checked_add(length);
    if end.is_none_or(|end| end > export.size) {
        let write = matches!(request.kind, CMD_WRITE | CMD_WRITE_ZEROES);
        let error = if write { ENOSPC } else { EINVAL };
        return forbid(error, "a request beyond the end of the export");
    }
    Ok(())
}

fn read(session: &Session, disk: &Disk, request: &Request) -> Result<Answer, Refusal> {
    let (offset, length) = (request.offset, request.length);
    if length > u64::from(session.export.block.maximum) {
        return Err(Refusal {
            error: EOVERFLOW,
            message: "more than the maximum payload".to_owned(),
            forbidden: session.style == Style::Simple,
        });
    }
    if session.style == Style::Simple || request.has(CMD_FLAG_DF) {
        let bytes = disk.read(offset, length);
        return Ok(Answer::Content(vec![Piece::Data { offset, bytes }]));
    }
    let mut offset = offset;
    let mut pieces = Vec::new();
    for (length, state) in disk.states(offset, length, usize::MAX) {
        pieces.push(match state {
            State::Data => {
                let bytes = disk.read(offset, length);
                Piece::Data { offset, bytes }
            }
            State::Zero | State::Hole => Piece::Hole { offset, length },
        });
        offset += length;
    }
    Ok(Answer::Content(pieces))
}

fn block_status(
    session: &Session,
    config: &Config,
    disk: &Disk,
    request: &Request,
    payload: &[u8],
) -> Result<Answer, Refusal> {
    let (length, ids) = status_effect(session, request, payload)?;
    check_range(session, request, length)?;
    if length == 0 {
        return forbid(EINVAL, "BLOCK_STATUS of nothing");
    }
    let mut limit = config.max_extents;
    if request.has(CMD_FLAG_REQ_ONE) {
        limit = 1;
    }
    let selected = session.contexts.iter().filter(|(id, _)| ids.contains(id));
    let status = selected.map(|(id, context)| {
        let extents = match context.values {
            Values::Allocation => allocation(disk, request.offset, length, limit),
            Values::Zones(size) => zones(size, request.offset, length, limit),
        };
        (*id, fit(session.style, extents, limit))
    });
    Ok(Answer::Status(status.collect()))
}

/// Length, and the contexts that are asked for.
pub fn status_effect(
    session: &Session,
    request: &Request,
    payload: &[u8],
) -> Result<(u64, Vec<u32>), Refusal> {
    let all: Vec<u32> = session.contexts.iter().map(|(id, _)| *id).collect();
    if !request.has(CMD_FLAG_PAYLOAD_LEN) {
        return Ok((request.length, all));
    }
    let mut bytes = Bytes(payload);
    let (Some(length), 0) = (bytes.u64(), bytes.0.len() % 4) else {
        return forbid(EINVAL, "a malformed BLOCK_STATUS payload");
    };
    let mut ids = Vec::new();
    while let Some(id) = bytes.u32() {
        if ids.contains(&id) || !all.contains(&id) {
            return forbid(EINVAL, "an unknown or repeated context id");
        }
        ids.push(id);
    }
    Ok((length, ids))
}

fn allocation(disk: &Disk, offset: u64, length: u64, limit: usize) -> Vec<(u64, u64)> {
    let runs = disk.states(offset, length, limit).into_iter();
    runs.map(|(length, state)| match state {
        State::Data => (length, 0),
        State::Zero => (length, STATE_ZERO),
        State::Hole => (length, STATE_ZERO | STATE_HOLE),
    })
    .collect()
}

fn zones(size: u64, offset: u64, length: u64, limit: usize) -> Vec<(u64, u64)> {
    let end = offset + length;
    let mut extents = Vec::new();
    let mut at = offset;
    while at < end && extents.len() < limit {
        let zone = at / size;
        let until = (zone + 1).saturating_mul(size).min(end);
        extents.push((until - at, (1 << 63) | zone));
        at = until;
    }
    extents
}

/// Cuts extents that are too long for a 32-bit chunk.
fn fit(style: Style, extents: Vec<(u64, u64)>, limit: usize) -> Vec<(u64, u64)> {
    if style == Style::Extended {
        return extents;
    }
    let cut = extents.into_iter().flat_map(|(length, status)| {
        let starts = (0..length).step_by(LONGEST_NARROW.try_into().unwrap());
        starts.map(move |start| ((length - start).min(LONGEST_NARROW), status))
    });
    cut.take(limit).collect()
}
