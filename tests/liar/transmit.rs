//! The transmission phase of one connection: requests in, replies out.
//!
//! It must not know what a request does, nor what a lie looks like in bytes.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::answer::{self, Refusal};
use super::chunk::Chunk;
use super::config::Config;
use super::disk::Disk;
use super::haggle::Session;
use super::handle::Shared;
use super::lie::{Lie, Phase};
use super::line::{Line, hang_up};
use super::twist;
use super::wire::{CMD_DISC, CMD_FLAG_PAYLOAD_LEN, CMD_WRITE, Request, Style};

/// Replies are held for company, if a lie wants it, until it is quiet so long.
const QUIET: Duration = Duration::from_millis(5);
/// And not more of them than this.
const MOST_HELD: usize = 64;

/// The complaint about an extended WRITE that is served all the same.
pub const NO_PAYLOAD_LEN: &str = "an extended WRITE without PAYLOAD_LEN";

struct Transmit<'a> {
    shared: &'a Shared,
    line: &'a mut Line,
    connection: usize,
    session: &'a Session,
    disk: Arc<Mutex<Disk>>,
    served: u64,
    /// Replies that wait for company: the messages of each.
    held: Vec<Vec<Vec<u8>>>,
}

/// Serves requests until the client is done, or the server has had enough.
pub fn transmit(
    shared: &Shared,
    line: &mut Line,
    connection: usize,
    session: &Session,
) -> io::Result<()> {
    let mut transmit = Transmit {
        shared,
        line,
        connection,
        session,
        disk: shared.disk(&session.export.name),
        served: 0,
        held: Vec::new(),
    };
    while transmit.serve()? {}
    Ok(())
}

impl Transmit<'_> {
    /// One request; false when the session is over.
    fn serve(&mut self) -> io::Result<bool> {
        let Some((request, payload)) = self.request()? else {
            return Ok(false);
        };
        let config = self.lies();
        let lies = |lie| config.lies.contains(&lie);
        self.line.delay = config.delay + config.slowness;
        self.line.drip = lies(Lie::Drip).then_some(config.drip);
        self.served += 1;
        if request.kind == CMD_DISC {
            self.release(&config)?;
            return Ok(false);
        }
        if lies(Lie::HangUp(Phase::OnRequest)) {
            return Ok(false);
        }
        if lies(Lie::StallTransmission) {
            return Ok(true);
        }
        let chunks = self.reply(&config, &request, &payload);
        if lies(Lie::HangUp(Phase::BeforeReply)) {
            return Ok(false);
        }
        self.break_off(&config, &chunks)?;
        self.held.push(chunks.iter().map(Chunk::encode).collect());
        if !wants_company(&config) || self.held.len() == MOST_HELD {
            self.release(&config)?;
        }
        Ok(true)
    }

    /// The configuration, without lies while it is too early for them.
    fn lies(&self) -> Arc<Config> {
        let mut config = self.shared.config(self.connection);
        if self.served < config.lie_after && !config.lies.is_empty() {
            Arc::make_mut(&mut config).lies.clear();
        }
        config
    }

    /// A request and its payload; None when the client broke the framing.
    fn request(&mut self) -> io::Result<Option<(Request, Vec<u8>)>> {
        let style = self.session.style;
        let header = style.request_header();
        if !self.held.is_empty() && !self.line.has_within(header, QUIET)? {
            let config = self.lies();
            self.release(&config)?;
        }
        let header = self.line.take(header)?;
        let Some(request) = Request::decode(style, &header) else {
            self.complain("a request with the wrong magic");
            return Ok(None);
        };
        let mut payload = Vec::new();
        if request.kind == CMD_WRITE
            && !request.has(CMD_FLAG_PAYLOAD_LEN)
            && style == Style::Extended
        {
            self.complain(NO_PAYLOAD_LEN);
        }
        if request.carries_payload(style) {
            let maximum = u64::from(self.session.export.block.maximum);
            if request.length > maximum {
                self.complain(&format!("a payload of {} bytes", request.length));
                return Ok(None);
            }
            payload = self.line.take(request.length.try_into().unwrap())?;
        }
        let log = &self.shared.log;
        log.request(self.connection, style, &request, &payload);
        Ok(Some((request, payload)))
    }

    /// Does what was asked, and words the answer.
    fn reply(&self, config: &Config, request: &Request, payload: &[u8]) -> Vec<Chunk> {
        let answer = answer::answer(self.session, config, &self.disk, request, payload);
        if let Err(Refusal {
            forbidden: true,
            message,
            ..
        }) = &answer
        {
            self.complain(&format!("{message}: {request:?}"));
        }
        twist::reply(self.session, config, request, self.served, answer)
    }

    fn complain(&self, what: &str) {
        self.shared.log.complain(self.connection, what);
    }

    /// The lies that end a session in the middle of a reply.
    fn break_off(&mut self, config: &Config, chunks: &[Chunk]) -> io::Result<()> {
        let in_header = config.lies.contains(&Lie::HangUp(Phase::InReplyHeader));
        let in_payload = config.lies.contains(&Lie::HangUp(Phase::InReplyPayload));
        let stall = config.lies.contains(&Lie::StallInReply);
        let first = match chunks.first() {
            Some(first) if stall => {
                let first = first.encode();
                first[..first.len() / 2].to_vec()
            }
            Some(first) if in_header => {
                let header = first.header();
                header[..header.len() / 2].to_vec()
            }
            Some(first) if in_payload && !first.payload.is_empty() => {
                let half = &first.payload[..first.payload.len() / 2];
                [first.header().as_slice(), half].concat()
            }
            _ => return Ok(()),
        };
        self.line.put(&first)?;
        if stall {
            self.line.silence()?;
        }
        hang_up()
    }

    /// Sends the replies that are held, in the order a lie wants.
    fn release(&mut self, config: &Config) -> io::Result<()> {
        let mut replies = mem::take(&mut self.held);
        if config.lies.contains(&Lie::ReorderReplies) {
            replies.reverse();
        }
        if config.lies.contains(&Lie::InterleaveReplies) {
            return self.interleave(replies);
        }
        for message in replies.iter().flatten() {
            self.line.put(message)?;
        }
        Ok(())
    }

    fn interleave(&mut self, replies: Vec<Vec<Vec<u8>>>) -> io::Result<()> {
        let mut replies: Vec<_> = replies.into_iter().map(Vec::into_iter).collect();
        while !replies.is_empty() {
            for reply in &mut replies {
                if let Some(message) = reply.next() {
                    self.line.put(&message)?;
                }
            }
            replies.retain(|reply| reply.len() > 0);
        }
        Ok(())
    }
}

fn wants_company(config: &Config) -> bool {
    let company = |lie: &Lie| matches!(lie, Lie::InterleaveReplies | Lie::ReorderReplies);
    config.lies.iter().any(company)
}
