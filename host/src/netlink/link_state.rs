//! Links as the kernel describes them.

use rtnetlink::packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoMacVlan, InfoPortData, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, MacVlanMode, State,
};

/// RFC 2863 states, as far as the kernel uses them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OperState {
    #[default]
    Unknown,
    Down,
    LowerLayerDown,
    Dormant,
    Up,
}

/// Flags of a bridge's port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PortFlags {
    pub(crate) hairpin: bool,
    pub(crate) isolated: bool,
}

/// A link as the kernel describes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkState {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) promiscuous: bool,
    pub(crate) state: OperState,
    pub(crate) kind: Option<String>,
    pub(crate) controller: Option<u32>,
    pub(crate) peer: Option<u32>,
    pub(crate) port: Option<PortFlags>,
    pub(crate) vlan_filtering: bool,
    /// A macvlan that is all of its parent.
    pub(crate) is_passthru: bool,
}

impl LinkState {
    /// Whether the kernel calls its kind so (`veth`, `bridge`, …).
    pub(crate) fn is_kind(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }
}

/// Reads a description. Only what [`super::message`] names is in it.
pub(super) fn link_state(message: &LinkMessage) -> LinkState {
    let mut link = LinkState {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        promiscuous: message.header.flags.contains(LinkFlags::Promisc),
        ..LinkState::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::Link(index) => link.peer = Some(*index),
            LinkAttribute::OperState(state) => link.state = oper_state(*state),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| read_info(info, &mut link)),
            _ => {}
        }
    }
    link
}

fn read_info(info: &LinkInfo, link: &mut LinkState) {
    match info {
        LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
        LinkInfo::Data(InfoData::Bridge(data)) => {
            link.vlan_filtering = data.contains(&InfoBridge::VlanFiltering(true));
        }
        LinkInfo::Data(InfoData::MacVlan(data)) => {
            link.is_passthru = data.contains(&InfoMacVlan::Mode(MacVlanMode::Passthrough));
        }
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => {
            link.port = Some(PortFlags {
                hairpin: data.contains(&InfoBridgePort::HairpinMode(true)),
                isolated: data.contains(&InfoBridgePort::Isolated(true)),
            });
        }
        _ => {}
    }
}

fn oper_state(state: State) -> OperState {
    match state {
        State::Up => OperState::Up,
        State::Dormant | State::Testing => OperState::Dormant,
        State::LowerLayerDown => OperState::LowerLayerDown,
        State::Down | State::NotPresent => OperState::Down,
        _ => OperState::Unknown,
    }
}
