//! weir's own commands.

use std::process::ExitCode;

/// Runs the command line.
pub fn run() -> ExitCode {
    eprintln!("not yet");
    ExitCode::FAILURE
}
