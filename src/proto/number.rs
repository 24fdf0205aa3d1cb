//! The wire's numbers, open: a value without a name is carried, never refused
//! here. What an unknown value means is decided where it is used.

use std::fmt;

/// Makes a newtype over a wire number with named constants; `Display` prints
/// the specification's name, or the number where there is none.
macro_rules! open_number {
    ($(#[$doc:meta])* $name:ident($int:ty), $prefix:literal {
        $($(#[$cdoc:meta])* $constant:ident = $value:expr,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[$cdoc])* pub const $constant: Self = Self($value);)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$constant => f.write_str(concat!($prefix, stringify!($constant))),)*
                    Self(other) => write!(f, concat!($prefix, "{:#x}"), other),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

open_number! {
    /// An option that a client may haggle about ("Option types").
    OptionCode(u32), "NBD_OPT_" {
        /// Enter transmission without any answer but the export's size.
        EXPORT_NAME = 1,
        /// End the session.
        ABORT = 2,
        /// List the exports.
        LIST = 3,
        /// Go on inside TLS.
        STARTTLS = 5,
        /// Ask about an export.
        INFO = 6,
        /// Ask about an export and enter transmission.
        GO = 7,
        /// Ask for structured replies.
        STRUCTURED_REPLY = 8,
        /// List metadata contexts.
        LIST_META_CONTEXT = 9,
        /// Select metadata contexts.
        SET_META_CONTEXT = 10,
        /// Ask for extended headers.
        EXTENDED_HEADERS = 11,
    }
}

/// The bit that makes a reply type an error ("Option reply types").
const ERROR_BIT: u32 = 1 << 31;

open_number! {
    /// What a server answers to an option ("Option reply types").
    ReplyType(u32), "NBD_REP_" {
        /// Done.
        ACK = 1,
        /// One export of a list.
        SERVER = 2,
        /// One piece of information about an export.
        INFO = 3,
        /// One metadata context.
        META_CONTEXT = 4,
        /// The server does not know the option.
        ERR_UNSUP = ERROR_BIT + 1,
        /// The server does not allow it.
        ERR_POLICY = ERROR_BIT + 2,
        /// The server holds the request for malformed.
        ERR_INVALID = ERROR_BIT + 3,
        /// The server's platform cannot do it.
        ERR_PLATFORM = ERROR_BIT + 4,
        /// TLS comes first.
        ERR_TLS_REQD = ERROR_BIT + 5,
        /// No such export.
        ERR_UNKNOWN = ERROR_BIT + 6,
        /// The server is going down.
        ERR_SHUTDOWN = ERROR_BIT + 7,
        /// The client must ask for block sizes.
        ERR_BLOCK_SIZE_REQD = ERROR_BIT + 8,
        /// The request is too large.
        ERR_TOO_BIG = ERROR_BIT + 9,
        /// The client must ask for extended headers.
        ERR_EXT_HEADER_REQD = ERROR_BIT + 10,
    }
}

impl ReplyType {
    /// Whether this ends its option with a refusal; so do unknown types with
    /// bit 31 set.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.0 & ERROR_BIT != 0
    }
}

open_number! {
    /// What an `NBD_REP_INFO` reply tells (`NBD_OPT_GO`).
    InfoType(u16), "NBD_INFO_" {
        /// Size and transmission flags.
        EXPORT = 0,
        /// The export's canonical name.
        NAME = 1,
        /// A description for people.
        DESCRIPTION = 2,
        /// Block size constraints.
        BLOCK_SIZE = 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_print_the_specifications_name_and_others_their_value() {
        assert_eq!(OptionCode::GO.to_string(), "NBD_OPT_GO");
        assert_eq!(OptionCode(77).to_string(), "NBD_OPT_0x4d");
        assert_eq!(
            ReplyType(ERROR_BIT + 10).to_string(),
            "NBD_REP_ERR_EXT_HEADER_REQD"
        );
    }

    #[test]
    fn an_unknown_reply_with_the_error_bit_is_an_error() {
        assert!(ReplyType(ERROR_BIT + 999).is_error());
        assert!(!ReplyType(999).is_error());
    }
}
