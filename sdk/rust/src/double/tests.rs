mod ipv6;
mod neighbors;
mod store;
mod upper;

use super::firewall::{guards, masquerade, publish};
use super::host::{clock, random};
use super::net::addresses;
use super::net::links::{self, BridgeOptions, Link, Netns, OperState, PortOptions, VethEnd, VlanRange};
use super::net::routes::{self, Route};
use super::net::sysctls;
use super::net::types::{IpFamily, IpPrefix, NetError};
use super::net::{parsed_address, parsed_net};
use super::request::Attachment;
use super::{IpamCall, Node, Side, ipam};
use crate::CniError;

fn end(name: &str, up: bool) -> VethEnd {
    VethEnd { name: name.to_owned(), mac: None, up }
}

fn netns() -> (Netns, Netns) {
    (links::host().unwrap(), links::container().unwrap())
}

/// A pair of links, both ends up.
fn pair() -> (Link, Link) {
    let (host, container) = netns();
    host.create_veth(&end("veth1", true), &end("eth0", true), &container, 0, None).unwrap()
}

fn prefix(text: &str) -> IpPrefix {
    parsed_net(text).into()
}

fn route(destination: &str, gateway: Option<&str>) -> Route {
    Route {
        destination: prefix(destination),
        gateway: gateway.map(|gateway| parsed_address(gateway).into()),
        source: None,
        scope: if gateway.is_none() && destination.contains('.') { 253 } else { 0 },
        table: None,
        priority: None,
        mtu: None,
        advmss: None,
    }
}

#[track_caller]
fn assert_errno(done: Result<(), NetError>, errno: i32) {
    assert!(matches!(&done, Err(NetError::Kernel(error)) if error.errno == errno), "{done:?}");
}

#[test]
fn only_links_of_the_attachment_are_changed_on_the_host() {
    let node = Node::new().with_link(Side::Host, "dummy0", "dummy");
    let one = Attachment::new("{}");
    one.id();
    let (near, _far) = pair();
    let (host, _) = netns();
    let bridge = host
        .create_bridge(&BridgeOptions {
            name: "br0".to_owned(),
            mtu: 0,
            vlan_filtering: false,
            default_vlan: true,
        })
        .unwrap();
    near.attach_to(&bridge).unwrap();
    let foreign = host.link("dummy0").unwrap();
    for refused in [foreign.remove(), foreign.attach_to(&bridge), bridge.remove()] {
        assert!(matches!(refused, Err(NetError::Denied(_))), "{refused:?}");
    }
    // Nor by another container.
    one.clone().with_container("other").id();
    let same = host.link("veth1").unwrap();
    assert!(matches!(same.remove(), Err(NetError::Denied(_))));
    // A later call for the attachment may.
    one.id();
    host.link("veth1").unwrap().remove().unwrap();
    assert!(node.link(Side::Host, "veth1").is_none());
}

#[test]
fn one_end_of_a_pair_goes_with_the_other() {
    let node = Node::new();
    let (near, far) = pair();
    far.remove().unwrap();
    assert!(matches!(near.describe(), Err(NetError::NotFound(_))));
    assert!(matches!(near.set_up(true), Err(NetError::NotFound(_))));
    pair();
    node.container_gone();
    assert!(node.link(Side::Host, "veth1").is_none());
    assert!(matches!(links::container(), Err(NetError::NotFound(_))));
}

#[test]
fn names_are_short_and_unique() {
    let node = Node::new().with_link(Side::Container, "eth0", "dummy");
    let (host, container) = netns();
    let make =
        |near: &str, far: &str| host.create_veth(&end(near, true), &end(far, true), &container, 0, None);
    for bad in ["sixteen-bytes-xx", "a/b", "a b", ".."] {
        assert!(matches!(make(bad, "eth1"), Err(NetError::Invalid(_))), "{bad}");
        assert!(matches!(make("veth1", bad), Err(NetError::Invalid(_))), "{bad}");
    }
    assert!(matches!(make("eth0", "eth1"), Err(NetError::AlreadyExists(_))));
    assert!(matches!(make("veth1", "eth0"), Err(NetError::AlreadyExists(_))));
    assert!(node.link(Side::Host, "veth1").is_none());
    make("fifteen-bytes-x", "eth1").unwrap();
    let (near, far) = make("", "").unwrap();
    let (near, far) = (near.as_found().name, far.as_found().name);
    assert!(near.len() == 12 && near.starts_with("veth") && near != far, "{near} and {far}");
}

#[test]
fn a_pair_is_operational_when_both_ends_are_up() {
    let node = Node::new();
    let (host, container) = netns();
    let bridge = BridgeOptions { name: "br0".to_owned(), mtu: 0, vlan_filtering: false, default_vlan: true };
    let bridge = host.create_bridge(&bridge).unwrap();
    let (near, far) =
        host.create_veth(&end("veth1", true), &end("eth0", false), &container, 1400, Some(&bridge)).unwrap();
    assert_eq!(near.describe().unwrap().state, OperState::LowerLayerDown);
    assert_eq!(bridge.describe().unwrap().state, OperState::Down);
    let before = clock::now();
    assert!(matches!(near.wait_until_up(500), Err(NetError::Busy(_))));
    assert_eq!(clock::now(), before + 500);
    far.set_up(true).unwrap();
    near.wait_until_up(500).unwrap();
    assert_eq!(bridge.describe().unwrap().state, OperState::Up);
    let (near, far) = (near.describe().unwrap(), far.describe().unwrap());
    assert_eq!((near.peer, far.peer), (Some(far.index), Some(near.index)));
    assert_eq!((near.mtu, near.controller), (1400, Some(bridge.describe().unwrap().index)));
    assert_eq!(node.links(Side::Host).len(), 4);
}

#[test]
fn a_gateway_is_somebody_else_who_can_be_reached() {
    let _node = Node::new();
    let (_near, far) = pair();
    let anywhere = route("0.0.0.0/0", Some("10.1.0.1"));
    assert_errno(routes::add(&far, anywhere), 101);
    addresses::add(&far, prefix("10.1.0.5/24")).unwrap();
    assert_errno(routes::add(&far, route("0.0.0.0/0", Some("10.1.0.5"))), 22);
    assert_errno(routes::add(&far, Route { scope: 253, ..anywhere }), 22);
    far.set_up(false).unwrap();
    assert_errno(routes::add(&far, anywhere), 100);
    far.set_up(true).unwrap();
    routes::add(&far, anywhere).unwrap();
    assert_errno(routes::add(&far, route("::/0", Some("fd00::1"))), 113);
    routes::add(&far, route("fd00::1/128", None)).unwrap();
    routes::add(&far, route("::/0", Some("fd00::1"))).unwrap();
    let host_bits = routes::add(&far, Route { destination: prefix("10.9.0.1/16"), ..anywhere });
    assert!(matches!(host_bits, Err(NetError::Invalid(_))));
}

#[test]
fn routes_are_unique_in_the_namespace() {
    let node = Node::new();
    let (host, container) = netns();
    let (_near, far) = pair();
    let (_, other) = host.create_veth(&end("veth2", true), &end("eth1", true), &container, 0, None).unwrap();
    addresses::add(&far, prefix("10.1.0.5/24")).unwrap();
    let lan = route("10.2.0.0/16", None);
    routes::add(&far, lan).unwrap();
    assert!(matches!(routes::add(&other, lan), Err(NetError::AlreadyExists(_))));
    assert!(matches!(routes::add(&other, route("10.1.0.0/24", None)), Err(NetError::AlreadyExists(_))));
    routes::prepend(&other, lan).unwrap();
    assert!(matches!(routes::prepend(&other, lan), Err(NetError::AlreadyExists(_))));
    routes::remove(&other, lan).unwrap();
    routes::add(&other, Route { priority: Some(5), ..lan }).unwrap();
    routes::add(&other, Route { table: Some(100), ..lan }).unwrap();
    assert_eq!(routes::list(&far, IpFamily::Ipv4).unwrap().len(), 2);
    assert_eq!(node.routes(Side::Container, "eth0"), [Route { table: Some(254), ..lan }]);
    routes::remove(&far, lan).unwrap();
    assert!(matches!(routes::remove(&far, lan), Err(NetError::NotFound(_))));
    let uplink = host.link("eth0").unwrap();
    assert!(matches!(routes::prepend(&uplink, lan), Err(NetError::Denied(_))));
    routes::add(&uplink, lan).unwrap();
    assert!(matches!(routes::remove(&uplink, lan), Err(NetError::Denied(_))));
}

#[test]
fn the_kernels_routes_can_be_removed_and_come_back_with_the_link() {
    let _node = Node::new();
    let (_near, far) = pair();
    for (address, network, family) in
        [("10.1.0.5/24", "10.1.0.0/24", IpFamily::Ipv4), ("fd00::5/64", "fd00::/64", IpFamily::Ipv6)]
    {
        addresses::add(&far, prefix(address)).unwrap();
        let is_there = || {
            let routes = routes::list(&far, family).unwrap();
            routes.iter().any(|route| route.destination == prefix(network))
        };
        assert!(is_there());
        let any = Route { scope: 255, ..route(network, None) };
        routes::remove(&far, any).unwrap();
        assert!(!is_there());
        assert!(matches!(routes::remove(&far, any), Err(NetError::NotFound(_))));
        far.set_up(false).unwrap();
        far.set_up(true).unwrap();
        // IPv6 addresses go with the link.
        assert_eq!(is_there(), family == IpFamily::Ipv4);
    }
    let universe = Route { scope: 0, ..route("10.1.0.0/24", None) };
    assert!(matches!(routes::remove(&far, universe), Err(NetError::NotFound(_))), "of another scope");
}

#[test]
fn a_link_that_goes_down_loses_routes_and_ipv6() {
    let node = Node::new();
    let (_near, far) = pair();
    for address in ["10.1.0.5/24", "fd00::5/64"] {
        addresses::add(&far, prefix(address)).unwrap();
        assert!(matches!(addresses::add(&far, prefix(address)), Err(NetError::AlreadyExists(_))));
    }
    routes::add(&far, route("10.2.0.0/16", Some("10.1.0.1"))).unwrap();
    far.set_up(false).unwrap();
    far.set_up(true).unwrap();
    assert_eq!(node.addresses(Side::Container, "eth0"), [parsed_net("10.1.0.5/24")]);
    assert!(node.routes(Side::Container, "eth0").is_empty());
    sysctls::set(&far, IpFamily::Ipv6, "keep_addr_on_down", "1").unwrap();
    addresses::add(&far, prefix("fd00::5/64")).unwrap();
    far.set_up(false).unwrap();
    assert_eq!(node.addresses(Side::Container, "eth0").len(), 2);
}

#[test]
fn what_others_need_of_a_bridge_is_not_switched_off() {
    let _node = Node::new().with_link(Side::Host, "br0", "bridge");
    let bridge = links::host().unwrap().link("br0").unwrap();
    bridge.set_promiscuous(true).unwrap();
    bridge.set_vlan_filtering(true).unwrap();
    assert!(matches!(bridge.set_promiscuous(false), Err(NetError::Denied(_))));
    assert!(matches!(bridge.set_vlan_filtering(false), Err(NetError::Denied(_))));
}

#[test]
fn ports_have_vlans_and_flags() {
    let node = Node::new();
    let (host, _) = netns();
    let bridge = BridgeOptions { name: "br0".to_owned(), mtu: 0, vlan_filtering: true, default_vlan: true };
    let bridge = host.create_bridge(&bridge).unwrap();
    let (near, far) = pair();
    assert!(matches!(
        near.set_port(PortOptions { hairpin: true, isolated: false }),
        Err(NetError::Unsupported(_))
    ));
    assert!(matches!(near.attach_to(&far), Err(NetError::Kernel(_))));
    near.attach_to(&bridge).unwrap();
    let vlan = |vlan, pvid| VlanRange { first: vlan, last: vlan, pvid, untagged: pvid };
    assert_eq!(near.vlans().unwrap(), [vlan(1, true)]);
    near.add_vlans(&[vlan(5, true)]).unwrap();
    near.remove_vlans(&[vlan(1, false)]).unwrap();
    assert!(matches!(near.remove_vlans(&[vlan(1, false)]), Err(NetError::NotFound(_))));
    assert_errno(near.add_vlans(&[vlan(4095, false)]), 22);
    assert_errno(near.add_vlans(&[VlanRange { first: 6, last: 7, pvid: true, untagged: true }]), 22);
    assert_eq!(node.vlans(Side::Host, "veth1"), [vlan(5, true)]);
}

#[test]
fn guards_are_for_links_of_this_call() {
    let node = Node::new();
    let attachment = Attachment::new("{}");
    let (near, _far) = pair();
    let mac = (2, 0, 0, 0, 0, 5);
    guards::add(&near, mac).unwrap();
    let again = netns().0.link("veth1").unwrap();
    assert!(matches!(guards::add(&again, mac), Err(NetError::Denied(_))));
    assert!(guards::present(&again, mac).unwrap());
    attachment.clone().with_container("other").id();
    guards::remove().unwrap();
    assert_eq!(node.guards(), [("veth1".to_owned(), mac)]);
    attachment.id();
    guards::remove().unwrap();
    assert!(node.guards().is_empty());
}

#[test]
fn masquerading_belongs_to_the_attachment() {
    let node = Node::new();
    let entry = |source: &str, direct: &str| masquerade::Entry {
        source: parsed_address(source).into(),
        direct: prefix(direct),
    };
    masquerade::add(entry("10.1.0.5", "10.1.0.0/24")).unwrap();
    masquerade::add(entry("10.1.0.5", "10.1.0.0/16")).unwrap();
    assert_eq!(masquerade::list().unwrap(), [entry("10.1.0.5", "10.1.0.0/16")]);
    assert!(matches!(masquerade::add(entry("10.1.0.5", "fd00::/64")), Err(NetError::Invalid(_))));
    Attachment::new("{}").with_container("other").id();
    assert!(masquerade::list().unwrap().is_empty());
    masquerade::remove().unwrap();
    assert_eq!(node.masqueraded().len(), 1);
}

#[test]
fn published_ports_belong_to_the_attachment() {
    let node = Node::new().with_address(Side::Container, "lo", "10.1.0.5/24").with_address(
        Side::Host,
        "eth0",
        "192.0.2.1/24",
    );
    let to = |container: &str, host: Option<&str>, container_port: u16| publish::Port {
        protocol: publish::Protocol::Tcp,
        host_address: host.map(|host| parsed_address(host).into()),
        host_port: 8080,
        container: prefix(container),
        container_port,
    };
    let port = |host, container_port| to("10.1.0.5/24", host, container_port);
    publish::add(&[port(None, 80), port(Some("127.0.0.1"), 80)]).unwrap();
    publish::add(&[port(None, 81)]).unwrap();
    assert_eq!(publish::list().unwrap(), [port(Some("127.0.0.1"), 80), port(None, 81)]);
    for (bad, is_denied) in [
        (to("192.0.2.1/24", None, 80), true),
        (to("127.0.0.1/8", None, 80), true),
        (to("10.1.0.6/24", None, 80), true),
        (port(None, 0), false),
        (port(Some("0.0.0.0"), 80), false),
        (port(Some("fd00::1"), 80), false),
    ] {
        let refusal = publish::add(&[port(Some("192.0.2.1"), 80), bad]).unwrap_err();
        assert_eq!(matches!(refusal, NetError::Denied(_)), is_denied, "{refusal:?}");
        assert_eq!(node.published().len(), 2, "none of them is published");
    }
    assert!(matches!(publish::add(&[port(None, 1), port(None, 2)]), Err(NetError::Invalid(_))));
    Attachment::new("{}").with_container("other").id();
    assert!(publish::list().unwrap().is_empty());
    for host in [None, Some("127.0.0.1"), Some("192.0.2.1")] {
        assert!(matches!(publish::add(&[port(host, 80)]), Err(NetError::AlreadyExists(_))));
    }
    publish::remove().unwrap();
    assert_eq!(node.published().len(), 2);
    let (host, container) = netns();
    publish::enable_loopback(&host.link("eth0").unwrap()).unwrap();
    assert_eq!(node.sysctl(Side::Host, "eth0", IpFamily::Ipv4, "route_localnet").as_deref(), Some("1"));
    assert!(matches!(publish::enable_loopback(&container.link("lo").unwrap()), Err(NetError::Invalid(_))));
}

#[test]
fn a_refusal_comes_once() {
    let node = Node::new();
    node.fail_next("links.host", NetError::Other("no".to_owned()));
    node.fail_next("ipam.del", CniError::new(11, "no"));
    assert!(links::host().is_err());
    assert!(links::host().is_ok());
    let attachment = Attachment::new(r#"{"ipam": {"type": "host-local"}}"#);
    assert!(ipam::del(&attachment).is_err());
    assert!(ipam::del(&attachment).is_ok());
    assert_eq!(node.ipam_calls(), [IpamCall::Del, IpamCall::Del]);
    assert_eq!(ipam::del(&Attachment::new("{}")).unwrap_err().code, CniError::CONFIG);
}

#[test]
#[should_panic = "link.set-up was to fail, but the plugin did not call it"]
fn a_refusal_that_is_not_met_fails_the_test() {
    let node = Node::new();
    node.fail_next("link.set-up", NetError::Other("no".to_owned()));
}

#[test]
fn random_numbers_are_the_same_in_every_test() {
    let _node = Node::new();
    let first = random::bytes(300);
    assert_eq!(first.len(), 256);
    let _node = Node::new();
    assert_eq!(random::bytes(256), first);
}
