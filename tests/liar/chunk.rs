//! One message of a reply before it becomes bytes, so that a lie can still
//! change any field of it.
//!
//! It must not know what is being answered, or why.

use super::wire::{
    CHUNK_BLOCK_STATUS, CHUNK_BLOCK_STATUS_EXT, CHUNK_ERROR, CHUNK_NONE, CHUNK_OFFSET_DATA,
    CHUNK_OFFSET_HOLE, EXTENDED_REPLY_MAGIC, Put, Request, SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC, Style,
};

/// A simple reply, or a structured or extended chunk.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub style: Style,
    /// In place of the style's own.
    pub magic: Option<u32>,
    pub flags: u16,
    pub kind: u16,
    /// Of simple replies only; chunks carry it in the payload.
    pub error: u32,
    pub cookie: u64,
    /// Of the request; extended headers only.
    pub offset: u64,
    pub payload: Vec<u8>,
    /// The header's length field, when it is not the payload's length.
    pub claim: Option<u64>,
}

impl Chunk {
    pub fn new(style: Style, request: &Request, kind: u16, payload: Vec<u8>) -> Self {
        Self {
            style,
            magic: None,
            flags: 0,
            kind,
            error: 0,
            cookie: request.cookie,
            offset: request.offset,
            payload,
            claim: None,
        }
    }

    pub fn none(style: Style, request: &Request) -> Self {
        Self::new(style, request, CHUNK_NONE, Vec::new())
    }

    pub fn data(style: Style, request: &Request, offset: u64, data: &[u8]) -> Self {
        let payload = Put::new().u64(offset).bytes(data).0;
        Self::new(style, request, CHUNK_OFFSET_DATA, payload)
    }

    pub fn hole(style: Style, request: &Request, offset: u64, size: u32) -> Self {
        let payload = Put::new().u64(offset).u32(size).0;
        Self::new(style, request, CHUNK_OFFSET_HOLE, payload)
    }

    pub fn error(style: Style, request: &Request, error: u32, message: &str) -> Self {
        let length = u16::try_from(message.len()).unwrap();
        let payload = Put::new().u32(error).u16(length);
        let payload = payload.bytes(message.as_bytes()).0;
        let mut chunk = Self::new(style, request, CHUNK_ERROR, payload);
        chunk.error = error;
        chunk
    }

    /// `BLOCK_STATUS` or `BLOCK_STATUS_EXT`, as the style demands.
    pub fn status(style: Style, request: &Request, id: u32, extents: &[(u64, u64)]) -> Self {
        if style == Style::Extended {
            Self::wide_status(style, request, id, extents)
        } else {
            Self::narrow_status(style, request, id, extents)
        }
    }

    pub fn wide_status(style: Style, request: &Request, id: u32, extents: &[(u64, u64)]) -> Self {
        let count = u32::try_from(extents.len()).unwrap();
        let put = Put::new().u32(id).u32(count);
        let descriptors = extents.iter();
        let put = descriptors.fold(put, |put, (length, status)| put.u64(*length).u64(*status));
        Self::new(style, request, CHUNK_BLOCK_STATUS_EXT, put.0)
    }

    /// Lengths and statuses keep only their low 32 bits.
    pub fn narrow_status(style: Style, request: &Request, id: u32, extents: &[(u64, u64)]) -> Self {
        let put = extents.iter().fold(Put::new().u32(id), |put, extent| {
            put.u32(low(extent.0)).u32(low(extent.1))
        });
        Self::new(style, request, CHUNK_BLOCK_STATUS, put.0)
    }

    pub fn header(&self) -> Vec<u8> {
        let length = self.payload.len().try_into().unwrap();
        let length: u64 = self.claim.unwrap_or(length);
        match self.style {
            Style::Simple => {
                let put = Put::new().u32(self.magic.unwrap_or(SIMPLE_REPLY_MAGIC));
                put.u32(self.error).u64(self.cookie).0
            }
            Style::Structured => {
                let put = Put::new().u32(self.magic.unwrap_or(STRUCTURED_REPLY_MAGIC));
                let put = put.u16(self.flags).u16(self.kind);
                put.u64(self.cookie).u32(low(length)).0
            }
            Style::Extended => {
                let put = Put::new().u32(self.magic.unwrap_or(EXTENDED_REPLY_MAGIC));
                let put = put.u16(self.flags).u16(self.kind);
                put.u64(self.cookie).u64(self.offset).u64(length).0
            }
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff).try_into().unwrap()
}
