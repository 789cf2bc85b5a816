use std::net::IpAddr;

use weir_sdk::double::Side;
use weir_sdk::net::routes;
use weir_sdk::net::types::IpFamily;
use weir_sdk::{InterfacePlugin, IpNet};

use super::{attachment, dual, far, host_routes, near, nears, net, node, text};
use crate::Ptp;

/// All routes of a family that the container has, the kernel's too, but for
/// that to link-local addresses.
fn container_routes(family: IpFamily) -> Vec<String> {
    let listed = routes::list(&far(), family).unwrap().into_iter().map(text);
    listed.filter(|route| !route.starts_with("fe80:")).collect()
}

#[test]
fn the_container_reaches_its_own_subnet_by_the_gateway_alone() {
    let _node = node();
    Ptp::add(&attachment("")).unwrap();
    // The kernel's route to the subnet is not among them.
    assert_eq!(
        container_routes(IpFamily::Ipv4),
        ["10.1.0.1/32 src 10.1.0.5 scope 253", "10.1.0.0/24 via 10.1.0.1 src 10.1.0.5 scope 0"]
    );
}

#[test]
fn the_node_is_the_gateway_and_routes_to_the_container_alone() {
    let node = node();
    Ptp::add(&attachment("")).unwrap();
    assert_eq!(node.addresses(Side::Host, &near(&node).name), [net("10.1.0.1/32")]);
    assert_eq!(host_routes(&node), ["10.1.0.5/32 scope 254"]);
    assert!(node.forwards(Side::Host, IpFamily::Ipv4));
    assert!(!node.forwards(Side::Host, IpFamily::Ipv6), "nobody has an IPv6 address");
}

#[test]
fn both_families_are_connected_alike() {
    let node = dual();
    let result = Ptp::add(&attachment("")).unwrap();
    assert_eq!(node.addresses(Side::Container, "eth0"), [net("10.1.0.5/24"), net("fd00::5/64")]);
    assert_eq!(container_routes(IpFamily::Ipv4).len(), 2);
    assert_eq!(
        container_routes(IpFamily::Ipv6),
        ["fd00::1/128 src fd00::5 scope 0", "fd00::/64 via fd00::1 src fd00::5 scope 0"]
    );
    assert_eq!(node.addresses(Side::Host, &near(&node).name), [net("10.1.0.1/32"), net("fd00::1/128")]);
    assert_eq!(host_routes(&node), ["10.1.0.5/32 scope 254", "fd00::5/128 scope 0"]);
    assert!(node.forwards(Side::Host, IpFamily::Ipv4) && node.forwards(Side::Host, IpFamily::Ipv6));
    assert!(result.ips.iter().all(|ip| ip.interface == Some(1)));
}

#[test]
fn several_containers_share_the_gateway() {
    let node = node().with_link(Side::Host, "veth0", "veth").with_address(Side::Host, "veth0", "10.1.0.1/32");
    Ptp::add(&attachment("")).unwrap();
    let second = nears(&node).into_iter().find(|link| link.name != "veth0").unwrap();
    assert_eq!(node.addresses(Side::Host, &second.name), [net("10.1.0.1/32")]);
}

#[test]
fn routes_of_ipam_go_by_the_gateway_of_their_family_and_are_listed_as_they_came() {
    let node = dual()
        .with_ipam_route("0.0.0.0/0", None)
        .with_ipam_route("fd08::/16", None)
        .with_ipam_route("10.8.0.0/16", Some("10.1.0.1"));
    let result = Ptp::add(&attachment("")).unwrap();
    let made: Vec<String> = node.routes(Side::Container, "eth0").into_iter().map(text).collect();
    for route in [
        "0.0.0.0/0 via 10.1.0.1 scope 0",
        "fd08::/16 via fd00::1 scope 0",
        "10.8.0.0/16 via 10.1.0.1 scope 0",
    ] {
        assert!(made.iter().any(|one| one == route), "{route} is not among {made:?}");
    }
    assert_eq!(made.len(), 7, "and what the gateways need");
    let listed: Vec<_> = result
        .routes
        .iter()
        .map(|route| (IpNet::from(route.destination).to_string(), route.gateway.map(IpAddr::from)))
        .collect();
    assert_eq!(
        listed,
        [
            ("0.0.0.0/0".to_owned(), None),
            ("fd08::/16".to_owned(), None),
            ("10.8.0.0/16".to_owned(), Some("10.1.0.1".parse().unwrap()))
        ]
    );
}
#[test]
fn routes_of_ipam_may_go_by_a_neighbour() {
    let node =
        dual().with_ipam_route("10.8.0.0/16", Some("10.1.0.9")).with_ipam_route("fd08::/16", Some("fd00::9"));
    Ptp::add(&attachment("")).unwrap();
    let made: Vec<String> = node.routes(Side::Container, "eth0").into_iter().map(text).collect();
    assert!(made.contains(&"10.8.0.0/16 via 10.1.0.9 scope 0".to_owned()), "{made:?}");
    assert!(made.contains(&"fd08::/16 via fd00::9 scope 0".to_owned()), "{made:?}");
}
