//! What a trial tells its user.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::leftovers::Leftovers;
use crate::cli::output::say;
use crate::failure::Failure;
use crate::trace::Operation;

/// The report, printed as the trial goes on.
pub(super) struct Report {
    failures: usize,
}

impl Report {
    pub(super) fn new() -> Self {
        Self { failures: 0 }
    }

    pub(super) fn heading(&self, text: &str) {
        say!("\n{text}");
    }

    pub(super) fn note(&self, text: &str) {
        say!("  {text}");
    }

    /// What each component did in a call.
    pub(super) fn call(&self, title: &str, time: Duration, operations: &[Operation]) {
        say!("\n{title}: {}", milliseconds(time));
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["  COMPONENT", "DID", "TO", "TIME"]);
        for Operation { plugin, operation, object, refusal, time, .. } in operations {
            let object = match refusal {
                None => object.clone(),
                Some(reason) => format!("{object}: {reason}"),
            };
            table.add_row([format!("  {plugin}"), operation.replace('-', " "), object, microseconds(*time)]);
        }
        if let Some(column) = table.column_mut(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        say!("{table}");
    }

    pub(super) fn probe(&mut self, what: &str, outcome: Result<Duration, String>) {
        match outcome {
            Ok(time) => say!("  ok    {what}: {}", milliseconds(time)),
            Err(reason) => {
                self.failures += 1;
                say!("  FAIL  {what}: {reason}");
            }
        }
    }

    pub(super) fn failure(&mut self, title: &str, failure: &Failure) {
        self.failures += 1;
        say!("  FAIL  {title}: code {}: {failure}", failure.code);
    }

    pub(super) fn leftovers(&mut self, left: &Leftovers) {
        self.heading("Afterwards");
        for thing in &left.forgotten {
            self.failures += 1;
            say!("  FAIL  left behind: {thing}");
        }
        if left.forgotten.is_empty() {
            say!("  ok    no link, lease, packet filter element or journal is left");
        }
        for thing in &left.shared {
            say!("  ok    stays, because containers share it: {thing}");
        }
    }

    /// The last line, and the exit code.
    pub(super) fn finish(&self) -> ExitCode {
        if self.failures == 0 {
            say!("\nEverything worked.");
            return ExitCode::SUCCESS;
        }
        say!("\n{} of the above failed.", self.failures);
        ExitCode::FAILURE
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn microseconds(time: Duration) -> String {
    format!("{} µs", time.as_micros())
}
