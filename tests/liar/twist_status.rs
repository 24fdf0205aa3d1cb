//! The status chunks of a `BLOCK_STATUS`, and the lies they can tell.
//!
//! It must not know storage or sockets.

use super::chunk::Chunk;
use super::lie::Lie;
use super::twist::Context;
use super::wire::{CMD_FLAG_REQ_ONE, Style};

/// An id that no context has.
const NO_ID: u32 = 0xdead;
/// How far a lie goes beyond the request.
const BEYOND: u64 = 65_536;

type Extents = Vec<(u64, u64)>;

/// The chunks of a `BLOCK_STATUS` without DONE.
pub fn chunks(context: &Context<'_>, mut status: Vec<(u32, Extents)>) -> Vec<Chunk> {
    for (_, extents) in &mut status {
        stretch(context, extents);
    }
    contexts(context, &mut status);
    let (style, request) = (context.style(), context.request);
    let mut chunks: Vec<Chunk> = status
        .iter()
        .map(|(id, extents)| match style {
            Style::Extended if context.lies(Lie::NarrowStatus) => {
                Chunk::narrow_status(style, request, *id, extents)
            }
            Style::Structured if context.lies(Lie::WideStatus) => {
                Chunk::wide_status(style, request, *id, extents)
            }
            _ => Chunk::status(style, request, *id, extents),
        })
        .collect();
    for chunk in &mut chunks {
        if context.lies(Lie::DescriptorCount) && style == Style::Extended {
            // The count is small; its last byte does not overflow in a test.
            chunk.payload[7] = chunk.payload[7].wrapping_add(1);
        }
        if context.lies(Lie::DescriptorCut) {
            chunk.payload.truncate(chunk.payload.len() - 4);
        }
    }
    chunks
}

/// Lies in the extents of one context.
fn stretch(context: &Context<'_>, extents: &mut Extents) {
    let request = context.request;
    let one = request.has(CMD_FLAG_REQ_ONE);
    let covered: u64 = extents.iter().map(|extent| extent.0).sum();
    let left = context.session.export.size - request.offset - covered;
    if context.lies(Lie::ExtentPastRequest) && !one {
        extents.last_mut().unwrap().0 += BEYOND.min(left);
    }
    if one && context.lies(Lie::ExtentPastReqOne) {
        extents[0].0 = request.length + BEYOND;
    }
    if one && context.lies(Lie::ExtentsDespiteReqOne) {
        let (length, status) = extents[0];
        *extents = vec![(length / 2, status), (length - length / 2, status ^ 1)];
    }
    if context.lies(Lie::ExtentEmpty) {
        extents.insert(0, (0, 0));
    }
    if context.lies(Lie::ExtentsMissing) {
        extents.clear();
    }
    if context.lies(Lie::StatusHighBit) {
        extents.iter_mut().for_each(|extent| extent.1 |= 1 << 63);
    }
}

/// Lies about which contexts there are.
fn contexts(context: &Context<'_>, status: &mut Vec<(u32, Extents)>) {
    let Some(first) = status.first().cloned() else {
        return;
    };
    if context.lies(Lie::ContextTwice) {
        status.insert(1, first);
    } else if context.lies(Lie::ContextNotSelected) {
        status.push((NO_ID, first.1));
    } else if context.lies(Lie::ContextMissing) {
        status.remove(0);
    }
}
