//! `nbdctl attach`

use super::args::AttachArgs;
use super::{Exit, answer, answer_json, config, fail, note, parse_uri};
use crate::config::{BackendIdentifier, Boot, Export, Name, Places, Setting, Settings};
use crate::monitor;

pub(super) fn run(args: AttachArgs, places: &Places) -> Exit {
    if args.tls {
        note(
            "--tls: this version of nbdctl cannot speak TLS yet, and will not fall back to \
             plaintext",
        );
        return Exit::Usage;
    }
    let known = match configured(&args.export) {
        Some(name) => config::found(places, &name).and_then(|export| named(export, &args)),
        None => of_uri(&args.export),
    };
    let mut settings = match known {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let json = args.json;
    override_with(&mut settings, args);
    if let Err(error) = settings.agree() {
        note(&error.to_string());
        return Exit::Usage;
    }
    match monitor::attach(&settings) {
        Ok(attached) => {
            let path = attached.device.path().display().to_string();
            for warning in &attached.warnings {
                note(&format!("{path}: warning: {warning}"));
            }
            if json {
                let identifier = BackendIdentifier::new(&settings.name, &settings.uri);
                return answer_json(&monitor::report(&attached.device, &identifier));
            }
            answer(&path);
            Exit::Done
        }
        Err(error) => fail(&error),
    }
}

/// The NAME of a configured export, where it is no URI.
fn configured(text: &str) -> Option<Name> {
    let bare = !text.contains([':', '/']);
    bare.then(|| text.parse().ok()).flatten()
}

fn named(export: Export, args: &AttachArgs) -> Result<Settings, Exit> {
    if args.name.is_some() {
        note(&format!(
            "--name: \"{}\" has its name from the configuration: leave out --name, or give a URI",
            export.settings.name
        ));
        return Err(Exit::Usage);
    }
    for warning in &export.warnings {
        note(&warning.to_string());
    }
    Ok(export.settings)
}

fn of_uri(text: &str) -> Result<Settings, Exit> {
    let uri = parse_uri(text)?;
    if uri.is_relative() {
        note(&format!(
            "{}: give the socket's path from the root: a relative one means another server in \
             another folder",
            text.escape_debug()
        ));
        return Err(Exit::Usage);
    }
    Ok(Settings::new(uri))
}

/// What was typed counts.
fn override_with(settings: &mut Settings, args: AttachArgs) {
    if let Some(name) = args.name {
        settings.name = name;
    }
    let typed = [
        args.device.map(Setting::Device),
        args.read_only.then_some(Setting::ReadOnly(true)),
        args.connections.map(Setting::Connections),
        args.path.map(Setting::Path),
        args.block_size.map(Setting::BlockSize),
        args.dead_timeout.map(Setting::DeadTimeout),
        args.silence_timeout.map(Setting::SilenceTimeout),
        args.settle_time.map(Setting::SettleTime),
        args.shutdown_timeout.map(Setting::ShutdownTimeout),
        args.connect_timeout.map(Setting::ConnectTimeout),
        args.io_timeout.map(Setting::IoTimeout),
        args.identity.map(Setting::Identity),
        args.resize.map(Setting::Resize),
    ];
    // A device that is attached by hand has nothing to do with booting.
    let mut boot = Boot::default();
    for setting in typed.into_iter().flatten() {
        setting.apply(settings, &mut boot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Args, Verb};
    use crate::config::to_toml;
    use clap::Parser;

    fn typed(options: &[&str]) -> AttachArgs {
        let line = ["nbdctl", "attach", "vm1"].iter().chain(options);
        match Args::try_parse_from(line).unwrap().verb {
            Verb::Attach(args) => *args,
            _ => panic!("another verb"),
        }
    }

    #[test]
    fn what_has_no_colon_and_no_slash_is_a_name() {
        for text in ["vm1", "nbd0", "a-b.c_d"] {
            assert_eq!(
                configured(text).map(|name| name.to_string()).as_deref(),
                Some(text)
            );
        }
        for text in ["nbd://h/x", "/dev/nbd0", "a/b", "nbd:", "a b", "", "x.toml"] {
            assert_eq!(configured(text), None, "{text}");
        }
    }

    #[test]
    fn options_count_for_more_than_the_file_and_the_file_for_more_than_defaults() {
        let mut settings = of_uri("nbd://h/x").unwrap();
        settings.dead_timeout = "60".parse().unwrap();
        settings.connections = "2".parse().unwrap();
        settings.read_only = true;
        let file = settings.clone();
        override_with(&mut settings, typed(&[]));
        assert_eq!(settings, file);
        let options = [
            "--dead-timeout=7",
            "--device=nbd3",
            "--block-size=4096",
            "--silence-timeout=8",
            "--settle-time=0",
            "--shutdown-timeout=9",
            "--connect-timeout=11",
            "--io-timeout=200",
            "--path=relay",
            "--identity=01234567-89ab-cdef-fedc-ba9876543210",
            "--resize=live",
        ];
        override_with(&mut settings, typed(&options));
        assert_eq!(
            to_toml(&settings),
            "uri = \"nbd://h/x\"\ndevice = \"/dev/nbd3\"\nconnections = 2\npath = \"relay\"\nread_only = true\n\
             block_size = 4096\ndead_timeout = 7\nshutdown_timeout = 9\nsilence_timeout = 8\n\
             settle_time = 0\nconnect_timeout = 11\nio_timeout = 200\n\
             identity = \"01234567-89ab-cdef-fedc-ba9876543210\"\nresize = \"live\"\n"
        );
    }
}
