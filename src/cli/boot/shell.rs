//! A plan as a shell's assignments, to be evaluated: whatever is in a value is quoted.

use crate::boot::Plan;

/// A line each. A switch is `yes`, or empty.
pub(super) fn assignments(plan: &Plan) -> String {
    let switch = |on: bool| if on { "yes" } else { "" };
    let names = |needed: &dyn Fn(bool) -> bool| {
        let exports = plan.exports.iter();
        let names = exports.filter(|one| needed(one.boot.nofail));
        let names: Vec<_> = names.map(|one| one.settings.name.as_str()).collect();
        names.join(" ")
    };
    let timeouts = plan.exports.iter().filter(|one| !one.boot.nofail);
    let timeouts: Option<Vec<_>> = timeouts.map(|one| one.boot.device_timeout).collect();
    // The boot goes on when the last one is given up.
    let timeout = timeouts
        .into_iter()
        .flatten()
        .map(|timeout| timeout.to_string())
        .max_by_key(|text| text.parse::<u64>().unwrap_or(u64::MAX))
        .filter(|text| text != "infinity");
    [
        ("nbdctl_names", names(&|_| true)),
        ("nbdctl_needed", names(&|nofail| !nofail)),
        ("nbdctl_network", switch(plan.needs_network()).to_owned()),
        ("nbdctl_dhcp", switch(plan.awaits_dhcp).to_owned()),
        ("nbdctl_timeout", timeout.unwrap_or_default()),
        ("nbdctl_root", plan.root.clone().unwrap_or_default()),
        (
            "nbdctl_fstype",
            plan.mount.fs_type.clone().unwrap_or_default(),
        ),
        (
            "nbdctl_flags",
            plan.mount.options.clone().unwrap_or_default(),
        ),
    ]
    .map(|(name, value)| format!("{name}={}", quoted(&value)))
    .join("\n")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::read_command_line;

    #[test]
    fn a_shell_gets_what_was_said_and_runs_none_of_it() {
        let line = "root=nbd:h:x'$(reboot)'::a=b ro rd.nbdctl=nbd://g/y,nofail,device_timeout=7";
        let plan = read_command_line(line, None);
        let expected = r"nbdctl_names='g-y h-x---reboot---e6868fad'
nbdctl_needed='h-x---reboot---e6868fad'
nbdctl_network='yes'
nbdctl_dhcp=''
nbdctl_timeout=''
nbdctl_root='/dev/nbd0'
nbdctl_fstype=''
nbdctl_flags='a=b,ro'";
        assert_eq!(assignments(&plan), expected);
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }

    #[test]
    fn the_boot_waits_for_the_most_patient() {
        for (line, timeout) in [
            ("nbdctl=nbd://h/a,device_timeout=7", "7"),
            (
                "nbdctl=nbd://h/a,device_timeout=7 nbdctl=nbd://h/b,device_timeout=10",
                "10",
            ),
            ("nbdctl=nbd://h/a,device_timeout=7 nbdctl=nbd://h/b", ""),
            (
                "nbdctl=nbd://h/a,device_timeout=7 nbdctl=nbd://h/b,device_timeout=infinity",
                "",
            ),
            ("nbdctl=nbd://h/a", ""),
        ] {
            let text = assignments(&read_command_line(line, None));
            assert!(
                text.contains(&format!("nbdctl_timeout='{timeout}'")),
                "{line}: {text}"
            );
        }
    }
}
