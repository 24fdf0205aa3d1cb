//! Numbers and byte layouts of the specification, written down a second time.
//!
//! It must not know sockets, storage or lies.

pub const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
pub const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
pub const OLDSTYLE: u64 = 0x0000_4202_8186_1253;
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

pub const FLAG_FIXED_NEWSTYLE: u16 = 1;
pub const FLAG_NO_ZEROES: u16 = 1 << 1;

pub const OPT_EXPORT_NAME: u32 = 1;
pub const OPT_ABORT: u32 = 2;
pub const OPT_LIST: u32 = 3;
pub const OPT_STARTTLS: u32 = 5;
pub const OPT_INFO: u32 = 6;
pub const OPT_GO: u32 = 7;
pub const OPT_STRUCTURED_REPLY: u32 = 8;
pub const OPT_LIST_META_CONTEXT: u32 = 9;
pub const OPT_SET_META_CONTEXT: u32 = 10;
pub const OPT_EXTENDED_HEADERS: u32 = 11;

pub const REP_ACK: u32 = 1;
pub const REP_SERVER: u32 = 2;
pub const REP_INFO: u32 = 3;
pub const REP_META_CONTEXT: u32 = 4;
pub const REP_ERR_UNSUP: u32 = (1 << 31) + 1;
pub const REP_ERR_POLICY: u32 = (1 << 31) + 2;
pub const REP_ERR_INVALID: u32 = (1 << 31) + 3;
pub const REP_ERR_PLATFORM: u32 = (1 << 31) + 4;
pub const REP_ERR_TLS_REQD: u32 = (1 << 31) + 5;
pub const REP_ERR_UNKNOWN: u32 = (1 << 31) + 6;
pub const REP_ERR_SHUTDOWN: u32 = (1 << 31) + 7;
pub const REP_ERR_BLOCK_SIZE_REQD: u32 = (1 << 31) + 8;
pub const REP_ERR_TOO_BIG: u32 = (1 << 31) + 9;
pub const REP_ERR_EXT_HEADER_REQD: u32 = (1 << 31) + 10;

pub const INFO_EXPORT: u16 = 0;
pub const INFO_NAME: u16 = 1;
pub const INFO_DESCRIPTION: u16 = 2;
pub const INFO_BLOCK_SIZE: u16 = 3;

pub const HAS_FLAGS: u16 = 1;
pub const READ_ONLY: u16 = 1 << 1;
pub const SEND_FLUSH: u16 = 1 << 2;
pub const SEND_FUA: u16 = 1 << 3;
pub const ROTATIONAL: u16 = 1 << 4;
pub const SEND_TRIM: u16 = 1 << 5;
pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
pub const SEND_DF: u16 = 1 << 7;
pub const CAN_MULTI_CONN: u16 = 1 << 8;
pub const SEND_RESIZE: u16 = 1 << 9;
pub const SEND_CACHE: u16 = 1 << 10;
pub const SEND_FAST_ZERO: u16 = 1 << 11;
pub const BLOCK_STATUS_PAYLOAD: u16 = 1 << 12;

pub const CMD_READ: u16 = 0;
pub const CMD_WRITE: u16 = 1;
pub const CMD_DISC: u16 = 2;
pub const CMD_FLUSH: u16 = 3;
pub const CMD_TRIM: u16 = 4;
pub const CMD_CACHE: u16 = 5;
pub const CMD_WRITE_ZEROES: u16 = 6;
pub const CMD_BLOCK_STATUS: u16 = 7;

pub const CMD_FLAG_FUA: u16 = 1;
pub const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
pub const CMD_FLAG_DF: u16 = 1 << 2;
pub const CMD_FLAG_REQ_ONE: u16 = 1 << 3;
pub const CMD_FLAG_FAST_ZERO: u16 = 1 << 4;
pub const CMD_FLAG_PAYLOAD_LEN: u16 = 1 << 5;

pub const REPLY_FLAG_DONE: u16 = 1;
pub const CHUNK_NONE: u16 = 0;
pub const CHUNK_OFFSET_DATA: u16 = 1;
pub const CHUNK_OFFSET_HOLE: u16 = 2;
pub const CHUNK_BLOCK_STATUS: u16 = 5;
pub const CHUNK_BLOCK_STATUS_EXT: u16 = 6;
pub const CHUNK_ERROR: u16 = (1 << 15) + 1;
pub const CHUNK_ERROR_OFFSET: u16 = (1 << 15) + 2;

pub const STATE_HOLE: u64 = 1;
pub const STATE_ZERO: u64 = 1 << 1;

pub const EPERM: u32 = 1;
pub const EIO: u32 = 5;
pub const ENOMEM: u32 = 12;
pub const EINVAL: u32 = 22;
pub const ENOSPC: u32 = 28;
pub const EOVERFLOW: u32 = 75;
pub const ENOTSUP: u32 = 95;
pub const ESHUTDOWN: u32 = 108;

/// Which headers a session uses in transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Compact requests, simple replies.
    Simple,
    /// Compact requests, structured replies.
    Structured,
    /// Extended headers in both directions.
    Extended,
}

impl Style {
    /// Bytes of a request header.
    pub fn request_header(self) -> usize {
        if self == Self::Extended { 32 } else { 28 }
    }
}

/// One request as it came off the wire, without its payload.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub flags: u16,
    pub kind: u16,
    pub cookie: u64,
    pub offset: u64,
    /// The header's length field: payload or effect.
    pub length: u64,
}

impl Request {
    /// None when the magic is not the style's.
    pub fn decode(style: Style, header: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(header);
        let wide = style == Style::Extended;
        let magic = if wide {
            EXTENDED_REQUEST_MAGIC
        } else {
            REQUEST_MAGIC
        };
        (bytes.u32()? == magic).then_some(())?;
        Some(Self {
            flags: bytes.u16()?,
            kind: bytes.u16()?,
            cookie: bytes.u64()?,
            offset: bytes.u64()?,
            length: if wide {
                bytes.u64()?
            } else {
                u64::from(bytes.u32()?)
            },
        })
    }

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether the header's length counts bytes that follow it. Those of WRITE
    /// always do: qemu 10.0 sends them without `PAYLOAD_LEN`.
    pub fn carries_payload(&self, style: Style) -> bool {
        let flagged = style == Style::Extended && self.has(CMD_FLAG_PAYLOAD_LEN);
        flagged || self.kind == CMD_WRITE
    }

    /// Bytes of a request, for clients that tests write by hand.
    pub fn encode(&self, style: Style) -> Vec<u8> {
        let put = if style == Style::Extended {
            Put::new().u32(EXTENDED_REQUEST_MAGIC)
        } else {
            Put::new().u32(REQUEST_MAGIC)
        };
        let put = put.u16(self.flags).u16(self.kind);
        let put = put.u64(self.cookie).u64(self.offset);
        match style {
            Style::Extended => put.u64(self.length).0,
            _ => put.u32(self.length.try_into().unwrap()).0,
        }
    }
}

/// An option reply, whole.
pub fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    Put::new()
        .u64(OPTION_REPLY_MAGIC)
        .u32(option)
        .u32(kind)
        .string(data)
        .0
}

/// An option request, for clients that tests write by hand.
pub fn option_request(option: u32, data: &[u8]) -> Vec<u8> {
    Put::new().u64(IHAVEOPT).u32(option).string(data).0
}

/// Data of INFO and GO.
pub fn info_request(name: &str, infos: &[u16]) -> Vec<u8> {
    let count = u16::try_from(infos.len()).unwrap();
    let put = Put::new().string(name.as_bytes()).u16(count);
    infos.iter().fold(put, |put, info| put.u16(*info)).0
}

/// Data of `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
pub fn meta_request(name: &str, queries: &[&str]) -> Vec<u8> {
    let count = u32::try_from(queries.len()).unwrap();
    let put = Put::new().string(name.as_bytes()).u32(count);
    let queries = queries.iter();
    queries
        .fold(put, |put, query| put.string(query.as_bytes()))
        .0
}

/// Writes big-endian fields one after the other.
#[derive(Default)]
pub struct Put(pub Vec<u8>);

impl Put {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// 32-bit length, then the bytes.
    pub fn string(self, bytes: &[u8]) -> Self {
        self.u32(bytes.len().try_into().unwrap()).bytes(bytes)
    }
}

/// Takes big-endian fields off the front; None when there are too few bytes.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// 32-bit length, then that many bytes of UTF-8, at most 4096.
    pub fn string(&mut self) -> Option<String> {
        let length = usize::try_from(self.u32()?).ok()?;
        let bytes = self.take(length)?;
        (length <= 4096).then_some(())?;
        String::from_utf8(bytes.to_vec()).ok()
    }
}
