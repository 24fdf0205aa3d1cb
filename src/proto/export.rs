//! What a server says of an export: size, flags, block sizes.

use super::codec::Reader;
use super::error::Violation;

/// The transmission flags of an export, as sent ("Transmission flags"). Bits
/// without a name here are carried to whoever gets the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransmissionFlags(pub u16);

impl TransmissionFlags {
    /// The flags mean something at all.
    pub const HAS_FLAGS: Self = Self(1 << 0);
    /// Writes are refused.
    pub const READ_ONLY: Self = Self(1 << 1);
    /// FLUSH is understood.
    pub const SEND_FLUSH: Self = Self(1 << 2);
    /// FUA is understood.
    pub const SEND_FUA: Self = Self(1 << 3);
    /// The medium rotates.
    pub const ROTATIONAL: Self = Self(1 << 4);
    /// TRIM is understood.
    pub const SEND_TRIM: Self = Self(1 << 5);
    /// WRITE_ZEROES is understood.
    pub const SEND_WRITE_ZEROES: Self = Self(1 << 6);
    /// DF is understood.
    pub const SEND_DF: Self = Self(1 << 7);
    /// A FLUSH on one connection covers the writes of all.
    pub const CAN_MULTI_CONN: Self = Self(1 << 8);
    /// CACHE is understood.
    pub const SEND_CACHE: Self = Self(1 << 10);
    /// FAST_ZERO is understood.
    pub const SEND_FAST_ZERO: Self = Self(1 << 11);
    /// The payload form of BLOCK_STATUS is understood.
    pub const BLOCK_STATUS_PAYLOAD: Self = Self(1 << 12);

    /// The names of the bits that are set, in their order; an unknown one by its
    /// number.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        const NAMES: [&str; 13] = [
            "HAS_FLAGS",
            "READ_ONLY",
            "SEND_FLUSH",
            "SEND_FUA",
            "ROTATIONAL",
            "SEND_TRIM",
            "SEND_WRITE_ZEROES",
            "SEND_DF",
            "CAN_MULTI_CONN",
            "SEND_RESIZE",
            "SEND_CACHE",
            "SEND_FAST_ZERO",
            "BLOCK_STATUS_PAYLOAD",
        ];
        (0..16)
            .filter(|bit| (self.0 >> bit) & 1 == 1)
            .map(|bit| {
                NAMES
                    .get(bit)
                    .map_or_else(|| format!("BIT_{bit}"), |name| (*name).to_owned())
            })
            .collect()
    }

    /// Whether every bit of `other` is set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and `other`'s.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Block size constraints, all in bytes ("Size constraints").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// Offsets and lengths must be multiples of it; a power of two ≤ 65,536.
    pub minimum: u32,
    /// What the server works best with; a power of two ≥ 512.
    pub preferred: u32,
    /// The largest READ or WRITE; `u32::MAX` means no limit.
    pub maximum_payload: u32,
}

impl BlockSizes {
    /// What holds for a server that told nothing, and a client that stays
    /// within multiples of 512.
    pub const DEFAULT: Self = Self {
        minimum: 1,
        preferred: 4096,
        maximum_payload: 32 * 1024 * 1024,
    };

    /// `NBD_INFO_BLOCK_SIZE` behind its type.
    pub(super) fn parse(mut reader: Reader<'_>) -> Result<Self, Violation> {
        let sizes = Self {
            minimum: reader.u32()?,
            preferred: reader.u32()?,
            maximum_payload: reader.u32()?,
        };
        reader.finish()?;
        sizes.checked()
    }

    fn checked(self) -> Result<Self, Violation> {
        let Self {
            minimum,
            preferred,
            maximum_payload,
        } = self;
        let sound = minimum.is_power_of_two()
            && minimum <= 65_536
            && preferred.is_power_of_two()
            && preferred >= 512
            && preferred >= minimum
            && maximum_payload >= preferred;
        if sound {
            Ok(self)
        } else {
            Err(Violation::BlockSizes {
                minimum,
                preferred,
                maximum_payload,
            })
        }
    }
}

/// An export as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Size in bytes, 0 to 2^64 − 1 as sent: whether a device can be made of
    /// it is not judged here.
    pub size: u64,
    /// As sent.
    pub flags: TransmissionFlags,
    /// As sent, or [`BlockSizes::DEFAULT`].
    pub block_sizes: BlockSizes,
    /// Whether the server told its block sizes.
    pub told_block_sizes: bool,
    /// The name that the server knows it by, where it tells.
    pub canonical_name: Option<String>,
    /// A description for people, where there is one.
    pub description: Option<String>,
}

impl Export {
    /// Whether writes are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.flags.contains(TransmissionFlags::READ_ONLY)
    }

    /// Whether several connections may share it: a FLUSH on one covers all.
    #[must_use]
    pub fn can_multi_conn(&self) -> bool {
        self.flags.contains(TransmissionFlags::CAN_MULTI_CONN)
    }

    /// Size and flags, the common part of `NBD_INFO_EXPORT` and the answer to
    /// `NBD_OPT_EXPORT_NAME`.
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, Violation> {
        let size = reader.u64()?;
        let flags = TransmissionFlags(reader.u16()?);
        if !flags.contains(TransmissionFlags::HAS_FLAGS) {
            return Err(Violation::NoFlags(flags.0));
        }
        Ok(Self {
            size,
            flags,
            block_sizes: BlockSizes::DEFAULT,
            told_block_sizes: false,
            canonical_name: None,
            description: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(minimum: u32, preferred: u32, maximum_payload: u32) -> Result<BlockSizes, Violation> {
        let bytes = [minimum, preferred, maximum_payload].map(u32::to_be_bytes);
        BlockSizes::parse(Reader::new("sizes", bytes.as_flattened()))
    }

    #[test]
    fn accepts_what_real_servers_say() {
        assert!(sizes(1, 4096, 32 << 20).is_ok());
        assert!(sizes(4096, 4096, u32::MAX).is_ok());
        assert!(sizes(65_536, 65_536, 65_536).is_ok());
        // "It MAY be something other than a power of 2."
        assert!(sizes(512, 4096, 1_000_001).is_ok());
    }

    #[test]
    fn refuses_sizes_that_the_specification_forbids() {
        for (minimum, preferred, maximum) in [
            (0, 4096, 1 << 20),
            (3, 4096, 1 << 20),
            (131_072, 131_072, 1 << 20),
            (512, 256, 1 << 20),
            (4096, 512, 1 << 20),
            (512, 4097, 1 << 20),
            (512, 4096, 512),
        ] {
            assert_eq!(
                sizes(minimum, preferred, maximum),
                Err(Violation::BlockSizes {
                    minimum,
                    preferred,
                    maximum_payload: maximum
                })
            );
        }
    }
}
