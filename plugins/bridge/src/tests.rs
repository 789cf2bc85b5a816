use std::net::IpAddr;

use weir_sdk::double::{IpamCall, Node, Side};
use weir_sdk::firewall::{guards, masquerade};
use weir_sdk::net::addresses;
use weir_sdk::net::links::{self, BridgeOptions, OperState, PortOptions, VlanRange};
use weir_sdk::net::routes;
use weir_sdk::net::types::{IpFamily, NetError};
use weir_sdk::request::{Attachment, Network};
use weir_sdk::types::{CniResult, Sandbox};
use weir_sdk::{CniError, InterfacePlugin, IpNet};

use crate::Bridge;

/// Keys of a configuration with addresses.
const IPAM: &str = r#""ipam": {"type": "host-local"}"#;

fn config(keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { ", " };
    format!(r#"{{"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0"{comma}{keys}}}"#)
}

/// Without addresses.
fn layer2(keys: &str) -> Attachment {
    Attachment::new(&config(keys))
}

/// With the addresses that the node's IPAM plugin hands out.
fn attachment(keys: &str) -> Attachment {
    layer2(&if keys.is_empty() { IPAM.to_owned() } else { format!("{IPAM}, {keys}") })
}

fn network(keys: &str) -> Network {
    Network::new(&config(keys))
}

/// A node whose IPAM plugin hands out one address and names no gateway.
fn node() -> Node {
    Node::new().with_ipam_address("10.1.0.5/24", None)
}

/// A node whose IPAM plugin hands out addresses of both families.
fn dual() -> Node {
    node().with_ipam_address("fd00::5/64", None)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// The routes that the plugin made in the container, as text.
fn routed(node: &Node) -> Vec<String> {
    let routes = node.routes(Side::Container, "eth0").into_iter();
    let text = |route: routes::Route| {
        let gateway = route.gateway.map_or("link".to_owned(), |gateway| IpAddr::from(gateway).to_string());
        format!("{} by {gateway}", IpNet::from(route.destination))
    };
    routes.map(text).collect()
}

/// The node's links that are ends of pairs.
fn ports(node: &Node) -> Vec<links::LinkInfo> {
    node.links(Side::Host).into_iter().filter(|link| link.kind.as_deref() == Some("veth")).collect()
}

fn far() -> links::Link {
    links::container().unwrap().link("eth0").unwrap()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(done: Result<T, CniError>, code: u32, text: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.message.contains(text), "{error:?}");
}

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
fn the_bridge_is_shared() {
    let node = node();
    Bridge::add(&attachment("")).unwrap();
    let before = node.link(Side::Host, "br0").unwrap();
    Bridge::add(&attachment("").with_ifname("eth1")).unwrap();
    assert_eq!(node.link(Side::Host, "br0").unwrap().index, before.index);
    assert_eq!(ports(&node).len(), 2);
}

#[test]
fn a_bridge_that_another_call_makes_meanwhile_is_used() {
    let node = Node::new().with_link(Side::Host, "br0", "bridge");
    node.fail_next("netns.link", NetError::NotFound("not yet".to_owned()));
    node.fail_next("netns.create-bridge", NetError::AlreadyExists("now".to_owned()));
    Bridge::add(&layer2("")).unwrap();
    assert_eq!(ports(&node)[0].controller, Some(node.link(Side::Host, "br0").unwrap().index));
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
    for link in ["br0".to_owned(), ports(&node)[0].name.clone()] {
        assert_eq!(node.sysctl(Side::Host, &link, IpFamily::Ipv6, "accept_ra").unwrap(), "0", "{link}");
    }
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
fn routes_go_by_the_gateway_of_their_family_and_the_first_one_wins() {
    let node = Node::new()
        .with_ipam_address("10.1.0.5/24", Some("10.1.0.1"))
        .with_ipam_address("fd00::5/64", Some("fd00::1"))
        .with_ipam_route("fd08::/16", None)
        .with_ipam_route("10.8.0.0/16", None)
        .with_ipam_route("10.8.0.0/16", Some("10.1.0.9"));
    Bridge::add(&attachment("")).unwrap();
    assert_eq!(routed(&node), ["fd08::/16 by fd00::1", "10.8.0.0/16 by 10.1.0.1"]);
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
fn a_taken_name_of_the_nodes_end_is_replaced_by_another() {
    let node = Node::new();
    for _ in 0..10 {
        node.fail_next("netns.create-veth", NetError::AlreadyExists("taken".to_owned()));
    }
    Bridge::add(&layer2("")).unwrap();
    assert_eq!(ports(&node).len(), 1);
    for _ in 0..11 {
        node.fail_next("netns.create-veth", NetError::AlreadyExists("taken".to_owned()));
    }
    refusal(Bridge::add(&layer2("").with_ifname("eth1")), CniError::KERNEL, "taken");
    node.fail_next("netns.create-veth", NetError::Denied("policy".to_owned()));
    refusal(Bridge::add(&layer2("").with_ifname("eth1")), CniError::DENIED, "policy");
}

#[test]
fn an_interface_that_the_container_has_is_refused() {
    let node = Node::new().with_link(Side::Container, "eth0", "dummy");
    refusal(Bridge::add(&layer2("")), CniError::CONFIG, "(eth0) already exists: there is a dummy link");
    assert!(ports(&node).is_empty());
}

#[test]
fn a_link_of_another_kind_is_no_bridge() {
    let _node = Node::new().with_link(Side::Host, "br0", "dummy");
    refusal(Bridge::add(&layer2("")), CniError::CONFIG, "\"br0\" already exists but is not a bridge");
    refusal(
        Bridge::status(&network("")),
        CniError::UNAVAILABLE,
        "\"br0\" already exists but is not a bridge",
    );
}

#[test]
fn without_ipam_the_link_is_up_and_has_no_address() {
    let node = Node::new();
    let result = Bridge::add(&layer2(r#""isGateway": true, "ipMasq": true"#)).unwrap();
    assert!(node.link(Side::Container, "eth0").unwrap().up);
    assert!(node.addresses(Side::Container, "eth0").is_empty());
    assert!(node.addresses(Side::Host, "br0").is_empty());
    assert!(node.masqueraded().is_empty());
    assert_eq!((result.interfaces.len(), result.ips.len()), (3, 0));
    assert!(node.ipam_calls().is_empty());
}

#[test]
fn a_disabled_container_interface_stays_down() {
    let node = Node::new();
    Bridge::add(&layer2(r#""disableContainerInterface": true"#)).unwrap();
    assert!(!node.link(Side::Container, "eth0").unwrap().up);
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
fn containers_are_masqueraded_outside_of_their_networks() {
    let node = dual();
    Bridge::add(&attachment(r#""ipMasq": true, "ipMasqBackend": "iptables""#)).unwrap();
    let entries: Vec<_> = node
        .masqueraded()
        .iter()
        .map(|entry| (IpAddr::from(entry.source).to_string(), IpNet::from(entry.direct).to_string()))
        .collect();
    assert_eq!(
        entries,
        [("10.1.0.5", "10.1.0.0/24"), ("fd00::5", "fd00::/64")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    let other = attachment(r#""ipMasq": true, "ipMasqBackend": "magic""#);
    refusal(Bridge::add(&other), CniError::CONFIG, "\"magic\" is neither iptables nor nftables");
}

#[test]
fn forged_hardware_addresses_are_guarded_against() {
    let node = Node::new();
    Bridge::add(&layer2(r#""macspoofchk": true"#)).unwrap();
    let mac = node.link(Side::Container, "eth0").unwrap().mac.unwrap();
    assert_eq!(node.guards(), [(ports(&node)[0].name.clone(), mac)]);
}

#[test]
fn del_takes_away_what_add_made_even_twice() {
    let node = node();
    let attachment = attachment(r#""ipMasq": true, "macspoofchk": true"#);
    Bridge::add(&attachment).unwrap();
    for _ in 0..2 {
        Bridge::del(&attachment).unwrap();
        assert!(ports(&node).is_empty());
        assert!(node.link(Side::Container, "eth0").is_none());
        assert!(node.masqueraded().is_empty() && node.guards().is_empty());
    }
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Del, IpamCall::Del]);
    assert!(node.link(Side::Host, "br0").is_some(), "the bridge is shared");
}

#[test]
fn del_without_a_namespace_still_releases_the_rest() {
    let node = node();
    let attachment = attachment(r#""ipMasq": true"#);
    Bridge::add(&attachment).unwrap();
    node.container_gone();
    Bridge::del(&attachment).unwrap();
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Del]);
    assert!(node.masqueraded().is_empty());
}

#[test]
fn del_does_not_need_a_valid_configuration() {
    let node = node();
    Bridge::add(&attachment("")).unwrap();
    let broken = attachment(r#""vlan": 9999, "hairpinMode": true, "promiscMode": true"#);
    Bridge::del(&broken.with_arguments([("NO", "such")])).unwrap();
    assert!(ports(&node).is_empty());
}

#[test]
fn del_passes_on_what_the_ipam_plugin_says() {
    let node = node();
    Bridge::add(&attachment("")).unwrap();
    node.fail_next("ipam.del", CniError::new(11, "locked"));
    refusal(Bridge::del(&attachment("")), 11, "locked");
    node.fail_next("link.remove", NetError::Busy("the kernel has no time".to_owned()));
    Bridge::add(&attachment("")).unwrap();
    refusal(Bridge::del(&attachment("")), CniError::TRY_AGAIN, "no time");
}

#[test]
fn no_link_is_made_if_there_is_no_address() {
    let node = Node::new();
    node.fail_next("ipam.add", CniError::new(106, "all are leased"));
    refusal(Bridge::add(&attachment("")), 106, "all are leased");
    assert!(ports(&node).is_empty() && node.link(Side::Host, "br0").is_none());
    let empty =
        weir_sdk::IpamResult { ips: Vec::new(), routes: Vec::new(), dns: weir_sdk::types::Dns::none() };
    let node = Node::new().with_ipam(empty);
    refusal(Bridge::add(&attachment("")), CniError::CONFIG, "IPAM plugin returned missing IP config");
    assert!(ports(&node).is_empty());
}

#[test]
fn add_fails_if_the_container_is_gone() {
    let node = node();
    node.container_gone();
    refusal(Bridge::add(&attachment("")), CniError::KERNEL, "does not exist any more");
}

/// An added container with everything that CHECK looks at.
fn checked() -> (Node, Attachment, CniResult) {
    let node = dual().with_ipam_route("10.8.0.0/16", None);
    let attachment = attachment(
        r#""isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true, "vlan": 100"#,
    );
    let result = Bridge::add(&attachment).unwrap();
    (node, attachment, result)
}

#[track_caller]
fn check_finds(change: impl FnOnce(&Node, &mut CniResult), code: u32, text: &str) {
    let (node, attachment, mut result) = checked();
    change(&node, &mut result);
    refusal(Bridge::check(&attachment.with_prev_result(result)), code, text);
}

#[test]
fn check_is_content_with_what_add_made() {
    let (node, attachment, result) = checked();
    Bridge::check(&attachment.clone().with_prev_result(result)).unwrap();
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Check]);
    refusal(Bridge::check(&attachment), CniError::CONFIG, "key \"prevResult\": required for CHECK");
}

#[test]
fn check_finds_a_missing_address() {
    check_finds(
        |_, _| addresses::remove(&far(), net("10.1.0.5/24").into()).unwrap(),
        CniError::CHANGED,
        "10.1.0.5/24 is missing",
    );
    check_finds(
        |_, _| addresses::remove(&far(), net("fd00::5/64").into()).unwrap(),
        CniError::CHANGED,
        "fd00::5/64 is missing",
    );
}

#[test]
fn check_finds_a_missing_route() {
    let take = |destination: &'static str| {
        move |node: &Node, _: &mut CniResult| {
            let routes = node.routes(Side::Container, "eth0");
            let meant =
                routes.iter().find(|route| IpNet::from(route.destination) == net(destination)).unwrap();
            routes::remove(&far(), *meant).unwrap();
        }
    };
    for destination in ["0.0.0.0/0", "::/0", "10.8.0.0/16"] {
        check_finds(take(destination), CniError::CHANGED, &format!("the one to {destination} is missing"));
    }
    let by_another = |node: &Node, _: &mut CniResult| {
        let routes = node.routes(Side::Container, "eth0");
        let meant = routes.iter().find(|route| IpNet::from(route.destination) == net("10.8.0.0/16")).unwrap();
        routes::remove(&far(), *meant).unwrap();
        let gateway = Some("10.1.0.9".parse::<IpAddr>().unwrap().into());
        routes::add(&far(), routes::Route { gateway, ..*meant }).unwrap();
    };
    check_finds(by_another, CniError::CHANGED, "the one to 10.8.0.0/16 is missing");
}

#[test]
fn check_finds_another_hardware_address() {
    check_finds(
        |_, _| far().set_mac((2, 0, 0, 0, 0, 9)).unwrap(),
        CniError::CHANGED,
        "its hardware address is 02:00:00:00:00:09",
    );
}

#[test]
fn check_finds_a_port_of_another_bridge() {
    let options = BridgeOptions { name: "br1".to_owned(), mtu: 0, vlan_filtering: false, default_vlan: true };
    let move_it = |_: &Node, result: &mut CniResult| {
        let host = links::host().unwrap();
        let port = host.link(&result.interfaces[1].name).unwrap();
        port.attach_to(&host.create_bridge(&options).unwrap()).unwrap();
    };
    check_finds(move_it, CniError::CHANGED, "it is not attached to bridge br0");
}

#[test]
fn check_finds_other_flags_and_vlans_of_the_port() {
    let port = |result: &CniResult| links::host().unwrap().link(&result.interfaces[1].name).unwrap();
    check_finds(
        |_, result| port(result).set_port(PortOptions { hairpin: false, isolated: false }).unwrap(),
        CniError::CHANGED,
        "its hairpin or isolation flag has changed",
    );
    let tagged = VlanRange { first: 100, last: 100, pvid: false, untagged: false };
    check_finds(
        |_, result| port(result).add_vlans(&[tagged]).unwrap(),
        CniError::CHANGED,
        "it is not in VLAN 100",
    );
}

#[test]
fn check_finds_what_is_gone() {
    check_finds(|_, _| far().remove().unwrap(), CniError::KERNEL, "find link eth0");
    check_finds(|node, _| node.remove_link(Side::Host, "br0"), CniError::KERNEL, "find link br0");
    check_finds(|_, _| masquerade::remove().unwrap(), CniError::CHANGED, "10.1.0.5 is not masqueraded");
    check_finds(
        |_, _| guards::remove().unwrap(),
        CniError::CHANGED,
        "check the guard of eth0: it is missing",
    );
    check_finds(|node, _| node.fail_next("ipam.check", CniError::new(107, "not leased")), 107, "not leased");
}

#[test]
fn check_wants_all_interfaces_in_the_result() {
    for (number, text) in [
        (0, "check bridge br0: prevResult"),
        (1, "no link that is its other end"),
        (2, "check eth0: prevResult"),
    ] {
        check_finds(|_, result| drop(result.interfaces.remove(number)), CniError::CHANGED, text);
    }
    let other_kind = |_: &Node, _: &mut CniResult| {
        far().remove().unwrap();
        let bridge =
            BridgeOptions { name: "eth0".to_owned(), mtu: 0, vlan_filtering: false, default_vlan: true };
        links::container().unwrap().create_bridge(&bridge).unwrap();
    };
    check_finds(other_kind, CniError::CHANGED, "not a veth link any more");
}

#[test]
fn a_port_joins_its_vlans_and_leaves_the_default_one() {
    let vlan = |vlan, access| VlanRange { first: vlan, last: vlan, pvid: access, untagged: access };
    let trunk = r#""vlan": 100, "vlanTrunk": [{"minID": 200, "maxID": 201}, {"id": 300}]"#;
    let node = Node::new();
    Bridge::add(&layer2(trunk)).unwrap();
    assert!(node.link(Side::Host, "br0").unwrap().vlan_filtering);
    let vlans = node.vlans(Side::Host, &ports(&node)[0].name);
    assert_eq!(vlans, [vlan(100, true), vlan(200, false), vlan(201, false), vlan(300, false)]);
    let node = Node::new().with_link(Side::Host, "br0", "bridge");
    Bridge::add(&layer2(r#""vlan": 100, "preserveDefaultVlan": true"#)).unwrap();
    assert!(node.link(Side::Host, "br0").unwrap().vlan_filtering, "a bridge that was there filters too");
    let default = VlanRange { pvid: false, untagged: true, ..vlan(1, false) };
    assert_eq!(node.vlans(Side::Host, &ports(&node)[0].name), [default, vlan(100, true)]);
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
fn senseless_configurations_are_refused() {
    let _node = Node::new();
    for (keys, reason) in [
        (r#""vlan": 4095"#, "key \"vlan\": invalid VLAN ID 4095"),
        (r#""vlan": -1"#, "key \"vlan\": invalid VLAN ID -1"),
        (r#""vlanTrunk": [{"id": 0}]"#, "key \"vlanTrunk.id\": invalid VLAN ID 0"),
        (r#""vlanTrunk": [{"minID": 10}]"#, "maxID is missing"),
        (r#""vlanTrunk": [{"maxID": 10}]"#, "minID is missing"),
        (r#""vlanTrunk": [{"minID": 0, "maxID": 10}]"#, "vlanTrunk.minID\": invalid VLAN ID 0"),
        (r#""vlanTrunk": [{"minID": 10, "maxID": 5000}]"#, "vlanTrunk.maxID\": invalid VLAN ID 5000"),
        (r#""vlanTrunk": [{"minID": 11, "maxID": 10}]"#, "minID 11 cannot be greater than maxID 10"),
        (r#""hairpinMode": true, "promiscMode": true"#, "cannot set hairpin mode and promiscuous mode"),
        (r#""mtu": "big""#, "key \"mtu\""),
    ] {
        refusal(Bridge::add(&layer2(keys)), CniError::CONFIG, reason);
        refusal(Bridge::status(&network(keys)), CniError::CONFIG, reason);
    }
    let unknown = layer2("").with_arguments([("K8S_POD_NAME", "web")]);
    refusal(Bridge::add(&unknown), CniError::ENVIRONMENT, "unknown args");
    Bridge::add(&layer2("").with_arguments([("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web")])).unwrap();
}

#[test]
fn ports_and_bridges_get_their_flags() {
    let node = Node::new();
    Bridge::add(&layer2(r#""promiscMode": true, "portIsolation": true"#)).unwrap();
    assert!(node.link(Side::Host, "br0").unwrap().promiscuous);
    assert_eq!(ports(&node)[0].port, Some(PortOptions { hairpin: false, isolated: true }));
}

#[test]
fn without_a_name_the_bridge_is_cni0() {
    let node = Node::new();
    Bridge::add(&Attachment::new(r#"{"cniVersion": "1.1.0"}"#)).unwrap();
    assert!(node.link(Side::Host, "cni0").is_some());
}

#[test]
fn status_and_gc_are_forwarded_to_the_ipam_plugin() {
    let node = Node::new().with_link(Side::Host, "br0", "bridge");
    Bridge::status(&network(IPAM)).unwrap();
    Bridge::gc(&network(IPAM)).unwrap();
    assert_eq!(node.ipam_calls(), [IpamCall::Status, IpamCall::Gc]);
    node.fail_next("ipam.status", CniError::new(50, "exhausted"));
    refusal(Bridge::status(&network(IPAM)), 50, "exhausted");
    node.fail_next("ipam.gc", CniError::new(5, "the disk is broken"));
    refusal(Bridge::gc(&network(IPAM)), 5, "the disk is broken");
    let node = Node::new();
    Bridge::status(&network("")).unwrap();
    Bridge::gc(&network("")).unwrap();
    assert!(node.ipam_calls().is_empty());
}
