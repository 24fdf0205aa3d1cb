//! nbdctl: attaches exports of NBD servers as `/dev/nbdN`, and keeps them so.
//!
//! # The map
//!
//! | module | what it is | what it may use of the crate |
//! |---|---|---|
//! | [`proto`] | the protocol without I/O | nothing |
//! | [`uri`] | NBD URIs | nothing |
//! | [`config`] | settings, names, identifiers | `uri` |
//! | [`session`] | a handshake driven over a stream | `proto`, `uri` |
//! | [`kernel`] | everything said to Linux: netlink, sysfs, /proc | `proto` |
//! | [`monitor`] | bringing a device up, down, and knowing how it is | `kernel`, `session`, `config` |
//! | [`cli`] | one file per verb; the only place that prints | everything |
//!
//! Imports go only the ways of the last column; `tests/law.rs` holds the code
//! to it. `neli` stays in `kernel`, `clap` in `cli`.
//!
//! What can wait for a server without end (an open, a read, a close of a device)
//! runs in a child process; a netlink command runs in a helper thread; both have
//! deadlines.
//!
//! # The words
//!
//! The specification's, one per thing. An *export* is what a server offers at an
//! *endpoint*; a *session* is one connection through its *handshake* (*option
//! haggling*) into *transmission*, in a *header style*. A *device* is `/dev/nbdN`,
//! N its *index*; its sockets in the kernel are its *connections*. The kernel
//! remembers a *backend identifier* for each device: ours is
//! `nbdctl1:NAME:HASH-OF-URI`, and NAME is what users call the device by.
//!
//! # What protects the data
//!
//! - The kernel's driver speaks compact headers only. A kernel socket is made
//!   from [`proto::Compact`] and nothing else, which only a handshake that agreed
//!   on that style can give.
//! - The server's flags and block sizes reach the kernel as they came, or attach
//!   fails: see [`kernel::geometry`].
//! - detach claims the device exclusively, writes back, and has the kernel
//!   disconnect it at the last close: what somebody uses stays (`kernel::release`).

pub mod cli;
pub mod config;
pub mod kernel;
pub mod monitor;
pub mod proto;
pub mod relay;
pub mod session;
pub mod uri;
