//! nbdctl: attaches exports of NBD servers as `/dev/nbdN`, and keeps them so.
//!
//! # The map
//!
//! | module | what it is | what it may use of the crate |
//! |---|---|---|
//! | [`proto`] | the protocol without I/O | nothing |
//! | [`uri`] | NBD URIs | nothing |
//! | [`config`] | settings, names, identifiers, and the files they are written in | `uri` |
//! | [`session`] | a handshake driven over a stream | `proto`, `uri` |
//! | [`kernel`] | everything said to Linux: netlink, sysfs, /proc | `proto` |
//! | [`relay`] | what stands between the kernel and servers that offer more than it speaks: its decisions, pure, and the process that carries them out | `session`, `proto`, `uri` |
//! | [`monitor`] | bringing a device up, keeping it up, taking it down, knowing how it is | `kernel`, `session`, `config`, and of `relay` the messages |
//! | [`boot`] | the units and names that a boot is given, and what the kernel's command line asks of an initramfs | `config`, `uri` |
//! | [`cli`] | one file per verb; the only place that prints | everything |
//!
//! Imports go only the ways of the last column; `tests/law.rs` holds the code
//! to it. `neli` stays in `kernel`, `clap` in `cli`, `toml` in `config`.
//!
//! In an initramfs its scripts run `nbdctl boot`, which reads the command line (`boot`),
//! writes what it asks for to /run, and tells at the console what keeps it from being.
//!
//! Called `nbdctl-generator`, the program is systemd's generator (`boot`); `nbdctl
//! udev-names` is what udev's rule asks.
//!
//! One process for each export, its monitor, runs `monitor::serve`: a loop in
//! poll(2) that carries events to a pure state machine (`monitor::machine`), and
//! its actions out. `attach` starts it; `detach` and `status` ask it. Beside a root's
//! another waits, which goes on in its place (`monitor::stand_by`): nothing can be
//! executed from a root whose server is away.
//!
//! On the relay's path it starts another, `nbdctl relay`, which outlives it: the kernel
//! has one end of a socket pair, the relay the other, without rights, files or netlink
//! (`kernel::confine`); it dials, replays and is patient by itself (`relay::pump`).
//!
//! What can wait for a server without end (an open, a read, a close of a device)
//! runs in a child process, and so does the resolver of a monitor; a netlink
//! command runs in a helper thread; all have deadlines.
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
//!   from [`proto::Compact`], which only a handshake that agreed on that style can
//!   give, or as one end of a pair whose other end a relay gets, and nothing else.
//! - The server's flags and block sizes reach the kernel as they came, or attach
//!   fails: see [`kernel::geometry`].
//! - A returned server's session reaches the kernel only if it offers what the
//!   device was made of (`monitor::demands`), and after a cut for silence only when
//!   the old server had time to end what it was at (`settle_time`).
//! - Over the relay, what was answered is told to the next server again until a FLUSH
//!   after it was answered (`relay`), and a device never gets a reply that a later
//!   chunk could turn into an error.
//! - What is about to happen is in state.json before it does: a successor of a
//!   monitor that was killed finds every link that the kernel may have.
//! - detach claims the device exclusively, writes back, and has the kernel
//!   disconnect it at the last close: what somebody uses stays (`kernel::release`).

pub mod boot;
pub mod cli;
pub mod config;
pub mod kernel;
pub mod monitor;
pub mod proto;
pub mod relay;
pub mod session;
pub mod uri;
