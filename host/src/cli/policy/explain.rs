//! `weir policy explain`.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::{Question, directory, question};
use crate::call::DataDir;
use crate::catalog::{self, Origin};
use crate::cli::output::say;
use crate::policy::{self, Effect, Grant, Key, Operation, Permit, Policy, Refusal, Subject};
use crate::request::state_paths;
use crate::session::is_granted;

pub(super) fn run(question: Question) -> Result<ExitCode> {
    let (document, _) = policy::read(&directory(question.dir)?);
    let policy = Policy::of(document)?;
    // The component that serves the type at present, if there is one.
    let plugin = catalog::find(&state_paths(), &question.plugin)?;
    let grants = match plugin.as_ref().map(|plugin| plugin.origin) {
        Some(Origin::Bundled { grants }) => Some(grants),
        _ => None,
    };
    let digest = match (question.digest, plugin) {
        (Some(digest), _) => digest,
        (None, Some(plugin)) => plugin.digest.into_owned(),
        (None, None) => String::new(),
    };
    let subject = Subject {
        network: &question.network,
        plugin: &question.plugin,
        digest: &digest,
        tenant: question.tenant.as_deref(),
        is_bundled: catalog::is_bundled(&question.plugin),
    };
    let permit = policy.permit(&subject);
    match &question.op {
        Some(text) => {
            let operation = question::operation(text)?;
            let Operation::DataDir { path, .. } = operation else {
                let built_in = grants.and_then(|grants| not_built_for(&question.plugin, grants, &operation));
                return Ok(answer(&permit, &operation, built_in, question.json));
            };
            // As a call would find it.
            let found = DataDir::find(&state_paths(), &policy, &question.network, path);
            let (operation, refusal) = match &found {
                Ok(data_dir) if data_dir.is_default => (Operation::Import("weir:store/leases"), None),
                Ok(data_dir) => (data_dir.operation(), None),
                Err(reason) => (operation, Some(format!("no plugin may {operation}: {reason}"))),
            };
            Ok(answer(&permit, &operation, refusal, question.json))
        }
        None => {
            describe(&permit, &subject, question.json);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Why no rule can let a plugin that comes with weir import an interface: its
/// built-in grant does not name it.
fn not_built_for(plugin: &str, grants: &[&str], operation: &Operation<'_>) -> Option<String> {
    let Operation::Import(import) = operation else { return None };
    (!is_granted(grants, import)).then(|| {
        format!("plugin {plugin} may not {operation}: it comes with weir, and is not built to use that")
    })
}

/// Answers a question about one operation. `built_in` is why it is denied
/// whatever the policy says.
fn answer(permit: &Permit, operation: &Operation<'_>, built_in: Option<String>, as_json: bool) -> ExitCode {
    let checked = match built_in {
        Some(reason) => Err((reason, String::new())),
        None => permit.check(operation).map_err(|refusal| (refusal.to_string(), refusal.hint())),
    };
    let place = permit.covering(operation).filter(|_| checked.is_ok()).map(|(grant, line)| grant.place(line));
    if as_json {
        let value = json!({
            "operation": operation.to_string(),
            "allowed": checked.is_ok(),
            "rule": place,
            "reason": checked.as_ref().err().map(|(reason, _)| reason),
            "hint": checked.as_ref().err().map(|(_, hint)| hint),
        });
        say!("{value}");
    } else {
        match (&checked, place) {
            (Ok(()), Some(place)) => say!("allowed by {place}: {operation}"),
            (Ok(()), None) => say!("allowed, as no rule restricts this plugin: {operation}"),
            (Err((reason, hint)), _) => {
                say!("denied: {reason}");
                if !hint.is_empty() {
                    say!("To allow it, {hint}");
                }
            }
        }
    }
    if checked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Describes all that a plugin may do.
fn describe(permit: &Permit, subject: &Subject<'_>, as_json: bool) {
    let refusal = permit.is_allowed_at_all().err();
    let lines = if refusal.is_none() { lines(permit, subject.is_bundled) } else { Vec::new() };
    if as_json {
        let value = json!({
            "network": subject.network,
            "plugin": subject.plugin,
            "tenant": subject.tenant,
            "bundled": subject.is_bundled,
            "allowed": refusal.is_none(),
            "reason": refusal.as_ref().map(Refusal::to_string),
            "hint": refusal.as_ref().map(Refusal::hint),
            "keys": lines.iter().map(Line::to_json).collect::<Vec<_>>(),
        });
        say!("{value}");
        return;
    }
    if let Some(refusal) = refusal {
        say!("{refusal}");
        say!("To allow it, {}", refusal.hint());
    } else if permit.is_unrestricted() {
        say!("Plugin {} comes with weir, and no rule restricts it in this network.", subject.plugin);
    } else {
        say!("{}", table(&lines));
    }
    if !subject.is_bundled && subject.digest.is_empty() {
        say!("Rules for a digest are left out: name it with --digest.");
    }
}

/// One thing that one rule says.
struct Line {
    key: &'static str,
    effect: &'static str,
    /// `None`: everything.
    values: Option<Vec<String>>,
    /// The rule; none where it is about plugins without one.
    place: Option<String>,
}

impl Line {
    fn to_json(&self) -> Value {
        json!({ "key": self.key, "effect": self.effect, "values": self.values, "rule": self.place })
    }
}

fn lines(permit: &Permit, is_bundled: bool) -> Vec<Line> {
    let (allow, deny) = (permit.grants(Effect::Allow), permit.grants(Effect::Deny));
    let mut lines = Vec::new();
    for key in Key::ALL {
        let before = lines.len();
        lines.extend(allow.iter().filter_map(|grant| allowed(key, grant, is_bundled)));
        if lines.len() == before {
            // No rule matches a bundled plugin, or all leave the key out.
            let values = (!is_bundled || !allow.is_empty()).then(Vec::new);
            lines.push(Line { key: key.as_str(), effect: "allow", values, place: None });
        }
        lines.extend(deny.iter().filter_map(|grant| {
            let bound = grant.body.bound(key)?;
            let (values, place) = (Some(bound.values.spelled()), Some(grant.place(bound.line)));
            Some(Line { key: key.as_str(), effect: "deny", values, place })
        }));
    }
    let most = permit.leases();
    let giving = allow.iter().find(|grant| grant.body.leases.map(|(number, _)| number) == most);
    lines.push(Line {
        key: "leases",
        effect: "at most",
        values: most.map(|number| vec![number.to_string()]),
        place: giving.and_then(|grant| Some(grant.place(grant.body.leases?.1))),
    });
    lines.extend(limits(permit));
    lines
}

/// What an allow rule says about a key.
fn allowed(key: Key, grant: &Grant, is_bundled: bool) -> Option<Line> {
    let bound = grant.body.bound(key);
    let values = match bound {
        Some(bound) => Some(bound.values.spelled()),
        None if is_bundled => None,
        None if key == Key::Namespaces => Some(vec!["container".to_owned()]),
        None => return None,
    };
    let place = grant.place(bound.map_or(grant.body.line, |bound| bound.line));
    Some(Line { key: key.as_str(), effect: "allow", values, place: Some(place) })
}

/// The limits, each with the rule that sets it.
fn limits(permit: &Permit) -> Vec<Line> {
    let lowest = permit.limits();
    let line = |key, value: Option<String>, sets: &dyn Fn(&Grant) -> bool| {
        let place = permit
            .grants(Effect::Allow)
            .iter()
            .find(|grant| sets(grant))
            .map(|grant| grant.place(grant.body.line));
        Some(Line { key, effect: "at most", values: Some(vec![value?]), place })
    };
    [
        line("limits.time", lowest.time.map(|time| format!("{time:?}")), &|grant| {
            grant.body.limits.time == lowest.time
        }),
        line("limits.memory", lowest.memory.map(|bytes| format!("{bytes} bytes")), &|grant| {
            grant.body.limits.memory == lowest.memory
        }),
        line("limits.changes", lowest.changes.map(|number| number.to_string()), &|grant| {
            grant.body.limits.changes == lowest.changes
        }),
        line("limits.handles", lowest.handles.map(|number| number.to_string()), &|grant| {
            grant.body.limits.handles == lowest.handles
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["KEY", "EFFECT", "VALUES", "RULE"]);
    for Line { key, effect, values, place } in lines {
        let values = match values.as_deref() {
            None if *key == "interfaces" => "all that it was built for".to_owned(),
            None if *effect == "at most" => "any number".to_owned(),
            None => "everything".to_owned(),
            Some([]) => "nothing".to_owned(),
            Some(values) => values.join(" "),
        };
        table.add_row([key, *effect, &values, place.as_deref().unwrap_or("(no rule)")]);
    }
    table
}
