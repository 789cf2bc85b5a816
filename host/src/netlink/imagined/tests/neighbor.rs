//! Neighbors and forwarding entries.

use nix::libc::{EEXIST, ENODEV, ENOENT, EOPNOTSUPP};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourState};

use super::*;

const ONE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TWO: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// What the real kernel knows, as far as it is asked for: a neighbor on the
/// bridge, a station at the port, a remote end of the tunnel.
pub(super) fn real(wanted: &NeighbourMessage) -> Vec<RouteNetlinkMessage> {
    let mut station = forwarding(PORT, ONE, None);
    station.header.flags = NeighbourFlags::empty();
    station.attributes.push(NeighbourAttribute::Controller(BRIDGE));
    let known = [neighbor(BRIDGE, "10.1.0.5", ONE), station, forwarding(TUNNEL, ONE, Some("192.0.2.9"))];
    let is_forwarding = |entry: &NeighbourMessage| entry.header.family == AddressFamily::Bridge;
    let is_wanted = |entry: &NeighbourMessage| {
        is_forwarding(entry) == is_forwarding(wanted)
            && wanted.attributes.iter().all(|attribute| match attribute {
                NeighbourAttribute::IfIndex(index) => entry.header.ifindex == *index,
                attribute => entry.attributes.contains(attribute),
            })
    };
    known.into_iter().filter(is_wanted).map(RouteNetlinkMessage::NewNeighbour).collect()
}

fn neighbor(index: u32, text: &str, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    let address: IpAddr = text.parse().unwrap();
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

fn forwarding(index: u32, mac: [u8; 6], destination: Option<&str>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Noarp;
    message.header.flags =
        if destination.is_some() { NeighbourFlags::Own } else { NeighbourFlags::Controller };
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    let destination = destination.map(|text| text.parse::<IpAddr>().unwrap());
    message.attributes.extend(destination.map(|address| NeighbourAttribute::Destination(address.into())));
    message
}

impl Node {
    fn list(&self, family: AddressFamily, of: NeighbourAttribute) -> Vec<NeighbourMessage> {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        question.attributes.push(of);
        let answers = self.request(HOST, RouteNetlinkMessage::GetNeighbour(question), NLM_F_DUMP).unwrap();
        answers
            .into_iter()
            .map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(entry) => entry,
                other => panic!("the answer is {other:?}"),
            })
            .collect()
    }

    /// The hardware addresses of a link's entries.
    fn macs(&self, family: AddressFamily, index: u32) -> Vec<Vec<u8>> {
        let list = self.list(family, NeighbourAttribute::IfIndex(index));
        let mac = |entry: NeighbourMessage| {
            entry.attributes.into_iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => Some(mac),
                _ => None,
            })
        };
        list.into_iter().filter_map(mac).collect()
    }

    fn add(&self, entry: NeighbourMessage, flags: u16) -> Result<(), i32> {
        self.request(HOST, RouteNetlinkMessage::NewNeighbour(entry), NLM_F_CREATE | flags).map(drop)
    }

    fn remove(&self, entry: NeighbourMessage) -> Result<(), i32> {
        self.request(HOST, RouteNetlinkMessage::DelNeighbour(entry), 0).map(drop)
    }
}

#[test]
fn each_address_is_at_one_station() {
    let node = Node::new();
    let family = AddressFamily::Unspec;
    assert_eq!(node.add(neighbor(BRIDGE, "10.1.0.5", TWO), NLM_F_EXCL), Err(EEXIST));
    node.add(neighbor(BRIDGE, "10.1.0.5", TWO), NLM_F_REPLACE).unwrap();
    assert_eq!(node.macs(family, BRIDGE), [TWO]);
    node.add(neighbor(BRIDGE, "10.1.0.6", TWO), NLM_F_EXCL).unwrap();
    assert_eq!(node.macs(family, BRIDGE).len(), 2);
    node.remove(neighbor(BRIDGE, "10.1.0.5", TWO)).unwrap();
    assert_eq!(node.remove(neighbor(BRIDGE, "10.1.0.5", TWO)), Err(ENOENT));
    assert_eq!(node.macs(family, BRIDGE), [TWO]);
    // On a link of the plan, and only while that is there.
    let (near, _) = node.create_pair(["a", "b"], None).unwrap();
    node.add(neighbor(near, "10.1.0.5", ONE), NLM_F_EXCL).unwrap();
    assert_eq!(node.macs(family, near), [ONE]);
    node.set_up(BRIDGE, false);
    node.set_up(near, false);
    assert!(node.macs(family, BRIDGE).is_empty() && node.macs(family, near).is_empty());
    assert_eq!(node.add(neighbor(99, "10.1.0.5", ONE), NLM_F_EXCL), Err(ENODEV));
}

#[test]
fn ports_and_tunnels_forward() {
    let node = Node::new();
    let family = AddressFamily::Bridge;
    let (near, _) = node.create_pair(["a", "b"], Some(BRIDGE)).unwrap();
    node.add(forwarding(near, TWO, None), NLM_F_EXCL).unwrap();
    assert_eq!(node.add(forwarding(near, TWO, None), NLM_F_EXCL), Err(EEXIST));
    assert_eq!(node.macs(family, near), [TWO]);
    // The bridge knows what is at its ports, real ones and others.
    assert_eq!(node.list(family, NeighbourAttribute::Controller(BRIDGE)).len(), 2);
    node.remove(forwarding(PORT, ONE, None)).unwrap();
    assert_eq!(node.list(family, NeighbourAttribute::Controller(BRIDGE)).len(), 1);
    for bad in [forwarding(near, TWO, Some("192.0.2.9")), forwarding(TUNNEL, TWO, None)] {
        assert_eq!(node.add(bad, NLM_F_EXCL), Err(EOPNOTSUPP));
    }
    // One remote end, unless it is appended.
    let to = |destination| forwarding(TUNNEL, ONE, Some(destination));
    assert_eq!(node.add(to("192.0.2.10"), NLM_F_EXCL), Err(EEXIST));
    node.add(to("192.0.2.10"), NLM_F_REPLACE).unwrap();
    assert_eq!(node.remove(to("192.0.2.9")), Err(ENOENT));
    node.add(to("192.0.2.11"), NLM_F_APPEND).unwrap();
    node.add(to("192.0.2.11"), NLM_F_APPEND).unwrap();
    assert_eq!(node.macs(family, TUNNEL).len(), 2);
    // They are no neighbors, and stay when the link goes down.
    assert!(node.macs(AddressFamily::Unspec, TUNNEL).is_empty());
    node.set_up(TUNNEL, false);
    assert_eq!(node.macs(family, TUNNEL).len(), 2);
}
