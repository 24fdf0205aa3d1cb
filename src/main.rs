//! `nbdctl`: parse, set up logging, dispatch, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    nbdctl::cli::main()
}
