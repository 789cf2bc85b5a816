use std::net::IpAddr;

use weir_sdk::double::{Node, Side};
use weir_sdk::net::links::{PortOptions, VlanRange};
use weir_sdk::net::types::NetError;
use weir_sdk::{CniError, InterfacePlugin, IpNet};

use super::{attachment, dual, layer2, ports, refusal};
use crate::Bridge;

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
fn both_ends_come_up_when_all_else_is_set() {
    for attachment in [attachment(""), layer2("")] {
        let node = Node::new().with_ipam_address("10.1.0.5/24", None);
        Bridge::add(&attachment).unwrap();
        assert!(ports(&node)[0].up && node.link(Side::Container, "eth0").unwrap().up);
        let node = Node::new().with_ipam_address("10.1.0.5/24", None);
        node.fail_next("link.set-up", NetError::Busy("the kernel has no time".to_owned()));
        refusal(Bridge::add(&attachment), CniError::TRY_AGAIN, "no time");
        assert!(!ports(&node)[0].up && !node.link(Side::Container, "eth0").unwrap().up);
    }
}

#[test]
fn ports_and_bridges_get_their_flags() {
    let node = Node::new();
    Bridge::add(&layer2(r#""promiscMode": true, "portIsolation": true"#)).unwrap();
    assert!(node.link(Side::Host, "br0").unwrap().promiscuous);
    assert_eq!(ports(&node)[0].port, Some(PortOptions { hairpin: false, isolated: true }));
}

#[test]
fn a_port_joins_its_vlans_and_stays_in_the_default_one_if_it_is_to() {
    let vlan = |vlan, access| VlanRange { first: vlan, last: vlan, pvid: access, untagged: access };
    let trunk = r#""vlan": 100, "vlanTrunk": [{"minID": 200, "maxID": 201}, {"id": 300}], "preserveDefaultVlan": false"#;
    let node = Node::new();
    Bridge::add(&layer2(trunk)).unwrap();
    assert!(node.link(Side::Host, "br0").unwrap().vlan_filtering);
    let vlans = node.vlans(Side::Host, &ports(&node)[0].name);
    assert_eq!(vlans, [vlan(100, true), vlan(200, false), vlan(201, false), vlan(300, false)]);
    let node = Node::new().with_link(Side::Host, "br0", "bridge");
    Bridge::add(&layer2(r#""vlan": 100"#)).unwrap();
    assert!(node.link(Side::Host, "br0").unwrap().vlan_filtering, "a bridge that was there filters too");
    let default = VlanRange { pvid: false, untagged: true, ..vlan(1, false) };
    assert_eq!(node.vlans(Side::Host, &ports(&node)[0].name), [default, vlan(100, true)]);
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
