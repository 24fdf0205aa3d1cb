//! `nbdctl status`

use super::args::StatusArgs;
use super::{Exit, answer, answer_json, fail, show};
use crate::monitor::{self, DeviceState, Error, Report, Target};

pub(super) fn run(args: &StatusArgs) -> Exit {
    let reports = match reports(args.target.as_deref()) {
        Ok(reports) => reports,
        Err(error) => return fail(&error),
    };
    // A device that was asked for by name and is dead is not what was hoped for.
    let dead = |report: &Report| report.state == DeviceState::Dead;
    let failed = args.target.is_some() && reports.iter().any(dead);
    if args.json {
        let exit = answer_json(&reports);
        return if failed { Exit::Failed } else { exit };
    }
    if !reports.is_empty() {
        let one = args.target.is_some();
        answer(table(&reports, one).trim_end());
    }
    if failed { Exit::Failed } else { Exit::Done }
}

fn reports(target: Option<&str>) -> Result<Vec<Report>, Error> {
    let Some(text) = target else {
        let devices = monitor::attached()?;
        return Ok(devices
            .iter()
            .map(|(device, identifier)| monitor::report(device, identifier))
            .collect());
    };
    let target = Target::parse(text)?;
    let (device, identifier) = target
        .find()
        .map_err(|error| monitor::not_yet(&target).unwrap_or(error))?;
    let identifier = identifier.ok_or_else(|| {
        Error::NotAttached(format!(
            "{} belongs to another program, and by nbdctl it",
            device.path().display()
        ))
    })?;
    Ok(vec![monitor::report(&device, &identifier)])
}

/// A line each within 80 columns, and below what has to be said; all that is
/// known of one that was asked for.
fn table(reports: &[Report], one: bool) -> String {
    let mut text = format!(
        "{:<11} {:<12} {:>9} {:<2} {:>5}  {}\n",
        "DEVICE", "STATE", "SIZE", "", "LINKS", "NAME"
    );
    for report in reports {
        let dead = |c: &&monitor::Connection| c.alive == Some(false);
        let links = report.connections.len();
        let living = links - report.connections.iter().filter(dead).count();
        text.push_str(&format!(
            "{:<11} {:<12} {:>9} {:<2} {:>5}  {}\n",
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
        for line in remarks(report) {
            text.push_str(&paragraph("", &line));
        }
        if one {
            text.push_str(&details(report));
        }
    }
    text
}

/// What its user must know of a device that is not as it should be.
fn remarks(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let well = report.state == DeviceState::Connected;
    if let Some(ms) = report.outage_ms {
        let doing = if report.state == DeviceState::Dead {
            "I/O fails until it is back"
        } else {
            "I/O waits for it"
        };
        lines.push(format!("no server for {}; {doing}", show::span(ms)));
    }
    if let Some(error) = report.last_error.as_ref().filter(|_| !well) {
        lines.push(error.clone());
    }
    // Whoever may not see the URI may not ask a monitor either.
    let known = report.uri.is_some() && report.state != DeviceState::Dead;
    if report.monitor_pid.is_none() && known {
        let lacks = if report.relay.is_some() {
            "no monitor watches its relay"
        } else {
            "no monitor would reconnect it"
        };
        lines.push(format!("{lacks}: nbdctl attach, as before, starts one"));
    }
    if let Some(size) = report.larger_size_bytes {
        lines.push(format!(
            "the export has grown to {size} bytes; the device will have them when it is attached \
             anew"
        ));
    }
    if let Some(uri) = &report.configured_uri {
        lines.push(format!(
            "it is configured as {uri} by now; that is used when it is attached anew"
        ));
    }
    lines
}

fn details(report: &Report) -> String {
    let mut lines = Vec::new();
    if let Some(uri) = &report.uri {
        lines.push(("  from", uri.clone()));
    }
    for link in &report.connections {
        let alive = match link.alive {
            Some(true) => "alive",
            Some(false) => "dead",
            None => "unknown",
        };
        let mut line = format!("{}, {alive}", link.peer);
        if let Some(us) = link.rtt_us {
            line.push_str(&format!(", {} round trip", show::micros(us)));
        }
        if let (Some(sent), Some(received)) = (link.bytes_sent, link.bytes_received) {
            line.push_str(&format!(
                ", {} sent, {} received",
                show::size(sent),
                show::size(received)
            ));
        }
        lines.push(("  link", line));
    }
    let mut past = format!(
        "{}, {}",
        show::count(report.outages, "outage"),
        show::count(report.reconnects, "reconnect")
    );
    if let Some(ms) = report.last_outage_ms {
        past.push_str(&format!(", the last took {}", show::span(ms)));
    }
    lines.push(("  so far", past));
    if report.state == DeviceState::Connected {
        let last = report.last_error.clone();
        lines.extend(last.map(|error| ("  last error", error)));
    }
    if let Some(relay) = &report.relay {
        let mut line = format!(
            "process {}, {} headers, {} in flight",
            relay.pid,
            report.headers,
            show::count(relay.in_flight, "request")
        );
        if relay.unflushed > 0 {
            line.push_str(&format!(
                ", {} unflushed ({})",
                show::count(relay.unflushed, "change"),
                show::size(relay.unflushed_bytes)
            ));
        }
        if relay.replaying {
            line.push_str(", sending earlier changes again");
        }
        lines.push(("  relay", line));
    }
    if let Some(pid) = report.monitor_pid {
        lines.push(("  monitor", format!("process {pid}")));
    }
    lines
        .iter()
        .map(|(label, line)| paragraph(label, line))
        .collect()
}

fn paragraph(label: &str, text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    let lines = show::wrapped(label, &words);
    lines.iter().map(|line| format!("{line}\n")).collect()
}
