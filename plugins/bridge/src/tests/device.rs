use weir_sdk::double::{Node, Side};
use weir_sdk::net::types::NetError;
use weir_sdk::request::Attachment;
use weir_sdk::{CniError, InterfacePlugin};

use super::{attachment, layer2, network, node, ports, refusal};
use crate::Bridge;

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
fn without_a_name_the_bridge_is_cni0() {
    let node = Node::new();
    Bridge::add(&Attachment::new(r#"{"cniVersion": "1.1.0"}"#)).unwrap();
    assert!(node.link(Side::Host, "cni0").is_some());
}
