//! Neighbors and forwarding databases.

use super::{netns, pair};
use crate::double::net::links::{BridgeOptions, Link};
use crate::double::net::neighbors::{self, Forwarding, ForwardingInfo, Neighbor, NeighborInfo};
use crate::double::net::parsed_address;
use crate::double::net::types::{IpFamily, MacAddress, NetError};
use crate::double::{Node, Side};

const ONE: MacAddress = (2, 0, 0, 0, 0, 1);
const TWO: MacAddress = (2, 0, 0, 0, 0, 2);
const ZEROS: MacAddress = (0, 0, 0, 0, 0, 0);

fn neighbor(address: &str, mac: MacAddress) -> Neighbor {
    Neighbor { address: parsed_address(address).into(), mac }
}

fn info(address: &str, mac: MacAddress, permanent: bool) -> NeighborInfo {
    NeighborInfo { address: parsed_address(address).into(), mac, permanent }
}

fn entry(mac: MacAddress, destination: Option<&str>) -> Forwarding {
    Forwarding { mac, destination: destination.map(|text| parsed_address(text).into()) }
}

fn port() -> (Link, Link) {
    let bridge = BridgeOptions { name: "br0".to_owned(), mtu: 0, vlan_filtering: false, default_vlan: false };
    let bridge = netns().0.create_bridge(&bridge).unwrap();
    let (near, far) = pair();
    near.attach_to(&bridge).unwrap();
    (near, far)
}

#[test]
fn what_was_added_stays_and_what_was_learned_gives_way() {
    let node = Node::new().with_learned_neighbor(Side::Host, "eth0", "10.1.0.5", TWO);
    let link = netns().0.link("eth0").unwrap();
    neighbors::add(&link, &[neighbor("10.1.0.5", ONE), neighbor("fd00::5", ONE)]).unwrap();
    let both = [info("10.1.0.5", ONE, true), info("fd00::5", ONE, true)];
    assert_eq!(node.neighbors(Side::Host, "eth0"), both);
    neighbors::add(&link, &[neighbor("10.1.0.5", ONE)]).unwrap();
    // All or nothing.
    let done = neighbors::add(&link, &[neighbor("10.1.0.6", ONE), neighbor("10.1.0.5", TWO)]);
    assert!(matches!(done, Err(NetError::AlreadyExists(_))), "{done:?}");
    assert_eq!(node.neighbors(Side::Host, "eth0"), both);
    assert_eq!(neighbors::list(&link, Some(IpFamily::Ipv6)).unwrap(), both[1..]);
    // Of another station by now, and gone.
    neighbors::remove(&link, &[neighbor("10.1.0.5", TWO), neighbor("10.1.0.9", ONE)]).unwrap();
    neighbors::remove(&link, &[neighbor("fd00::5", ONE)]).unwrap();
    assert_eq!(node.neighbors(Side::Host, "eth0"), both[..1]);
    link.set_up(false).unwrap();
    assert!(node.neighbors(Side::Host, "eth0").is_empty());
}

#[test]
fn only_stations_are_neighbors() {
    let _node = Node::new();
    let (_near, far) = pair();
    let many = vec![neighbor("10.1.0.5", ONE); 1025];
    for bad in [
        &[neighbor("::ffff:10.1.0.5", ONE)][..],
        &[neighbor("255.255.255.255", ONE)],
        &[neighbor("ff02::1", ONE)],
        &[neighbor("10.1.0.5", ZEROS)],
        &[neighbor("10.1.0.5", (1, 0, 0, 0, 0, 0))],
        &many,
    ] {
        assert!(matches!(neighbors::add(&far, bad), Err(NetError::Invalid(_))), "{:?}", bad[0]);
    }
    neighbors::add(&far, &many[1..]).unwrap();
}

#[test]
fn tunnels_have_destinations() {
    let node = Node::new().with_link(Side::Host, "vx0", "vxlan").with_learned_station(
        Side::Host,
        "vx0",
        ONE,
        Some("192.0.2.8"),
    );
    let link = netns().0.link("vx0").unwrap();
    let entries =
        [entry(ONE, Some("192.0.2.9")), entry(ZEROS, Some("192.0.2.9")), entry(ZEROS, Some("192.0.2.10"))];
    neighbors::add_forwarding(&link, &entries).unwrap();
    let infos =
        entries.map(|Forwarding { mac, destination }| ForwardingInfo { mac, destination, permanent: true });
    assert_eq!(neighbors::list_forwarding(&link).unwrap(), infos);
    let other = neighbors::add_forwarding(&link, &[entry(ONE, Some("192.0.2.10"))]);
    assert!(matches!(other, Err(NetError::AlreadyExists(_))), "{other:?}");
    let foreign = neighbors::add_forwarding(&link, &[entry(TWO, None)]);
    assert!(matches!(foreign, Err(NetError::Denied(_))), "{foreign:?}");
    neighbors::remove_forwarding(&link, &entries[..2]).unwrap();
    assert_eq!(node.forwarding(Side::Host, "vx0"), infos[2..]);
}

#[test]
fn ports_have_stations_that_no_other_port_has() {
    let node = Node::new();
    let (near, far) = port();
    let station = far.describe().unwrap().mac.unwrap();
    neighbors::add_forwarding(&near, &[entry(station, None)]).unwrap();
    assert_eq!(node.forwarding(Side::Host, "veth1").len(), 1);
    let own = near.describe().unwrap().mac.unwrap();
    let taken = neighbors::add_forwarding(&near, &[entry(own, None)]);
    assert!(matches!(taken, Err(NetError::AlreadyExists(_))), "{taken:?}");
    for (link, entry) in [(&near, entry(TWO, Some("192.0.2.9"))), (&far, entry(TWO, None))] {
        let done = neighbors::add_forwarding(link, &[entry]);
        assert!(matches!(done, Err(NetError::Unsupported(_))), "{done:?}");
    }
    assert!(matches!(neighbors::list_forwarding(&far), Err(NetError::Unsupported(_))));
    node.remove_link(Side::Host, "br0");
    assert!(node.forwarding(Side::Host, "veth1").is_empty());
}
