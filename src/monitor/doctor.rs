//! What would keep a device from working on this machine, or holds one.

use std::time::Duration;

use serde::Serialize;

use super::doctor_network;
use super::lookup::foreign_owner;
use super::status::{DeviceState, report};
use crate::config::BackendIdentifier;
use crate::kernel::environment::{Driver, driver, has_kernel_tls, max_part};
use crate::kernel::{self, Device, holders};

/// A driver that takes longer to tell its family's number is stuck.
const DRIVER_DEADLINE: Duration = Duration::from_secs(5);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Something will not be had.
    Note,
    /// Devices cannot be attached, or one does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn fine(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            severity: Severity::Fine,
            found: found.into(),
            remedy: None,
        }
    }

    pub(super) fn bad(
        severity: Severity,
        subject: impl Into<String>,
        found: &str,
        remedy: &str,
    ) -> Self {
        Self {
            subject: subject.into(),
            severity,
            found: found.to_owned(),
            remedy: Some(remedy.to_owned()),
        }
    }
}

/// Looks at everything. Nothing is opened or changed, but that asking for the
/// driver and for kernel TLS loads them where the kernel does that by itself.
#[must_use]
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![
        the_driver(driver(DRIVER_DEADLINE)),
        rights(kernel::has_sys_admin()),
    ];
    findings.extend(max_part().map(partitions));
    findings.push(kernel_tls(has_kernel_tls()));
    findings.push(paths());
    findings.extend(doctor_network::examine());
    let devices = kernel::devices().unwrap_or_default();
    let attached: Vec<_> = devices.into_iter().filter(Device::is_configured).collect();
    findings.extend(attached.iter().map(device));
    findings
}

fn the_driver(driver: Driver) -> Finding {
    const SUBJECT: &str = "driver";
    match driver {
        Driver::Present => Finding::fine(SUBJECT, "the nbd driver is there"),
        Driver::Missing => Finding::bad(
            Severity::Problem,
            SUBJECT,
            "the kernel has no nbd driver, or it is not loaded",
            "modprobe nbd; at every boot: echo nbd >/etc/modules-load.d/nbd.conf; where there is \
             no such module, install a kernel that has it",
        ),
        Driver::Stuck => Finding::bad(
            Severity::Problem,
            SUBJECT,
            "the nbd driver does not answer: a command of some program is stuck in it",
            "dmesg shows stuck tasks; end the link of the device that they wait for, or reboot",
        ),
    }
}

fn rights(sys_admin: bool) -> Finding {
    const SUBJECT: &str = "rights";
    if sys_admin {
        Finding::fine(SUBJECT, "devices may be attached (CAP_SYS_ADMIN)")
    } else {
        Finding::bad(
            Severity::Note,
            SUBJECT,
            "this user may not attach devices (CAP_SYS_ADMIN is missing)",
            "run nbdctl as root",
        )
    }
}

fn partitions(max_part: u32) -> Finding {
    const SUBJECT: &str = "partitions";
    if max_part > 0 {
        Finding::fine(SUBJECT, format!("up to {max_part} for each device"))
    } else {
        Finding::bad(
            Severity::Problem,
            SUBJECT,
            "the driver was loaded with max_part=0: partitions do not appear",
            "echo options nbd max_part=15 >/etc/modprobe.d/nbd.conf; detach everything, then \
             modprobe -r nbd; modprobe nbd",
        )
    }
}

fn kernel_tls(has_it: bool) -> Finding {
    const SUBJECT: &str = "kernel TLS";
    if has_it {
        Finding::fine(SUBJECT, "available")
    } else {
        Finding::bad(
            Severity::Note,
            SUBJECT,
            "not available; nothing needs it in this version",
            "modprobe tls",
        )
    }
}

/// No fault: which choice there is, for whoever looks for what may be better.
fn paths() -> Finding {
    Finding::fine(
        "paths",
        "kernel, the default: no process moves the data; --path relay: for servers that require \
         extended headers, for those with volatile caches, for sparse images, and so that I/O goes \
         on at once after an outage",
    )
}

/// One configured device: ours, another program's, or half-way gone.
fn device(device: &Device) -> Finding {
    let subject = device.path().display().to_string();
    let identifier = device
        .backend()
        .and_then(|backend| BackendIdentifier::parse(&backend));
    if device.size() == 0 {
        let who: Vec<_> = holders::of(device)
            .iter()
            .map(ToString::to_string)
            .collect();
        let held = if who.is_empty() {
            "no process shows by whom".to_owned()
        } else {
            who.join("; ")
        };
        return Finding::bad(
            Severity::Problem,
            subject,
            &format!("disconnected, but the kernel keeps it, as it is held: {held}"),
            "end or unmount what holds it; it is free then",
        );
    }
    let Some(identifier) = identifier else {
        return Finding::fine(subject, format!("attached by {}", foreign_owner(device)));
    };
    let report = report(device, &identifier);
    match report.state {
        DeviceState::Connected if report.monitor_pid.is_none() => Finding::bad(
            Severity::Problem,
            subject,
            &format!(
                "\"{}\", connected, and no monitor would reconnect it{}",
                report.name,
                if report.relay.is_some() {
                    ", were its relay to end"
                } else {
                    ""
                }
            ),
            "nbdctl attach, as before, starts one",
        ),
        DeviceState::Connected | DeviceState::Connecting | DeviceState::Detaching => {
            let state = report.state.as_str();
            let carrier = report.relay.map_or_else(String::new, |relay| {
                format!(" by a relay, process {}", relay.pid)
            });
            Finding::fine(subject, format!("\"{}\", {state}{carrier}", report.name))
        }
        DeviceState::Degraded => Finding::bad(
            Severity::Problem,
            subject,
            &format!("\"{}\", some of its links are dead", report.name),
            "nbdctl status tells which",
        ),
        DeviceState::Reconnecting | DeviceState::Dead => Finding::bad(
            Severity::Problem,
            subject,
            &format!(
                "\"{}\", {}: {} requests wait; {}",
                report.name,
                report.state.as_str(),
                report.in_flight.unwrap_or(0),
                report.last_error.as_deref().unwrap_or("its links are dead")
            ),
            "bring the server back",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_that_is_not_fine_has_a_remedy() {
        let findings = [
            the_driver(Driver::Present),
            the_driver(Driver::Missing),
            the_driver(Driver::Stuck),
            rights(true),
            rights(false),
            partitions(0),
            partitions(16),
            kernel_tls(true),
            kernel_tls(false),
            paths(),
        ];
        for finding in findings {
            let fine = finding.severity == Severity::Fine;
            assert_eq!(finding.remedy.is_none(), fine, "{finding:?}");
        }
    }
}
