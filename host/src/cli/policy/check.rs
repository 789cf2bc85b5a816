//! `weir policy check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use nix::unistd::geteuid;

use super::directory;
use crate::catalog;
use crate::cli::output::say;
use crate::policy;
use crate::request::state_paths;

pub(super) fn run(named: Option<PathBuf>) -> Result<ExitCode> {
    Ok(check(&directory(named)?))
}

fn check(directory: &Path) -> ExitCode {
    let (document, ignored) = policy::read(directory);
    for path in &ignored {
        say!(
            "{}: warning: it is not read: its name does not end in .toml, or begins with a dot",
            path.display()
        );
    }
    if !document.problems.is_empty() {
        for problem in &document.problems {
            say!("{}: error: {}", problem.place(), problem.message);
        }
        say!("{}, so that nothing is allowed", count(document.problems.len(), "error"));
        if !geteuid().is_root() {
            say!("(weir runs as root, and may read what this user cannot)");
        }
        return ExitCode::FAILURE;
    }
    if document.files.is_empty() {
        say!(
            "no policy in {}: plugins that come with weir may do what they are for, others nothing",
            directory.display()
        );
        return ExitCode::SUCCESS;
    }
    let bundled: Vec<&str> = catalog::bundled_names().collect();
    let warnings = policy::warnings(&document, &bundled);
    for warning in &warnings {
        say!("{}: warning: {}", warning.place, warning.message);
    }
    match catalog::names(&state_paths()) {
        Ok(known) => {
            for note in policy::strangers(&document, &known) {
                say!("{}: note: {}", note.place, note.message);
            }
        }
        Err(failure) => say!("note: which plugins are installed cannot be told: {failure}"),
    }
    let (rules, files) = (count(document.rules.len(), "rule"), count(document.files.len(), "file"));
    say!("{rules} in {files}: no errors, {}", count(warnings.len() + ignored.len(), "warning"));
    ExitCode::SUCCESS
}

fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
