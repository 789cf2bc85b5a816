//! What is read, and what is wrong with it.

use std::path::PathBuf;

use super::policy;
use crate::audit::AuditSettings;
use crate::policy::{Policy, Problem};

fn problems(text: &str) -> Vec<String> {
    let error = Policy::parse(&[(PathBuf::from("/p/policy.toml"), text.to_owned())]).unwrap_err();
    error.problems().iter().map(Problem::to_string).collect()
}

#[test]
fn everything_wrong_is_found_with_its_position() {
    assert_eq!(
        problems(
            "bundled = \"maybe\"\n\n[[allow]]\nbridge = \"br\"\nlinks = [\"veth*\", 7]\n\n[[deny]]\nleases = 3\n"
        ),
        [
            "/p/policy.toml:1:11: bundled: expected \"unrestricted\" or \"by-rule\", found \"maybe\"",
            "/p/policy.toml:4:1: unknown key \"bridge\": expected one of name, network, plugin, digest, tenant, interfaces, namespaces, links, link-kinds, bridges, parents, addresses, routes, neighbors, sysctls, delegates, ports, data-dirs, vlans, vnis, leases, limits",
            "/p/policy.toml:5:19: links: expected a string, found an integer",
            "/p/policy.toml:8:1: unknown key \"leases\": expected one of name, network, plugin, digest, tenant, interfaces, namespaces, links, link-kinds, bridges, parents, addresses, routes, neighbors, sysctls, delegates, ports, data-dirs, vlans, vnis",
        ]
    );
    for (text, position) in [
        ("allow = 1", "1:9"),
        ("[allow]\nplugin = \"a\"", "1:"),
        ("[[allow]]\nplugin = []", "2:10"),
        ("[[deny]]\nbridges = []", "2:11"),
        ("[[allow]]\ninterfaces = [\n  \"weir:net/links\",\n  \"weir:net/link\",\n]", "4:3"),
        ("[[allow]]\naddresses = \"10.1.0.0\\u0020/16\"", "2:13"),
        ("[[allow]]\nports = [\"80/tcp\", \"80\"]", "2:20"),
        ("[[deny]]\nports = \"90-80/tcp\"", "2:9"),
        ("[[allow]]\nlimits = { time = \"5\" }", "2:19"),
        ("[[allow]]\n[allow.limits]\ntimes = \"5s\"", "3:1"),
        ("[[allow]]\nleases = -1", "2:10"),
        ("[[allow]]\nleases = 4294967296", "2:10"),
        ("[[allow]]\nplugin = \"a\"\nplugin = \"b\"", "3:1"),
        ("[[allow]]\nplugin = \"a", "2:12"),
        ("[audit]\nfile = \"audit.jsonl\"", "2:8"),
        ("[audit]\nfile = \"/\"", "2:8"),
        ("[audit]\nkeep = true", "2:8"),
        ("[plugins]\nsigning-keys = [\"x\"]", "2:17"),
        ("[plugin]\n", "1:2"),
        ("é = 1", "1:1"),
    ] {
        let found = problems(text);
        assert!(found[0].starts_with(&format!("/p/policy.toml:{position}")), "{text}: {found:?}");
    }
}

#[test]
fn sections_for_all_calls_stand_in_the_main_file() {
    let text = "[audit]\nenabled = false\nfile = \"/a\"\nmax-size = \"1KiB\"\nkeep = 0\njournald = true\nrequired = true\n
        [plugins]\nrequire-signature = true\nsigning-keys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]";
    let policy = policy(text);
    assert_eq!(
        policy.audit(),
        &AuditSettings {
            enabled: false,
            file: Some(PathBuf::from("/a")),
            max_size: 1024,
            keep: 0,
            journald: true,
            required: true
        }
    );
    assert!(policy.signing().require_signature && policy.signing().keys.len() == 1);
    let elsewhere = Policy::parse(&[(PathBuf::from("/p/policy.d/a.toml"), text.to_owned())]).unwrap_err();
    let found: Vec<String> = elsewhere.problems().iter().map(Problem::to_string).collect();
    assert_eq!(
        found,
        [
            "/p/policy.d/a.toml:1:2: [audit] belongs into policy.toml",
            "/p/policy.d/a.toml:9:10: [plugins] belongs into policy.toml"
        ]
    );
    assert!(elsewhere.to_string().contains("and 1 more"), "{elsewhere}");
    // Nor does a part replace the main file by having its name.
    let namesake = Policy::parse(&[(PathBuf::from("/p/policy.d/policy.toml"), text.to_owned())]).unwrap_err();
    assert_eq!(namesake.problems().len(), 2, "{namesake}");
}
