//! `nbdctl resolve`: asks the resolver, in a process of its own. Hidden; nbdctl
//! runs it.

use std::time::Duration;

use super::hidden_args::ResolveArgs;
use super::{Exit, answer, note};
use crate::session::{Deadline, Fault, lookup};

/// Whoever started it may be gone, and is not to leave a process for ever.
const LIMIT: Duration = Duration::from_secs(60);

/// Prints one address a line.
pub(super) fn run(args: &ResolveArgs) -> Exit {
    match lookup(&args.host, args.port, Deadline::after(LIMIT)) {
        Ok(addresses) => {
            let lines: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            answer(&lines.join("\n"));
            Exit::Done
        }
        Err(fault) => {
            // Whoever reads it knows the name.
            note(&match fault {
                Fault::Unresolved { why, .. } => why,
                other => other.to_string(),
            });
            Exit::Failed
        }
    }
}
