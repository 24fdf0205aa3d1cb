//! Tests of the whole module, and what all its tests share.
//!
//! - `rules`, `recovery`: one rule each, step by step, on a `bench`
//! - `model`: random runs in a `world` with the `server` of this folder, judged by
//!   `checker`

mod bench;
mod checker;
mod model;
mod mood;
mod recovery;
mod rules;
mod server;
mod world;

use proptest::test_runner::{RngAlgorithm, TestRng};

use super::Offer;
use crate::proto::transmission::{Command, CommandFlags, Request, Terms};
use crate::proto::{HeaderStyle, TransmissionFlags};

/// A device of 64 blocks of 8 bytes that can do everything.
pub(super) fn device() -> Offer {
    let flags = [
        TransmissionFlags::SEND_FLUSH,
        TransmissionFlags::SEND_FUA,
        TransmissionFlags::SEND_TRIM,
        TransmissionFlags::SEND_WRITE_ZEROES,
        TransmissionFlags::CAN_MULTI_CONN,
    ];
    Offer {
        terms: Terms {
            style: HeaderStyle::Extended,
            max_payload: 1 << 20,
        },
        size: 512,
        flags: flags
            .into_iter()
            .fold(TransmissionFlags::HAS_FLAGS, TransmissionFlags::with),
        minimum_block: 8,
    }
}

pub(super) fn request(command: Command, flags: CommandFlags, offset: u64, length: u64) -> Request {
    Request {
        command,
        flags,
        cookie: 0,
        offset,
        length,
    }
}

/// A small source of choices, so that a failing case is one number.
#[derive(Debug)]
pub(super) struct Dice(TestRng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        use proptest::prelude::RngCore;
        self.0.next_u64() % limit
    }

    pub(super) fn pick(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let other = self.pick(index + 1);
            items.swap(index, other);
        }
    }
}
