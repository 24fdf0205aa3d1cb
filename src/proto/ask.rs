//! What a client may ask in option haggling ("Option types"), and how each is
//! put on the wire.

use super::codec::{context_request, info_request, put_option};
use super::error::Lack;
use super::number::{InfoType, OptionCode};
use super::{Error, MAX_STRING};

/// The most queries that one option takes here: servers refuse much more, and
/// what is asked must fit a socket's buffer beside what they answer meanwhile.
pub const MAX_QUERIES: usize = 32;

/// One question to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// May replies be structured? (`NBD_OPT_STRUCTURED_REPLY`)
    StructuredReply,
    /// May headers be extended? (`NBD_OPT_EXTENDED_HEADERS`)
    ExtendedHeaders,
    /// Which exports are there? (`NBD_OPT_LIST`)
    List,
    /// What is this export? (`NBD_OPT_INFO`)
    Info {
        /// Its name.
        export: String,
    },
    /// Which metadata contexts has it? No query asks for all
    /// (`NBD_OPT_LIST_META_CONTEXT`).
    ListContexts {
        /// The export's name.
        export: String,
        /// Each a namespace, a colon and what the namespace defines.
        queries: Vec<String>,
    },
    /// Select these (`NBD_OPT_SET_META_CONTEXT`).
    SetContexts {
        /// The export's name.
        export: String,
        /// As above.
        queries: Vec<String>,
    },
    /// Enter transmission (`NBD_OPT_GO`).
    Go {
        /// The export's name.
        export: String,
    },
    /// Good-bye (`NBD_OPT_ABORT`).
    Abort,
}

impl Ask {
    /// Its option.
    #[must_use]
    pub fn option(&self) -> OptionCode {
        match self {
            Self::StructuredReply => OptionCode::STRUCTURED_REPLY,
            Self::ExtendedHeaders => OptionCode::EXTENDED_HEADERS,
            Self::List => OptionCode::LIST,
            Self::Info { .. } => OptionCode::INFO,
            Self::ListContexts { .. } => OptionCode::LIST_META_CONTEXT,
            Self::SetContexts { .. } => OptionCode::SET_META_CONTEXT,
            Self::Go { .. } => OptionCode::GO,
            Self::Abort => OptionCode::ABORT,
        }
    }

    /// Whether it may only be asked where replies are known to be structured: a
    /// client MUST NOT ask for contexts before.
    pub(super) fn needs_structured_replies(&self) -> bool {
        matches!(self, Self::ListContexts { .. } | Self::SetContexts { .. })
    }

    /// Whether its answer decides the header style.
    pub(super) fn decides_style(&self) -> bool {
        matches!(self, Self::StructuredReply | Self::ExtendedHeaders)
    }

    /// Checks what the caller filled in.
    pub(super) fn checked(self) -> Result<Self, Error> {
        let (export, queries): (&str, &[String]) = match &self {
            Self::Info { export } | Self::Go { export } => (export, &[]),
            Self::ListContexts { export, queries } | Self::SetContexts { export, queries } => {
                (export, queries)
            }
            _ => ("", &[]),
        };
        if export.len() > MAX_STRING {
            return Err(Lack::ShortName(export.len()).into());
        }
        let fits = |query: &String| query.len() <= MAX_STRING;
        if queries.len() > MAX_QUERIES || !queries.iter().all(fits) {
            return Err(Lack::FewQueries.into());
        }
        Ok(self)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let data = match self {
            Self::StructuredReply | Self::ExtendedHeaders | Self::List | Self::Abort => Vec::new(),
            // Asking for the block sizes is the promise to honour them.
            Self::Go { export } => info_request(export, &[InfoType::BLOCK_SIZE]),
            Self::Info { export } => info_request(
                export,
                &[InfoType::NAME, InfoType::DESCRIPTION, InfoType::BLOCK_SIZE],
            ),
            Self::ListContexts { export, queries } | Self::SetContexts { export, queries } => {
                context_request(export, queries)
            }
        };
        put_option(out, self.option(), &data);
    }
}
