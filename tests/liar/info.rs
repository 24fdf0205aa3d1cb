//! INFO and GO: what an export is, and the way into transmission.
//!
//! It must not know transmission, nor storage.

use std::io;
use std::sync::Arc;

use super::config::Export;
use super::haggle::{Haggle, Next, Session};
use super::lie::Lie;
use super::wire::*;

impl Haggle<'_> {
    pub fn info(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let Some((name, infos)) = decode(data) else {
            self.complain("malformed data of INFO or GO");
            return self.error(option, REP_ERR_INVALID, "malformed");
        };
        let config = Arc::clone(&self.config);
        if let Some(length) = config.lies.iter().find_map(|lie| match lie {
            Lie::LongErrorMessage(length) => Some(*length),
            _ => None,
        }) {
            let message = "x".repeat(length.try_into().unwrap());
            return self.error(option, REP_ERR_UNKNOWN, &message);
        }
        if config.require_extended_headers && self.style != Style::Extended {
            return self.error(option, REP_ERR_EXT_HEADER_REQD, "extended headers only");
        }
        let Some(export) = config.find(&name) else {
            return self.error(option, REP_ERR_UNKNOWN, "no such export");
        };
        if config.require_block_size && !infos.contains(&INFO_BLOCK_SIZE) {
            self.block_size(option, export)?;
            return self.error(option, REP_ERR_BLOCK_SIZE_REQD, "ask for block sizes");
        }
        let session = self.session(&name, export);
        self.infos(option, &session, &infos)?;
        self.ack(option)?;
        if option == OPT_INFO {
            return Ok(Next::Option);
        }
        Ok(Next::Transmission(Box::new(session)))
    }

    /// The INFO replies of a success.
    fn infos(&mut self, option: u32, session: &Session, asked: &[u16]) -> io::Result<()> {
        if self.lies(Lie::UnknownInfo) {
            let unknown = Put::new().u16(0x4c49).bytes(b"never heard of").0;
            self.reply(option, REP_INFO, &unknown)?;
        }
        while self.lies(Lie::EndlessInfo) {
            let unknown = Put::new().u16(0x4c49).0;
            self.reply(option, REP_INFO, &unknown)?;
        }
        self.export_info(option, session)?;
        let export = &session.export;
        if asked.contains(&INFO_NAME) {
            let name = Put::new().u16(INFO_NAME).bytes(export.name.as_bytes());
            self.reply(option, REP_INFO, &name.0)?;
        }
        if asked.contains(&INFO_DESCRIPTION) && !export.description.is_empty() {
            let put = Put::new().u16(INFO_DESCRIPTION);
            let description = put.bytes(export.description.as_bytes());
            self.reply(option, REP_INFO, &description.0)?;
        }
        let forced = |lie: &Lie| matches!(lie, Lie::BlockSizes(_));
        if asked.contains(&INFO_BLOCK_SIZE) || self.config.lies.iter().any(forced) {
            self.block_size(option, export)?;
        }
        Ok(())
    }

    fn export_info(&mut self, option: u32, session: &Session) -> io::Result<()> {
        if self.lies(Lie::ExportInfoMissing) {
            return Ok(());
        }
        let (size, flags) = (self.told_size(session), self.told_flags(session));
        let info = |size| Put::new().u16(INFO_EXPORT).u64(size).u16(flags).0;
        let mut whole = info(size);
        if self.lies(Lie::ExportInfoShort) {
            whole.pop();
        }
        self.reply(option, REP_INFO, &whole)?;
        if self.lies(Lie::ExportInfoTwice) {
            self.reply(option, REP_INFO, &info(size / 2))?;
        }
        Ok(())
    }

    fn block_size(&mut self, option: u32, export: &Export) -> io::Result<()> {
        let lie = self.config.lies.iter().find_map(|lie| match lie {
            Lie::BlockSizes(sizes) => Some(*sizes),
            _ => None,
        });
        let sizes = lie.unwrap_or(export.block);
        let put = Put::new().u16(INFO_BLOCK_SIZE).u32(sizes.minimum);
        let put = put.u32(sizes.preferred).u32(sizes.maximum);
        self.reply(option, REP_INFO, &put.0)
    }

    pub fn told_size(&self, session: &Session) -> u64 {
        let lie = self.config.lies.iter().find_map(|lie| match lie {
            Lie::ClaimSize(size) => Some(*size),
            _ => None,
        });
        lie.unwrap_or(session.export.size)
    }

    pub fn told_flags(&self, session: &Session) -> u16 {
        if self.lies(Lie::NoHasFlags) {
            return session.export.flags & !HAS_FLAGS;
        }
        session.export.flags
    }
}

/// Name and information requests; nothing may be left over.
fn decode(data: &[u8]) -> Option<(String, Vec<u16>)> {
    let mut bytes = Bytes(data);
    let name = bytes.string()?;
    let count = bytes.u16()?;
    let infos: Option<Vec<u16>> = (0..count).map(|_| bytes.u16()).collect();
    bytes.0.is_empty().then_some((name, infos?))
}
