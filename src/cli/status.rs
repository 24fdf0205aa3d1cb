//! `nbdctl status`

use super::args::StatusArgs;
use super::{Exit, answer, answer_json, fail, show};
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
    let identifier = identifier.ok_or_else(|| {
        Error::NotAttached(format!(
            "{} belongs to another program, and by nbdctl it",
            device.path().display()
        ))
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
            show::size(report.size_bytes),
            if report.read_only { "ro" } else { "rw" },
            if links == 0 {
                "?".to_owned()
            } else {
                format!("{living}/{links}")
            },
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
