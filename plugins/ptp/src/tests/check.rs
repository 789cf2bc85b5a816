use weir_sdk::double::firewall::masquerade;
use weir_sdk::double::{IpamCall, Node, Side};
use weir_sdk::net::links::{self, BridgeOptions};
use weir_sdk::net::{addresses, routes};
use weir_sdk::request::Attachment;
use weir_sdk::types::{CniResult, Sandbox};
use weir_sdk::{CniError, InterfacePlugin, IpNet};

use super::{attachment, dual, far, net, refusal};
use crate::Ptp;

/// An added container with everything that CHECK looks at.
fn checked() -> (Node, Attachment, CniResult) {
    let node = dual().with_ipam_route("0.0.0.0/0", None).with_ipam_route("fd08::/16", None);
    let attachment = attachment(r#""ipMasq": true"#);
    let result = Ptp::add(&attachment).unwrap();
    (node, attachment, result)
}

#[track_caller]
fn check_finds(change: impl FnOnce(&Node, &mut CniResult), code: u32, text: &str) {
    let (node, attachment, mut result) = checked();
    change(&node, &mut result);
    refusal(Ptp::check(&attachment.with_prev_result(result)), code, text);
}

#[test]
fn check_is_content_with_what_add_made() {
    let (node, attachment, result) = checked();
    Ptp::check(&attachment.clone().with_prev_result(result)).unwrap();
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Check]);
    refusal(Ptp::check(&attachment), CniError::CONFIG, "key \"prevResult\": required for CHECK");
}

#[test]
fn check_looks_for_addresses_of_its_own_interface_only() {
    let (_node, attachment, mut result) = checked();
    let mut others = result.ips.clone();
    for (ip, interface) in others.iter_mut().zip([Some(0), None]) {
        ip.address = net("10.9.0.9/24").into();
        ip.interface = interface;
    }
    result.ips.extend(others);
    Ptp::check(&attachment.with_prev_result(result)).unwrap();
}

#[test]
fn check_finds_a_missing_address() {
    for address in ["10.1.0.5/24", "fd00::5/64"] {
        check_finds(
            |_, _| addresses::remove(&far(), net(address).into()).unwrap(),
            CniError::CHANGED,
            &format!("check addresses of eth0: {address} is missing"),
        );
    }
}

#[test]
fn check_finds_a_missing_route() {
    for destination in ["0.0.0.0/0", "fd08::/16"] {
        let take = |node: &Node, _: &mut CniResult| {
            let routes = node.routes(Side::Container, "eth0");
            let meant =
                routes.iter().find(|route| IpNet::from(route.destination) == net(destination)).unwrap();
            routes::remove(&far(), *meant).unwrap();
        };
        let text = format!("check routes of eth0: the one to {destination} is missing");
        check_finds(take, CniError::CHANGED, &text);
    }
}

#[test]
fn check_finds_another_link_in_its_place() {
    check_finds(
        |_, _| far().set_mac((2, 0, 0, 0, 0, 9)).unwrap(),
        CniError::CHANGED,
        "its hardware address is 02:00:00:00:00:09",
    );
    let other_kind = |_: &Node, _: &mut CniResult| {
        far().remove().unwrap();
        let bridge =
            BridgeOptions { name: "eth0".to_owned(), mtu: 0, vlan_filtering: false, default_vlan: true };
        links::container().unwrap().create_bridge(&bridge).unwrap();
    };
    check_finds(other_kind, CniError::CHANGED, "not a veth link any more");
    check_finds(
        |_, result| drop(result.interfaces.remove(1)),
        CniError::CHANGED,
        "check eth0: prevResult does not list it",
    );
    check_finds(
        |_, result| result.interfaces[1].sandbox = Sandbox::Host,
        CniError::CHANGED,
        "check eth0: prevResult does not list it",
    );
}

#[test]
fn check_finds_what_is_gone() {
    check_finds(|_, _| far().remove().unwrap(), CniError::KERNEL, "find link eth0");
    check_finds(|_, _| masquerade::remove().unwrap(), CniError::CHANGED, "10.1.0.5 is not masqueraded");
    check_finds(|_, _| far().set_up(false).unwrap(), CniError::CHANGED, "check eth0: it is down");
    check_finds(|node, _| node.container_gone(), CniError::KERNEL, "does not exist any more");
    check_finds(|node, _| node.fail_next("ipam.check", CniError::new(107, "not leased")), 107, "not leased");
}
