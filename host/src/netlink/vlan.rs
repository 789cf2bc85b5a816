//! VLANs of bridge ports (`ip link` message of family `AF_BRIDGE`).

use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkMessage,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NetlinkError, Netns};

/// VLANs that a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VlanRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) pvid: bool,
    pub(crate) untagged: bool,
}

impl Netns {
    /// Adds a port to VLANs.
    pub(crate) fn add_vlans(&self, index: u32, vlans: &[VlanRange]) -> Result<(), NetlinkError> {
        let message = vlan_message(index, vlans);
        self.change(RouteNetlinkMessage::SetLink(message), 0, || format!("add link number {index} to VLANs"))
            .map(drop)
    }

    /// Takes a port out of VLANs.
    pub(crate) fn remove_vlans(&self, index: u32, vlans: &[VlanRange]) -> Result<(), NetlinkError> {
        let message = vlan_message(index, vlans);
        self.change(RouteNetlinkMessage::DelLink(message), 0, || {
            format!("take link number {index} out of VLANs")
        })
        .map(drop)
    }

    /// Lists the VLANs of a port.
    pub(crate) fn vlans(&self, index: u32) -> Result<Vec<VlanRange>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
        let answers = self.dump(RouteNetlinkMessage::GetLink(message), || {
            format!("list the VLANs of link number {index}")
        })?;
        let mut vlans = Vec::new();
        for answer in &answers {
            let RouteNetlinkMessage::NewLink(message) = answer else { continue };
            if message.header.index != index {
                continue;
            }
            for attribute in &message.attributes {
                let LinkAttribute::AfSpecBridge(specs) = attribute else { continue };
                vlans.extend(specs.iter().filter_map(|spec| match spec {
                    AfSpecBridge::VlanInfo(info) => Some(VlanRange {
                        first: info.vid,
                        last: info.vid,
                        pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
                        untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
                    }),
                    _ => None,
                }));
            }
        }
        Ok(vlans)
    }
}

fn vlan_message(index: u32, vlans: &[VlanRange]) -> LinkMessage {
    let mut specs = Vec::new();
    for vlan in vlans {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, vlan.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, vlan.untagged);
        if vlan.first == vlan.last {
            specs.push(AfSpecBridge::VlanInfo(BridgeVlanInfo { vid: vlan.first, flags }));
        } else {
            let begin = flags | BridgeVlanInfoFlags::RangeBegin;
            let end = flags | BridgeVlanInfoFlags::RangeEnd;
            specs.push(AfSpecBridge::VlanInfo(BridgeVlanInfo { vid: vlan.first, flags: begin }));
            specs.push(AfSpecBridge::VlanInfo(BridgeVlanInfo { vid: vlan.last, flags: end }));
        }
    }
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecBridge(specs));
    message
}
