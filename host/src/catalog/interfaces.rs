//! The interfaces of the contract, in words for an operator.

use super::INTERFACES;
use super::description::Description;
use crate::policy::unversioned;

/// What using an interface means.
const MEANINGS: &[(&str, &str)] = &[
    ("weir:host/log", "writes lines to weir's log"),
    ("weir:host/clock", "reads the time"),
    ("weir:host/random", "gets random numbers"),
    ("weir:net/types", "(values only)"),
    ("weir:net/links", "makes, moves and changes network links"),
    ("weir:net/addresses", "sets the IP addresses of links"),
    ("weir:net/routes", "sets routes"),
    (
        "weir:net/neighbors",
        "says which stations links reach, and where (ARP, neighbor discovery, forwarding)",
    ),
    ("weir:net/sysctls", "changes kernel settings of links"),
    ("weir:firewall/masquerade", "hides containers behind the node's addresses"),
    ("weir:firewall/guards", "keeps containers from forging hardware addresses"),
    ("weir:firewall/publish", "publishes ports of containers at the node's addresses"),
    ("weir:store/leases", "leases addresses of the network"),
    ("weir:store/bucket", "keeps a few values of its own between calls"),
    ("weir:store/files", "reads the resolver configuration that the network names"),
    ("weir:plugin/types", "(values only)"),
    ("weir:plugin/request", "reads the request and the network configuration"),
    ("weir:plugin/ipam", "asks the IPAM plugin that the network names for addresses"),
];

/// What an export is for.
const ROLES: &[(&str, &str)] =
    &[("weir:plugin/plugin", "it is an interface plugin"), ("weir:plugin/ipam", "it is an IPAM plugin")];

/// What an import means, in plain words.
pub(crate) fn meaning(import: &str) -> &'static str {
    word(MEANINGS, import)
}

/// What an export means, in plain words.
pub(crate) fn role(export: &str) -> &'static str {
    word(ROLES, export)
}

fn word(words: &'static [(&str, &str)], interface: &str) -> &'static str {
    let name = unversioned(interface);
    words.iter().find(|(known, _)| *known == name).map_or("(weir does not know it)", |(_, word)| word)
}

/// Whether a component fits this weir; why not, if it does not.
pub(crate) fn check(description: &Description) -> Result<(), String> {
    let foreign: Vec<String> = description
        .imports
        .iter()
        .filter(|import| !is_offered(import))
        .map(|import| refusal(import))
        .collect();
    if !foreign.is_empty() {
        return Err(format!("it needs what this weir does not have: {}", foreign.join(", ")));
    }
    if description.is_interface_plugin() || description.is_ipam_plugin() {
        return Ok(());
    }
    let others = description.exports.iter().map(|export| export.escape_debug().to_string());
    let others: Vec<String> = others.take(8).collect();
    Err(format!(
        "it is no plugin for this weir: it exports {}, and neither {} nor {}",
        if others.is_empty() { "nothing".to_owned() } else { others.join(", ") },
        exported("weir:plugin/plugin"),
        exported("weir:plugin/ipam")
    ))
}

impl Description {
    /// Whether it makes interfaces.
    pub(crate) fn is_interface_plugin(&self) -> bool {
        self.provides("weir:plugin/plugin")
    }

    /// Whether it hands out addresses.
    pub(crate) fn is_ipam_plugin(&self) -> bool {
        self.provides("weir:plugin/ipam")
    }

    fn provides(&self, name: &str) -> bool {
        let wanted = exported(name);
        self.exports.iter().any(|export| are_compatible(&wanted, export))
    }
}

/// Whether an import has an interface that is offered. The linker sees to it
/// that the interface has all that is imported of it.
fn is_offered(import: &str) -> bool {
    INTERFACES.iter().any(|offered| are_compatible(offered, import))
}

/// Exports have the version of their package.
fn exported(name: &str) -> String {
    let version = INTERFACES.iter().find_map(|offered| offered.strip_prefix("weir:plugin/types@"));
    format!("{name}@{}", version.unwrap_or_default())
}

/// Whether two versions of an interface are the same as far as semantic
/// versioning says.
fn are_compatible(one: &str, other: &str) -> bool {
    let split = |interface: &str| {
        let (name, version) = interface.split_once('@')?;
        let mut numbers = version.splitn(3, '.');
        let (major, minor) = (numbers.next()?.to_owned(), numbers.next()?.to_owned());
        let patch = numbers.next()?.to_owned();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if ![&major, &minor, &patch].into_iter().all(|text| is_number(text)) {
            return None;
        }
        let is_stable = major != "0";
        // From 0.0.x nothing follows for any other.
        let minor = (!is_stable).then_some(minor);
        let patch = (minor.as_deref() == Some("0")).then_some(patch);
        Some((name.to_owned(), major, minor, patch))
    };
    split(one).is_some_and(|one| split(other).as_ref() == Some(&one))
}

fn refusal(import: &str) -> String {
    let name = unversioned(import);
    let shown = import.escape_debug();
    match INTERFACES.iter().find(|offered| unversioned(offered) == name) {
        Some(offered) => format!("{shown} (it has {offered})"),
        None if name.starts_with("wasi:") => format!("{shown} (weir has no WASI)"),
        None => shown.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(imports: &[&str], exports: &[&str]) -> Description {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Description { imports: owned(imports), exports: owned(exports), language: None, tools: Vec::new() }
    }

    #[test]
    fn every_interface_has_a_meaning() {
        for interface in INTERFACES {
            assert!(!meaning(interface).contains("does not know"), "{interface}");
        }
        assert_eq!(MEANINGS.len(), INTERFACES.len(), "{INTERFACES:?}");
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let plugin = ["weir:plugin/ipam@0.1.0"];
        assert_eq!(check(&description(&["weir:net/links@0.1.0", "weir:host/log@0.1.9"], &plugin)), Ok(()));
        for (import, reason) in [
            ("weir:net/links@0.2.0", "weir:net/links@0.2.0 (it has weir:net/links@0.1.0)"),
            ("weir:net/links@1.1.0", "it has weir:net/links@0.1.0"),
            ("weir:net/links", "it has weir:net/links@0.1.0"),
            ("weir:net/links@0.1.0-next", "it has weir:net/links@0.1.0"),
            ("weir:net/moon@0.1.0", "weir:net/moon@0.1.0"),
            ("wasi:io/poll@0.2.0", "no WASI"),
            ("\u{1b}[31m", "\\u{1b}[31m"),
        ] {
            let error = check(&description(&["weir:host/log@0.1.0", import], &plugin)).unwrap_err();
            assert!(error.contains(reason) && !error.contains("log"), "{error}");
        }
    }

    #[test]
    fn a_component_that_is_no_plugin_is_refused() {
        for exports in [&[][..], &["weir:plugin/plugin@0.2.0"], &["run", "weir:plugin/plugin"]] {
            let error = check(&description(&[], exports)).unwrap_err();
            assert!(error.contains("weir:plugin/plugin@0.1.0"), "{error}");
        }
        assert_eq!(check(&description(&[], &["weir:plugin/plugin@0.1.3", "other"])), Ok(()));
    }
}
