//! `nbdctl status`

use super::args::StatusArgs;
use super::{Exit, answer, answer_json, fail};
use crate::monitor::{self, DeviceState, Error, Report, Target};

pub(super) fn run(args: &StatusArgs) -> Exit {
    let reports = match reports(args.target.as_deref()) {
        Ok(reports) => reports,
        Err(error) => return fail(&error),
    };
    if args.json {
        return answer_json(&reports);
    }
    if !reports.is_empty() {
        answer(table(&reports).trim_end());
    }
    Exit::Done
}

fn reports(target: Option<&str>) -> Result<Vec<Report>, Error> {
    let Some(text) = target else {
        let devices = monitor::attached()?;
        return Ok(devices
            .iter()
            .map(|(device, identifier)| monitor::report(device, identifier))
            .collect());
    };
    let (device, identifier) = Target::parse(text)?.find()?;
    let identifier = identifier.ok_or_else(|| Error::Foreign {
        device: device.path().display().to_string(),
        by: "another program".to_owned(),
    })?;
    Ok(vec![monitor::report(&device, &identifier)])
}

/// A line each within 80 columns, and one below for what has to be said.
fn table(reports: &[Report]) -> String {
    let mut text = format!(
        "{:<11} {:<10} {:>9} {:<2} {:>5}  {}\n",
        "DEVICE", "STATE", "SIZE", "", "LINKS", "NAME"
    );
    for report in reports {
        let dead = |c: &&monitor::Connection| c.alive == Some(false);
        let links = report.connections.len();
        let living = links - report.connections.iter().filter(dead).count();
        text.push_str(&format!(
            "{:<11} {:<10} {:>9} {:<2} {:>5}  {}\n",
            report.device,
            report.state.as_str(),
            size(report.size_bytes),
            if report.read_only { "ro" } else { "rw" },
            format!("{living}/{links}"),
            report.name,
        ));
        if let Some(error) = &report.last_error {
            text.push_str(&format!("  {error}\n"));
        } else if report.state != DeviceState::Connected {
            text.push_str("  some of its links are dead\n");
        }
    }
    text
}

/// `1.5 GiB`, three digits at least.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut rest = bytes;
    let mut tenths = 0;
    let mut unit = 0;
    while rest >= 1024 && unit + 1 < UNITS.len() {
        tenths = rest % 1024 * 10 / 1024;
        rest /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if tenths == 0 {
        format!("{rest} {name}")
    } else {
        format!("{rest}.{tenths} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1 << 30), "1 GiB");
        assert_eq!(size(u64::MAX), "15.9 EiB");
    }
}
