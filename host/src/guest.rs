//! A plugin in a call: which component it is, and what it may do.

use std::cell::RefCell;

use crate::catalog::{Origin, Plugin};
use crate::policy::{Operation, Permit, Policy, Refusal, Subject};

/// A plugin that is being served.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The plugin type.
    pub(crate) name: String,
    /// The digest of its component.
    pub(crate) digest: String,
    /// What the policy lets it do.
    pub(crate) permit: Permit,
    /// Interfaces beyond which no policy goes; none for what the operator
    /// installed.
    pub(crate) grants: Option<&'static [&'static str]>,
    /// Whether no rule has anything to say.
    is_unrestricted: bool,
    /// In a plan, the rules that allowed what it asked for last: the
    /// operation, and the rule's place.
    rules: RefCell<Vec<(String, String)>>,
}

impl Guest {
    pub(crate) fn new(plugin: &Plugin, policy: &Policy, network: &str, tenant: Option<&str>) -> Self {
        let grants = match plugin.origin {
            Origin::Bundled { grants } => Some(grants),
            Origin::Installed => None,
        };
        let permit = policy.permit(&Subject {
            network,
            plugin: plugin.name,
            digest: &plugin.digest,
            tenant,
            is_bundled: grants.is_some(),
        });
        Self {
            name: plugin.name.to_string(),
            digest: plugin.digest.to_string(),
            is_unrestricted: permit.is_unrestricted(),
            permit,
            grants,
            rules: RefCell::new(Vec::new()),
        }
    }

    /// Whether the policy lets it do something.
    pub(crate) fn check(&self, operation: &Operation<'_>) -> Result<(), Refusal> {
        if self.is_unrestricted { Ok(()) } else { self.permit.check(operation) }
    }

    /// Whether no rule has anything to say about it.
    pub(crate) fn is_unrestricted(&self) -> bool {
        self.is_unrestricted
    }

    /// Remembers which rules allow an operation, for a plan.
    pub(crate) fn remember_rules(&self, operation: &str, wanted: &[Operation<'_>]) {
        let covering = wanted.iter().filter_map(|wanted| self.permit.covering(wanted));
        let places = covering.map(|(grant, line)| (operation.to_owned(), grant.place(line)));
        self.rules.borrow_mut().extend(places);
    }

    /// The rules that allow an operation, once it was done; forgets all.
    pub(crate) fn take_rules(&self, operation: &str) -> Vec<String> {
        let remembered = self.rules.take().into_iter();
        let mut places: Vec<String> =
            remembered.filter(|(of, _)| of == operation).map(|(_, place)| place).collect();
        places.dedup();
        places
    }
}
