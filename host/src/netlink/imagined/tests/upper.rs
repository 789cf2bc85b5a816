//! Links that sit on other links.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::libc::{EEXIST, ENODEV};
use rtnetlink::packet_route::link::{InfoMacVlan, InfoVxlan, MacVlanMode, State as OperState};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::*;

fn create(node: &Node, namespace: u64, name: &str, more: Vec<LinkAttribute>) -> Result<LinkMessage, i32> {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(more);
    let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO;
    match node.request(namespace, RouteNetlinkMessage::NewLink(message), flags)?.into_iter().next() {
        Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        other => panic!("no echo: {other:?}"),
    }
}

fn macvlan(parent: u32) -> Vec<LinkAttribute> {
    let data = vec![InfoMacVlan::Mode(MacVlanMode::Passthrough)];
    let info = vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(InfoData::MacVlan(data))];
    vec![LinkAttribute::Link(parent), LinkAttribute::LinkInfo(info)]
}

fn vxlan(data: Vec<InfoVxlan>) -> Vec<LinkAttribute> {
    vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(data)),
    ])]
}

fn has(link: &LinkMessage, attribute: &LinkAttribute) -> bool {
    link.attributes.contains(attribute)
}

#[test]
fn a_macvlan_works_like_its_parent_and_goes_with_it() {
    let node = Node::new();
    let (near, far) = node.create_pair(["p0", "p1"], None).unwrap();
    let made = create(&node, HOST, "m0", macvlan(near)).unwrap();
    for attribute in macvlan(near) {
        assert!(has(&made, &attribute), "{attribute:?} of {made:?}");
    }
    assert_eq!(create(&node, HOST, "m0", macvlan(near)).unwrap_err(), EEXIST);
    let state = |expected| {
        let link = node.link(HOST, made.header.index).unwrap();
        assert!(has(&link, &LinkAttribute::OperState(expected)), "{expected:?}: {link:?}");
    };
    state(OperState::LowerLayerDown);
    node.set_up(far, true);
    state(OperState::Up);
    node.set_up(made.header.index, false);
    state(OperState::Down);
    let mut gone = LinkMessage::default();
    gone.header.index = far;
    node.request(HOST, RouteNetlinkMessage::DelLink(gone), 0).unwrap();
    assert_eq!(node.link(HOST, made.header.index).unwrap_err(), ENODEV);
}

#[test]
fn a_macvlan_goes_with_a_parent_in_another_namespace() {
    let node = Node::new();
    let (here, there) = (File::open("/proc/self/ns/net").unwrap(), File::open("/proc/self/ns/uts").unwrap());
    let number = |file: &File| {
        let mut question = NsidMessage::default();
        question.attributes.push(NsidAttribute::Fd(file.as_raw_fd().cast_unsigned()));
        let answers = node.request(CONTAINER, RouteNetlinkMessage::GetNsId(question), 1).unwrap();
        match answers.first() {
            Some(RouteNetlinkMessage::NewNsId(answer)) => match answer.attributes.first() {
                Some(NsidAttribute::Id(number)) => *number,
                other => panic!("the attribute is {other:?}"),
            },
            other => panic!("the answer is {other:?}"),
        }
    };
    assert_eq!(number(&here), number(&here));
    assert_ne!(number(&here), number(&there));
    let home = nix::sys::stat::fstat(&there).unwrap().st_ino;
    let mut more = macvlan(ETH0);
    more.push(LinkAttribute::LinkNetNsId(number(&there)));
    let made = create(&node, CONTAINER, "m0", more).unwrap();
    let delete = |namespace| {
        let mut gone = LinkMessage::default();
        gone.header.index = ETH0;
        node.request(namespace, RouteNetlinkMessage::DelLink(gone), 0).unwrap();
    };
    // One of the same number in another namespace is another one.
    delete(CONTAINER);
    assert!(node.link(CONTAINER, made.header.index).is_ok());
    delete(home);
    assert_eq!(node.link(CONTAINER, made.header.index).unwrap_err(), ENODEV);
}

#[test]
fn a_tunnel_endpoint_leaves_room_for_headers() {
    let node = Node::new();
    let mtu = |name: &str, more| {
        let link = create(&node, HOST, name, more).unwrap();
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        mtu.unwrap()
    };
    let over = InfoVxlan::Link(BRIDGE);
    assert_eq!(mtu("v4", vxlan(vec![over.clone()])), 1350);
    let ipv6 = InfoVxlan::Local6("fd00::1".parse().unwrap());
    assert_eq!(mtu("v6", vxlan(vec![over.clone(), ipv6])), 1330);
    assert_eq!(mtu("any", vxlan(Vec::new())), 1500);
    let mut named = vxlan(vec![over]);
    named.push(LinkAttribute::Mtu(1300));
    assert_eq!(mtu("named", named), 1300);
    let nowhere = create(&node, HOST, "nowhere", vxlan(vec![InfoVxlan::Link(99)]));
    assert_eq!(nowhere.unwrap_err(), ENODEV);
    let mut port = vxlan(Vec::new());
    port.push(LinkAttribute::Controller(BRIDGE));
    let made = create(&node, HOST, "port", port).unwrap();
    assert!(has(&made, &LinkAttribute::Controller(BRIDGE)), "{made:?}");
}
