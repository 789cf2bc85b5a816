use weir_sdk::double::{IpamCall, Node, Side};
use weir_sdk::net::types::NetError;
use weir_sdk::{CniError, InterfacePlugin};

use super::{IPAM, attachment, layer2, network, ports, refusal};
use crate::Bridge;

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
fn a_native_ipam_plugin_finds_the_link_when_it_is_asked() {
    let attachment = attachment("").with_native_ipam();
    let node = Node::new().with_ipam_address("10.1.0.5/24", None);
    node.fail_next("ipam.add", CniError::new(106, "nobody answers"));
    refusal(Bridge::add(&attachment), 106, "nobody answers");
    assert!(node.link(Side::Container, "eth0").is_some() && ports(&node)[0].up);
    let node = Node::new().with_ipam_address("10.1.0.5/24", None);
    let result = Bridge::add(&attachment).unwrap();
    assert_eq!((result.interfaces.len(), result.ips.len()), (3, 1));
    assert_eq!(node.addresses(Side::Container, "eth0").len(), 1);
    // The link goes also if it cannot release the address, and not before.
    node.fail_next("link.remove", NetError::Busy("in use".to_owned()));
    Bridge::del(&attachment).unwrap_err();
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Del]);
    node.fail_next("ipam.del", CniError::new(11, "locked"));
    refusal(Bridge::del(&attachment), 11, "locked");
    assert!(node.link(Side::Container, "eth0").is_none());
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
