//! What rules mean.

mod analysis;
mod cache;
mod cost;
mod document;
mod files;
mod properties;
mod refusal;

use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// A plugin that came with weir.
pub(super) const BUNDLED: Subject<'_> =
    Subject { network: "net-a", plugin: "bridge", digest: "", tenant: None, is_bundled: true };

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A plugin that did not.
pub(super) const FOREIGN: Subject<'_> =
    Subject { network: "net-a", plugin: "acme", digest: DIGEST, tenant: Some("team-a"), is_bundled: false };

pub(super) fn policy(text: &str) -> Policy {
    Policy::parse(&[(PathBuf::from("/p/policy.toml"), text.to_owned())]).unwrap_or_else(|error| {
        panic!("{error}: {text}");
    })
}

/// Whether one allow rule with these keys allows an operation.
fn allows(keys: &str, subject: &Subject<'_>, operation: Operation<'_>) -> bool {
    policy(&format!("[[allow]]\n{keys}")).permit(subject).check(&operation).is_ok()
}

fn address(text: &str) -> Operation<'_> {
    Operation::Address(text.parse().unwrap())
}

fn route(text: &str) -> Operation<'_> {
    Operation::Route(text.parse().unwrap())
}

fn neighbor(text: &str) -> Operation<'_> {
    Operation::Neighbor(text.parse().unwrap())
}

fn port(text: &str) -> Operation<'static> {
    Operation::Port(Port::parse(text).unwrap())
}

/// One operation of each sort, and a rule's key that covers it.
fn each() -> Vec<(Operation<'static>, &'static str)> {
    vec![
        (Operation::Import("weir:net/links"), "interfaces = \"weir:net/links\""),
        (Operation::Namespace(Side::Host), "namespaces = \"host\""),
        (Operation::CreateLink { kind: "veth", name: "veth0" }, "link-kinds = \"veth\"\nlinks = \"veth*\""),
        (
            Operation::CreateLink { kind: "bridge", name: "br-a" },
            "link-kinds = \"bridge\"\nbridges = \"br-a\"",
        ),
        (Operation::Bridge("br-a"), "bridges = [\"br-?\"]"),
        (Operation::Parent("eth1"), "parents = \"eth1\""),
        (
            Operation::PutOn { kind: "macvlan", parent: Some("eth1") },
            "link-kinds = \"macvlan\"\nparents = \"eth?\"",
        ),
        (Operation::PutOn { kind: "vxlan", parent: None }, "link-kinds = \"vxlan\"\nparents = \"*\""),
        (Operation::Passthru("eth1"), "link-kinds = \"macvlan\"\nlinks = \"eth1\"\nparents = \"eth1\""),
        (address("10.1.2.3/32"), "addresses = \"10.1.0.0/16\""),
        (route("10.1.2.0/24"), "routes = [\"10.1.0.0/16\"]"),
        (neighbor("10.1.2.3/32"), "neighbors = [\"10.1.0.0/16\"]"),
        (Operation::Sysctl("accept_ra"), "sysctls = \"accept_ra\""),
        (Operation::Delegate("dhcp"), "delegates = \"dhcp\""),
        (port("127.0.0.1:8080/tcp"), "ports = \"8000-8099/tcp\""),
        (
            Operation::Vlans { bridge: Some("br-a"), vlans: Numbers::between(110, 119) },
            "bridges = \"br-a\"\nvlans = \"100-199\"",
        ),
        (Operation::Vni { parent: Some("eth1"), vni: 7 }, "parents = \"eth1\"\nvnis = [\"7\"]"),
        (Operation::DataDir { path: "/srv/a/leases", pool: "/srv/a/leases/n" }, "data-dirs = \"/srv/a/*\""),
    ]
}

#[test]
fn without_a_file_bundled_plugins_may_everything_and_others_nothing() {
    let policy = Policy::default();
    assert!(policy.is_default());
    assert_eq!(policy.audit(), &AuditSettings::default());
    let (bundled, foreign) = (policy.permit(&BUNDLED), policy.permit(&FOREIGN));
    assert!(bundled.is_unrestricted() && bundled.is_allowed_at_all().is_ok());
    assert!(!foreign.is_unrestricted());
    assert_eq!((bundled.leases(), foreign.leases()), (None, Some(0)));
    assert_eq!(bundled.limits(), Limits::default());
    for (operation, _) in each() {
        assert_eq!(bundled.check(&operation), Ok(()));
        let refusal = foreign.check(&operation).unwrap_err();
        assert!(refusal.to_string().contains("no allow rule matches it"), "{refusal}");
    }
    assert!(foreign.is_allowed_at_all().is_err() && foreign.check_leases(0).is_err());
    // Nothing at all: not even what every plugin with a rule may import.
    assert!(foreign.check(&Operation::Import("weir:host/log")).is_err());
}

#[test]
fn a_rule_gives_what_its_keys_name() {
    for (operation, keys) in each() {
        assert!(allows(keys, &FOREIGN, operation), "{keys}");
        assert!(allows(keys, &BUNDLED, operation), "{keys}");
        // Nothing under a key is nothing, for whatever plugin.
        let nothing = keys.split('\n').map(|key| format!("{} = []\n", key.split(' ').next().unwrap()));
        let nothing: String = nothing.collect();
        assert!(!allows(&nothing, &FOREIGN, operation), "{nothing}");
        assert!(!allows(&nothing, &BUNDLED, operation), "{nothing}");
    }
}

#[test]
fn an_absent_key_bounds_other_plugins_only() {
    for (operation, _) in each() {
        assert!(allows("", &BUNDLED, operation), "{operation}");
        assert!(!allows("", &FOREIGN, operation), "{operation}");
    }
    assert!(allows("", &FOREIGN, Operation::Namespace(Side::Container)));
    assert!(!allows("namespaces = \"host\"", &FOREIGN, Operation::Namespace(Side::Container)));
    let lease = |keys: &str, subject| policy(&format!("[[allow]]\n{keys}")).permit(subject).leases();
    assert_eq!((lease("", &BUNDLED), lease("", &FOREIGN)), (None, Some(0)));
    assert_eq!((lease("leases = 7", &BUNDLED), lease("leases = 7", &FOREIGN)), (Some(7), Some(7)));
}

#[test]
fn what_has_no_power_is_free_with_any_rule() {
    for import in ["weir:host/log", "weir:net/types@0.1.0", "weir:plugin/request"] {
        assert!(allows("", &FOREIGN, Operation::Import(import)), "{import}");
        assert!(allows("interfaces = \"weir:net/links\"", &FOREIGN, Operation::Import(import)), "{import}");
        assert!(allows("interfaces = []", &BUNDLED, Operation::Import(import)), "{import}");
    }
    let permit = policy("[[allow]]\n[[deny]]\ninterfaces = \"weir:host/*\"").permit(&FOREIGN);
    assert!(permit.check(&Operation::Import("weir:host/log")).is_err());
    assert!(permit.check(&Operation::Import("weir:net/types")).is_ok());
}

#[test]
fn deny_wins() {
    for (operation, keys) in each() {
        for key in keys.split('\n') {
            let permit = policy(&format!("[[deny]]\n{key}\n[[allow]]\n{keys}")).permit(&FOREIGN);
            let refusal = permit.check(&operation).unwrap_err();
            assert!(refusal.to_string().contains("/p/policy.toml:2 forbids it"), "{refusal}");
            let permit = policy(&format!("[[deny]]\n{key}")).permit(&BUNDLED);
            assert!(permit.check(&operation).is_err(), "{key}");
            assert!(!permit.is_unrestricted());
        }
        let all = policy(&format!("[[deny]]\nplugin = \"*\"\n[[allow]]\n{keys}"));
        assert!(all.permit(&FOREIGN).check(&operation).is_err());
        let refusal = all.permit(&BUNDLED).is_allowed_at_all().unwrap_err();
        assert!(refusal.to_string().contains("/p/policy.toml:1"), "{refusal}");
    }
    assert!(policy("[[deny]]\nlinks = \"x\"").permit(&BUNDLED).is_allowed_at_all().is_ok());
    assert!(policy("[[deny]]\nplugin = \"x\"").permit(&BUNDLED).is_unrestricted());
    // A bridge is a link.
    let links = policy("[[deny]]\nlinks = \"br-a\"").permit(&BUNDLED);
    assert!(links.check(&Operation::CreateLink { kind: "bridge", name: "br-a" }).is_err());
    assert!(links.check(&Operation::Bridge("br-a")).is_ok());
}

#[test]
fn all_conditions_of_a_rule_have_to_hold() {
    let matches = |conditions: &str, subject: Subject<'_>| {
        policy(&format!("[[allow]]\n{conditions}\nbridges = \"br\""))
            .permit(&subject)
            .check(&Operation::Bridge("br"))
            .is_ok()
    };
    let good = format!("digest = [\"{}\", \"{DIGEST}\"]", DIGEST.replace('0', "1"));
    for conditions in
        ["", "network = \"net-?\"", "plugin = [\"x\", \"acme\"]", "tenant = \"team-*\"", good.as_str()]
    {
        assert!(matches(conditions, FOREIGN), "{conditions}");
    }
    let bad = format!("digest = \"{}\"", DIGEST.replace('0', "1"));
    for conditions in
        ["network = \"net\"", "network = \"NET-A\"", "plugin = \"acm\"", "tenant = \"team\"", bad.as_str()]
    {
        assert!(!matches(conditions, FOREIGN), "{conditions}");
        assert!(!matches(&format!("addresses = []\n{conditions}"), FOREIGN), "{conditions}");
    }
    assert!(!matches("tenant = \"*\"", Subject { tenant: None, ..FOREIGN }));
    // The digest of an unknown component is no digest.
    assert!(!matches(&good, Subject { digest: "", ..FOREIGN }));
}

#[test]
fn bundled_plugins_need_rules_if_a_file_says_so() {
    let files = |first: &str, second: &str| {
        Policy::parse(&[
            (PathBuf::from("/p/policy.toml"), first.to_owned()),
            (PathBuf::from("/p/policy.d/a.toml"), second.to_owned()),
        ])
        .unwrap()
    };
    for (first, second) in [
        ("bundled = \"by-rule\"", "bundled = \"unrestricted\""),
        ("bundled = \"unrestricted\"", "bundled = \"by-rule\""),
        ("", "bundled = \"by-rule\""),
    ] {
        let permit = files(first, second).permit(&BUNDLED);
        assert!(permit.is_allowed_at_all().is_err() && !permit.is_unrestricted(), "{first} {second}");
        assert_eq!(permit.leases(), Some(0));
        for (operation, _) in each() {
            assert!(permit.check(&operation).is_err());
        }
        let hint = permit.check(&Operation::Bridge("br")).unwrap_err().hint();
        assert!(hint.ends_with("[[allow]]\nnetwork = \"net-a\"\nplugin = \"bridge\""), "{hint}");
    }
    assert!(files("", "").permit(&BUNDLED).is_unrestricted());
    let with_rule = files("bundled = \"by-rule\"", "[[allow]]\nplugin = \"bridge\"").permit(&BUNDLED);
    assert_eq!(with_rule.check(&Operation::Bridge("br")), Ok(()));
}

#[test]
fn addresses_have_to_lie_inside_and_must_not_touch() {
    let permit = policy(
        "[[allow]]\naddresses = [\"10.1.0.0/16\", \"fd00::/8\"]\nroutes = [\"::/0\", \"10.0.0.0/8\"]\n
         [[deny]]\naddresses = [\"10.1.9.0/24\"]\nroutes = \"10.1.9.1\"",
    )
    .permit(&FOREIGN);
    for good in [
        "10.1.2.3/32",
        "10.1.2.0/24",
        "10.1.2.3/24",
        "fd00::1/64",
        "::ffff:10.1.2.3/128",
        "::ffff:10.1.2.0/120",
    ] {
        assert_eq!(permit.check(&address(good)), Ok(()), "{good}");
    }
    for bad in [
        "10.2.0.1/32",
        "10.1.2.3/8",
        "10.1.0.0/16",
        "10.1.9.5/32",
        "10.1.8.0/23",
        "::ffff:10.1.9.5/128",
        "::ffff:10.1.9.5/96",
        "::10.1.2.3/128",
        "::ffff:0:0/95",
        "0.0.0.0/0",
        "::/0",
    ] {
        assert!(permit.check(&address(bad)).is_err(), "{bad}");
    }
    for (destination, is_allowed) in [
        ("::/0", true),
        ("fd00::/64", true),
        ("10.1.8.0/24", true),
        ("0.0.0.0/0", false),
        ("10.1.9.0/24", false),
        ("::ffff:10.1.9.1/128", false),
        // It has the denied IPv4 address in it.
        ("::ffff:0:0/90", false),
    ] {
        assert_eq!(permit.check(&route(destination)).is_ok(), is_allowed, "{destination}");
    }
}

#[test]
fn neighbors_are_neither_addresses_nor_routes() {
    let permit = policy(
        "[[allow]]\naddresses = \"0.0.0.0/0\"\nroutes = \"0.0.0.0/0\"\nneighbors = [\"10.1.0.0/16\", \"fd00::/8\"]\n
         [[deny]]\nneighbors = \"10.1.0.1\"",
    )
    .permit(&FOREIGN);
    for (text, is_allowed) in [
        ("10.1.0.5/32", true),
        ("::ffff:10.1.0.5/128", true),
        ("fd00::5/128", true),
        ("10.2.0.5/32", false),
        ("10.1.0.1/32", false),
        ("::ffff:10.1.0.1/128", false),
        ("10.1.0.0/16", false),
    ] {
        assert_eq!(permit.check(&neighbor(text)).is_ok(), is_allowed, "{text}");
    }
    assert_eq!(permit.check(&address("10.1.0.1/32")), Ok(()));
    assert_eq!(permit.check(&route("10.1.0.1/32")), Ok(()));
    let refusal = permit.check(&neighbor("10.2.0.5/32")).unwrap_err();
    assert!(refusal.to_string().contains("may not have 10.2.0.5/32 as neighbor"), "{refusal}");
    assert_eq!(
        refusal.hint(),
        "change /p/policy.toml:4: neighbors = [\"10.1.0.0/16\", \"fd00::/8\", \"10.2.0.5/32\"]"
    );
}

#[test]
fn one_rule_has_to_cover_all_of_a_link() {
    let permit = policy(
        "[[allow]]\nlinks = \"veth*\"\nlink-kinds = \"bridge\"\nbridges = \"br-a\"\n[[allow]]\nlinks = \"b*\"\nlink-kinds = \"veth\"",
    )
    .permit(&FOREIGN);
    for (kind, name, is_allowed) in [
        ("veth", "b1", true),
        ("veth", "veth1", false),
        ("bridge", "br-a", true),
        ("bridge", "veth1", false),
        ("vxlan", "b1", false),
    ] {
        assert_eq!(permit.check(&Operation::CreateLink { kind, name }).is_ok(), is_allowed, "{kind} {name}");
    }
}

#[test]
fn a_parent_bounds_what_is_put_on_it() {
    let put_on = |kind, parent| Operation::PutOn { kind, parent };
    let rules = "[[allow]]\nlink-kinds = \"macvlan\"\nparents = \"eth*\"\nlinks = \"eth3\"\n
                 [[allow]]\nlink-kinds = \"vxlan\"\nparents = \"up0\"\n
                 [[allow]]\nlink-kinds = \"vxlan\"\nparents = \"?\"\n";
    let denied = ["parents = \"eth9\"", "links = \"eth8\"", "bridges = \"eth7\""];
    let denied = denied.map(|key| format!("[[deny]]\n{key}\n"));
    let permit = policy(&format!("{rules}{}", denied.concat())).permit(&FOREIGN);
    for (operation, is_allowed) in [
        (put_on("macvlan", Some("eth1")), true),
        (put_on("vxlan", Some("up0")), true),
        // Each of both by another rule.
        (put_on("macvlan", Some("up0")), false),
        (put_on("vxlan", Some("eth1")), false),
        // Who may not have the link may not be put on it either.
        (put_on("macvlan", Some("eth9")), false),
        (put_on("macvlan", Some("eth8")), false),
        (put_on("macvlan", Some("eth7")), false),
        (Operation::Parent("eth1"), true),
        (Operation::Parent("eth8"), false),
        (Operation::Parent("eth9"), false),
        (Operation::Passthru("eth3"), true),
        (Operation::Passthru("eth1"), false),
        (Operation::Passthru("up0"), false),
        // Some names are not all.
        (put_on("vxlan", None), false),
        // Being a parent is nothing else.
        (Operation::CreateLink { kind: "macvlan", name: "eth1" }, false),
        (Operation::Bridge("eth1"), false),
    ] {
        assert_eq!(permit.check(&operation).is_ok(), is_allowed, "{operation}");
    }
    let all = "[[allow]]\nlink-kinds = \"vxlan\"\nparents = \"*\"\n";
    let any = put_on("vxlan", None);
    assert_eq!(policy(all).permit(&FOREIGN).check(&any), Ok(()));
    // It may turn out to be the one that is denied.
    for deny in &denied {
        assert!(policy(&format!("{all}{deny}")).permit(&FOREIGN).check(&any).is_err(), "{deny}");
    }
    let hint = policy(rules).permit(&FOREIGN).check(&any).unwrap_err().hint();
    assert!(hint.contains("parents = [\"up0\", \"*\"]"), "{hint}");
    assert!(permit.names(Key::Parents) && !permit.names(Key::Routes));
}

#[test]
fn limits_are_the_lowest_and_leases_the_most() {
    let text = "[[allow]]\nleases = 3\n[allow.limits]\ntime = \"5s\"\nmemory = \"16MiB\"\n
        [[allow]]\nleases = 9\nlimits = { time = \"6s\", changes = 4, handles = 0 }\n
        [[allow]]\nplugin = \"other\"\nleases = 99\nlimits.time = \"1s\"";
    let limits = Limits {
        time: Some(Duration::from_secs(5)),
        memory: Some(16 << 20),
        changes: Some(4),
        handles: Some(0),
    };
    for subject in [&BUNDLED, &FOREIGN] {
        let permit = policy(text).permit(subject);
        assert_eq!(permit.limits(), limits);
        assert_eq!(permit.leases(), Some(9));
        assert_eq!(permit.check_leases(8), Ok(()));
        let refusal = permit.check_leases(9).unwrap_err();
        assert!(refusal.hint().contains("change /p/policy.toml:8: leases ="), "{}", refusal.hint());
    }
}

#[test]
fn a_port_at_every_address_is_at_each() {
    let allows = |keys: &str, text: &str| allows(keys, &FOREIGN, port(text));
    let (all, one) = ("ports = \"8000-8099/tcp\"", "ports = \"127.0.0.1:8080/tcp\"");
    assert!(
        allows(all, "8080/tcp") && allows(all, "127.0.0.1:8080/tcp") && allows(all, "[fd00::1]:8080/tcp")
    );
    assert!(allows(one, "127.0.0.1:8080/tcp") && allows(one, "[::ffff:127.0.0.1]:8080/tcp"));
    for other in ["8080/tcp", "127.0.0.2:8080/tcp", "127.0.0.1:8081/tcp", "127.0.0.1:8080/udp"] {
        assert!(!allows(one, other), "{other}");
    }
    let denied = |text: &str| {
        let policy = policy(&format!("[[allow]]\nports = \"1-65535/tcp\"\n[[deny]]\n{text}"));
        let refused = |port: Operation<'_>| policy.permit(&FOREIGN).check(&port).is_err();
        (refused(port("8080/tcp")), refused(port("127.0.0.1:8080/tcp")), refused(port("10.0.0.1:8080/tcp")))
    };
    assert_eq!(denied("ports = \"8080/tcp\""), (true, true, true));
    // What is published at all addresses is published at that one, too.
    assert_eq!(denied("ports = \"127.0.0.1:8080/tcp\""), (true, true, false));
    assert_eq!(denied("ports = \"8080/udp\""), (false, false, false));
}
