//! What a block holds: one record, repeated over its whole length, that says
//! which block, version and load it belongs to and where in the block it stands.
//! So nothing torn, mixed, misplaced or shifted passes for a block.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: u64 = 0x6e62_6463_746c_0000;
const RECORD: usize = 32;
/// O_DIRECT wants no more of any device here.
const ALIGNMENT: usize = 4096;

/// What was found in place of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One whole version; 0 is zeroes, as nothing was written yet.
    Version(u64),
    /// Records of the right block and place, of several versions.
    Torn {
        least: u64,
        most: u64,
    },
    Foreign(String),
}

impl fmt::Display for Content {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(0) => write!(to, "zeroes"),
            Self::Version(version) => write!(to, "version {version}"),
            Self::Torn { least, most } => write!(to, "torn: versions {least} to {most}"),
            Self::Foreign(what) => write!(to, "{what}"),
        }
    }
}

/// Stamps a block.
pub fn write(bytes: &mut [u8], block: u64, version: u64, seed: u64) {
    for (place, record) in (0u64..).zip(bytes.chunks_exact_mut(RECORD)) {
        let words = [MAGIC + place, block, version, seed];
        for (to, word) in record.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// What a block holds.
pub fn read(bytes: &[u8], block: u64, seed: u64) -> Content {
    let (mut least, mut most) = (u64::MAX, 0);
    for (place, record) in (0u64..).zip(bytes.chunks_exact(RECORD)) {
        let mut words = record
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let [magic, of, version, by] = [(); 4].map(|()| words.next().unwrap());
        let version = match [magic, of, version, by] {
            [0, 0, 0, 0] => 0,
            words => match foreign(words, place, block, seed) {
                Some(what) => return Content::Foreign(what),
                None => version,
            },
        };
        (least, most) = (least.min(version), most.max(version));
    }
    if least == most {
        Content::Version(least)
    } else {
        Content::Torn { least, most }
    }
}

fn foreign(
    [magic, of, version, by]: [u64; 4],
    place: u64,
    block: u64,
    seed: u64,
) -> Option<String> {
    let what = if magic >> 16 != MAGIC >> 16 {
        format!("no stamp ({magic:#x})")
    } else if by != seed {
        format!("seed {by}'s stamp")
    } else if of != block {
        format!("version {version} of block {of}")
    } else if magic != MAGIC + place {
        format!("version {version}'s record {}", magic - MAGIC)
    } else {
        return None;
    };
    Some(format!("{what} at record {place}"))
}

/// Memory that direct I/O takes.
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    pub fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self {
            memory,
            start,
            length,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// Past the page cache.
pub fn open_direct(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(nix::libc::O_DIRECT)
        .open(path)
}

/// `read_at` and `write_at`, where less than all is an error.
pub fn read_block(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    whole(file.read_at(bytes, at)?, bytes.len())
}

pub fn write_block(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    whole(file.write_at(bytes, at)?, bytes.len())
}

fn whole(count: usize, length: usize) -> io::Result<()> {
    if count == length {
        return Ok(());
    }
    Err(io::Error::other(format!("only {count} bytes of {length}")))
}
