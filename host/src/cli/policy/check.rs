//! `weir policy check`.

use std::path::Path;
use std::process::ExitCode;

use crate::catalog;
use crate::policy;
use crate::request::state_paths;

pub(super) fn run(directory: &Path) -> ExitCode {
    let (document, ignored) = policy::read(directory);
    for path in &ignored {
        println!(
            "{}: warning: it is not read: its name does not end in .toml, or begins with a dot",
            path.display()
        );
    }
    if !document.problems.is_empty() {
        for problem in &document.problems {
            println!("{}: error: {}", problem.place(), problem.message);
        }
        println!("{}, so that nothing is allowed", count(document.problems.len(), "error"));
        return ExitCode::FAILURE;
    }
    if document.files.is_empty() {
        println!(
            "no policy in {}: plugins that come with weir may do what they are for, others nothing",
            directory.display()
        );
        return ExitCode::SUCCESS;
    }
    let bundled: Vec<&str> = catalog::bundled_names().collect();
    let warnings = policy::warnings(&document, &bundled);
    for warning in &warnings {
        println!("{}: warning: {}", warning.place, warning.message);
    }
    match catalog::names(&state_paths()) {
        Ok(known) => {
            for note in policy::strangers(&document, &known) {
                println!("{}: note: {}", note.place, note.message);
            }
        }
        Err(failure) => println!("note: which plugins are installed cannot be told: {failure}"),
    }
    let (rules, files) = (count(document.rules.len(), "rule"), count(document.files.len(), "file"));
    println!("{rules} in {files}: no errors, {}", count(warnings.len() + ignored.len(), "warning"));
    ExitCode::SUCCESS
}

fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
