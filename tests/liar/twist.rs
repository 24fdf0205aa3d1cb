//! Puts an answer into messages, and tells the lies that any reply can tell.
//!
//! It must not know storage or sockets.

use super::answer::{Answer, Refusal};
use super::chunk::Chunk;
use super::config::Config;
use super::disk::Random;
use super::haggle::Session;
use super::lie::{Lie, Place};
use super::twist_read;
use super::twist_status;
use super::wire::*;

/// What a lie needs to know of the reply it changes.
pub struct Context<'a> {
    pub session: &'a Session,
    pub request: &'a Request,
    pub lies: &'a [Lie],
}

impl Context<'_> {
    pub fn lies(&self, lie: Lie) -> bool {
        self.lies.contains(&lie)
    }

    pub fn style(&self) -> Style {
        self.session.style
    }

    pub fn error(&self, error: u32, message: &str) -> Chunk {
        Chunk::error(self.style(), self.request, error, message)
    }
}

/// The messages of one reply, in order. `number` makes each reply's chance its own.
pub fn reply(
    session: &Session,
    config: &Config,
    request: &Request,
    number: u64,
    answer: Result<Answer, Refusal>,
) -> Vec<Chunk> {
    let lies = &config.lies;
    let context = Context {
        session,
        request,
        lies,
    };
    if session.style == Style::Simple {
        let mut chunks = vec![simple(&context, answer)];
        envelope(&context, &mut chunks);
        return chunks;
    }
    let mut chunks = match answer {
        Ok(Answer::Done) => Vec::new(),
        Ok(Answer::Content(pieces)) => twist_read::chunks(&context, pieces),
        Ok(Answer::Status(status)) => twist_status::chunks(&context, status),
        Err(refusal) => vec![context.error(refusal.error, &refusal.message)],
    };
    if context.lies(Lie::ShuffleChunks) {
        Random(config.seed ^ number).shuffle(&mut chunks);
    }
    errors(&context, &mut chunks);
    finish(&context, &mut chunks);
    simplify(&context, &mut chunks);
    strays(&context, &mut chunks);
    envelope(&context, &mut chunks);
    chunks
}

/// The simple reply of a session that has no other.
fn simple(context: &Context<'_>, answer: Result<Answer, Refusal>) -> Chunk {
    let mut chunk = Chunk::none(Style::Simple, context.request);
    match answer {
        Ok(Answer::Content(pieces)) => chunk.payload = twist_read::assemble(pieces),
        Ok(_) => {}
        Err(refusal) => chunk.error = refusal.error,
    }
    chunk
}

/// Lies in error chunks: each replaces the whole reply.
fn errors(context: &Context<'_>, chunks: &mut Vec<Chunk>) {
    let mut error = context.error(EIO, "a lie");
    let read = context.request.kind == CMD_READ;
    if context.lies(Lie::ErrorAfterData) && read {
        chunks.push(error);
        return;
    }
    if context.lies(Lie::ErrorOffsetAfterData) && read {
        error.kind = CHUNK_ERROR_OFFSET;
        let middle = context.request.offset + context.request.length / 2;
        error.payload.extend_from_slice(&middle.to_be_bytes());
        chunks.push(error);
        return;
    }
    if context.lies(Lie::UnknownErrorChunk) {
        error.kind = (1 << 15) + 0x4c49;
    } else if context.lies(Lie::ErrorMessageTooLong) {
        error.payload[4..6].copy_from_slice(&6u16.to_be_bytes());
    } else if context.lies(Lie::ErrorZero) {
        error.payload[..4].fill(0);
    } else if context.lies(Lie::ErrorShort) {
        error.payload.truncate(5);
    } else {
        return;
    }
    *chunks = vec![error];
}

/// Sets DONE.
fn finish(context: &Context<'_>, chunks: &mut Vec<Chunk>) {
    if chunks.is_empty() || context.lies(Lie::DoneApart) {
        chunks.push(Chunk::none(context.style(), context.request));
    }
    if context.lies(Lie::NoneWithPayload) {
        let mut none = Chunk::none(context.style(), context.request);
        none.payload = b"none".to_vec();
        chunks.push(none);
    }
    if context.lies(Lie::DoneMissing) {
        // A NONE chunk cannot be without DONE: it would be another lie.
        chunks.retain(|chunk| chunk.kind != CHUNK_NONE);
        return;
    }
    if let Some(last) = chunks.last_mut() {
        last.flags |= REPLY_FLAG_DONE;
    }
}

/// Replaces the reply by a simple one.
fn simplify(context: &Context<'_>, chunks: &mut Vec<Chunk>) {
    let read = context.request.kind == CMD_READ;
    let status = context.request.kind == CMD_BLOCK_STATUS;
    let instead = match context.style() {
        Style::Extended => context.lies(Lie::SimpleInExtended),
        _ if read => context.lies(Lie::SimpleRead),
        _ => context.lies(Lie::SimpleWhereAllowed) && !status,
    };
    if instead {
        let mut simple = Chunk::none(Style::Simple, context.request);
        simple.error = chunks.iter().map(|chunk| chunk.error).max().unwrap_or(0);
        if read && simple.error == 0 {
            simple.payload = vec![0; context.request.length.try_into().unwrap()];
        }
        *chunks = vec![simple];
    }
}

/// Chunks that do not belong there.
fn strays(context: &Context<'_>, chunks: &mut Vec<Chunk>) {
    let (style, request) = (context.style(), context.request);
    if context.lies(Lie::UnknownChunk) {
        let unknown = Chunk::new(style, request, 0x4c49, b"what?".to_vec());
        chunks.insert(0, unknown);
    }
    if context.lies(Lie::NoneWithoutDone) {
        chunks.insert(0, Chunk::none(style, request));
    }
    if context.lies(Lie::ChunkAfterDone) {
        let again = chunks.first().cloned();
        chunks.extend(again.map(|mut again| {
            again.flags &= !REPLY_FLAG_DONE;
            again
        }));
    }
}

/// Lies in the headers, and about how often they come.
fn envelope(context: &Context<'_>, chunks: &mut Vec<Chunk>) {
    let extended = context.style() == Style::Extended;
    for chunk in chunks.iter_mut() {
        if context.lies(Lie::StructuredInExtended) && extended {
            chunk.style = Style::Structured;
        }
        if context.lies(Lie::ExtendedUnasked) {
            chunk.style = Style::Extended;
        }
        if context.lies(Lie::UnknownCookie) {
            chunk.cookie = !chunk.cookie;
        }
        if context.lies(Lie::WrongOffset) {
            chunk.offset = chunk.offset.wrapping_add(4096);
        }
    }
    if let Some(first) = chunks.first_mut() {
        if context.lies(Lie::WrongMagic(Place::Reply)) {
            first.magic = Some(1 ^ own_magic(first.style));
        }
        length(context, first);
    }
    if context.lies(Lie::RepeatedReply) {
        chunks.extend_from_within(..);
    }
}

/// Lies about a length; a simple reply has none, so its data is wrong instead.
fn length(context: &Context<'_>, chunk: &mut Chunk) {
    let there = chunk.payload.len();
    let truth = u64::try_from(there).unwrap();
    let simple = chunk.style == Style::Simple;
    for lie in context.lies {
        match lie {
            Lie::LengthTooLarge if simple => chunk.payload.truncate(there.saturating_sub(4096)),
            Lie::LengthTooLarge => chunk.claim = Some(truth + 4096),
            Lie::LengthTooSmall if simple => chunk.payload.push(0),
            Lie::LengthTooSmall => chunk.claim = Some(truth.saturating_sub(1)),
            Lie::ClaimLength(length) => chunk.claim = Some(*length),
            _ => {}
        }
    }
}

fn own_magic(style: Style) -> u32 {
    match style {
        Style::Simple => SIMPLE_REPLY_MAGIC,
        Style::Structured => STRUCTURED_REPLY_MAGIC,
        Style::Extended => EXTENDED_REPLY_MAGIC,
    }
}
