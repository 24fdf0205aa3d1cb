//! `nbdctl attach`

use super::args::AttachArgs;
use super::{Exit, answer, answer_json, fail, note, parse_uri};
use crate::config::{BackendIdentifier, Settings};
use crate::monitor;
use crate::uri::Uri;

pub(super) fn run(args: AttachArgs) -> Exit {
    if args.tls {
        note(
            "--tls: this version of nbdctl cannot speak TLS yet, and will not fall back to \
             plaintext",
        );
        return Exit::Usage;
    }
    let uri = match parse_uri(&args.uri) {
        Ok(uri) => uri,
        Err(exit) => return exit,
    };
    if uri.is_relative() {
        note(&format!(
            "{}: give the socket's path from the root: a relative one means another server in \
             another folder",
            args.uri.escape_debug()
        ));
        return Exit::Usage;
    }
    let json = args.json;
    let settings = settings(args, uri);
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

/// What was typed, over the defaults.
fn settings(args: AttachArgs, uri: Uri) -> Settings {
    let mut settings = Settings::new(uri);
    if let Some(name) = args.name {
        settings.name = name;
    }
    settings.device = args.device.map(|device| device.index());
    settings.read_only = args.read_only;
    settings.connections = args.connections;
    settings.block_size = args.block_size;
    settings.dead_timeout = args.dead_timeout;
    settings
}
