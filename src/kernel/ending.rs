//! How the machine ends: what process 1 is about to do, and doing it in its place. It
//! must not know when that is right.

use std::fmt;
use std::fs;

use nix::sys::reboot::{RebootMode, reboot};
use serde::{Deserialize, Serialize};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It is to be off.
    PowerOff,
    /// It is to come back; another kernel that was loaded is not tried.
    Restart,
    /// It is to stand still.
    Halt,
}

impl Ending {
    /// By the verb that `systemd-shutdown`, the last that process 1 becomes, was given.
    /// `None` where it is not there yet.
    #[must_use]
    pub fn under_way() -> Option<Self> {
        Self::of_command_line(&fs::read("/proc/1/cmdline").ok()?)
    }

    fn of_command_line(line: &[u8]) -> Option<Self> {
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        let named = |word: &&[u8]| {
            let name = word.rsplit(|byte| *byte == b'/').next();
            // In the initramfs that it may go back to, dracut's is a script: its shell
            // comes first.
            [Some(&b"systemd-shutdown"[..]), Some(b"shutdown")].contains(&name)
        };
        let at = words.iter().take(2).position(named)?;
        words.iter().skip(at + 1).find_map(|word| match *word {
            b"poweroff" => Some(Self::PowerOff),
            b"reboot" | b"kexec" => Some(Self::Restart),
            b"halt" => Some(Self::Halt),
            _ => None,
        })
    }

    /// Ends the machine, at once and without writing anything back. It comes back only
    /// where it failed, and perhaps a moment before it did not.
    pub fn carry_out(self) -> nix::Error {
        let (mode, key) = match self {
            Self::PowerOff => (RebootMode::RB_POWER_OFF, "o"),
            Self::Restart => (RebootMode::RB_AUTOBOOT, "b"),
            Self::Halt => (RebootMode::RB_HALT_SYSTEM, ""),
        };
        let errno = match reboot(mode) {
            Err(errno) => errno,
            Ok(never) => match never {},
        };
        // Whoever may not do that may do this, if it is root; whatever kernel.sysrq says.
        let _ = fs::write("/proc/sysrq-trigger", key);
        errno
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "powered off",
            Self::Restart => "restarted",
            Self::Halt => "halted",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_taken_from_systemd_shutdown_alone() {
        let of = |line: &str| Ending::of_command_line(line.replace(' ', "\0").as_bytes());
        let shutdown = "/usr/lib/systemd/systemd-shutdown";
        assert_eq!(
            of(&format!("{shutdown} poweroff --timeout 90s")),
            Some(Ending::PowerOff)
        );
        assert_eq!(of(&format!("{shutdown} reboot")), Some(Ending::Restart));
        assert_eq!(
            of(&format!("{shutdown} --log-level 6 kexec")),
            Some(Ending::Restart)
        );
        assert_eq!(of("/bin/sh /shutdown halt"), Some(Ending::Halt));
        assert_eq!(of(&format!("{shutdown} exit")), None);
        assert_eq!(of("/sbin/init poweroff"), None);
        assert_eq!(of(""), None);
    }
}
