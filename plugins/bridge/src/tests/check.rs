use std::net::IpAddr;

use weir_sdk::double::{IpamCall, Node, Side};
use weir_sdk::firewall::{guards, masquerade};
use weir_sdk::net::links::{self, BridgeOptions, PortOptions, VlanRange};
use weir_sdk::net::{addresses, routes};
use weir_sdk::request::Attachment;
use weir_sdk::types::CniResult;
use weir_sdk::{CniError, InterfacePlugin, IpNet};

use super::{attachment, dual, far, layer2, net, refusal};
use crate::Bridge;

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
    let port = |result: &CniResult| links::host().unwrap().link(&result.interfaces[1].name).unwrap();
    check_finds(
        |_, result| port(result).set_mac((2, 0, 0, 0, 0, 8)).unwrap(),
        CniError::CHANGED,
        "its hardware address is 02:00:00:00:00:08",
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
fn check_finds_an_interface_that_is_down() {
    check_finds(|_, _| far().set_up(false).unwrap(), CniError::CHANGED, "check eth0: it is down");
}

#[test]
fn check_expects_a_disabled_interface_to_be_down() {
    let _node = dual();
    let attachment = layer2(r#""disableContainerInterface": true"#);
    let result = Bridge::add(&attachment).unwrap();
    Bridge::check(&attachment.with_prev_result(result)).unwrap();
}
