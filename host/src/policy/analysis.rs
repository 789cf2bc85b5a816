//! What a policy says that has no effect, or not the one that it seems to
//! have.

mod relation;

use std::fmt;
use std::path::Path;

use super::document::Document;
use super::interface;
use super::pattern;
use super::rule::{Bound, Effect, Key, Rule};

use relation::Kinds;

/// Something to look at again. The policy can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    /// File and line.
    pub(crate) place: String,
    pub(crate) message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Looks for what has no effect, in the order of files and lines. `bundled`
/// are the types of the plugins that come with weir.
pub(crate) fn warnings(document: &Document, bundled: &[&str]) -> Vec<Warning> {
    let analysis = Analysis { document, bundled };
    let mut found = analysis.about_settings();
    for (number, rule) in document.rules.iter().enumerate() {
        if let Some(warning) = analysis.unreachable(number, rule) {
            // Nothing else matters then.
            found.push(warning);
            continue;
        }
        found.extend(analysis.without_effect(rule));
        if rule.effect == Effect::Allow {
            found.extend(analysis.conflicts(rule));
        }
    }
    found
}

/// Looks for rules about plugin types of which none is in `known`.
pub(crate) fn strangers(document: &Document, known: &[String]) -> Vec<Warning> {
    let analysis = Analysis { document, bundled: &[] };
    let is_known = |named: &str| known.iter().any(|kind| pattern::matches(named, kind));
    let rules = document.rules.iter().flat_map(|rule| {
        let strange = rule.conditions.plugin.iter().filter(|named| !is_known(named));
        strange.map(move |named| (rule, named))
    });
    rules
        .map(|(rule, named)| {
            let message =
                format!("plugin: {named:?}: no such plugin comes with weir, and none is installed here");
            analysis.warning(rule, rule.body.line, message)
        })
        .collect()
}

struct Analysis<'a> {
    document: &'a Document,
    bundled: &'a [&'a str],
}

impl Analysis<'_> {
    fn warning(&self, rule: &Rule, line: u32, message: String) -> Warning {
        Warning { place: self.place(rule, line), message }
    }

    fn place(&self, rule: &Rule, line: u32) -> String {
        let path = self.document.files.get(rule.body.file as usize).map_or(Path::new("?"), |path| path);
        format!("{}:{line}", path.display())
    }

    fn rules(&self, effect: Effect) -> impl Iterator<Item = &Rule> {
        self.document.rules.iter().filter(move |rule| rule.effect == effect)
    }

    fn about_settings(&self) -> Vec<Warning> {
        let signing = &self.document.settings.signing;
        let mut found = Vec::new();
        if signing.require_signature && signing.keys.is_empty() {
            let place =
                self.document.files.first().map(|path| path.display().to_string()).unwrap_or_default();
            let message = "plugins need a signature, but there are no signing-keys: no plugin can be added";
            found.push(Warning { place, message: message.to_owned() });
        }
        found
    }

    /// A rule that could be left out.
    fn unreachable(&self, number: usize, rule: &Rule) -> Option<Warning> {
        let body = &rule.body;
        let denied = self
            .rules(Effect::Deny)
            .find(|deny| deny.body.bounds.is_empty() && relation::conditions_cover(deny, rule))
            .filter(|_| rule.effect == Effect::Allow);
        if let Some(deny) = denied {
            let place = self.place(deny, deny.body.line);
            let message = format!("the rule has no effect: {place} denies everything that it matches");
            return Some(self.warning(rule, body.line, message));
        }
        let earlier = self.document.rules[..number].iter().filter(|other| other.effect == rule.effect);
        let later = self.document.rules[number + 1..].iter().filter(|other| other.effect == rule.effect);
        // Of two that are the same, the second one is the one too many.
        let wider = earlier
            .chain(later.filter(|other| !self.includes(rule, other)))
            .find(|other| self.includes(other, rule))?;
        let place = self.place(wider, wider.body.line);
        let message = match rule.effect {
            Effect::Allow => format!("the rule has no effect: {place} allows the same or more"),
            Effect::Deny => format!("the rule has no effect: {place} denies the same or more"),
        };
        Some(self.warning(rule, body.line, message))
    }

    /// Whether a rule says all that another one says.
    fn includes(&self, wide: &Rule, narrow: &Rule) -> bool {
        relation::conditions_cover(wide, narrow) && relation::body_covers(wide, narrow, self.kinds(narrow))
    }

    /// Which sorts of plugins a rule is about.
    fn kinds(&self, rule: &Rule) -> Kinds {
        let mut kinds = Kinds { bundled: false, others: false };
        let mut any = false;
        for pattern in rule.conditions.plugin.iter() {
            any = true;
            kinds.bundled |= self.bundled.iter().any(|kind| pattern::matches(pattern, kind));
            kinds.others |= !self.bundled.contains(&pattern);
        }
        if any { kinds } else { Kinds { bundled: true, others: true } }
    }

    /// Keys that say nothing.
    fn without_effect(&self, rule: &Rule) -> Vec<Warning> {
        let mut found = Vec::new();
        let kinds = self.kinds(rule);
        if !kinds.others && rule.conditions.digest.iter().next().is_some() {
            let message = "digest: the plugin comes with weir, and its digest changes with every version of it: leave the key out";
            found.push(self.warning(rule, rule.body.line, message.to_owned()));
        }
        if rule.effect == Effect::Deny {
            return found;
        }
        for bound in rule.body.bounds.iter().filter(|bound| bound.key.is_about_host()) {
            if self.is_empty(bound) || self.reaches_host(rule) {
                continue;
            }
            let message = format!(
                "{}: the key has no effect, as it is about the node's namespace, and no rule for the same plugins allows namespaces = [\"host\"]",
                bound.key
            );
            found.push(self.warning(rule, bound.line, message));
        }
        if let Some((_, line)) = rule.body.leases
            && !self.reaches_leases(rule)
        {
            let message =
                "leases: the key has no effect, as no rule for the same plugins allows weir:store/leases"
                    .to_owned();
            found.push(self.warning(rule, line, message));
        }
        if let Some(bound) = rule.body.bound(Key::Interfaces)
            && kinds.others
        {
            let free = bound.values.spelled().into_iter().filter(|name| interface::is_free(name));
            for name in free {
                let message =
                    format!("interfaces: {name:?} need not be named: every plugin with a rule may import it");
                found.push(self.warning(rule, bound.line, message));
            }
        }
        found
    }

    fn is_empty(&self, bound: &Bound) -> bool {
        bound.values.spelled().is_empty()
    }

    /// Whether a plugin that a rule matches can get at the node's namespace.
    fn reaches_host(&self, rule: &Rule) -> bool {
        self.rules(Effect::Allow).filter(|other| relation::conditions_overlap(other, rule)).any(|other| {
            match other.body.bound(Key::Namespaces) {
                Some(bound) => relation::name_is_covered(bound, "host"),
                None => self.kinds(other).bundled && self.kinds(rule).bundled,
            }
        })
    }

    /// Whether what a rule matches may use leases, by whichever rule.
    fn reaches_leases(&self, rule: &Rule) -> bool {
        self.rules(Effect::Allow).filter(|other| relation::conditions_overlap(other, rule)).any(|other| {
            other
                .body
                .bound(Key::Interfaces)
                .is_none_or(|bound| relation::name_is_covered(bound, "weir:store/leases"))
        })
    }

    /// Values that are allowed and denied.
    fn conflicts(&self, rule: &Rule) -> Vec<Warning> {
        let mut found = Vec::new();
        for bound in &rule.body.bounds {
            for value in relation::values(bound) {
                let denied = self
                    .rules(Effect::Deny)
                    .filter(|deny| relation::conditions_overlap(rule, deny))
                    .flat_map(|deny| {
                        denying(bound.key)
                            .into_iter()
                            .filter_map(move |key| Some((deny, deny.body.bound(key)?)))
                    })
                    .filter_map(|(deny, other)| {
                        let is_whole = relation::conflict(&value, other)?;
                        Some((deny, other.line, is_whole && relation::conditions_cover(deny, rule)))
                    })
                    .max_by_key(|(.., is_whole)| *is_whole);
                let Some((deny, line, is_whole)) = denied else { continue };
                let place = self.place(deny, line);
                let message = if is_whole {
                    format!("{}: {value} is allowed in vain: {place} denies it", bound.key)
                } else {
                    format!(
                        "{}: not all of {value} is allowed in every case: {place} denies some of it",
                        bound.key
                    )
                };
                found.push(self.warning(rule, bound.line, message));
            }
        }
        found
    }
}

/// The keys of a deny rule that count for a key of an allow rule.
fn denying(key: Key) -> Vec<Key> {
    match key {
        Key::Parents => vec![Key::Parents, Key::Links, Key::Bridges],
        key => vec![key],
    }
}
