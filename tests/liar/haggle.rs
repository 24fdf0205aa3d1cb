//! The handshake: greeting, then options until a session stands.
//!
//! It must not know transmission, nor storage.

use std::io;
use std::sync::Arc;

use super::config::{Config, Context, Export};
use super::handle::Shared;
use super::lie::{Lie, Phase, Place};
use super::line::{Line, hang_up};
use super::wire::*;

/// An option longer than this is read by nobody.
const LONGEST_OPTION: usize = 1 << 20;

/// What the handshake came to.
pub struct Session {
    pub style: Style,
    /// With the flags this session was told.
    pub export: Export,
    /// Selected metadata contexts and their ids.
    pub contexts: Vec<(u32, Context)>,
}

/// The state of one handshake.
pub struct Haggle<'a> {
    pub shared: &'a Shared,
    pub line: &'a mut Line,
    pub config: Arc<Config>,
    pub connection: usize,
    pub style: Style,
    /// The export name that contexts were selected for, and the contexts.
    pub selected: (String, Vec<(u32, Context)>),
    no_zeroes: bool,
    replies: u64,
}

/// What follows an option.
pub enum Next {
    Option,
    Transmission(Box<Session>),
    Close,
}

/// Runs a handshake; None when it ended without a session.
pub fn haggle(shared: &Shared, line: &mut Line, connection: usize) -> io::Result<Option<Session>> {
    let config = shared.config(connection);
    line.delay = config.delay;
    if config.lies.contains(&Lie::Drip) {
        line.drip = Some(config.drip);
    }
    let mut haggle = Haggle {
        shared,
        line,
        config,
        connection,
        style: Style::Simple,
        selected: (String::new(), Vec::new()),
        no_zeroes: false,
        replies: 0,
    };
    haggle.greet()?;
    loop {
        match haggle.option()? {
            Next::Option => {}
            Next::Transmission(session) => return Ok(Some(*session)),
            Next::Close => return Ok(None),
        }
    }
}

impl Haggle<'_> {
    pub fn lies(&self, lie: Lie) -> bool {
        self.config.lies.contains(&lie)
    }

    pub fn complain(&self, what: &str) {
        self.shared.log.complain(self.connection, what);
    }

    fn greet(&mut self) -> io::Result<()> {
        if self.lies(Lie::StallGreeting) {
            self.line.silence()?;
            return hang_up();
        }
        if self.lies(Lie::HangUp(Phase::BeforeGreeting)) {
            return hang_up();
        }
        let greeting = self.greeting();
        if self.lies(Lie::HangUp(Phase::InGreeting)) {
            self.line.put(&greeting[..12])?;
            return hang_up();
        }
        self.line.put(&greeting)?;
        if self.lies(Lie::HangUp(Phase::AfterGreeting)) {
            return hang_up();
        }
        let flags = self.line.take(4)?;
        let flags = Bytes(&flags).u32().unwrap();
        if flags & !3 != 0 {
            self.complain(&format!("unknown client flags {flags:#x}"));
            return hang_up();
        }
        if flags & 1 == 0 {
            self.complain("a client without FIXED_NEWSTYLE");
        }
        self.no_zeroes = flags & 2 != 0;
        Ok(())
    }

    fn greeting(&self) -> Vec<u8> {
        let wrong = |place| u64::from(self.lies(Lie::WrongMagic(place)));
        let put = Put::new().u64(NBDMAGIC ^ wrong(Place::Greeting));
        if self.lies(Lie::Oldstyle) {
            let put = put.u64(OLDSTYLE).u64(self.config.exports[0].size);
            return put.u32(HAS_FLAGS.into()).bytes(&[0; 124]).0;
        }
        let flags = if self.lies(Lie::NotFixed) {
            FLAG_NO_ZEROES
        } else {
            FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES
        };
        put.u64(IHAVEOPT ^ wrong(Place::GreetingOption))
            .u16(flags)
            .0
    }

    fn option(&mut self) -> io::Result<Next> {
        let header = self.line.take(16)?;
        let mut header = Bytes(&header);
        if header.u64() != Some(IHAVEOPT) {
            self.complain("an option without IHAVEOPT");
            return Ok(Next::Close);
        }
        let option = header.u32().unwrap();
        let length = usize::try_from(header.u32().unwrap()).unwrap();
        if length > LONGEST_OPTION {
            self.complain("an option of absurd length");
            return Ok(Next::Close);
        }
        let data = self.line.take(length)?;
        self.shared.log.option(self.connection, option, &data);
        if self.lies(Lie::StallOptions) {
            self.line.silence()?;
            return Ok(Next::Close);
        }
        if self.lies(Lie::HangUp(Phase::OnOption)) {
            return Ok(Next::Close);
        }
        if let Some((error, message)) = self.refusal(option) {
            if option == OPT_EXPORT_NAME {
                return Ok(Next::Close);
            }
            self.reply(option, error, message.as_bytes())?;
            return Ok(Next::Option);
        }
        self.answer(option, &data)
    }

    /// Why an option is refused whatever its data.
    fn refusal(&self, option: u32) -> Option<(u32, &'static str)> {
        let refusals = self.config.refusals.iter();
        if let Some((_, error)) = refusals.clone().find(|(refused, _)| *refused == option) {
            return Some((*error, "refused as configured"));
        }
        let plain = matches!(option, OPT_STARTTLS | OPT_ABORT);
        (self.config.require_tls && !plain).then_some((REP_ERR_TLS_REQD, "TLS first"))
    }

    fn answer(&mut self, option: u32, data: &[u8]) -> io::Result<Next> {
        let bare = matches!(
            option,
            OPT_LIST | OPT_STARTTLS | OPT_STRUCTURED_REPLY | OPT_EXTENDED_HEADERS
        );
        if bare && !data.is_empty() {
            self.complain(&format!("option {option} with data"));
            return self.error(option, REP_ERR_INVALID, "no data belongs here");
        }
        match option {
            OPT_EXPORT_NAME => self.export_name(data),
            OPT_ABORT => {
                self.reply(option, REP_ACK, &[])?;
                Ok(Next::Close)
            }
            OPT_LIST => self.list(),
            OPT_STARTTLS => self.starttls(),
            OPT_INFO | OPT_GO => self.info(option, data),
            OPT_STRUCTURED_REPLY if self.style == Style::Extended => self.error(
                option,
                REP_ERR_EXT_HEADER_REQD,
                "extended headers take precedence",
            ),
            OPT_STRUCTURED_REPLY => {
                self.style = Style::Structured;
                self.ack(option)
            }
            OPT_EXTENDED_HEADERS => {
                self.style = Style::Extended;
                self.ack(option)
            }
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => self.meta(option, data),
            _ => self.error(option, REP_ERR_UNSUP, "unknown option"),
        }
    }

    pub fn ack(&mut self, option: u32) -> io::Result<Next> {
        self.reply(option, REP_ACK, &[])?;
        Ok(Next::Option)
    }

    pub fn error(&mut self, option: u32, error: u32, message: &str) -> io::Result<Next> {
        self.reply(option, error, message.as_bytes())?;
        Ok(Next::Option)
    }

    /// Every option reply goes through here, and gets its lies here.
    pub fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        self.replies += 1;
        let first = self.replies == 1;
        if first && self.lies(Lie::UnaskedReply) {
            self.line.put(&option_reply(OPT_LIST, REP_ACK, &[]))?;
        }
        let echoed = option ^ u32::from(self.lies(Lie::WrongOptionEchoed));
        let mut reply = option_reply(echoed, kind, data);
        if self.lies(Lie::WrongMagic(Place::OptionReply)) {
            reply[7] ^= 1;
        }
        if first && self.lies(Lie::HugeOptionReply) {
            reply[16..20].fill(0xff);
        }
        if self.lies(Lie::HangUp(Phase::InOptionReply)) {
            self.line.put(&reply[..10])?;
            return hang_up();
        }
        if self.lies(Lie::StallInOptionReply) {
            self.line.put(&reply[..10])?;
            self.line.silence()?;
            return hang_up();
        }
        self.line.put(&reply)
    }

    /// The session of an export, with the flags this client may see.
    pub fn session(&self, name: &str, export: &Export) -> Session {
        let contexts = if self.selected.0 == name {
            self.selected.1.clone()
        } else {
            Vec::new()
        };
        let mut export = export.clone();
        if self.style == Style::Simple {
            export.flags &= !SEND_DF;
        }
        if self.style != Style::Extended || contexts.is_empty() {
            export.flags &= !BLOCK_STATUS_PAYLOAD;
        }
        Session {
            style: self.style,
            export,
            contexts,
        }
    }

    fn export_name(&mut self, data: &[u8]) -> io::Result<Next> {
        if self.style == Style::Extended {
            self.complain("EXPORT_NAME with extended headers");
            return Ok(Next::Close);
        }
        let name = String::from_utf8_lossy(data).into_owned();
        let config = Arc::clone(&self.config);
        let Some(export) = config.find(&name) else {
            return Ok(Next::Close);
        };
        if config.require_extended_headers || config.require_block_size {
            return Ok(Next::Close);
        }
        let session = self.session(&name, export);
        let put = Put::new().u64(self.told_size(&session));
        let put = put.u16(self.told_flags(&session));
        let zeroes = if self.no_zeroes { 0 } else { 124 };
        self.line.put(&put.bytes(&vec![0; zeroes]).0)?;
        Ok(Next::Transmission(Box::new(session)))
    }

    fn list(&mut self) -> io::Result<Next> {
        let config = Arc::clone(&self.config);
        let endless = self.lies(Lie::EndlessList);
        loop {
            for export in &config.exports {
                let put = Put::new().string(export.name.as_bytes());
                let mut data = put.bytes(export.description.as_bytes()).0;
                if self.lies(Lie::ServerNameLength) {
                    let wrong = u32::try_from(data.len()).unwrap();
                    data[..4].copy_from_slice(&wrong.to_be_bytes());
                }
                self.reply(OPT_LIST, REP_SERVER, &data)?;
            }
            if !endless {
                return self.ack(OPT_LIST);
            }
        }
    }

    /// Grants TLS and then only listens: there is no TLS here.
    fn starttls(&mut self) -> io::Result<Next> {
        if !self.config.starttls && !self.config.require_tls {
            return self.error(OPT_STARTTLS, REP_ERR_UNSUP, "no TLS here");
        }
        self.reply(OPT_STARTTLS, REP_ACK, &[])?;
        if self.lies(Lie::PlaintextBehindStartTls) {
            let forged = option_reply(OPT_STRUCTURED_REPLY, REP_ACK, &[]);
            self.line.put(&forged)?;
        }
        self.line.send()?;
        // At once, so that a test need not wait for the client to give up.
        let first = self.line.take(1)?;
        self.shared.log.after_starttls(&first);
        let heard = self.line.silence()?;
        self.shared.log.after_starttls(&heard);
        Ok(Next::Close)
    }
}
