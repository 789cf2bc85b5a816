//! What one plugin may do in one call.

use std::path::Path;
use std::rc::Rc;

use super::operation::{Operation, Target};
use super::refusal::{Advice, Refusal};
use super::rule::{Body, Effect, Key};
use super::settings::{Bundled, Limits};
use super::{Subject, interface};

/// What one plugin may do in one call. Cheap to ask: the rules that do not
/// concern the plugin are left out.
#[derive(Debug, Clone)]
pub struct Permit {
    owner: Owner,
    bundled: Bundled,
    allow: Vec<Grant>,
    deny: Vec<Grant>,
    /// The compiled policy could not be decoded.
    is_damaged: bool,
}

/// Whom a permit is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) network: String,
    pub(super) plugin: String,
    pub(super) digest: String,
    pub(super) tenant: Option<String>,
    pub(super) is_bundled: bool,
}

/// A rule that matches, and the file that it stands in.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) path: Rc<Path>,
    pub(crate) body: Body,
}

impl Grant {
    /// A line of the rule, as messages name it.
    pub(crate) fn place(&self, line: u32) -> String {
        let place = format!("{}:{line}", self.path.display());
        match &self.body.name {
            Some(name) => format!("{place} (rule {name:?})"),
            None => place,
        }
    }

    /// Whether an allow rule covers something.
    fn covers(&self, key: Key, target: &Target<'_>, is_bundled: bool) -> bool {
        match (self.body.bound(key), target) {
            (_, Target::Name(name)) if key == Key::Interfaces && interface::is_free(name) => true,
            (Some(bound), _) => bound.values.cover(target),
            (None, _) if is_bundled => true,
            (None, Target::Name(name)) => key == Key::Namespaces && *name == "container",
            (None, Target::AnyName | Target::Prefix(_) | Target::Port(_) | Target::Numbers(_)) => false,
        }
    }

    /// The line with which a deny rule forbids one of `targets`.
    fn forbids(&self, targets: &[(Key, Target<'_>)]) -> Option<u32> {
        if self.body.bounds.is_empty() {
            return Some(self.body.line);
        }
        targets.iter().find_map(|(key, target)| {
            let bound = self.body.bound(*key)?;
            bound.values.touch(target).then_some(bound.line)
        })
    }
}

impl Permit {
    pub(super) fn new(
        subject: &Subject<'_>,
        bundled: Bundled,
        files: &[Rc<Path>],
        rules: Option<Vec<(Effect, Body)>>,
    ) -> Self {
        let owner = Owner {
            network: subject.network.to_owned(),
            plugin: subject.plugin.to_owned(),
            digest: subject.digest.to_owned(),
            tenant: subject.tenant.map(str::to_owned),
            is_bundled: subject.is_bundled,
        };
        let mut permit =
            Self { owner, bundled, allow: Vec::new(), deny: Vec::new(), is_damaged: rules.is_none() };
        for (effect, body) in rules.unwrap_or_default() {
            let Some(path) = files.get(body.file as usize) else {
                permit.is_damaged = true;
                continue;
            };
            let grant = Grant { path: Rc::clone(path), body };
            match effect {
                Effect::Allow => permit.allow.push(grant),
                Effect::Deny => permit.deny.push(grant),
            }
        }
        permit
    }

    /// Whether the plugin may do something.
    ///
    /// # Errors
    ///
    /// It may not.
    pub fn check(&self, operation: &Operation<'_>) -> Result<(), Refusal> {
        self.check_damage()?;
        let exposed = operation.exposes();
        for grant in &self.deny {
            if let Some(line) = grant.forbids(&exposed) {
                return Err(Refusal::forbidden(&self.owner, operation.to_string(), grant, line));
            }
        }
        let needs = operation.needs();
        self.check_matched(&operation.to_string(), &needs)?;
        if self.allow.is_empty() || self.allow.iter().any(|grant| self.lacks(grant, &needs).is_empty()) {
            return Ok(());
        }
        Err(self.not_allowed(operation.to_string(), &needs))
    }

    /// Whether the plugin may import all of these interfaces. The refusal is
    /// about all that it may not.
    ///
    /// # Errors
    ///
    /// There is one that it may not.
    pub fn check_imports(&self, imports: &[&str]) -> Result<(), Refusal> {
        let refused: Vec<&str> = imports
            .iter()
            .copied()
            .filter(|import| self.check(&Operation::Import(import)).is_err())
            .collect();
        let [first, rest @ ..] = refused.as_slice() else { return Ok(()) };
        let refusals = refused.iter().map(|import| self.check(&Operation::Import(import)));
        // A deny rule is the better reason: no other rule helps against it.
        let forbidding = self.deny.iter().any(|grant| {
            refused.iter().any(|import| grant.forbids(&Operation::Import(import).exposes()).is_some())
        });
        if rest.is_empty() || forbidding {
            return refusals.into_iter().collect();
        }
        let needs: Vec<_> = refused.iter().flat_map(|import| Operation::Import(import).needs()).collect();
        let attempt =
            format!("import {first:?}{}", rest.iter().map(|name| format!(", {name:?}")).collect::<String>());
        self.check_matched(&attempt, &needs)?;
        Err(self.not_allowed(attempt, &needs))
    }

    /// Whether the plugin may do anything: a rule matches it, or it needs
    /// none, and no rule forbids everything.
    ///
    /// # Errors
    ///
    /// It may do nothing.
    pub fn is_allowed_at_all(&self) -> Result<(), Refusal> {
        self.check_damage()?;
        match self.deny.iter().find(|grant| grant.body.bounds.is_empty()) {
            Some(grant) => {
                Err(Refusal::forbidden(&self.owner, "do anything".to_owned(), grant, grant.body.line))
            }
            None => self.check_matched("do anything", &[]),
        }
    }

    /// Whether a tenant, or a network without tenants, that holds so many
    /// leases may get another one.
    ///
    /// # Errors
    ///
    /// It may not.
    pub fn check_leases(&self, held: u32) -> Result<(), Refusal> {
        self.is_allowed_at_all()?;
        match self.leases() {
            Some(limit) if held >= limit => {
                let attempt = format!("hold more than {limit} leases");
                let best = self.allow.iter().max_by_key(|grant| grant.body.leases);
                let advice = best.map(|grant| Advice::more_leases(grant, limit)).unwrap_or_default();
                Err(Refusal::not_allowed(&self.owner, attempt, &self.allow, advice))
            }
            _ => Ok(()),
        }
    }

    /// How many leases a tenant, or a network without tenants, may hold: the
    /// most that a rule gives. `None`: as many as there are.
    pub fn leases(&self) -> Option<u32> {
        if self.is_damaged {
            return Some(0);
        }
        if self.allow.is_empty() {
            return self.check_matched("", &[]).err().map(|_| 0);
        }
        let given = |grant: &Grant| match grant.body.leases {
            Some((number, _)) => Some(number),
            None if self.owner.is_bundled => None,
            None => Some(0),
        };
        let mut most = 0;
        for grant in &self.allow {
            most = most.max(given(grant)?);
        }
        Some(most)
    }

    /// The limits of a call: the lowest of the rules that match.
    pub fn limits(&self) -> Limits {
        self.allow.iter().fold(Limits::default(), |limits, grant| limits.lowest(grant.body.limits))
    }

    /// Whether an allow rule has a key.
    pub(crate) fn names(&self, key: Key) -> bool {
        self.allow.iter().any(|grant| grant.body.bound(key).is_some())
    }

    /// Whether no rule has anything to say, so that checks may be left out.
    pub fn is_unrestricted(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty() && self.is_allowed_at_all().is_ok()
    }

    /// The allow rule that covers something, and its line that does.
    pub(crate) fn covering(&self, operation: &Operation<'_>) -> Option<(&Grant, u32)> {
        let needs = operation.needs();
        let grant = self.allow.iter().find(|grant| self.lacks(grant, &needs).is_empty())?;
        // The last one is the most specific.
        let line = needs.iter().rev().find_map(|(key, _)| Some(grant.body.bound(*key)?.line));
        Some((grant, line.unwrap_or(grant.body.line)))
    }

    /// The rules of one effect that match.
    pub(crate) fn grants(&self, effect: Effect) -> &[Grant] {
        match effect {
            Effect::Allow => &self.allow,
            Effect::Deny => &self.deny,
        }
    }

    fn check_damage(&self) -> Result<(), Refusal> {
        if self.is_damaged { Err(Refusal::damaged(&self.owner)) } else { Ok(()) }
    }

    /// Whether there is an allow rule, where one is needed.
    fn check_matched(&self, attempt: &str, needs: &[(Key, Target<'_>)]) -> Result<(), Refusal> {
        let needs_none = self.owner.is_bundled && self.bundled == Bundled::Unrestricted;
        if self.allow.is_empty() && !needs_none {
            return Err(Refusal::unmatched(&self.owner, attempt, needs));
        }
        Ok(())
    }

    /// What an allow rule does not cover.
    fn lacks<'t>(&self, grant: &Grant, needs: &[(Key, Target<'t>)]) -> Vec<(Key, Target<'t>)> {
        let is_lacking =
            |(key, target): &&(Key, Target<'t>)| !grant.covers(*key, target, self.owner.is_bundled);
        needs.iter().filter(is_lacking).copied().collect()
    }

    fn not_allowed(&self, attempt: String, needs: &[(Key, Target<'_>)]) -> Refusal {
        // The rule that is easiest to extend.
        let best = self
            .allow
            .iter()
            .map(|grant| (grant, self.lacks(grant, needs)))
            .min_by_key(|(_, lacks)| lacks.len());
        let advice = best.map(|(grant, lacks)| Advice::extending(grant, &lacks)).unwrap_or_default();
        Refusal::not_allowed(&self.owner, attempt, &self.allow, advice)
    }
}
