//! `nbdctl doctor`

use super::args::DoctorArgs;
use super::{Exit, answer, answer_json};
use crate::monitor::{Finding, Severity, examine};

pub(super) fn run(args: &DoctorArgs) -> Exit {
    let findings = examine();
    if args.json {
        if answer_json(&findings) == Exit::Failed {
            return Exit::Failed;
        }
    } else {
        findings.iter().for_each(tell);
    }
    let problem = |finding: &Finding| finding.severity == Severity::Problem;
    if findings.iter().any(problem) {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn tell(finding: &Finding) {
    let mark = match finding.severity {
        Severity::Fine => "ok",
        Severity::Note => "note",
        Severity::Problem => "PROBLEM",
    };
    answer(&format!("{mark:<8} {}: {}", finding.subject, finding.found));
    if let Some(remedy) = &finding.remedy {
        answer(&format!("{:<8} remedy: {remedy}", ""));
    }
}
