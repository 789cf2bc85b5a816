//! Links that sit on other links.

use super::{assert_errno, netns, pair};
use crate::double::net::links::{MacvlanMode, MacvlanOptions, OperState, VxlanOptions};
use crate::double::net::types::NetError;
use crate::double::request::Attachment;
use crate::double::{Node, Side};

fn macvlan(name: &str, mode: MacvlanMode) -> MacvlanOptions {
    MacvlanOptions { name: name.to_owned(), mode, mac: None, mtu: 0, up: true }
}

fn vxlan(name: &str, vni: u32) -> VxlanOptions {
    VxlanOptions {
        name: name.to_owned(),
        vni,
        port: 4789,
        local: None,
        learning: false,
        mtu: 0,
        mac: None,
        up: true,
    }
}

#[test]
fn a_macvlan_is_made_in_the_container_and_goes_with_its_parent() {
    let node = Node::new().with_link(Side::Host, "eth1", "dummy");
    let (host, container) = netns();
    let parent = host.link("eth1").unwrap();
    let made = host.create_macvlan(&macvlan("eth0", MacvlanMode::Private), &parent, &container).unwrap();
    let found = node.link(Side::Container, "eth0").unwrap();
    assert_eq!((found.kind.as_deref(), found.mtu), (Some("macvlan"), 1500));
    assert_eq!(found.peer, Some(parent.as_found().index));
    assert_eq!(node.macvlan(Side::Container, "eth0"), Some(MacvlanMode::Private));
    assert_eq!(made.describe().unwrap().state, OperState::Up);
    let again = host.create_macvlan(&macvlan("eth0", MacvlanMode::Bridge), &parent, &container);
    assert!(matches!(again, Err(NetError::AlreadyExists(_))), "{again:?}");
    node.remove_link(Side::Host, "eth1");
    assert!(node.link(Side::Container, "eth0").is_none());
}

#[test]
fn a_macvlan_has_to_fit_its_parent() {
    let node = Node::new();
    let (host, container) = netns();
    let parent = host.link("eth0").unwrap();
    let large = MacvlanOptions { mtu: 1501, ..macvlan("m0", MacvlanMode::Bridge) };
    let with_mac = MacvlanOptions { mac: Some((2, 0, 0, 0, 0, 9)), ..macvlan("m0", MacvlanMode::Passthru) };
    for options in [large, with_mac] {
        let refused = host.create_macvlan(&options, &parent, &container);
        assert!(matches!(refused, Err(NetError::Invalid(_))), "{refused:?}");
    }
    let refused = container.create_macvlan(&macvlan("m0", MacvlanMode::Bridge), &parent, &container);
    assert!(matches!(refused, Err(NetError::Invalid(_))), "{refused:?}");
    let lo = host.link("lo").unwrap();
    assert_errno(host.create_macvlan(&macvlan("m0", MacvlanMode::Bridge), &lo, &container).map(drop), 22);
    let first = host.create_macvlan(&macvlan("m0", MacvlanMode::Bridge), &parent, &host).unwrap();
    // One of two is not all.
    let second = host.create_macvlan(&macvlan("m1", MacvlanMode::Passthru), &parent, &container);
    assert_errno(second.map(drop), 22);
    let on_itself = host.create_macvlan(&macvlan("m1", MacvlanMode::Bridge), &first, &container);
    assert!(matches!(on_itself, Err(NetError::Invalid(_))), "{on_itself:?}");
    first.remove().unwrap();
    let only = host.create_macvlan(&macvlan("m1", MacvlanMode::Passthru), &parent, &container).unwrap();
    assert_eq!(only.as_found().mac, node.link(Side::Host, "eth0").unwrap().mac);
}

#[test]
fn what_would_reach_the_parent_is_refused() {
    let _node = Node::new();
    let (host, container) = netns();
    let parent = host.link("eth0").unwrap();
    let only = host.create_macvlan(&macvlan("m0", MacvlanMode::Passthru), &parent, &container).unwrap();
    for refused in [only.set_promiscuous(true), only.set_mac((2, 0, 0, 0, 0, 9))] {
        assert!(matches!(refused, Err(NetError::Denied(_))), "{refused:?}");
    }
    only.set_mtu(1400).unwrap();
    // A pair is no macvlan.
    let (near, _far) = pair();
    near.set_promiscuous(true).unwrap();
}

#[test]
fn a_tunnel_endpoint_is_shared() {
    let node = Node::new().with_link(Side::Host, "eth1", "dummy").with_link(Side::Host, "br0", "bridge");
    let (host, container) = netns();
    let attachment = Attachment::new("{}");
    attachment.id();
    let (eth1, br0) = (host.link("eth1").unwrap(), host.link("br0").unwrap());
    let made = host.create_vxlan(&vxlan("vx0", 7), Some(&eth1), Some(&br0)).unwrap();
    let found = made.as_found();
    assert_eq!((found.mtu, found.controller, found.peer), (1450, Some(br0.as_found().index), None));
    assert_eq!(node.vxlan("vx0"), Some(vxlan("vx0", 7)));
    for options in [vxlan("vx0", 8), vxlan("vx1", 7)] {
        let again = host.create_vxlan(&options, None, None);
        assert!(matches!(again, Err(NetError::AlreadyExists(_))), "{again:?}");
    }
    let large = VxlanOptions { mtu: 1451, ..vxlan("vx2", 9) };
    let low = VxlanOptions { port: 53, ..vxlan("vx2", 9) };
    for (options, netns) in
        [(large, &host), (low, &host), (vxlan("vx2", 1 << 24), &host), (vxlan("vx2", 9), &container)]
    {
        let refused = netns.create_vxlan(&options, Some(&eth1), None);
        assert!(matches!(refused, Err(NetError::Invalid(_))), "{refused:?}");
    }
    // A later call did not make it.
    let found = host.link("vx0").unwrap();
    assert!(matches!(found.remove(), Err(NetError::Denied(_))));
    node.remove_link(Side::Host, "eth1");
    assert!(node.link(Side::Host, "vx0").is_none());
}
