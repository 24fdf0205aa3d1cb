//! `nbdctl detach`

use super::args::DetachArgs;
use super::{Exit, answer, fail, note};
use crate::monitor::{self, Error, Target};

pub(super) fn run(args: &DetachArgs) -> Exit {
    let targets = match targets(args) {
        Ok(targets) => targets,
        Err(error) => return fail(&error),
    };
    // Every one is tried; the first failure is what the status tells.
    let mut exit = Exit::Done;
    for target in targets {
        let this = one(&target, args.force);
        if exit == Exit::Done {
            exit = this;
        }
    }
    exit
}

fn targets(args: &DetachArgs) -> Result<Vec<Target>, Error> {
    match &args.target {
        Some(text) => Ok(vec![Target::parse(text)?]),
        None => Ok(monitor::attached()?
            .into_iter()
            .map(|(_, identifier)| Target::Name(identifier.name().clone()))
            .collect()),
    }
}

fn one(target: &Target, force: bool) -> Exit {
    match monitor::detach(target, force) {
        Ok(detached) => {
            let path = detached.device.path().display().to_string();
            for warning in &detached.warnings {
                note(&format!("{path}: warning: {warning}"));
            }
            answer(&path);
            Exit::Done
        }
        Err(error) => fail(&error),
    }
}
