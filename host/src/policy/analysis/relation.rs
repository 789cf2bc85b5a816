//! How rules and values relate to each other: one covers another if it is
//! certain to, and overlaps another if there is something that both match.

use std::fmt;

use ipnet::IpNet;

use crate::policy::number::Numbers;
use crate::policy::pattern::{self, Patterns};
use crate::policy::port::Ports;
use crate::policy::prefix;
use crate::policy::rule::{Bound, Effect, Key, Rule, Values};

/// The sorts of plugins that a rule is about: what an absent key means depends
/// on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds {
    /// Those that come with weir.
    pub(super) bundled: bool,
    /// All others.
    pub(super) others: bool,
}

/// A single value of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Name(&'a str),
    Prefix(IpNet),
    Ports(Ports),
    Numbers(Numbers),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::Ports(ports) => write!(f, "{ports}"),
            Self::Numbers(numbers) => write!(f, "{numbers}"),
        }
    }
}

/// The values of a key.
pub(super) fn values(bound: &Bound) -> Vec<Value<'_>> {
    match &bound.values {
        Values::Names(patterns) => patterns.iter().map(Value::Name).collect(),
        Values::Prefixes(prefixes) => prefixes.iter().copied().map(Value::Prefix).collect(),
        Values::Ports(ports) => ports.iter().copied().map(Value::Ports).collect(),
        Values::Numbers(numbers) => numbers.iter().copied().map(Value::Numbers).collect(),
    }
}

fn covers(wide: Value<'_>, narrow: Value<'_>) -> bool {
    match (wide, narrow) {
        (Value::Name(wide), Value::Name(narrow)) => pattern::covers(wide, narrow),
        (Value::Prefix(wide), Value::Prefix(narrow)) => prefix::covers(&wide, &narrow),
        (Value::Ports(wide), Value::Ports(narrow)) => wide.covers(&narrow),
        (Value::Numbers(wide), Value::Numbers(narrow)) => wide.covers(&narrow),
        _ => false,
    }
}

fn overlaps(one: Value<'_>, other: Value<'_>) -> bool {
    match (one, other) {
        (Value::Name(one), Value::Name(other)) => pattern::overlaps(one, other),
        (Value::Prefix(one), Value::Prefix(other)) => prefix::overlaps(&one, &other),
        (Value::Ports(one), Value::Ports(other)) => one.overlaps(&other),
        (Value::Numbers(one), Value::Numbers(other)) => one.overlaps(&other),
        _ => false,
    }
}

/// Whether a denied key has something of an allowed value; if so, whether it
/// has all of it.
pub(super) fn conflict(allowed: &Value<'_>, denied: &Bound) -> Option<bool> {
    let denied = values(denied);
    let touching = denied.iter().any(|value| overlaps(*value, *allowed));
    touching.then(|| denied.iter().any(|value| covers(*value, *allowed)))
}

/// Whether a name is among the values of a key.
pub(super) fn name_is_covered(bound: &Bound, name: &str) -> bool {
    values(bound).into_iter().any(|value| covers(value, Value::Name(name)))
}

/// The conditions of two rules. The last of each says whether calls may lack
/// what the condition is about.
fn pairs<'a>(one: &'a Rule, other: &'a Rule) -> [(&'a Patterns, &'a Patterns, bool); 4] {
    let (one, other) = (&one.conditions, &other.conditions);
    [
        (&one.network, &other.network, false),
        (&one.plugin, &other.plugin, false),
        (&one.digest, &other.digest, true),
        (&one.tenant, &other.tenant, true),
    ]
}

/// Whether a rule matches all that another one matches.
pub(super) fn conditions_cover(wide: &Rule, narrow: &Rule) -> bool {
    pairs(wide, narrow).into_iter().all(|(wide, narrow, is_optional)| {
        let is_among = |pattern: &str| wide.iter().any(|wide| pattern::covers(wide, pattern));
        if narrow.iter().next().is_none() {
            // An absent key matches everything, also what has no value.
            return wide.iter().next().is_none() || (!is_optional && is_among("*"));
        }
        wide.iter().next().is_none() || narrow.iter().all(is_among)
    })
}

/// Whether there is something that both rules match.
pub(super) fn conditions_overlap(one: &Rule, other: &Rule) -> bool {
    pairs(one, other).into_iter().all(|(one, other, _)| {
        one.iter().next().is_none()
            || other.iter().next().is_none()
            || one.iter().any(|one| other.iter().any(|other| pattern::overlaps(one, other)))
    })
}

/// Whether a rule says all that another one of the same effect says, about
/// plugins that both match.
pub(super) fn body_covers(wide: &Rule, narrow: &Rule, kinds: Kinds) -> bool {
    let is_allow = wide.effect == Effect::Allow;
    let keys_cover = Key::ALL.into_iter().all(|key| match (wide.body.bound(key), narrow.body.bound(key)) {
        (Some(wide), Some(narrow)) => {
            let wide = values(wide);
            values(narrow).into_iter().all(|narrow| wide.iter().any(|wide| covers(*wide, narrow)))
        }
        (None, None) => true,
        // Nothing said is nothing denied.
        (Some(_), None) if !is_allow => true,
        (None, Some(_)) if !is_allow => false,
        // An absent key is everything for bundled plugins, nothing for others.
        (Some(_), None) => !kinds.bundled && key != Key::Namespaces,
        (None, Some(_)) => !kinds.others,
    });
    if !is_allow {
        // Without any key a rule denies everything.
        return keys_cover && !narrow.body.bounds.is_empty() || wide.body.bounds.is_empty();
    }
    let number = |rule: &Rule| rule.body.leases.map(|(number, _)| number);
    let leases_cover = match (number(wide), number(narrow)) {
        (Some(wide), Some(narrow)) => wide >= narrow,
        (None, None) => true,
        (Some(_), None) => !kinds.bundled,
        (None, Some(_)) => !kinds.others,
    };
    // Limits add up: the narrow rule may have the lower ones.
    let limits = wide.body.limits;
    keys_cover && leases_cover && limits.lowest(narrow.body.limits) == limits
}
