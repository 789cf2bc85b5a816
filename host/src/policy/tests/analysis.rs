//! Warnings.

use std::path::PathBuf;

use crate::policy::{Document, warnings};

/// The warnings, without their paths.
fn warned(text: &str) -> Vec<String> {
    let document = Document::parse(&[(PathBuf::from("/policy.toml"), text.to_owned())]);
    assert_eq!(document.problems, [], "{text}");
    let found = warnings(&document, &["bridge", "host-local"]);
    found.iter().map(|warning| warning.to_string().replace("/policy.toml:", "")).collect()
}

fn warns(text: &str, expected: &str) {
    let found = warned(text);
    assert!(matches!(found.as_slice(), [only] if only.contains(expected)), "{text}: {found:?}");
}

#[test]
fn a_good_policy_has_none() {
    for text in [
        "",
        "[[allow]]\nplugin = \"bridge\"",
        "[[allow]]\nplugin = \"acme\"\nnamespaces = \"host\"\nbridges = \"br-a\"\n[[deny]]\nbridges = \"br-b\"",
        "[[allow]]\nplugin = \"acme\"\nbridges = \"br-a\"\n[[allow]]\nplugin = \"*\"\nnamespaces = [\"host\"]",
        "[[allow]]\nnetwork = \"a\"\nbridges = \"br-a\"\n[[deny]]\nnetwork = \"b\"\nbridges = \"br-a\"",
        "[[allow]]\nplugin = \"bridge\"\nlimits.time = \"9s\"\n[[allow]]\nplugin = \"b*\"\nnetwork = \"n\"\nlimits.time = \"5s\"",
        // Two that deny everything, to different plugins.
        "[[deny]]\nplugin = \"a\"\n[[deny]]\nplugin = \"b\"",
        // For one sort of plugin the absent key is more, for the other less.
        "[[allow]]\n[[allow]]\naddresses = \"10.0.0.0/8\"",
        "[[allow]]\naddresses = \"10.0.0.0/8\"\n[[allow]]",
    ] {
        let found = warned(text);
        assert_eq!(found, [""; 0], "{text}");
    }
}

#[test]
fn rules_that_do_nothing_are_found() {
    for (text, expected) in [
        (
            "[[allow]]\nplugin = \"acme\"\ndelegates = \"x\"\n[[deny]]\nplugin = \"ac*\"",
            "1: the rule has no effect: 4 denies everything",
        ),
        ("[[allow]]\nplugin = \"acme\"\n[[allow]]\nplugin = \"acme\"", "3: the rule has no effect: 1 allows"),
        (
            "[[allow]]\nplugin = \"acme\"\n[[allow]]\nnetwork = \"n\"\nplugin = \"acme\"",
            "3: the rule has no effect: 1 allows",
        ),
        (
            "[[allow]]\nplugin = \"acme\"\naddresses = \"10.1.0.0/16\"\n[[allow]]\nplugin = \"a*\"\naddresses = [\"10.0.0.0/8\", \"fd00::/8\"]",
            "1: the rule has no effect: 4 allows",
        ),
        (
            "[[allow]]\nplugin = \"bridge\"\n[[allow]]\nplugin = \"bridge\"\nroutes = \"10.0.0.0/8\"",
            "3: the rule has no effect",
        ),
        (
            "[[allow]]\nplugin = \"bridge\"\nleases = 1\n[[allow]]\nplugin = \"bridge\"\nleases = 2",
            "1: the rule has no effect",
        ),
        ("[[allow]]\nlimits.time = \"9s\"\n[[allow]]\nlimits.time = \"5s\"", "1: the rule has no effect"),
        ("[[deny]]\n[[deny]]", "2: the rule has no effect: 1 denies"),
        (
            "[[deny]]\nbridges = \"br*\"\n[[deny]]\nplugin = \"x\"\nbridges = \"br-?\"",
            "3: the rule has no effect: 1 denies",
        ),
        ("[[deny]]\nlinks = \"e*\"\n[[deny]]\nplugin = \"*\"", "1: the rule has no effect: 3 denies"),
    ] {
        warns(text, expected);
    }
    // A rule for tenants does not match calls without one.
    assert_eq!(warned("[[allow]]\nplugin = \"a\"\n[[deny]]\ntenant = \"*\""), [""; 0]);
}

#[test]
fn conflicts_are_found() {
    let whole = "[[allow]]\nplugin = \"acme\"\nnamespaces = \"host\"\nbridges = [\"br-a\", \"br-b\"]\n[[deny]]\nbridges = \"br-b\"";
    warns(whole, "4: bridges: \"br-b\" is allowed in vain: 6 denies it");
    let partly = "[[allow]]\nplugin = \"acme\"\naddresses = \"10.0.0.0/8\"\n[[deny]]\naddresses = [\"10.1.0.0/16\", \"11.0.0.0/8\"]";
    warns(partly, "3: addresses: not all of 10.0.0.0/8 is allowed in every case: 5 denies some of it");
    let port =
        "[[allow]]\nplugin = \"acme\"\nports = \"8080/tcp\"\n[[deny]]\nports = \"127.0.0.1:1-9999/tcp\"";
    warns(port, "3: ports: not all of 8080/tcp is allowed in every case: 5 denies some of it");
    let sometimes =
        "[[allow]]\nplugin = \"acme\"\ndelegates = \"dhcp\"\n[[deny]]\nnetwork = \"n\"\ndelegates = \"dhcp\"";
    warns(sometimes, "3: delegates: not all of \"dhcp\"");
    for key in ["parents", "links", "bridges"] {
        let text = format!(
            "[[allow]]\nplugin = \"acme\"\nnamespaces = \"host\"\nparents = \"eth1\"\n[[deny]]\n{key} = \"eth*\""
        );
        warns(&text, "4: parents: \"eth1\" is allowed in vain: 6 denies it");
    }
}

#[test]
fn keys_that_do_nothing_are_found() {
    let digest = format!("digest = \"sha256:{}\"", "0".repeat(64));
    for (text, expected) in [
        (
            "[[allow]]\nplugin = \"bridge\"\nnamespaces = \"container\"\nsysctls = \"accept_ra\"".to_owned(),
            "4: sysctls: the key has no effect",
        ),
        (
            "[[allow]]\nplugin = \"acme\"\nroutes = \"10.0.0.0/8\"".to_owned(),
            "3: routes: the key has no effect",
        ),
        (format!("[[allow]]\nplugin = \"bridge\"\n{digest}"), "1: digest: the plugin comes with weir"),
        (
            "[[allow]]\nplugin = \"acme\"\ninterfaces = \"weir:store/files\"\nleases = 3".to_owned(),
            "4: leases: the key has no effect",
        ),
        (
            "[[allow]]\nplugin = \"acme\"\ninterfaces = \"weir:host/log\"".to_owned(),
            "3: interfaces: \"weir:host/log\" need not be named",
        ),
        ("[plugins]\nrequire-signature = true".to_owned(), "no plugin can be added"),
    ] {
        warns(&text, expected);
    }
    assert_eq!(warned(&format!("[[allow]]\nplugin = \"acme\"\n{digest}")), [""; 0]);
    // The limit is the highest that any rule gives.
    let two = "[[allow]]\nplugin = \"acme\"\ninterfaces = \"weir:store/*\"\nleases = 1
        [[allow]]\nplugin = [\"acme\", \"other\"]\ninterfaces = \"weir:net/links\"\nleases = 5";
    assert!(!warned(two).iter().any(|warning| warning.contains("leases")), "{:?}", warned(two));
}
