//! Refusals: what is refused, by which line, and which line would allow it.

use std::fmt;

use super::operation::Target;
use super::pattern;
use super::permit::{Grant, Owner};
use super::rule::Key;

/// Something that a plugin may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who may not do what.
    refused: String,
    reason: String,
    hint: String,
}

impl Refusal {
    /// What to write into a policy file to allow it.
    pub fn hint(&self) -> String {
        self.hint.clone()
    }

    /// Why, without what it is that is refused.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn forbidden(owner: &Owner, attempt: String, grant: &Grant, line: u32) -> Self {
        let place = grant.place(line);
        Self {
            refused: format!("{owner} may not {attempt}"),
            reason: format!("{place} forbids it"),
            hint: format!("narrow {place}, or remove it: deny rules win over all others"),
        }
    }

    pub(super) fn not_allowed(owner: &Owner, attempt: String, allow: &[Grant], advice: Advice) -> Self {
        let reason = match allow {
            [] => "no rule allows it".to_owned(),
            [grant] => format!("{} does not allow it", grant.place(grant.body.line)),
            [grant, rest @ ..] => format!(
                "neither {} nor {} allow{} it",
                grant.place(grant.body.line),
                if let [other] = rest {
                    other.place(other.body.line)
                } else {
                    format!("{} others", rest.len())
                },
                if rest.len() == 1 { "s" } else { "" },
            ),
        };
        Self { refused: format!("{owner} may not {attempt}"), reason, hint: advice.0 }
    }

    /// `needs` is what the new rule has to name.
    pub(super) fn unmatched(owner: &Owner, attempt: &str, needs: &[(Key, Target<'_>)]) -> Self {
        let mut lines = vec!["[[allow]]".to_owned()];
        let mut condition = |name: &str, text: &str| {
            // A name with a star would match others as well.
            if pattern::is_literal(text) && !text.is_empty() {
                lines.push(format!("{name} = {}", quoted(text)));
            }
        };
        condition("network", &owner.network);
        condition("plugin", &owner.plugin);
        if let Some(tenant) = &owner.tenant {
            condition("tenant", tenant);
        }
        if !owner.is_bundled {
            if !owner.digest.is_empty() {
                condition("digest", &owner.digest);
            }
            lines.extend(Advice::keys(needs).map(|(key, values)| format!("{key} = [{}]", list(&values))));
        }
        Self {
            refused: format!("{owner} may not {attempt}"),
            reason: "no allow rule matches it".to_owned(),
            hint: format!("write a rule that allows what it needs:\n{}", lines.join("\n")),
        }
    }

    pub(super) fn damaged(owner: &Owner) -> Self {
        Self {
            refused: format!("{owner} may not do anything"),
            reason: "the compiled policy is damaged".to_owned(),
            hint: "delete policy.cache in weir's state directory".to_owned(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.refused, self.reason)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {} in network {}", self.plugin, self.network)?;
        match &self.tenant {
            Some(tenant) => write!(f, " of tenant {tenant:?}"),
            None => Ok(()),
        }
    }
}

/// What to write to allow something.
#[derive(Debug, Default)]
pub(super) struct Advice(String);

impl Advice {
    /// Extends a rule by what it lacks.
    pub(super) fn extending(grant: &Grant, missing: &[(Key, Target<'_>)]) -> Self {
        let ambiguous = missing.iter().find_map(|(_, target)| match target {
            Target::Name(name) if !pattern::is_literal(name) => Some(name),
            _ => None,
        });
        if let Some(name) = ambiguous {
            return Self(format!("{name:?} cannot be allowed alone: * and ? stand for other characters too"));
        }
        let lines: Vec<String> = Self::keys(missing)
            .map(|(key, more)| {
                let bound = grant.body.bound(key);
                let mut values = bound.map(|bound| bound.values.spelled()).unwrap_or_default();
                values.extend(more);
                let line = bound.map_or(grant.body.line, |bound| bound.line);
                let verb = if bound.is_some() { "change" } else { "add to" };
                format!("{verb} {}: {key} = [{}]", grant.place(line), list(&values))
            })
            .collect();
        Self(lines.join("; "))
    }

    /// What is needed under each key, but for what no pattern can say.
    fn keys(needs: &[(Key, Target<'_>)]) -> impl Iterator<Item = (Key, Vec<String>)> {
        Key::ALL.into_iter().filter_map(|key| {
            let needed = needs.iter().filter(|(other, _)| *other == key).map(|(_, target)| target);
            let is_sayable = |target: &&Target<'_>| {
                **target == Target::AnyName || pattern::is_literal(&target.to_string())
            };
            let values: Vec<String> = needed.filter(is_sayable).map(Target::to_string).collect();
            (!values.is_empty()).then_some((key, values))
        })
    }

    /// Raises the number of leases.
    pub(super) fn more_leases(grant: &Grant, limit: u32) -> Self {
        let line = grant.body.leases.map_or(grant.body.line, |(_, line)| line);
        let verb = if grant.body.leases.is_some() { "change" } else { "add to" };
        Self(format!("{verb} {}: leases = {}", grant.place(line), limit.saturating_mul(2).max(16)))
    }
}

/// The items of a list, as TOML spells them.
fn list(values: &[String]) -> String {
    values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ")
}

/// A text as TOML spells it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // What cannot be seen, or hides something else.
            c if !c.is_ascii_graphic() && c != ' ' && !c.is_alphanumeric() => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_spelled_as_toml() {
        for text in ["br-a", "a\"b\\c", "a\nb\u{7f}", "\u{202e}x", "é ü"] {
            let quoted = quoted(text);
            let parsed = toml::de::DeValue::parse(&quoted).unwrap();
            assert!(matches!(parsed.get_ref(), toml::de::DeValue::String(read) if read == text), "{quoted}");
        }
        assert_eq!(quoted("br-a"), "\"br-a\"");
    }
}
