//! `nbdctl generate`: man pages and completions, from the definitions that the
//! command line itself is read with.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::args::Args;
use super::hidden_args::GenerateArgs;
use super::{Exit, note};

pub(super) fn run(args: &GenerateArgs) -> Exit {
    match write(&args.folder) {
        Ok(()) => Exit::Done,
        Err(error) => {
            note(&format!("{}: {error}", args.folder.display()));
            Exit::Failed
        }
    }
}

/// Writes `nbdctl.8`, one page for each verb and each part of one, and completions for three shells.
fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = for_users();
    command.build();
    page(folder, &command, "nbdctl")?;
    for verb in command.get_subcommands() {
        let name = format!("nbdctl-{}", verb.get_name());
        page(folder, verb, &name)?;
        for part in verb.get_subcommands() {
            page(folder, part, &format!("{name}-{}", part.get_name()))?;
        }
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut for_users(), "nbdctl", folder)?;
    }
    Ok(())
}

/// The command without the verbs that nbdctl runs itself: clap hides them from
/// its help only.
fn for_users() -> Command {
    let all = Args::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new("nbdctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .args(
            all.get_arguments()
                .filter(|arg| !arg.is_hide_set())
                .cloned(),
        )
        .subcommands(verbs.cloned())
        .disable_help_subcommand(true)
        .subcommand_required(true)
}

fn page(folder: &Path, command: &Command, name: &str) -> io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .section("8")
        .manual("nbdctl")
        .render(&mut page)?;
    fs::write(folder.join(format!("{name}.8")), page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_that_names_its_options() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(
            read("nbdctl.8").contains("EXIT STATUS") || read("nbdctl.8").contains("Exit status")
        );
        assert!(read("nbdctl-attach.8").contains("dead\\-timeout"));
        assert!(read("nbdctl-detach.8").contains("force"));
        assert!(read("nbdctl-config.8").contains("nbdctl\\-config\\-check"));
        assert!(read("nbdctl-config-show.8").contains("json"));
        assert!(read("nbdctl.bash").contains("--read-only"));
        for hidden in ["generate", "on-device", "udev-names", "help"] {
            assert!(!folder.path().join(format!("nbdctl-{hidden}.8")).exists());
            assert!(!read("nbdctl.8").contains(&format!("nbdctl\\-{hidden}")));
        }
        assert!(!read("nbdctl.bash").contains("on-device"));
        assert!(!read("nbdctl.bash").contains("config-root"));
    }
}
