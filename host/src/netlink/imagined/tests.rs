//! A world over a kernel that has a bridge, a pair, a tunnel and little else.

mod neighbor;
mod route;
mod upper;

use std::sync::Arc;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfoFlags, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
};

use super::link_message::name;
use super::*;

const BRIDGE: u32 = 5;
/// The node's end of a container's pair.
const PORT: u32 = 7;
/// A VXLAN link.
const TUNNEL: u32 = 8;
/// The other end, in the container.
const ETH0: u32 = 2;

const HOST: u64 = 100;
const CONTAINER: u64 = 200;

/// The namespaces of a node, over a kernel whose links are these.
struct Node {
    world: Arc<World>,
}

fn real(namespace: u64) -> Vec<LinkMessage> {
    let link = |index, name: &str, kind: InfoKind, more: Vec<LinkAttribute>| {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(1400),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
        ];
        link.attributes.extend(more);
        link
    };
    match namespace {
        HOST => vec![
            link(BRIDGE, "br0", InfoKind::Bridge, Vec::new()),
            link(
                PORT,
                "veth7",
                InfoKind::Veth,
                vec![LinkAttribute::Link(ETH0), LinkAttribute::LinkNetNsId(0)],
            ),
            link(TUNNEL, "vx8", InfoKind::Vxlan, Vec::new()),
        ],
        _ => vec![link(
            ETH0,
            "eth0",
            InfoKind::Veth,
            vec![LinkAttribute::Link(PORT), LinkAttribute::LinkNetNsId(0)],
        )],
    }
}

fn absent() -> NetlinkError {
    NetlinkError::Absent { attempt: String::new() }
}

impl Node {
    fn new() -> Self {
        Self { world: Arc::default() }
    }

    fn request(
        &self,
        namespace: u64,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, i32> {
        let imagined = Imagined::new(Arc::clone(&self.world), namespace);
        let ask = |question: RouteNetlinkMessage, _: u16| match question {
            RouteNetlinkMessage::GetLink(wanted) if is_about_ports(&wanted) => {
                Ok(vec![RouteNetlinkMessage::NewLink(port(PORT, &[(1, 1)]))])
            }
            RouteNetlinkMessage::GetLink(wanted) => {
                let is_it = |link: &LinkMessage| match name(&wanted) {
                    "" => link.header.index == wanted.header.index,
                    name => super::link_message::name(link) == name,
                };
                let found = real(namespace).into_iter().find(is_it).ok_or_else(absent)?;
                Ok(vec![RouteNetlinkMessage::NewLink(found)])
            }
            RouteNetlinkMessage::GetAddress(wanted) if wanted.header.index == BRIDGE => {
                Ok(vec![RouteNetlinkMessage::NewAddress(address(BRIDGE, "10.1.0.1", 24))])
            }
            RouteNetlinkMessage::GetNeighbour(wanted) => Ok(neighbor::real(&wanted)),
            RouteNetlinkMessage::GetAddress(_) | RouteNetlinkMessage::GetRoute(_) => Ok(Vec::new()),
            other => panic!("the kernel was asked to do something: {other:?}"),
        };
        imagined.answer(message, flags, &String::new, &ask).map_err(|error| error.errno())
    }

    fn link(&self, namespace: u64, index: u32) -> Result<LinkMessage, i32> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        let answers = self.request(namespace, RouteNetlinkMessage::GetLink(question), 1)?;
        match answers.into_iter().next() {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
            other => panic!("the answer is {other:?}"),
        }
    }

    /// Makes a pair in one namespace; returns the indexes of its ends.
    fn create_pair(&self, names: [&str; 2], controller: Option<u32>) -> Result<(u32, u32), i32> {
        let end = |name: &str| {
            let mut end = LinkMessage::default();
            end.attributes.push(LinkAttribute::IfName(name.to_owned()));
            end
        };
        let mut message = end(names[0]);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend(controller.map(LinkAttribute::Controller));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(end(names[1])))),
        ]));
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO;
        let answers = self.request(HOST, RouteNetlinkMessage::NewLink(message), flags)?;
        let Some(RouteNetlinkMessage::NewLink(near)) = answers.first() else {
            panic!("no echo: {answers:?}")
        };
        let far = near.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Link(far) => Some(*far),
            _ => None,
        });
        Ok((near.header.index, far.unwrap()))
    }

    fn set(&self, index: u32, change: impl FnOnce(&mut LinkMessage)) -> Result<(), i32> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        change(&mut message);
        self.request(HOST, RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    fn set_up(&self, index: u32, up: bool) {
        self.set(index, |message| {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        })
        .unwrap();
    }

    fn addresses(&self, index: u32) -> usize {
        let mut question = AddressMessage::default();
        question.header.index = index;
        self.request(HOST, RouteNetlinkMessage::GetAddress(question), 0).unwrap().len()
    }

    fn add_address(&self, index: u32, text: &str, length: u8) -> Result<(), i32> {
        self.request(HOST, RouteNetlinkMessage::NewAddress(address(index, text, length)), 0).map(drop)
    }

    fn remove_address(&self, index: u32, text: &str, length: u8) -> Result<(), i32> {
        self.request(HOST, RouteNetlinkMessage::DelAddress(address(index, text, length)), 0).map(drop)
    }
}

/// A port in VLANs, each from the first to the last.
fn port(index: u32, vlans: &[(u16, u16)]) -> LinkMessage {
    let mut specs = Vec::new();
    for (first, last) in vlans {
        let spec = |vid, flags| AfSpecBridge::VlanInfo(BridgeVlanInfo { vid, flags });
        if first == last {
            specs.push(spec(*first, BridgeVlanInfoFlags::Untagged));
        } else {
            specs.push(spec(*first, BridgeVlanInfoFlags::RangeBegin));
            specs.push(spec(*last, BridgeVlanInfoFlags::RangeEnd));
        }
    }
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecBridge(specs));
    message
}

fn address(index: u32, text: &str, length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = length;
    message.attributes.push(AddressAttribute::Local(text.parse().unwrap()));
    message
}

fn state(link: &LinkMessage) -> rtnetlink::packet_route::link::State {
    let found = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::OperState(state) => Some(*state),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_pair_works_once_both_ends_are_up_and_so_does_its_bridge() {
    use rtnetlink::packet_route::link::State;
    let node = Node::new();
    let (near, far) = node.create_pair(["a", "b"], Some(BRIDGE)).unwrap();
    assert!(near >= FIRST_INDEX && far >= FIRST_INDEX && near != far);
    let link = node.link(HOST, near).unwrap();
    assert_eq!(name(&link), "a");
    assert_eq!(super::link_message::controller(&link), Some(BRIDGE));
    assert_eq!(state(&link), State::LowerLayerDown);
    assert_eq!(state(&node.link(HOST, far).unwrap()), State::Down);
    node.set_up(far, true);
    assert_eq!(state(&node.link(HOST, near).unwrap()), State::Up);
    assert_eq!(state(&node.link(HOST, far).unwrap()), State::Up);
    // A name is there once only, be it that of a real link.
    for names in [["a", "c"], ["br0", "c"]] {
        assert_eq!(node.create_pair(names, None), Err(nix::libc::EEXIST));
    }
    assert_eq!(node.create_pair(["c", "d"], Some(PORT)), Err(nix::libc::EOPNOTSUPP));
    // Another namespace knows nothing of it.
    assert_eq!(node.link(CONTAINER, near).map(drop), Err(nix::libc::ENODEV));
}

#[test]
fn a_real_link_looks_changed_afterwards() {
    let node = Node::new();
    assert!(node.link(HOST, BRIDGE).unwrap().attributes.contains(&LinkAttribute::Mtu(1400)));
    node.set(BRIDGE, |message| message.attributes.push(LinkAttribute::Mtu(9000))).unwrap();
    node.set_up(BRIDGE, false);
    let link = node.link(HOST, BRIDGE).unwrap();
    assert!(
        link.attributes.contains(&LinkAttribute::Mtu(9000)) && !link.header.flags.contains(LinkFlags::Up)
    );
    assert_eq!(name(&link), "br0");
    assert_eq!(node.set(99, |_| ()), Err(nix::libc::ENODEV));
}

#[test]
fn of_a_pair_both_ends_go() {
    let node = Node::new();
    let delete = |namespace, index| {
        let mut message = LinkMessage::default();
        message.header.index = index;
        node.request(namespace, RouteNetlinkMessage::DelLink(message), 0).map(drop)
    };
    let (near, far) = node.create_pair(["a", "b"], None).unwrap();
    delete(HOST, far).unwrap();
    assert_eq!(node.link(HOST, near).map(drop), Err(nix::libc::ENODEV));
    // Of a real one, the other end is in another namespace.
    node.link(HOST, PORT).unwrap();
    delete(CONTAINER, ETH0).unwrap();
    for (namespace, index) in [(CONTAINER, ETH0), (HOST, PORT)] {
        assert_eq!(node.link(namespace, index).map(drop), Err(nix::libc::ENODEV));
    }
    node.link(HOST, BRIDGE).unwrap();
    assert_eq!(delete(CONTAINER, ETH0), Err(nix::libc::ENODEV));
}

#[test]
fn ports_are_in_the_first_vlan_until_they_are_taken_out() {
    let node = Node::new();
    let (near, _) = node.create_pair(["a", "b"], Some(BRIDGE)).unwrap();
    let vlans = |index| -> Vec<u16> {
        let question = port(0, &[]);
        let answers = node.request(HOST, RouteNetlinkMessage::GetLink(question), NLM_F_DUMP).unwrap();
        let specs = answers.into_iter().flat_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(port) if port.header.index == index => port.attributes,
            _ => Vec::new(),
        });
        specs
            .flat_map(|attribute| match attribute {
                LinkAttribute::AfSpecBridge(specs) => specs,
                _ => Vec::new(),
            })
            .map(|spec| match spec {
                AfSpecBridge::VlanInfo(info) => info.vid,
                other => panic!("the port tells {other:?}"),
            })
            .collect()
    };
    for index in [PORT, near] {
        assert_eq!(vlans(index), [1]);
        let change = |message: RouteNetlinkMessage| node.request(HOST, message, 0).map(drop);
        change(RouteNetlinkMessage::SetLink(port(index, &[(10, 12), (20, 20)]))).unwrap();
        change(RouteNetlinkMessage::DelLink(port(index, &[(1, 1), (11, 11)]))).unwrap();
        assert_eq!(vlans(index), [10, 12, 20]);
        let gone = change(RouteNetlinkMessage::DelLink(port(index, &[(11, 11)])));
        assert_eq!(gone, Err(nix::libc::ENOENT));
    }
}

#[test]
fn settings_of_new_links_begin_as_those_of_all_new_links() {
    let node = Node::new();
    node.create_pair(["a", "b"], None).unwrap();
    let imagined = Imagined::new(Arc::clone(&node.world), HOST);
    let read = |path: &str| match path {
        "conf/default/accept_ra" | "conf/br0/accept_ra" => Ok("1".to_owned()),
        _ => Err(absent()),
    };
    for path in ["conf/a/accept_ra", "conf/br0/accept_ra"] {
        assert_eq!(imagined.setting(false, path, &read).unwrap(), "1");
        imagined.set_setting(false, path, "0", &read).unwrap();
        assert_eq!(imagined.setting(false, path, &read).unwrap(), "0");
        assert!(imagined.setting(true, path, &read).is_ok_and(|value| value == "1"), "the other family");
    }
    assert!(imagined.set_setting(false, "conf/a/none", "0", &read).is_err());
    assert!(imagined.set_setting(false, "conf/absent/accept_ra", "0", &read).is_err());
}
