//! What the kernel says of a link, as the contract describes it.

use crate::netlink::{LinkState, OperState};
use crate::wit;
use crate::wit::weir::net::links::{self, LinkInfo, PortOptions};

pub(super) fn link_info(link: LinkState) -> LinkInfo {
    LinkInfo {
        name: link.name,
        index: link.index,
        mac: link.mac.map(wit::to_mac),
        mtu: link.mtu,
        up: link.up,
        promiscuous: link.promiscuous,
        state: match link.state {
            OperState::Unknown => links::OperState::Unknown,
            OperState::Down => links::OperState::Down,
            OperState::LowerLayerDown => links::OperState::LowerLayerDown,
            OperState::Dormant => links::OperState::Dormant,
            OperState::Up => links::OperState::Up,
        },
        kind: link.kind,
        controller: link.controller,
        peer: link.peer,
        port: link.port.map(|port| PortOptions { hairpin: port.hairpin, isolated: port.isolated }),
        vlan_filtering: link.vlan_filtering,
    }
}
