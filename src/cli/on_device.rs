//! `nbdctl on-device`: what waits on a device, in a process of its own. Hidden;
//! nbdctl runs it.

use super::hidden_args::OnDeviceArgs;
use super::note;
use crate::kernel::{self, Verdict};

/// Ends with a [`Verdict`], not with one of the statuses that users see.
pub(super) fn run(args: &OnDeviceArgs) -> u8 {
    match kernel::on_device(&args.job, &args.device, &args.backend) {
        Ok(verdict) => verdict as u8,
        Err(error) => {
            note(&error.to_string());
            Verdict::Failed as u8
        }
    }
}
