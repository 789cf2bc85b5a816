use std::net::IpAddr;

use weir_sdk::double::{Node, Side};
use weir_sdk::net::links::OperState;
use weir_sdk::net::types::IpFamily;
use weir_sdk::types::Sandbox;
use weir_sdk::{CniError, InterfacePlugin};

use super::{attachment, dual, layer2, net, node, ports, refusal, routed};
use crate::Bridge;

#[test]
fn add_connects_the_container_to_the_bridge() {
    let node = node().with_ipam_route("10.8.0.0/16", Some("10.1.0.9"));
    let result = Bridge::add(&attachment(r#""mtu": 1400, "dns": {"nameservers": ["10.0.0.53"]}"#)).unwrap();
    let bridge = node.link(Side::Host, "br0").unwrap();
    let [near] = &ports(&node)[..] else { panic!("one pair") };
    let far = node.link(Side::Container, "eth0").unwrap();
    assert_eq!((bridge.up, near.up, far.up), (true, true, true));
    assert_eq!(
        (near.controller, near.peer, far.peer),
        (Some(bridge.index), Some(far.index), Some(near.index))
    );
    assert_eq!((bridge.mtu, near.mtu, far.mtu), (1400, 1400, 1400));
    assert_eq!(near.state, OperState::Up);
    assert_eq!(node.addresses(Side::Container, "eth0"), [net("10.1.0.5/24")]);
    assert_eq!(routed(&node), ["10.8.0.0/16 by 10.1.0.9"]);
    // Without isGateway the node is none.
    assert!(node.addresses(Side::Host, "br0").is_empty());
    assert!(!node.forwards(Side::Host, IpFamily::Ipv4));
    let listed: Vec<_> =
        result.interfaces.iter().map(|one| (one.name.as_str(), one.sandbox.clone(), one.mtu)).collect();
    assert_eq!(
        listed,
        [
            ("br0", Sandbox::Host, Some(1400)),
            (near.name.as_str(), Sandbox::Host, Some(1400)),
            ("eth0", Sandbox::Container, Some(1400))
        ]
    );
    assert_eq!(result.interfaces[2].mac, weir_sdk::mac::text(far.mac));
    assert_eq!(result.ips[0].interface, Some(2));
    assert_eq!(result.dns.nameservers, ["10.0.0.53"]);
}

#[test]
fn settings_are_made_before_addresses_and_kept_from_the_neighbours() {
    let node = dual().with_sysctl(Side::Container, "lo", IpFamily::Ipv6, "disable_ipv6", "1");
    Bridge::add(&attachment("")).unwrap();
    let of_container = |link, family, key| node.sysctl(Side::Container, link, family, key).unwrap();
    assert_eq!(of_container("lo", IpFamily::Ipv6, "disable_ipv6"), "0");
    assert_eq!(of_container("eth0", IpFamily::Ipv6, "accept_dad"), "0");
    assert_eq!(of_container("eth0", IpFamily::Ipv6, "keep_addr_on_down"), "1");
    assert_eq!(of_container("eth0", IpFamily::Ipv4, "arp_notify"), "1");
    assert_eq!(of_container("eth0", IpFamily::Ipv6, "ndisc_notify"), "1");
    for link in ["br0".to_owned(), ports(&node)[0].name.clone()] {
        assert_eq!(node.sysctl(Side::Host, &link, IpFamily::Ipv6, "accept_ra").unwrap(), "0", "{link}");
    }
}

#[test]
fn whoever_is_there_already_hears_of_the_addresses() {
    let node = dual();
    Bridge::add(&attachment("")).unwrap();
    assert!(node.announced().is_empty(), "nobody is there");
    Bridge::add(&attachment("").with_container("second").with_ifname("eth1")).unwrap();
    assert_eq!(node.announced(), ["10.1.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
}

#[test]
fn duplicates_are_found_only_if_asked_for() {
    let _node = dual().with_duplicate("fd00::5");
    refusal(Bridge::add(&attachment(r#""enabledad": true"#)), CniError::KERNEL, "fd00::5/64");
    let node = dual().with_duplicate("fd00::5");
    Bridge::add(&attachment("")).unwrap();
    assert_eq!(node.sysctl(Side::Container, "eth0", IpFamily::Ipv6, "accept_dad").as_deref(), Some("0"));
}

#[test]
fn a_node_without_ipv6_serves_ipv4_only() {
    let _node = node().without_ipv6();
    Bridge::add(&attachment(r#""isDefaultGateway": true"#)).unwrap();
    let _node = dual().without_ipv6();
    refusal(
        Bridge::add(&attachment("")),
        CniError::KERNEL,
        "give lo an IPv6 address: this kernel has no IPv6",
    );
}

#[test]
fn an_interface_that_the_container_has_is_refused() {
    let node = Node::new().with_link(Side::Container, "eth0", "dummy");
    refusal(Bridge::add(&layer2("")), CniError::CONFIG, "(eth0) already exists: there is a dummy link");
    assert!(ports(&node).is_empty());
}

#[test]
fn a_disabled_container_interface_stays_down() {
    let node = Node::new();
    Bridge::add(&layer2(r#""disableContainerInterface": true"#)).unwrap();
    assert!(!node.link(Side::Container, "eth0").unwrap().up);
    assert!(ports(&node)[0].up);
    let both = attachment(r#""disableContainerInterface": true"#);
    refusal(
        Bridge::add(&both),
        CniError::CONFIG,
        "cannot use IPAM when the container's interface is disabled",
    );
}

#[test]
fn the_runtimes_hardware_address_wins() {
    let runtime = r#""runtimeConfig": {"mac": "02:00:00:00:00:01"}"#;
    let args = r#""args": {"cni": {"mac": "02:00:00:00:00:02"}}"#;
    let argument = [("MAC", "02:00:00:00:00:03")];
    for (attachment, last) in [
        (layer2(&format!("{runtime}, {args}")).with_arguments(argument), 1),
        (layer2(args).with_arguments(argument), 2),
        (layer2("").with_arguments(argument), 3),
    ] {
        let node = Node::new();
        let result = Bridge::add(&attachment).unwrap();
        assert_eq!(node.link(Side::Container, "eth0").unwrap().mac, Some((2, 0, 0, 0, 0, last)));
        assert_eq!(result.interfaces[2].mac, format!("02:00:00:00:00:0{last}"));
    }
    let _node = Node::new();
    let bad = layer2("").with_arguments([("MAC", "02:00")]);
    refusal(Bridge::add(&bad), CniError::CONFIG, "hardware address \"02:00\"");
}

#[test]
fn add_fails_if_the_container_is_gone() {
    let node = node();
    node.container_gone();
    refusal(Bridge::add(&attachment("")), CniError::KERNEL, "does not exist any more");
}
