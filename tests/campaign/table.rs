//! What faults did, by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::faults::Fault;
use crate::load::Resumed;

#[derive(Default)]
struct Row {
    count: usize,
    skipped: usize,
    fresh: Vec<Duration>,
    in_flight: Vec<Duration>,
    errors: u64,
    wrong: u64,
}

#[derive(Default)]
pub struct Table {
    rows: BTreeMap<Fault, Row>,
}

impl Table {
    pub fn add(&mut self, fault: Fault, resumed: Resumed, errors: u64, wrong: u64) {
        let row = self.rows.entry(fault).or_default();
        row.count += 1;
        row.errors += errors;
        row.wrong += wrong;
        // A device that did not go on took for ever.
        row.fresh.push(resumed.fresh.unwrap_or(Duration::MAX));
        row.in_flight.extend(resumed.in_flight);
    }

    pub fn skipped(&mut self, fault: Fault) {
        self.rows.entry(fault).or_default().skipped += 1;
    }

    /// No fault was left out.
    pub fn is_complete(&self) -> bool {
        self.rows.values().all(|row| row.skipped == 0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["min", "median", "p95", "max"];
        let heads = heads.map(|head| format!("{head:>7}")).concat();
        writeln!(
            to,
            "{:<24}{:>6}{:>8}  fresh, s:{heads}  in flight, s:{heads}{:>8}{:>7}",
            "fault", "count", "skipped", "errors", "wrong"
        )?;
        for (fault, row) in &self.rows {
            let name = format!("{fault:?}");
            let (fresh, in_flight) = (quantiles(&row.fresh), quantiles(&row.in_flight));
            writeln!(
                to,
                "{name:<24}{:>6}{:>8}{:>11}{fresh}{:>15}{in_flight}{:>8}{:>7}",
                row.count, row.skipped, "", "", row.errors, row.wrong
            )?;
        }
        Ok(())
    }
}

/// The least, the median, the 95th percentile and the most.
fn quantiles(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort();
    let show = |part: usize| {
        let Some(last) = sorted.len().checked_sub(1) else {
            return format!("{:>7}", "-");
        };
        match sorted[(last * part).div_ceil(100)] {
            Duration::MAX => format!("{:>7}", "never"),
            time => format!("{:>7.2}", time.as_secs_f64()),
        }
    };
    [0, 50, 95, 100].map(show).concat()
}
