//! What the policy lets a component import.

use std::path::Path;

use crate::catalog::{self, Description, Origin};
use crate::policy::{self, Operation, Permit, Policy, Subject};
use crate::session::is_granted;

/// A component that may be installed or not.
pub(super) struct Candidate<'a> {
    /// The plugin type that it serves, or would serve.
    pub(super) kind: &'a str,
    pub(super) digest: &'a str,
    pub(super) is_bundled: bool,
}

/// Why an import is denied.
pub(super) struct Denial {
    pub(super) reason: String,
    /// What would allow it; may be empty.
    pub(super) hint: String,
}

impl Denial {
    /// Whether a whole rule would allow it, which is more than fits in a line.
    fn is_rule(&self) -> bool {
        self.hint.contains("[[allow]]")
    }
}

/// Whether an import is allowed, and by which rule; none where none is needed.
pub(super) type Grant = Result<Option<String>, Denial>;

/// What the policy says of each import, in their order.
pub(super) struct Grants {
    pub(super) imports: Vec<Grant>,
    /// Why the policy cannot be used, if it cannot.
    pub(super) error: Option<String>,
}

impl Grants {
    /// Whether nothing is denied.
    pub(super) fn allow_everything(&self) -> bool {
        self.imports.iter().all(Result::is_ok)
    }

    /// Whether no rule matches the plugin, which needs one.
    pub(super) fn lack_a_rule(&self) -> bool {
        self.imports.iter().any(|grant| matches!(grant, Err(denial) if denial.is_rule()))
    }
}

/// Asks the policy in `directory`. Without a network, it is asked about one
/// that no rule names.
pub(super) fn of(
    directory: &Path,
    candidate: &Candidate<'_>,
    network: Option<&str>,
    description: &Description,
) -> Grants {
    let (document, _) = policy::read(directory);
    let policy = match Policy::of(document) {
        Ok(policy) => policy,
        Err(error) => {
            let denied = |_| {
                let reason = "the policy cannot be used".to_owned();
                Err(Denial {
                    reason,
                    hint: "correct the policy; \"weir policy check\" lists what is wrong".to_owned(),
                })
            };
            let imports = description.imports.iter().map(denied).collect();
            return Grants { imports, error: Some(error.to_string()) };
        }
    };
    let permit = policy.permit(&Subject {
        network: network.unwrap_or_default(),
        plugin: candidate.kind,
        digest: candidate.digest,
        tenant: None,
        is_bundled: candidate.is_bundled,
    });
    let built_in = candidate.is_bundled.then(|| grants_of(candidate.kind)).flatten();
    let imports = description.imports.iter().map(|import| grant(&permit, built_in, import)).collect();
    Grants { imports, error: None }
}

/// The built-in grant of a plugin that comes with weir.
fn grants_of(kind: &str) -> Option<&'static [&'static str]> {
    match catalog::bundled(kind)?.origin {
        Origin::Bundled { grants } => Some(grants),
        Origin::Installed => None,
    }
}

fn grant(permit: &Permit, built_in: Option<&[&str]>, import: &str) -> Grant {
    if built_in.is_some_and(|grants| !is_granted(grants, import)) {
        let reason = "it comes with weir, and is not built to use that".to_owned();
        return Err(Denial { reason, hint: String::new() });
    }
    let operation = Operation::Import(import);
    match permit.is_allowed_at_all().and_then(|()| permit.check(&operation)) {
        Ok(()) => Ok(permit.covering(&operation).map(|(grant, line)| grant.place(line))),
        Err(refusal) => Err(Denial { reason: refusal.reason().to_owned(), hint: refusal.hint() }),
    }
}

/// A grant for people.
pub(super) fn words(grant: &Grant) -> String {
    match grant {
        Ok(Some(place)) => format!("allowed by {place}"),
        Ok(None) => "allowed, as no rule restricts it".to_owned(),
        Err(denial) if denial.hint.is_empty() || denial.is_rule() => format!("denied: {}", denial.reason),
        Err(Denial { reason, hint }) => format!("denied: {reason}; {hint}"),
    }
}
