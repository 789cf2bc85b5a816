use std::net::IpAddr;

use weir_sdk::double::{Node, Side};
use weir_sdk::net::types::IpFamily;
use weir_sdk::{CniError, InterfacePlugin};

use super::{attachment, dual, net, node, ports, refusal, routed};
use crate::Bridge;

#[test]
fn the_gateway_is_the_networks_first_host_if_nobody_names_it() {
    let node = dual();
    let result = Bridge::add(&attachment(r#""isGateway": true"#)).unwrap();
    assert_eq!(node.addresses(Side::Host, "br0"), [net("10.1.0.1/24"), net("fd00::1/64")]);
    let gateways: Vec<_> =
        result.ips.iter().map(|ip| IpAddr::from(ip.gateway.unwrap()).to_string()).collect();
    assert_eq!(gateways, ["10.1.0.1", "fd00::1"]);
    assert!(node.forwards(Side::Host, IpFamily::Ipv4) && node.forwards(Side::Host, IpFamily::Ipv6));
    assert!(result.routes.is_empty(), "isGateway alone makes no default route");
}

#[test]
fn a_gateway_that_ipam_names_is_taken() {
    let node = Node::new().with_ipam_address("10.1.0.5/24", Some("10.1.0.254"));
    Bridge::add(&attachment(r#""isGateway": true"#)).unwrap();
    assert_eq!(node.addresses(Side::Host, "br0"), [net("10.1.0.254/24")]);
    assert!(!node.forwards(Side::Host, IpFamily::Ipv6));
}

#[test]
fn the_bridge_keeps_its_address_unless_it_is_forced() {
    let bridge =
        |address| node().with_link(Side::Host, "br0", "bridge").with_address(Side::Host, "br0", address);
    let _node = bridge("10.9.0.1/24");
    refusal(
        Bridge::add(&attachment(r#""isGateway": true"#)),
        CniError::CONFIG,
        "\"br0\" already has an IP address different from 10.1.0.1/24: 10.9.0.1/24",
    );
    let node = bridge("10.9.0.1/24");
    Bridge::add(&attachment(r#""isGateway": true, "forceAddress": true"#)).unwrap();
    assert_eq!(node.addresses(Side::Host, "br0"), [net("10.1.0.1/24")]);
    let node = bridge("10.1.0.1/24");
    Bridge::add(&attachment(r#""isGateway": true"#)).unwrap();
    assert_eq!(node.addresses(Side::Host, "br0"), [net("10.1.0.1/24")]);
}

#[test]
fn other_ipv6_networks_may_be_on_the_bridge() {
    let bridge = |address| {
        let node = Node::new().with_ipam_address("fd00::5/64", None).with_link(Side::Host, "br0", "bridge");
        node.with_address(Side::Host, "br0", address)
    };
    let node = bridge("fd01::1/64");
    Bridge::add(&attachment(r#""isGateway": true"#)).unwrap();
    assert_eq!(node.addresses(Side::Host, "br0"), [net("fd01::1/64"), net("fd00::1/64")]);
    // The one contains the other, either way.
    for overlapping in ["fd00:0:0:9::9/48", "fd00::9/128"] {
        let _node = bridge(overlapping);
        refusal(Bridge::add(&attachment(r#""isGateway": true"#)), CniError::CONFIG, overlapping);
    }
}

#[test]
fn the_gateway_of_a_vlan_has_a_port_of_its_own() {
    let node = node();
    let attachment = attachment(r#""vlan": 100, "isGateway": true"#);
    let result = Bridge::add(&attachment).unwrap();
    assert_eq!(node.addresses(Side::Host, "br0.100"), [net("10.1.0.1/24")]);
    assert!(node.addresses(Side::Host, "br0").is_empty());
    assert_eq!(result.interfaces[3].name, "br0.100");
    assert_eq!(result.ips[0].interface, Some(2));
    let own = node.link(Side::Host, "br0.100").unwrap();
    let plug = ports(&node).into_iter().find(|port| Some(port.index) == own.peer).unwrap();
    assert!(node.vlans(Side::Host, &plug.name).iter().any(|range| range.first == 100 && range.pvid));
    // Others use it too, and it outlives them.
    Bridge::add(&attachment.clone().with_ifname("eth1")).unwrap();
    Bridge::del(&attachment).unwrap();
    assert!(node.link(Side::Host, "br0.100").is_some());
    assert_eq!(node.sysctl(Side::Host, "br0.100", IpFamily::Ipv6, "accept_ra").as_deref(), Some("0"));
}

#[test]
fn the_default_route_is_added_once_for_each_family() {
    let node = dual().with_ipam_address("fd00::6/64", None);
    let result = Bridge::add(&attachment(r#""isDefaultGateway": true"#)).unwrap();
    assert_eq!(routed(&node), ["0.0.0.0/0 by 10.1.0.1", "::/0 by fd00::1"]);
    assert_eq!(result.routes.len(), 2);
}

#[test]
fn a_default_route_of_ipam_is_kept() {
    let node = dual().with_ipam_route("0.0.0.0/0", Some("10.1.0.9"));
    let result = Bridge::add(&attachment(r#""isDefaultGateway": true"#)).unwrap();
    assert_eq!(routed(&node), ["0.0.0.0/0 by 10.1.0.9", "::/0 by fd00::1"]);
    assert_eq!(result.routes.len(), 2);
}

#[test]
fn a_default_route_without_a_gateway_goes_by_the_nodes() {
    let node = node().with_ipam_route("0.0.0.0/0", None);
    let result = Bridge::add(&attachment(r#""isDefaultGateway": true"#)).unwrap();
    assert_eq!(routed(&node), ["0.0.0.0/0 by 10.1.0.1"]);
    let gateways: Vec<_> = result.routes.iter().map(|route| route.gateway.map(IpAddr::from)).collect();
    assert_eq!(gateways, [None, Some("10.1.0.1".parse().unwrap())], "as the reference plugin lists it");
}

#[test]
fn routes_go_by_the_gateway_of_their_family_and_the_last_one_comes_first() {
    let node = Node::new()
        .with_ipam_address("10.1.0.5/24", Some("10.1.0.1"))
        .with_ipam_address("fd00::5/64", Some("fd00::1"))
        .with_ipam_route("fd08::/16", None)
        .with_ipam_route("10.8.0.0/16", None)
        .with_ipam_route("10.8.0.0/16", Some("10.1.0.9"));
    Bridge::add(&attachment("")).unwrap();
    assert_eq!(routed(&node), ["fd08::/16 by fd00::1", "10.8.0.0/16 by 10.1.0.9", "10.8.0.0/16 by 10.1.0.1"]);
}
