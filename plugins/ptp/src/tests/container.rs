use std::net::IpAddr;

use weir_sdk::double::{IpamCall, Side};
use weir_sdk::net::links::OperState;
use weir_sdk::net::types::{IpFamily, NetError};
use weir_sdk::types::Sandbox;
use weir_sdk::{CniError, InterfacePlugin, IpNet};

use super::{attachment, dual, host_routes, near, nears, net, node, refusal};
use crate::Ptp;

#[test]
fn add_connects_the_container_to_the_node() {
    let node = node();
    let result = Ptp::add(&attachment(r#""mtu": 1400"#)).unwrap();
    let (near, far) = (near(&node), node.link(Side::Container, "eth0").unwrap());
    assert_eq!((near.up, far.up, near.state), (true, true, OperState::Up));
    assert_eq!((near.peer, far.peer, near.controller), (Some(far.index), Some(near.index), None));
    assert_eq!((near.mtu, far.mtu), (1400, 1400));
    assert_eq!(node.addresses(Side::Container, "eth0"), [net("10.1.0.5/24")]);
    let listed: Vec<_> =
        result.interfaces.iter().map(|one| (one.name.as_str(), one.sandbox.clone(), one.mtu)).collect();
    assert_eq!(
        listed,
        [(near.name.as_str(), Sandbox::Host, Some(1400)), ("eth0", Sandbox::Container, Some(1400))]
    );
    assert_eq!(result.interfaces[0].mac, weir_sdk::mac::text(near.mac));
    assert_eq!(result.interfaces[1].mac, weir_sdk::mac::text(far.mac));
    let [ip] = &result.ips[..] else { panic!("one address: {result:?}") };
    assert_eq!((IpNet::from(ip.address), ip.interface), (net("10.1.0.5/24"), Some(1)));
    assert_eq!(ip.gateway.map(IpAddr::from), Some("10.1.0.1".parse().unwrap()));
    assert_eq!(node.ipam_calls(), [IpamCall::Add]);
}

#[test]
fn addresses_are_used_at_once() {
    let node = dual().with_duplicate("fd00::5").with_sysctl(
        Side::Container,
        "lo",
        IpFamily::Ipv6,
        "disable_ipv6",
        "1",
    );
    Ptp::add(&attachment("")).unwrap();
    let of_container = |link, family, key| node.sysctl(Side::Container, link, family, key).unwrap();
    assert_eq!(of_container("eth0", IpFamily::Ipv6, "accept_dad"), "0");
    assert_eq!(of_container("lo", IpFamily::Ipv6, "disable_ipv6"), "0");
    // A container must not configure the node (CVE-2020-10749).
    let near = near(&node).name;
    assert_eq!(node.sysctl(Side::Host, &near, IpFamily::Ipv6, "accept_ra").as_deref(), Some("0"));
}

#[test]
fn the_containers_end_is_down_until_it_has_its_settings_and_addresses() {
    for operation in ["sysctls.set", "addresses.add"] {
        let node = node();
        node.fail_next(operation, NetError::Busy("not now".to_owned()));
        refusal(Ptp::add(&attachment("")), CniError::TRY_AGAIN, "not now");
        assert!(!node.link(Side::Container, "eth0").unwrap().up, "{operation}");
    }
}

#[test]
fn a_node_without_ipv6_serves_ipv4_only() {
    let node = node().without_ipv6();
    Ptp::add(&attachment("")).unwrap();
    assert_eq!(host_routes(&node).len(), 1);
    let _node = dual().without_ipv6();
    refusal(Ptp::add(&attachment("")), CniError::KERNEL, "ipv6");
}

#[test]
fn an_interface_that_the_container_has_is_refused() {
    let node = node().with_link(Side::Container, "eth0", "dummy");
    refusal(Ptp::add(&attachment("")), CniError::CONFIG, "(eth0) already exists: there is a dummy link");
    assert!(nears(&node).is_empty());
    Ptp::add(&attachment("").with_ifname("eth1")).unwrap();
    assert!(node.link(Side::Container, "eth1").unwrap().up);
}

#[test]
fn add_fails_if_the_container_is_gone() {
    let node = node();
    node.container_gone();
    refusal(Ptp::add(&attachment("")), CniError::KERNEL, "does not exist any more");
    assert!(nears(&node).is_empty());
}

#[test]
fn add_says_what_the_kernel_refuses() {
    for operation in [
        "netns.enable-forwarding",
        "netns.create-veth",
        "sysctls.set",
        "addresses.add",
        "link.set-up",
        "routes.remove",
        "routes.add",
        "masquerade.add",
    ] {
        let node = node();
        node.fail_next(operation, NetError::Denied(format!("no {operation}")));
        let done = Ptp::add(&attachment(r#""ipMasq": true"#));
        refusal(done, CniError::DENIED, &format!("no {operation}"));
    }
}
