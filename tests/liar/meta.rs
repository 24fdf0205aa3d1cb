//! `LIST_META_CONTEXT` and `SET_META_CONTEXT`.
//!
//! It must not know what a context's values mean.

use std::io;
use std::sync::Arc;

use super::config::Context;
use super::haggle::{Haggle, Next};
use super::lie::Lie;
use super::wire::*;

/// Ids are opaque; these begin where nobody would guess.
const FIRST_ID: u32 = 0x4c49_4152;

impl Haggle<'_> {
    pub fn meta(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let set = option == OPT_SET_META_CONTEXT;
        if set {
            self.selected = (String::new(), Vec::new());
        }
        if self.style == Style::Simple {
            self.complain("metadata contexts without structured replies");
            return self.error(option, REP_ERR_INVALID, "structured replies first");
        }
        let Some((name, queries)) = decode(data) else {
            self.complain("malformed metadata context queries");
            return self.error(option, REP_ERR_INVALID, "malformed");
        };
        let config = Arc::clone(&self.config);
        if config.find(&name).is_none() {
            return self.error(option, REP_ERR_UNKNOWN, "no such export");
        }
        let matches = |context: &&Context| {
            let all = !set && queries.is_empty();
            all || queries
                .iter()
                .any(|query| asks_for(query, &context.name, set))
        };
        let found: Vec<&Context> = config.contexts.iter().filter(matches).collect();
        let narrow = self.style != Style::Extended;
        if narrow && config.refuse_wide_contexts && found.iter().any(|one| one.is_wide()) {
            return self.error(option, REP_ERR_EXT_HEADER_REQD, "64-bit values");
        }
        let granted = found.into_iter().filter(|one| !(narrow && one.is_wide()));
        let granted: Vec<(u32, Context)> = (FIRST_ID..).zip(granted.cloned()).collect();
        if set {
            self.grant(&granted)?;
            self.selected = (name, granted);
        } else {
            for (_, context) in &granted {
                self.context(option, 0, &context.name)?;
            }
        }
        self.ack(option)
    }

    fn grant(&mut self, granted: &[(u32, Context)]) -> io::Result<()> {
        let one_id = self.lies(Lie::ContextIdTwice);
        for (id, context) in granted {
            let id = if one_id { FIRST_ID } else { *id };
            self.context(OPT_SET_META_CONTEXT, id, &context.name)?;
        }
        if one_id {
            self.context(OPT_SET_META_CONTEXT, FIRST_ID, "x-liar:twin")?;
        }
        if self.lies(Lie::ContextUnasked) {
            self.context(OPT_SET_META_CONTEXT, FIRST_ID - 1, "x-liar:unasked")?;
        }
        Ok(())
    }

    fn context(&mut self, option: u32, id: u32, name: &str) -> io::Result<()> {
        let data = Put::new().u32(id).bytes(name.as_bytes());
        self.reply(option, REP_META_CONTEXT, &data.0)
    }
}

/// A query is a context's name, or, to list only, its namespace and a colon.
fn asks_for(query: &str, name: &str, set: bool) -> bool {
    let namespace = name.split_inclusive(':').next();
    query == name || (!set && Some(query) == namespace)
}

/// Export name and queries, each with its namespace; nothing may be left over.
fn decode(data: &[u8]) -> Option<(String, Vec<String>)> {
    let mut bytes = Bytes(data);
    let name = bytes.string()?;
    let count = bytes.u32()?;
    let mut queries = Vec::new();
    for _ in 0..count {
        queries.push(bytes.string()?);
    }
    let named = queries.iter().all(|query| query.contains(':'));
    (named && bytes.0.is_empty()).then_some((name, queries))
}
