//! VLANs of bridge ports.

use nix::libc::ENOENT;
use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkMessage,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link_message::controller;
use super::{FIRST_INDEX, Inquiry, NetlinkError};

/// The VLAN that a bridge puts new ports in.
const DEFAULT_VLAN: u16 = 1;

type Answers = Result<Vec<RouteNetlinkMessage>, NetlinkError>;

impl Inquiry<'_> {
    /// Lists the VLANs of all ports.
    pub(super) fn vlans(&mut self, message: LinkMessage, _: u16) -> Answers {
        let mut answers = self.ask_all(RouteNetlinkMessage::GetLink(message))?;
        let space = self.space();
        answers.retain(|answer| match answer {
            RouteNetlinkMessage::NewLink(port) => {
                let index = port.header.index;
                !space.gone.contains(&index) && !space.vlans.contains_key(&index)
            }
            _ => true,
        });
        let made = space.links.range(FIRST_INDEX..).filter(|(_, link)| controller(link).is_some());
        let fresh = made.map(|(index, _)| (*index, space.vlans.get(index).cloned().unwrap_or_else(first)));
        let changed = space.vlans.iter().filter(|(index, _)| **index < FIRST_INDEX);
        let changed = changed.map(|(index, vlans)| (*index, vlans.clone()));
        answers.extend(fresh.chain(changed).map(|(index, vlans)| {
            let mut port = LinkMessage::default();
            port.header.interface_family = AddressFamily::Bridge;
            port.header.index = index;
            let specs = vlans.into_iter().map(AfSpecBridge::VlanInfo).collect();
            port.attributes.push(LinkAttribute::AfSpecBridge(specs));
            RouteNetlinkMessage::NewLink(port)
        }));
        Ok(answers)
    }

    /// Puts a port into VLANs, or takes it out.
    pub(super) fn change_vlans(&mut self, message: &LinkMessage, is_added: bool) -> Answers {
        let index = message.header.index;
        self.link_by_index(index)?;
        let mut vlans = self.vlans_of(index)?;
        for changed in numbers(message) {
            let before = vlans.len();
            vlans.retain(|vlan| vlan.vid != changed.vid);
            if is_added {
                if changed.flags.contains(BridgeVlanInfoFlags::Pvid) {
                    vlans.iter_mut().for_each(|vlan| vlan.flags.remove(BridgeVlanInfoFlags::Pvid));
                }
                vlans.push(changed);
            } else if vlans.len() == before {
                return Err(self.refusal(ENOENT));
            }
        }
        self.space().vlans.insert(index, vlans);
        Ok(Vec::new())
    }

    fn vlans_of(&mut self, index: u32) -> Result<Vec<BridgeVlanInfo>, NetlinkError> {
        let mut question = LinkMessage::default();
        question.header.interface_family = AddressFamily::Bridge;
        question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
        let ports = self.vlans(question, 0)?;
        let port = ports.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(port) if port.header.index == index => Some(port),
            _ => None,
        });
        Ok(port.map(numbers).unwrap_or_default())
    }
}

/// What a new port carries.
fn first() -> Vec<BridgeVlanInfo> {
    let flags = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
    vec![BridgeVlanInfo { vid: DEFAULT_VLAN, flags }]
}

/// The VLANs that a message names, one by one.
fn numbers(message: &LinkMessage) -> Vec<BridgeVlanInfo> {
    let range = BridgeVlanInfoFlags::RangeBegin | BridgeVlanInfoFlags::RangeEnd;
    let mut numbers = Vec::new();
    let mut begin = None;
    for attribute in &message.attributes {
        let LinkAttribute::AfSpecBridge(specs) = attribute else { continue };
        for spec in specs {
            let AfSpecBridge::VlanInfo(info) = spec else { continue };
            if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
                begin = Some(info.vid);
                continue;
            }
            let flags = info.flags & !range;
            let vids = begin.take().unwrap_or(info.vid)..=info.vid;
            numbers.extend(vids.map(|vid| BridgeVlanInfo { vid, flags }));
        }
    }
    numbers
}
