//! Routes, and those that come with addresses.

use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteType};

use super::*;

impl Node {
    /// Where routes out of a link lead.
    fn routes(&self, index: u32) -> Vec<u8> {
        let question = route(index, None, None);
        let answers = self.request(HOST, RouteNetlinkMessage::GetRoute(question), 0).unwrap();
        answers
            .into_iter()
            .map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => route.header.destination_prefix_length,
                other => panic!("the answer is {other:?}"),
            })
            .collect()
    }

    fn add_route(&self, index: u32, to: &str, via: Option<&str>) -> Result<(), i32> {
        let message = RouteNetlinkMessage::NewRoute(route(index, Some(to), via));
        self.request(HOST, message, NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    fn prepend_route(&self, index: u32, to: &str, via: Option<&str>) -> Result<(), i32> {
        let message = RouteNetlinkMessage::NewRoute(route(index, Some(to), via));
        self.request(HOST, message, NLM_F_CREATE).map(drop)
    }
}

fn route(index: u32, to: Option<&str>, via: Option<&str>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    if let Some(to) = to {
        let net: ipnet::IpNet = to.parse().unwrap();
        message.header.destination_prefix_length = net.prefix_len();
        message.attributes.push(RouteAttribute::Destination(net.addr().into()));
    }
    if let Some(via) = via {
        let via: IpAddr = via.parse().unwrap();
        message.attributes.push(RouteAttribute::Gateway(via.into()));
    }
    message
}

#[test]
fn addresses_come_and_go_with_the_routes_to_their_networks() {
    let node = Node::new();
    let (near, _) = node.create_pair(["a", "b"], None).unwrap();
    assert_eq!(node.addresses(near), 0);
    node.add_address(near, "10.2.0.1", 24).unwrap();
    assert_eq!(node.add_address(near, "10.2.0.1", 24), Err(nix::libc::EEXIST));
    assert_eq!((node.addresses(near), node.routes(near)), (1, vec![24]));
    node.remove_address(near, "10.2.0.1", 24).unwrap();
    assert_eq!((node.addresses(near), node.routes(near)), (0, Vec::new()));
    // A single address has no network.
    node.add_address(near, "10.2.0.1", 32).unwrap();
    assert_eq!(node.routes(near), [0; 0]);
    // One that the kernel has.
    assert_eq!(node.add_address(BRIDGE, "10.1.0.1", 24), Err(nix::libc::EEXIST));
    node.remove_address(BRIDGE, "10.1.0.1", 24).unwrap();
    assert_eq!(node.addresses(BRIDGE), 0);
    assert_eq!(node.remove_address(BRIDGE, "10.1.0.1", 24), Err(nix::libc::EADDRNOTAVAIL));
    node.add_address(BRIDGE, "10.1.0.1", 24).unwrap();
    assert_eq!(node.addresses(BRIDGE), 1);
}

#[test]
fn routes_need_a_link_that_is_up_and_a_gateway_on_it() {
    let node = Node::new();
    let (near, far) = node.create_pair(["a", "b"], None).unwrap();
    assert_eq!(node.add_route(far, "192.0.2.0/24", None), Err(nix::libc::ENETDOWN));
    node.add_address(far, "10.2.0.1", 24).unwrap();
    assert_eq!(node.routes(far), [0; 0]);
    node.set_up(far, true);
    assert_eq!(node.routes(far), [24]);
    assert_eq!(node.add_route(far, "0.0.0.0/0", Some("10.3.0.1")), Err(nix::libc::ENETUNREACH));
    node.add_route(far, "0.0.0.0/0", Some("10.2.0.9")).unwrap();
    // Whichever link it leads out of.
    node.add_address(near, "10.4.0.1", 24).unwrap();
    assert_eq!(node.add_route(near, "0.0.0.0/0", Some("10.4.0.2")), Err(nix::libc::EEXIST));
    assert_eq!(node.prepend_route(far, "0.0.0.0/0", Some("10.2.0.9")), Err(nix::libc::EEXIST));
    node.prepend_route(near, "0.0.0.0/0", Some("10.4.0.2")).unwrap();
    assert_eq!(node.routes(near), [24, 0]);
    let removed = node.request(HOST, RouteNetlinkMessage::DelRoute(route(far, Some("10.2.0.0/24"), None)), 0);
    assert!(removed.is_ok());
    assert_eq!(node.routes(far), [0]);
    let again = node.request(HOST, RouteNetlinkMessage::DelRoute(route(far, Some("10.2.0.0/24"), None)), 0);
    assert_eq!(again.map(drop), Err(nix::libc::ESRCH));
    node.set_up(far, false);
    assert_eq!(node.routes(far), [0; 0]);
}
