//! `nbdctl udev-names`: what udev's rule takes over of a device of ours. Hidden; the
//! rule runs it, at every event. It reads sysfs and /run, and
//! asks the monitor how the link is; it waits for no server.

use super::hidden_args::UdevNamesArgs;
use super::{Exit, answer};
use crate::boot;
use crate::kernel::Device;
use crate::monitor;
use crate::uri::Uri;

/// Prints KEY=VALUE, a line each; nothing, and a failure, for what is not ours: not
/// attached, or of another program, whatever it may have called itself.
pub(super) fn run(args: &UdevNamesArgs) -> Exit {
    let name = args.kernel_name.as_str();
    let (device, partition) = match (Device::by_name(name), Device::by_partition_name(name)) {
        (Some(device), _) => (device, None),
        (None, Some((device, number))) => (device, Some(number)),
        (None, None) => return Exit::Usage,
    };
    let Some(attachment) = monitor::attachment(&device) else {
        return Exit::NotFound;
    };
    // Asked for by a rule that would read the disk: not while that has to wait.
    if monitor::is_lost(&attachment) {
        answer("NBDCTL_LINK=lost");
    }
    let uri = attachment.origin.and_then(|(uri, _)| Uri::parse(&uri).ok());
    for (key, value) in boot::properties(attachment.identifier.name(), uri.as_ref(), partition) {
        answer(&format!("{key}={value}"));
    }
    Exit::Done
}
