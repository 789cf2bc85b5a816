//! Lists of plugins, some of them native: what they tell each other is the
//! result, and what they find is what weir has made.

use super::{Case, Need, Step};

const DUAL: &str = r#"{"isDefaultGateway":true,"ipam":{"type":"host-local",
    "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#;

fn bridge(name: &str) -> Case {
    Case::new("bridge", name, DUAL)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = followed();
    cases.extend(asking());
    cases
}

/// Native plugins after weir's.
fn followed() -> Vec<Case> {
    vec![
        bridge("before tuning").followed_by(
            "tuning",
            r#"{"dataDir":"{dir}tuning","mtu":1400,"promisc":true,"allmulti":true,
                "sysctl":{"net.ipv4.conf.eth0.arp_notify":"0","net.ipv4.conf.all.rp_filter":"2"}}"#,
        ),
        Case::new(
            "bridge",
            "before portmap and firewall",
            r#"{"isDefaultGateway":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        )
        .followed_by(
            "portmap",
            r#"{"capabilities":{"portMappings":true},"runtimeConfig":{"portMappings":[
                {"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}}"#,
        )
        .followed_by("firewall", r#"{"backend":"iptables"}"#)
        .needs(Need::Iptables)
        // Without CHECK, which fails in old versions of portmap.
        .steps([
            Step::Add(0),
            Step::Add(1),
            Step::Reaches(0, "10.1.0.1", true),
            Step::Reaches(1, "10.1.0.1", true),
            Step::Del(0),
            Step::Del(0),
            Step::End(1),
            Step::DelWithoutNetns(1),
        ]),
        bridge("before bandwidth").followed_by(
            "bandwidth",
            r#"{"ingressRate":8000000,"ingressBurst":800000,"egressRate":8000000,"egressBurst":800000}"#,
        ),
        // It moves the routes to a table for packets with the container's
        // address, which CHECK of bridge sees.
        bridge("before sbr").followed_by("sbr", "{}").steps([
            Step::Add(0),
            Step::Changed(0),
            Step::Reaches(0, "10.1.0.1", false),
            Step::Del(0),
        ]),
        Case::new(
            "ptp",
            "before tuning and bandwidth",
            r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}"#,
        )
        .followed_by("tuning", r#"{"dataDir":"{dir}tuning","mtu":1400}"#)
        .followed_by("bandwidth", r#"{"ingressRate":8000000,"ingressBurst":800000}"#),
    ]
}

/// Native plugins that ask weir's for addresses.
fn asking() -> Vec<Case> {
    let link = ["ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up"];
    let with_link = |case: Case| case.first(link.map(Step::OnNode));
    let one = [Step::Add(0), Step::Check(0), Step::Del(0)];
    vec![
        with_link(Case::new(
            "macvlan",
            "asks host-local",
            r#"{"master":"up0","ipam":{"type":"host-local",
                "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]],
                "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}"#,
        )),
        with_link(Case::new(
            "macvlan",
            "asks static",
            r#"{"master":"up0","ipam":{"type":"static","addresses":[{"address":"10.1.0.9/24","gateway":"10.1.0.1"}],
                "routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["10.1.0.1"]}}}"#,
        )
        .steps(one.clone())),
        with_link(Case::new(
            "host-device",
            "asks static",
            r#"{"device":"up1","ipam":{"type":"static","addresses":[{"address":"10.1.0.9/24","gateway":"10.1.0.1"}]}}"#,
        )
        .steps(one)),
    ]
}
