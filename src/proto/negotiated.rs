//! What a handshake ends in, and what can be made of it.

use super::export::Export;

/// How requests and replies will look on the wire ("Transmission").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeaderStyle {
    /// 28-byte requests, simple replies: all that the kernel's driver speaks.
    Compact,
    /// 28-byte requests, structured reply chunks.
    Structured,
    /// 32-byte requests and chunks with 64-bit lengths.
    Extended,
}

impl HeaderStyle {
    /// The word that users see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::Structured => "structured",
            Self::Extended => "extended",
        }
    }
}

/// A metadata context ("Metadata querying").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Context {
    /// What block status replies call it, in this session; nothing in a list.
    pub id: u32,
    /// `base:allocation`, for one.
    pub name: String,
}

/// A session that was negotiated to its end. Only a handshake makes one, so
/// holding it proves that the server is in transmission, in that style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    export: Export,
    header_style: HeaderStyle,
    contexts: Vec<Context>,
}

impl Negotiated {
    /// For the last states of a handshake only.
    pub(super) fn new(export: Export, header_style: HeaderStyle, contexts: Vec<Context>) -> Self {
        Self {
            export,
            header_style,
            contexts,
        }
    }

    /// What the server said of the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// The style that every message has from here on.
    #[must_use]
    pub fn header_style(&self) -> HeaderStyle {
        self.header_style
    }

    /// The metadata contexts that were selected.
    #[must_use]
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// Binds the stream that this was negotiated on to the proof that it speaks
    /// compact headers; the kernel's driver takes nothing else. Pass the very
    /// stream of this handshake.
    ///
    /// # Errors
    ///
    /// Gives both back where another style was agreed.
    pub fn into_compact<S>(self, stream: S) -> Result<Compact<S>, (Self, S)> {
        match self.header_style {
            HeaderStyle::Compact => Ok(Compact {
                export: self.export,
                stream,
            }),
            HeaderStyle::Structured | HeaderStyle::Extended => Err((self, stream)),
        }
    }
}

/// A stream in transmission that carries compact requests and simple replies:
/// what a kernel socket can be made of. Made by [`Negotiated::into_compact`].
#[derive(Debug)]
pub struct Compact<S> {
    export: Export,
    stream: S,
}

impl<S> Compact<S> {
    /// What the server said of the export.
    #[must_use]
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// The same session with its stream seen as another type.
    #[must_use]
    pub fn map<T>(self, f: impl FnOnce(S) -> T) -> Compact<T> {
        Compact {
            export: self.export,
            stream: f(self.stream),
        }
    }

    /// The stream, for whoever sends requests on it.
    #[must_use]
    pub fn into_stream(self) -> S {
        self.stream
    }
}
