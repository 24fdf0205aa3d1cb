//! From what a server says of an export to what the driver is told of it.
//!
//! A device must never send what its server refuses, nor hide a part of the
//! export unsaid: what cannot be carried over is an error or a warning here.

use thiserror::Error;

pub use crate::proto::{BlockSizes, Export, TransmissionFlags};

/// The block layer counts in these, whatever the block size.
const SECTOR: u32 = 512;

/// The smallest `max_sectors_kb` and the largest logical block size that the
/// block layer takes (`blk_validate_limits`): a page, 4 KiB wherever this runs.
const PAGE: u32 = 4096;

/// What the driver can be asked for in one request (`blk_queue_max_hw_sectors`
/// in `nbd_dev_add`), in KiB.
const MAX_HW_SECTORS_KB: u32 = 32 * 1024;

/// Twice the throughput of the 128 KiB that older kernels begin with; more
/// brings little.
const BEST_MAX_SECTORS_KB: u32 = 1280;

/// What a device is told of its export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// In bytes; a multiple of the block size.
    pub size: u64,
    /// The logical block size in bytes.
    pub block_size: u32,
    /// The flags for the driver.
    pub flags: TransmissionFlags,
    /// For `queue/max_sectors_kb`, in KiB.
    pub max_sectors_kb: u32,
    /// Bytes at the export's end that no block reaches.
    pub lost_bytes: u64,
}

/// Why an export cannot be a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// Nothing to attach.
    #[error("the export has no bytes: a device of size 0 is of no use")]
    Empty,
    /// Less than a block.
    #[error("the export has {size} bytes, less than one block of {block_size}")]
    TooSmall {
        /// In bytes.
        size: u64,
        /// In bytes.
        block_size: u32,
    },
    /// The kernel's sizes are signed.
    #[error("the export has {0} bytes, and a device of this kernel less than 2^63")]
    TooLarge(u64),
    /// The server's minimum is beyond the kernel.
    #[error(
        "the server's minimum block size is {0} bytes, and the kernel's largest is 4096: \
         lower it at the server"
    )]
    MinimumBlockSize(u32),
    /// The user's block size is below the server's.
    #[error(
        "a block size of {asked} is below the server's minimum of {minimum}: use --block-size {minimum}"
    )]
    BelowMinimum {
        /// In bytes.
        asked: u32,
        /// In bytes.
        minimum: u32,
    },
    /// The server takes less than the block layer's least request.
    #[error(
        "the server's maximum payload is {0} bytes, and the kernel's least request 4096: \
         raise it at the server"
    )]
    MaximumPayload(u32),
}

impl Geometry {
    /// Works out a device for an export. `block_size` is what the user set, a
    /// power of two from 512 to 4096; `read_only` what the user asked for.
    ///
    /// # Errors
    ///
    /// See [`enum@Error`].
    pub fn new(export: &Export, block_size: Option<u32>, read_only: bool) -> Result<Self, Error> {
        let sizes = export.block_sizes;
        let block_size = logical_block_size(sizes, block_size)?;
        if export.size == 0 {
            return Err(Error::Empty);
        }
        if i64::try_from(export.size).is_err() {
            return Err(Error::TooLarge(export.size));
        }
        let lost_bytes = export.size % u64::from(block_size);
        let size = export.size - lost_bytes;
        if size == 0 {
            return Err(Error::TooSmall {
                size: export.size,
                block_size,
            });
        }
        let flags = if read_only {
            export.flags.with(TransmissionFlags::READ_ONLY)
        } else {
            export.flags
        };
        Ok(Self {
            size,
            block_size,
            flags,
            max_sectors_kb: max_sectors_kb(sizes)?,
            lost_bytes,
        })
    }
}

fn logical_block_size(sizes: BlockSizes, asked: Option<u32>) -> Result<u32, Error> {
    let minimum = sizes.minimum.max(SECTOR);
    if minimum > PAGE {
        return Err(Error::MinimumBlockSize(minimum));
    }
    match asked {
        Some(asked) if asked < minimum => Err(Error::BelowMinimum { asked, minimum }),
        Some(asked) => Ok(asked),
        None => Ok(minimum),
    }
}

/// Within the server's maximum payload, in whole pages.
fn max_sectors_kb(sizes: BlockSizes) -> Result<u32, Error> {
    let whole_pages = sizes.maximum_payload / PAGE * (PAGE / 1024);
    if whole_pages == 0 {
        return Err(Error::MaximumPayload(sizes.maximum_payload));
    }
    Ok(whole_pages.min(BEST_MAX_SECTORS_KB).min(MAX_HW_SECTORS_KB))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn export(size: u64, minimum: u32, maximum_payload: u32) -> Export {
        Export {
            size,
            flags: TransmissionFlags::HAS_FLAGS,
            block_sizes: BlockSizes {
                minimum,
                preferred: minimum.max(512),
                maximum_payload,
            },
            told_block_sizes: true,
            canonical_name: None,
            description: None,
        }
    }

    #[test]
    fn blocks_are_512_or_the_servers_minimum() {
        let block_size = |minimum| {
            Geometry::new(&export(1 << 20, minimum, 1 << 25), None, false)
                .map(|geometry| geometry.block_size)
        };
        assert_eq!(block_size(1), Ok(512));
        assert_eq!(block_size(512), Ok(512));
        assert_eq!(block_size(4096), Ok(4096));
        assert_eq!(block_size(8192), Err(Error::MinimumBlockSize(8192)));
    }

    #[test]
    fn a_block_size_below_the_servers_is_refused() {
        let asked = |asked| Geometry::new(&export(1 << 20, 4096, 1 << 25), Some(asked), false);
        assert_eq!(
            asked(512),
            Err(Error::BelowMinimum {
                asked: 512,
                minimum: 4096
            })
        );
        assert_eq!(asked(4096).map(|geometry| geometry.block_size), Ok(4096));
    }

    #[test]
    fn sizes_that_no_device_can_have_are_refused() {
        let new = |size| Geometry::new(&export(size, 1, 1 << 25), None, false);
        assert_eq!(new(0), Err(Error::Empty));
        assert_eq!(
            new(511),
            Err(Error::TooSmall {
                size: 511,
                block_size: 512
            })
        );
        assert_eq!(new(1 << 63), Err(Error::TooLarge(1 << 63)));
        assert!(new((1 << 63) - 1).is_ok());
    }

    #[test]
    fn requests_stay_within_the_servers_payload() {
        let kb = |payload| {
            Geometry::new(&export(1 << 20, 1, payload), None, false).map(|g| g.max_sectors_kb)
        };
        assert_eq!(kb(u32::MAX), Ok(1280));
        assert_eq!(kb(65_536), Ok(64));
        assert_eq!(kb(100_000), Ok(96));
        assert_eq!(kb(4095), Err(Error::MaximumPayload(4095)));
    }

    #[test]
    fn read_only_is_added_and_never_taken_away() {
        let mut export = export(1 << 20, 1, 1 << 25);
        let flags =
            |export: &Export, read_only| Geometry::new(export, None, read_only).map(|g| g.flags);
        let read_only = TransmissionFlags::HAS_FLAGS.with(TransmissionFlags::READ_ONLY);
        assert_eq!(flags(&export, true), Ok(read_only));
        export.flags = read_only;
        assert_eq!(flags(&export, false), Ok(read_only));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_unsaid(size in 1u64..1 << 40, shift in 0u32..13) {
            let export = export(size, 1 << shift, 1 << 25);
            if let Ok(geometry) = Geometry::new(&export, None, false) {
                prop_assert_eq!(geometry.size + geometry.lost_bytes, size);
                prop_assert_eq!(geometry.size % u64::from(geometry.block_size), 0);
                prop_assert!(geometry.lost_bytes < u64::from(geometry.block_size));
            }
        }
    }
}
