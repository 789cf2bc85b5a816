//! What both refuse.

use super::{Case, Step};

fn bridge(name: &str, config: &'static str) -> Case {
    Case::new("bridge", name, config)
}

/// A range that is refused, and what has to be said about it.
fn range(name: &str, config: &'static str, facts: &[&'static str]) -> Case {
    Case::new("host-local", name, config).refused(facts)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        range("with a subnet of octal numbers", r#"{"ipam":{"type":"host-local","subnet":"010.1.0.0/24"}}"#, &["010.1.0.0/24"]),
        bridge("added twice", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .steps([Step::Add(0), Step::Refused(0, vec![]), Step::Check(0), Step::Del(0)]),
        Case::new("host-local", "called twice", r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .steps([Step::Add(0), Step::Refused(0, vec!["10.1.0.2", "c1"]), Step::Del(0)]),
        bridge("beside an interface of that name", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .steps([Step::InContainer(0, "ip link add eth0 type bridge"), Step::Refused(0, vec!["eth0"])]),
        bridge("on a link that is no bridge", r#"{"bridge":"dummy0","ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .steps([Step::OnNode("ip link add dummy0 type veth peer name dummy1"), Step::Refused(0, vec!["dummy0", "not a bridge"])]),
        bridge(
            "on a bridge with another address",
            r#"{"bridge":"br0","isGateway":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        )
        .steps([
            Step::OnNode("ip link add br0 type bridge"),
            Step::OnNode("ip address add 10.9.0.1/16 dev br0"),
            Step::Refused(0, vec!["br0", "10.1.0.1/24"]),
        ]),
        bridge(
            "on a bridge with an overlapping IPv6 address",
            r#"{"bridge":"br0","isGateway":true,"ipam":{"type":"host-local","subnet":"fd00:1::/64"}}"#,
        )
        .steps([
            Step::OnNode("ip link add br0 up type bridge"),
            Step::OnNode("ip address add fd00:1::9/64 dev br0 nodad"),
            Step::Refused(0, vec!["br0", "fd00:1::1/64"]),
        ]),
        bridge(
            "both hairpin and promiscuous",
            r#"{"hairpinMode":true,"promiscMode":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        )
        .refused(["hairpin", "promisc"]),
        bridge(
            "with IPAM and a disabled interface",
            r#"{"disableContainerInterface":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        )
        .needs(super::Need::RecentReference)
        .refused(["cannot use IPAM"]),
        bridge("in VLAN 4095", r#"{"vlan":4095,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#).refused(["4095"]),
        bridge("in VLAN -1", r#"{"vlan":-1,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#).refused(["-1"]),
        bridge("with a trunk upside down", r#"{"vlanTrunk":[{"minID":9,"maxID":3}],"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .needs(super::Need::RecentReference)
            .refused(["minID"]),
        bridge("with a bad hardware address", r#"{"runtimeConfig":{"mac":"02:xx"},"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .refused(["02:xx"]),
        bridge("with an unknown masquerading backend", r#"{"ipMasq":true,"ipMasqBackend":"magic","ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .needs(super::Need::RecentReference)
            .refused(["magic"]),
        bridge("with an IPAM plugin that is not there", r#"{"ipam":{"type":"x-test"}}"#).refused(["x-test"]),
        bridge("with an unknown argument", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .arguments("COLOR=red")
            .refused(["COLOR"]),
        bridge("when the pool is exhausted", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/30"}}"#)
            .steps([Step::Add(0), Step::Refused(1, vec!["10.1.0.1-10.1.0.2", "no IP addresses available"]), Step::Del(1), Step::Del(0)]),
        bridge("when the second pool is exhausted", r#"{"isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64","rangeEnd":"fd00:1::2"}]]}}"#)
            .steps([Step::Add(0), Step::Refused(1, vec!["fd00:1::1-fd00:1::2"]), Step::Del(1), Step::Check(0), Step::Del(0)]),
        bridge("when the requested address is taken", r#"{"isGateway":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .arguments("IP=10.1.0.9;IgnoreUnknown=1")
            .steps([Step::Add(0), Step::Refused(1, vec!["10.1.0.9"]), Step::Del(1), Step::Check(0), Step::Del(0)]),
        bridge("when the requested address is the gateway's", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .arguments("IP=10.1.0.1;IgnoreUnknown=1")
            .refused(["10.1.0.1", "gateway"]),
        bridge("when the requested address is outside", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .arguments("IP=10.2.0.1;IgnoreUnknown=1")
            .refused(["10.2.0.1"]),
        bridge("when one requested address is outside", r#"{"runtimeConfig":{"ips":["10.1.0.9","10.2.0.1"]},
            "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .refused(["10.2.0.1"]),
        bridge("when the requested address is no address", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .arguments("IP=10.1.0.300;IgnoreUnknown=1")
            .refused(["10.1.0.300"]),
        bridge("with resolvConf that is not there", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24","resolvConf":"{dir}nothing"}}"#)
            .refused(["nothing"]),
    ];
    cases.extend(ranges());
    cases
}

fn ranges() -> Vec<Case> {
    vec![
        range(
            "with a subnet without a length",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0"}}"#,
            &["10.1.0.0"],
        ),
        range(
            "with host bits in the subnet",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.9/24"}}"#,
            &["host bits", "10.1.0.0"],
        ),
        range(
            "with a subnet that is too small",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/31"}}"#,
            &["10.1.0.0/31", "too small"],
        ),
        range(
            "with an IPv6 subnet that is too small",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"fd00::/127"}}"#,
            &["fd00::/127", "too small"],
        ),
        range(
            "with a range that begins outside",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24","rangeStart":"10.2.0.1"}}"#,
            &["10.2.0.1", "10.1.0.0/24"],
        ),
        range(
            "with a range that ends outside",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24","rangeEnd":"10.2.0.1"}}"#,
            &["10.2.0.1", "10.1.0.0/24"],
        ),
        range(
            "with a range upside down",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24","rangeStart":"10.1.0.9","rangeEnd":"10.1.0.3"}}"#,
            &["10.1.0.9"],
        ),
        range(
            "with a gateway that is no address",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24","gateway":"here"}}"#,
            &["here"],
        ),
        range(
            "with overlapping ranges in a set",
            r#"{"type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/16"},{"subnet":"10.1.2.0/24"}]]}}"#,
            &["overlap"],
        ),
        range(
            "with overlapping sets",
            r#"{"type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/16"}],[{"subnet":"10.1.2.0/24"}]]}}"#,
            &["overlap"],
        ),
        range(
            "with both families in a set",
            r#"{"type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/16"},{"subnet":"fd00::/64"}]]}}"#,
            &["mixed address families"],
        ),
        range(
            "with an empty set",
            r#"{"type":"bridge","ipam":{"type":"host-local","ranges":[[]]}}"#,
            &["empty range set"],
        ),
        range(
            "without ranges",
            r#"{"type":"bridge","ipam":{"type":"host-local"}}"#,
            &["no IP ranges specified"],
        ),
        range("without ipam", r#"{"type":"host-local"}"#, &["ipam"]),
        range(
            "with a route that is no network",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24","routes":[{"dst":"there"}]}}"#,
            &["there"],
        ),
        range(
            "with two IPv4 sets in version 0.2.0",
            r#"{"cniVersion":"0.2.0","type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/24"}]]}}"#,
            &["0.2.0"],
        ),
    ]
}
