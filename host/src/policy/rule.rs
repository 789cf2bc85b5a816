//! Rules: what they match, and what they say about it.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::number::Numbers;
use super::operation::Target;
use super::pattern::{self, Patterns};
use super::port::Ports;
use super::{Limits, Subject, prefix};

/// Whether a rule gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

impl Effect {
    /// The rule's name in a file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A key that says what is allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Key {
    Interfaces,
    Namespaces,
    Links,
    LinkKinds,
    Bridges,
    Parents,
    Addresses,
    Routes,
    Neighbors,
    Sysctls,
    Delegates,
    Ports,
    DataDirs,
    Vlans,
    Vnis,
}

impl Key {
    pub(crate) const ALL: [Self; 15] = [
        Self::Interfaces,
        Self::Namespaces,
        Self::Links,
        Self::LinkKinds,
        Self::Bridges,
        Self::Parents,
        Self::Addresses,
        Self::Routes,
        Self::Neighbors,
        Self::Sysctls,
        Self::Delegates,
        Self::Ports,
        Self::DataDirs,
        Self::Vlans,
        Self::Vnis,
    ];

    /// Its name in a file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Interfaces => "interfaces",
            Self::Namespaces => "namespaces",
            Self::Links => "links",
            Self::LinkKinds => "link-kinds",
            Self::Bridges => "bridges",
            Self::Parents => "parents",
            Self::Addresses => "addresses",
            Self::Routes => "routes",
            Self::Neighbors => "neighbors",
            Self::Sysctls => "sysctls",
            Self::Delegates => "delegates",
            Self::Ports => "ports",
            Self::DataDirs => "data-dirs",
            Self::Vlans => "vlans",
            Self::Vnis => "vnis",
        }
    }

    /// Whether it is about the node's namespace only.
    pub(super) fn is_about_host(self) -> bool {
        matches!(
            self,
            Self::Links
                | Self::LinkKinds
                | Self::Bridges
                | Self::Parents
                | Self::Routes
                | Self::Neighbors
                | Self::Sysctls
                | Self::Vlans
                | Self::Vnis
        )
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Values {
    Names(Patterns),
    Prefixes(Vec<IpNet>),
    Ports(Vec<Ports>),
    Numbers(Vec<Numbers>),
}

impl Values {
    /// Whether one of them has all of `target` in it.
    pub(super) fn cover(&self, target: &Target<'_>) -> bool {
        match (self, target) {
            (Self::Names(patterns), Target::Name(name)) => pattern::any_matches(patterns.as_text(), name),
            (Self::Names(patterns), Target::AnyName) => {
                patterns.iter().any(|pattern| pattern::covers(pattern, "*"))
            }
            (Self::Prefixes(prefixes), Target::Prefix(wanted)) => {
                prefixes.iter().any(|listed| prefix::covers(listed, wanted))
            }
            (Self::Ports(ports), Target::Port(wanted)) => {
                ports.iter().any(|listed| listed.covers(&Ports::from(*wanted)))
            }
            (Self::Numbers(numbers), Target::Numbers(wanted)) => wanted.are_in(numbers),
            _ => false,
        }
    }

    /// Whether one of them has something of `target` in it.
    pub(super) fn touch(&self, target: &Target<'_>) -> bool {
        match (self, target) {
            (Self::Prefixes(prefixes), Target::Prefix(wanted)) => {
                prefixes.iter().any(|listed| prefix::overlaps(listed, wanted))
            }
            (Self::Names(patterns), Target::AnyName) => patterns.iter().next().is_some(),
            (Self::Ports(ports), Target::Port(wanted)) => {
                ports.iter().any(|listed| listed.overlaps(&Ports::from(*wanted)))
            }
            (Self::Numbers(numbers), Target::Numbers(wanted)) => {
                numbers.iter().any(|listed| listed.overlaps(wanted))
            }
            _ => self.cover(target),
        }
    }

    /// As a file would spell them.
    pub(crate) fn spelled(&self) -> Vec<String> {
        match self {
            Self::Names(patterns) => patterns.iter().map(str::to_owned).collect(),
            Self::Prefixes(prefixes) => prefixes.iter().map(IpNet::to_string).collect(),
            Self::Ports(ports) => ports.iter().map(Ports::to_string).collect(),
            Self::Numbers(numbers) => numbers.iter().map(Numbers::to_string).collect(),
        }
    }
}

/// A key of a rule with its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) key: Key,
    pub(crate) line: u32,
    pub(crate) values: Values,
}

/// What a rule matches. Empty lists match everything: a file cannot say them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    pub(crate) network: Patterns,
    pub(crate) plugin: Patterns,
    pub(crate) digest: Patterns,
    pub(crate) tenant: Patterns,
}

impl Conditions {
    pub(super) fn as_texts(&self) -> ConditionTexts<'_> {
        ConditionTexts {
            network: self.network.as_text(),
            plugin: self.plugin.as_text(),
            digest: self.digest.as_text(),
            tenant: self.tenant.as_text(),
        }
    }
}

/// The same, borrowed from a compiled policy.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct ConditionTexts<'a> {
    network: &'a str,
    plugin: &'a str,
    digest: &'a str,
    tenant: &'a str,
}

impl ConditionTexts<'_> {
    pub(super) fn match_subject(&self, subject: &Subject<'_>) -> bool {
        let holds = |list: &str, text: &str| list.is_empty() || pattern::any_matches(list, text);
        holds(self.plugin, subject.plugin)
            && holds(self.network, subject.network)
            && (self.tenant.is_empty()
                || subject.tenant.is_some_and(|tenant| pattern::any_matches(self.tenant, tenant)))
            && (self.digest.is_empty() || self.digest.lines().any(|digest| digest == subject.digest))
    }
}

/// What a rule says about what it matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) name: Option<String>,
    /// The position in the policy's list of files.
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) bounds: Vec<Bound>,
    /// How many leases, and the line that says so.
    pub(crate) leases: Option<(u32, u32)>,
    pub(crate) limits: Limits,
}

impl Body {
    pub(crate) fn bound(&self, key: Key) -> Option<&Bound> {
        self.bounds.iter().find(|bound| bound.key == key)
    }
}

/// A rule of a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) effect: Effect,
    pub(crate) conditions: Conditions,
    pub(crate) body: Body,
}
