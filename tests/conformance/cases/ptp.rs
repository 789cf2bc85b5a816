//! `ptp`: a veth pair without a bridge.

use super::{Case, Need, Step, other_network};
use crate::lab::Family;

fn ptp(name: &str, config: &'static str) -> Case {
    Case::new("ptp", name, config)
}

pub(super) fn cases() -> Vec<Case> {
    let plain = r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}"#;
    let dual = r#"{"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]],
        "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}"#;
    let masq = r#"{"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]],
        "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}"#;
    let of = |version| ptp(&format!("in version {version}"), plain).version(version);
    let mut cases: Vec<Case> = ["0.1.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].map(of).into();
    cases.extend([
        ptp("without routes", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .then([Step::Reaches(0, "10.1.0.1", true), Step::Reaches(0, "10.1.0.3", true)]),
        ptp("with both families", dual).then([
            Step::Reaches(0, "fd00:1::1", true),
            Step::Reaches(0, "fd00:1::3", true),
            Step::Reaches(1, "10.1.0.2", true),
        ]),
        ptp("with IPv6 alone", r#"{"ipam":{"type":"host-local","subnet":"fd00:1::/64"}}"#),
        ptp("with an MTU", r#"{"mtu":1380,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#),
        ptp(
            "with dns",
            r#"{"dns":{"nameservers":["192.0.2.53"],"search":["a.test"]},
            "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        ),
        ptp(
            "with a gateway of the range",
            r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24","gateway":"10.1.0.254",
            "routes":[{"dst":"192.168.0.0/16"},{"dst":"172.16.0.0/12","gw":"10.1.0.254"}]}}"#,
        ),
        ptp("masquerades both families", masq).needs(Need::World).needs(Need::Iptables).then([
            Step::WorldSees(0, Family::V4, "192.0.2.1"),
            Step::WorldSees(1, Family::V6, "2001:db8::1"),
        ]),
        ptp("does not masquerade unless told to", dual)
            .needs(Need::World)
            .then([Step::WorldSees(0, Family::V4, "10.1.0.2"), Step::WorldSees(1, Family::V6, "fd00:1::3")]),
        ptp(
            "with a static address",
            r#"{"ipam":{"type":"static","addresses":[{"address":"10.1.0.9/24","gateway":"10.1.0.1"}]}}"#,
        )
        .steps([Step::Add(0), Step::Check(0), Step::Del(0), Step::Del(0)]),
        ptp("misses the route", plain).steps([
            Step::Add(0),
            Step::InContainer(0, "ip route delete default"),
            Step::Changed(0),
            Step::Del(0),
        ]),
        ptp("joins a network beside another one", dual).first(other_network(0)),
        ptp("beside an interface of that name", plain)
            .steps([Step::InContainer(0, "ip link add eth0 type bridge"), Step::Refused(0, vec!["eth0"])]),
        ptp("without IPAM", "{}").refused([]),
    ]);
    cases
}
