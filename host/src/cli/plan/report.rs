//! What a plan tells its user.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::output::say;
use crate::failure::Failure;
use crate::printable::printable;
use crate::request::Command;
use crate::trace::Operation;

/// How the call would end.
pub(super) enum Outcome {
    /// With this result, if it is ADD.
    Success(Option<Value>),
    Failure(Failure),
    /// Somebody else decides it.
    Unknown,
}

/// A plan.
pub(super) struct Report<'a> {
    pub(super) network: &'a str,
    /// The types of the plugins.
    pub(super) types: Vec<&'a str>,
    pub(super) command: Command,
    pub(super) operations: Vec<Operation>,
    pub(super) outcome: Outcome,
    pub(super) notes: Vec<String>,
}

impl Report<'_> {
    /// The same with other texts.
    pub(super) fn with_texts(mut self, change: &dyn Fn(&str) -> String) -> Self {
        for operation in &mut self.operations {
            operation.object = change(&operation.object);
            operation.refusal = operation.refusal.as_deref().map(change);
        }
        self.notes.iter_mut().for_each(|note| *note = change(note));
        match &mut self.outcome {
            Outcome::Success(Some(result)) => change_texts(result, change),
            Outcome::Failure(failure) => {
                failure.message = change(&failure.message);
                failure.details = change(&failure.details);
            }
            Outcome::Success(None) | Outcome::Unknown => {}
        }
        self
    }

    /// Whether the call would succeed.
    pub(super) fn is_success(&self) -> bool {
        matches!(self.outcome, Outcome::Success(_))
    }

    pub(super) fn print(&self) {
        let command = self.command.as_str();
        say!(
            "What {command} on network {} ({}) would do; nothing of it is done:\n",
            printable(self.network),
            printable(&self.types.join(" + "))
        );
        if self.operations.is_empty() {
            say!("  it would change nothing");
        } else {
            say!("{}", self.table());
        }
        for note in &self.notes {
            say!("\nNote: {}", printable(note));
        }
        match &self.outcome {
            Outcome::Success(Some(result)) => {
                say!(
                    "\n{command} would succeed, with a result like this (names and addresses of links are random):"
                );
                say!("{result:#}");
            }
            Outcome::Success(None) => say!("\n{command} would succeed."),
            Outcome::Failure(failure) => {
                say!("\n{command} would fail with code {}: {}", failure.code, lines(&failure.message));
                if !failure.details.is_empty() {
                    say!("{}", lines(&failure.details));
                }
            }
            Outcome::Unknown => say!("\nWhether {command} would succeed cannot be told."),
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["  PLUGIN", "WOULD", "OBJECT", "POLICY"]);
        for operation in &self.operations {
            table.add_row([
                format!("  {}", printable(&operation.plugin)),
                operation.operation.replace('-', " "),
                printable(&operation.object).into_owned(),
                verdict(operation),
            ]);
        }
        table
    }

    pub(super) fn print_json(&self) {
        let operations: Vec<Value> = self
            .operations
            .iter()
            .map(|operation| {
                json!({
                    "plugin": operation.plugin,
                    "operation": operation.operation,
                    "object": operation.object,
                    "allowed": !operation.is_denied,
                    "rules": operation.rules,
                    "reason": operation.refusal,
                })
            })
            .collect();
        let (outcome, result, error) = match &self.outcome {
            Outcome::Success(result) => ("success", result.clone(), None),
            Outcome::Failure(failure) => ("failure", None, Some(failure)),
            Outcome::Unknown => ("unknown", None, None),
        };
        let error = error.map(
            |failure| json!({ "code": failure.code, "msg": failure.message, "details": failure.details }),
        );
        let value = json!({
            "command": self.command.as_str(),
            "network": self.network,
            "plugins": self.types,
            "operations": operations,
            "outcome": outcome,
            "result": result,
            "error": error,
            "notes": self.notes,
        });
        say!("{value}");
    }
}

/// What the policy says of an operation, and whether it works.
fn verdict(operation: &Operation) -> String {
    let rules = operation.rules.join(", ");
    let allowed = if rules.is_empty() { "allowed".to_owned() } else { format!("allowed by {rules}") };
    match &operation.refusal {
        None => allowed,
        Some(reason) if operation.is_denied => format!("denied: {}", begin(reason)),
        Some(reason) => format!("{allowed}, and fails: {}", begin(reason)),
    }
}

/// The first line of a text. A rule to paste follows, which stands below the
/// table as well.
fn begin(text: &str) -> String {
    printable(text.lines().next().unwrap_or_default()).into_owned()
}

/// A text that may have several lines, as rules to paste have.
fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn change_texts(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| change_texts(item, change)),
        Value::Object(object) => object.values_mut().for_each(|item| change_texts(item, change)),
        _ => {}
    }
}
