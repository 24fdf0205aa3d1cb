//! What a returned server must offer before the kernel gets its session: what the
//! device was made of, or more. Anything less would lose writes, or be refused by
//! the server in the middle of somebody's work.

use super::machine::Offer;
use super::state::State;
use crate::kernel::geometry::{BlockSizes, Export, TransmissionFlags};

/// What the kernel was told of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demands {
    size: u64,
    block_size: u32,
    flags: TransmissionFlags,
    max_sectors_kb: u32,
    several: bool,
}

/// What the driver sends where it was told that it may: to any device, as fsync(2)
/// flushes one for reading, too, and to one for writing.
const PROMISES: [TransmissionFlags; 1] = [TransmissionFlags::SEND_FLUSH];
const WRITERS_PROMISES: [TransmissionFlags; 3] = [
    TransmissionFlags::SEND_FUA,
    TransmissionFlags::SEND_TRIM,
    TransmissionFlags::SEND_WRITE_ZEROES,
];

impl From<&State> for Demands {
    fn from(state: &State) -> Self {
        Self {
            size: state.size,
            block_size: state.block_size,
            flags: TransmissionFlags(state.flags),
            max_sectors_kb: state.max_sectors_kb,
            several: state.links.len() > 1,
        }
    }
}

impl Demands {
    /// Whether an export will do.
    ///
    /// # Errors
    ///
    /// What it lacks, for people.
    pub(super) fn check(&self, export: &Export) -> Result<Offer, String> {
        let size = export.size - export.size % u64::from(self.block_size);
        if size < self.size {
            return Err(format!(
                "the export has {} bytes now, less than the device's {}: it is not used, as what \
                 is behind its end would be lost; give the server back the whole disk",
                export.size, self.size
            ));
        }
        self.flags(export.flags)?;
        self.block_sizes(export.block_sizes)?;
        Ok(Offer {
            size,
            device_size: self.size,
        })
    }

    fn flags(&self, now: TransmissionFlags) -> Result<(), String> {
        let read_only = TransmissionFlags::READ_ONLY;
        if now.contains(read_only) && !self.flags.contains(read_only) {
            return Err(
                "the server serves the export read-only now, and the device is attached for \
                 writing: let it be written to again"
                    .to_owned(),
            );
        }
        let several = self.several.then_some(TransmissionFlags::CAN_MULTI_CONN);
        let writes = !self.flags.contains(read_only);
        let writers = WRITERS_PROMISES.into_iter().filter(|_| writes);
        let promised = PROMISES.into_iter().chain(writers).chain(several);
        let lost: Vec<_> = promised
            .filter(|flag| self.flags.contains(*flag) && !now.contains(*flag))
            .flat_map(TransmissionFlags::names)
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        Err(format!(
            "the server has lost {}, which the device uses: is it another version, or set \
             otherwise?",
            lost.join(", ")
        ))
    }

    fn block_sizes(&self, now: BlockSizes) -> Result<(), String> {
        if now.minimum > self.block_size {
            return Err(format!(
                "the server's minimum block size is {} now, and the device's blocks have {}",
                now.minimum, self.block_size
            ));
        }
        if u64::from(now.maximum_payload) < u64::from(self.max_sectors_kb) * 1024 {
            return Err(format!(
                "the server takes {} bytes at once now, and the device sends {} KiB",
                now.maximum_payload, self.max_sectors_kb
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u16 = 0b1_0110_1101;

    fn demands() -> Demands {
        Demands {
            size: 1 << 20,
            block_size: 512,
            flags: TransmissionFlags(ALL),
            max_sectors_kb: 1280,
            several: false,
        }
    }

    fn export() -> Export {
        Export {
            size: 1 << 20,
            flags: TransmissionFlags(ALL),
            block_sizes: BlockSizes::DEFAULT,
            told_block_sizes: true,
            canonical_name: None,
            description: None,
        }
    }

    #[test]
    fn the_same_and_more_will_do() {
        assert!(demands().check(&export()).is_ok());
        let mut more = export();
        more.size = (2 << 20) + 100;
        more.flags = TransmissionFlags(ALL | 1 << 11);
        let offer = demands().check(&more).unwrap();
        assert_eq!((offer.size, offer.device_size), (2 << 20, 1 << 20));
    }

    #[test]
    fn anything_weaker_is_refused_by_name() {
        let refused = |change: fn(&mut Export), word: &str| {
            let mut export = export();
            change(&mut export);
            let said = demands().check(&export).unwrap_err();
            assert!(said.contains(word), "{said}");
        };
        refused(|e| e.size -= 1, "less than the device");
        refused(|e| e.flags.0 |= 2, "read-only");
        refused(|e| e.flags.0 &= !(1 << 2), "SEND_FLUSH");
        refused(|e| e.flags.0 &= !(1 << 3), "SEND_FUA");
        refused(|e| e.flags.0 &= !(1 << 5), "SEND_TRIM");
        refused(|e| e.flags.0 &= !(1 << 6), "SEND_WRITE_ZEROES");
        refused(|e| e.block_sizes.minimum = 1024, "minimum block size");
        refused(|e| e.block_sizes.maximum_payload = 65_536, "at once");
    }

    #[test]
    fn several_connections_need_a_server_that_still_allows_them() {
        let mut one_only = export();
        one_only.flags.0 &= !(1 << 8);
        assert!(demands().check(&one_only).is_ok());
        let several = Demands {
            several: true,
            ..demands()
        };
        assert!(several.check(&one_only).is_err());
    }

    #[test]
    fn a_device_for_reading_takes_a_server_that_allows_writing() {
        let read_only = Demands {
            flags: TransmissionFlags(ALL | 2),
            ..demands()
        };
        assert!(read_only.check(&export()).is_ok());
        // And one that allows it no more, and so nothing that only writers send.
        let mut other = export();
        other.flags = TransmissionFlags(1 | 2 | 1 << 2);
        assert!(read_only.check(&other).is_ok());
        other.flags = TransmissionFlags(1 | 2);
        let said = read_only.check(&other).unwrap_err();
        assert!(said.contains("SEND_FLUSH"), "{said}");
    }

    #[test]
    fn what_is_said_has_no_gaps() {
        let small = Export {
            size: 1,
            ..export()
        };
        let mut weak = export();
        weak.flags = TransmissionFlags(1);
        let mut read_only = export();
        read_only.flags.0 |= 2;
        for export in [small, weak, read_only] {
            let said = demands().check(&export).unwrap_err();
            assert!(!said.contains("  "), "{said}");
        }
    }
}
