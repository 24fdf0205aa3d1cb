//! The relay: what the kernel asked, what servers are owed, and what must be said
//! again to a server that may have forgotten.
//!
//! Law of all that is here but [`pump`], which carries it out: no I/O, no thread, no
//! clock. Bytes of data are named by [`BufferId`]s and never seen. Only `proto` is
//! used, and of `session` how attempts are spread.
//!
//! - `offer`: which requests the device takes, and which sessions can serve it
//! - `translate`: requests in a session's style, and the judge of the replies
//! - `log`: every change of the contents until the disk has it
//! - `plan`: what the next server must be told again
//! - `sessions`: which connections are known to reach one server
//! - `asked`: the kernel's requests without an answer
//! - `engine`, `action`: all of it as one value; what comes in, what comes out
//! - `reconnect`: when to dial, how long to be patient
//! - [`pump`]: threads, sockets and memory; the process
//! - [`message`]: what a monitor and its relay say to each other
//!
//! What is promised, while the relay itself lives:
//!
//! - Each request of the kernel is answered once; a READ when all of its data are
//!   there and nothing can turn it into an error.
//! - A FLUSH is answered when the disk of the present server has all that was
//!   answered before it, whatever server died in between.
//! - Nothing that was replaced comes back: what is sent again leaves out what newer
//!   changes replaced, and what overlaps it waits. So what a FLUSH or FUA promised
//!   holds also where relay and server die together; what was answered and not
//!   flushed is lost then.
//!
//! What no client can undo: a server that does a request of a connection that died,
//! after that was sent again on another. And two changes of one place that were
//! under way at one time have no order: a replay may turn out the other way.

mod action;
mod asked;
mod engine;
mod ids;
mod log;
pub mod message;
mod offer;
mod plan;
pub mod pump;
mod reconnect;
mod sessions;
#[cfg(test)]
mod tests;
mod translate;

pub use action::{Action, Place, Reason, Step};
pub use engine::{Engine, Figures, Limits};
pub use ids::{BufferId, SessionId};
pub use log::LogLimits;
pub use offer::{Offer, Unfit, changes};
pub use translate::{Chunk, Ending};
