//! What the kernel may ask, and which servers can serve it ("Size constraints",
//! "Transmission flags", "Error values"). It must not know what is outstanding.

use thiserror::Error;

use crate::proto::transmission::{Command, CommandFlags, ErrorCode, Request, Terms};
use crate::proto::{Negotiated, TransmissionFlags};

/// What a server granted, or what the device was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The header style and the maximum payload, in bytes.
    pub terms: Terms,
    /// The export's size in bytes.
    pub size: u64,
    /// The export's flags.
    pub flags: TransmissionFlags,
    /// The minimum block size in bytes: a power of two up to 65,536.
    pub minimum_block: u32,
}

/// Why a session cannot carry the device's I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unfit {
    /// The export shrank.
    #[error("the export has {got} bytes now, and the device {asked}")]
    Size {
        /// The session's.
        got: u64,
        /// The device's.
        asked: u64,
    },
    /// The export can do less.
    #[error("the export lacks {0:?}, which the device was promised")]
    Flags(TransmissionFlags),
    /// Larger blocks.
    #[error("the export has blocks of {got} bytes now, and the device of {asked}")]
    Block {
        /// The session's.
        got: u32,
        /// The device's.
        asked: u32,
    },
    /// A smaller maximum payload.
    #[error("the server takes {got} bytes at a time now, and the device sends {asked}")]
    Payload {
        /// The session's.
        got: u32,
        /// The device's.
        asked: u32,
    },
    /// Several connections where the server does not allow them.
    #[error("the server does not allow several connections to one export")]
    Alone,
    /// More connections than there is room for.
    #[error("there are {0} connections already")]
    Many(usize),
}

/// What must not go away once the kernel knows of it. (It never asks for FAST_ZERO.)
const PROMISES: [TransmissionFlags; 4] = [
    TransmissionFlags::SEND_FLUSH,
    TransmissionFlags::SEND_FUA,
    TransmissionFlags::SEND_TRIM,
    TransmissionFlags::SEND_WRITE_ZEROES,
];

impl Offer {
    /// What a handshake ended in.
    #[must_use]
    pub fn of(session: &Negotiated) -> Self {
        let export = session.export();
        Self {
            terms: Terms {
                style: session.header_style(),
                max_payload: export.block_sizes.maximum_payload,
            },
            size: export.size,
            flags: export.flags,
            minimum_block: export.block_sizes.minimum,
        }
    }

    /// Whether all of these flags are set.
    #[must_use]
    pub fn has(&self, flags: TransmissionFlags) -> bool {
        self.flags.contains(flags)
    }

    /// Whether this session can serve a device made of `device`.
    ///
    /// # Errors
    ///
    /// The first thing that it lacks.
    pub fn serves(&self, device: &Self) -> Result<(), Unfit> {
        if self.size < device.size {
            let (got, asked) = (self.size, device.size);
            return Err(Unfit::Size { got, asked });
        }
        let lost = |flag: &TransmissionFlags| device.has(*flag) && !self.has(*flag);
        if let Some(flag) = PROMISES.iter().find(|flag| lost(flag)) {
            return Err(Unfit::Flags(*flag));
        }
        let read_only = TransmissionFlags::READ_ONLY;
        if self.has(read_only) && !device.has(read_only) {
            return Err(Unfit::Flags(read_only));
        }
        if self.minimum_block > device.minimum_block {
            let (got, asked) = (self.minimum_block, device.minimum_block);
            return Err(Unfit::Block { got, asked });
        }
        if self.terms.max_payload < device.terms.max_payload {
            let (got, asked) = (self.terms.max_payload, device.terms.max_payload);
            return Err(Unfit::Payload { got, asked });
        }
        Ok(())
    }

    /// Judges a request of the kernel by the device's limits; the error is what a
    /// server would answer. DISC is for the caller.
    ///
    /// # Errors
    ///
    /// `EPERM` for a write to what is read-only; `ENOSPC` for one behind the end;
    /// `EINVAL` for all else that a server need not understand: other commands and
    /// flags, no length, a range behind the end, parts of blocks, and payloads
    /// beyond the maximum, which the kernel was told.
    pub fn check(&self, request: &Request) -> Result<(), ErrorCode> {
        let Request {
            command,
            flags,
            offset,
            length,
            ..
        } = *request;
        let own = match command {
            Command::READ | Command::WRITE | Command::TRIM | Command::FLUSH => CommandFlags::NONE,
            Command::WRITE_ZEROES => CommandFlags::NO_HOLE,
            _ => return Err(ErrorCode::EINVAL),
        };
        let known = own.with(CommandFlags::FUA);
        if flags.without(known) != CommandFlags::NONE || !self.has(request.needs()) {
            return Err(ErrorCode::EINVAL);
        }
        if changes(command) && self.has(TransmissionFlags::READ_ONLY) {
            return Err(ErrorCode::EPERM);
        }
        if command == Command::FLUSH {
            return Ok(());
        }
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > self.size) {
            let writes = matches!(command, Command::WRITE | Command::WRITE_ZEROES);
            return Err(if writes {
                ErrorCode::ENOSPC
            } else {
                ErrorCode::EINVAL
            });
        }
        let block = u64::from(self.minimum_block.max(1));
        let whole = offset % block == 0 && length % block == 0;
        let carried = matches!(command, Command::READ | Command::WRITE);
        let fits = !carried || length <= u64::from(self.terms.max_payload);
        if length == 0 || !whole || !fits {
            return Err(ErrorCode::EINVAL);
        }
        Ok(())
    }
}

/// Whether a command changes the export's contents: those that the log holds.
#[must_use]
pub fn changes(command: Command) -> bool {
    matches!(
        command,
        Command::WRITE | Command::WRITE_ZEROES | Command::TRIM
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tests::{device, request};

    #[test]
    fn the_errors_are_those_of_a_server() {
        let device = device();
        let cases = [
            (Command::READ, 0, 8, Ok(())),
            (Command::READ, 4, 8, Err(ErrorCode::EINVAL)),
            (Command::READ, 0, 0, Err(ErrorCode::EINVAL)),
            (Command::READ, device.size, 8, Err(ErrorCode::EINVAL)),
            (Command::WRITE, device.size, 8, Err(ErrorCode::ENOSPC)),
            (Command::WRITE, u64::MAX - 7, 8, Err(ErrorCode::ENOSPC)),
            (Command::TRIM, 0, device.size, Ok(())),
            (Command::CACHE, 0, 8, Err(ErrorCode::EINVAL)),
            (Command(99), 0, 8, Err(ErrorCode::EINVAL)),
        ];
        for (command, offset, length, expected) in cases {
            let asked = request(command, CommandFlags::NONE, offset, length);
            assert_eq!(device.check(&asked), expected, "{asked:?}");
        }
        let small = Offer {
            terms: Terms {
                max_payload: 8,
                ..device.terms
            },
            ..device
        };
        for (command, expected) in [
            (Command::READ, Err(ErrorCode::EINVAL)),
            (Command::WRITE, Err(ErrorCode::EINVAL)),
            (Command::WRITE_ZEROES, Ok(())),
        ] {
            let asked = request(command, CommandFlags::NONE, 0, 16);
            assert_eq!(small.check(&asked), expected, "{command}");
        }
    }

    #[test]
    fn only_what_was_promised_is_understood() {
        let mut device = device();
        let fua = request(Command::WRITE, CommandFlags::FUA, 0, 8);
        assert_eq!(device.check(&fua), Ok(()));
        let piece = request(Command::READ, CommandFlags::DF, 0, 8);
        assert_eq!(device.check(&piece), Err(ErrorCode::EINVAL));
        device.flags = TransmissionFlags::HAS_FLAGS;
        assert_eq!(device.check(&fua), Err(ErrorCode::EINVAL));
        let trim = request(Command::TRIM, CommandFlags::NONE, 0, 8);
        assert_eq!(device.check(&trim), Err(ErrorCode::EINVAL));
        device.flags = TransmissionFlags::READ_ONLY;
        let write = request(Command::WRITE, CommandFlags::NONE, 0, 8);
        assert_eq!(device.check(&write), Err(ErrorCode::EPERM));
    }

    #[test]
    fn a_server_that_offers_less_is_unfit() {
        let device = device();
        assert_eq!(device.serves(&device), Ok(()));
        let grown = Offer {
            size: device.size * 2,
            ..device
        };
        assert_eq!(grown.serves(&device), Ok(()));
        assert!(matches!(device.serves(&grown), Err(Unfit::Size { .. })));
        let bare = Offer {
            flags: TransmissionFlags::HAS_FLAGS,
            ..device
        };
        assert_eq!(
            bare.serves(&device),
            Err(Unfit::Flags(TransmissionFlags::SEND_FLUSH))
        );
        let coarse = Offer {
            minimum_block: 4096,
            ..device
        };
        assert!(matches!(coarse.serves(&device), Err(Unfit::Block { .. })));
        let narrow = Offer {
            terms: Terms {
                max_payload: 8,
                ..device.terms
            },
            ..device
        };
        assert!(matches!(narrow.serves(&device), Err(Unfit::Payload { .. })));
        let frozen = Offer {
            flags: device.flags.with(TransmissionFlags::READ_ONLY),
            ..device
        };
        assert!(matches!(frozen.serves(&device), Err(Unfit::Flags(_))));
    }
}
