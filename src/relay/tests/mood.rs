//! What a random run is like: how many connections, how much room, how bad a server.

use super::super::{Limits, LogLimits, Offer};
use super::Dice;
use super::server::{BLOCK, Badness};
use crate::proto::transmission::Terms;
use crate::proto::{HeaderStyle, TransmissionFlags};

/// Of the export: few, so that requests meet.
pub(super) const BLOCKS: usize = 12;

/// What a run is like.
#[derive(Debug)]
pub(super) struct Mood {
    pub(super) connections: usize,
    pub(super) flushes: bool,
    pub(super) trim_zeroes: bool,
    pub(super) overlaps: bool,
    pub(super) badness: Badness,
    /// Of 1000 steps.
    pub(super) deaths: u64,
    pub(super) limits: Limits,
}

/// What its servers offer.
pub(super) fn offer(mood: &Mood, style: HeaderStyle) -> Offer {
    let mut flags = TransmissionFlags::HAS_FLAGS
        .with(TransmissionFlags::SEND_TRIM)
        .with(TransmissionFlags::SEND_WRITE_ZEROES)
        .with(TransmissionFlags::CAN_MULTI_CONN);
    if mood.flushes {
        flags = flags
            .with(TransmissionFlags::SEND_FLUSH)
            .with(TransmissionFlags::SEND_FUA);
    }
    Offer {
        terms: Terms {
            style,
            max_payload: 1 << 20,
        },
        size: BLOCKS as u64 * BLOCK,
        flags,
        minimum_block: 8,
    }
}

/// Any.
pub(super) fn mood(dice: &mut Dice) -> Mood {
    let bad = dice.below(3) == 0;
    Mood {
        connections: 1 + dice.pick(4),
        flushes: dice.below(8) != 0,
        trim_zeroes: dice.below(2) == 0,
        overlaps: dice.below(2) == 0,
        badness: Badness {
            errors: if bad { 30 } else { 0 },
            lies: if dice.below(4) == 0 { 10 } else { 0 },
        },
        deaths: [2, 10, 40][dice.pick(3)],
        limits: Limits {
            log: LogLimits {
                bytes: [64, 200, 4000][dice.pick(3)],
                entries: [4, 16, 64][dice.pick(3)],
            },
            depth: 1 + dice.pick(12),
        },
    }
}
