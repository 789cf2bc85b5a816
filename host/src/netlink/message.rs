//! Messages of the routing netlink, of which only that is read which somebody
//! wants to know.
//!
//! The kernel describes a link with some fifty attributes and as many more
//! inside of them. Read as a whole, the four descriptions that an ADD gets fill
//! a hundred kilobytes.

use nix::libc::{
    AF_INET6, AF_UNSPEC, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, IFLA_OPERSTATE, RTM_NEWLINK,
};
use rtnetlink::packet_core::{
    DecodeError, NLA_ALIGNTO, NLA_HEADER_SIZE, NetlinkDeserializable, NetlinkHeader, NlaBuffer, NlasIterator,
};
use rtnetlink::packet_route::RouteNetlinkMessage;

/// `struct ifinfomsg` of linux/rtnetlink.h, before the attributes of a link.
const LINK_HEADER: usize = 16;

/// linux/if_link.h, as far as libc lacks it.
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET6_CONF: u16 = 2;

/// What [`super::link_state`] and `super::imagined` read of a link: whoever reads
/// more there has to name it here.
const OF_LINK: &[u16] =
    &[IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_OPERSTATE, IFLA_LINK_NETNSID];
const OF_BRIDGE: &[u16] = &[IFLA_BR_VLAN_FILTERING];
const OF_PORT: &[u16] = &[IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED];
const OF_IPV6: &[u16] = &[IFLA_INET6_CONF];

/// The kind of a bridge, and of its ports.
const BRIDGE: &[u8] = b"bridge\0";

type Attribute<'a> = NlaBuffer<&'a [u8]>;

/// Reads a message of a type; of a link also its settings of IPv6, where that is
/// wanted.
pub(super) fn read(
    kind: u16,
    payload: &[u8],
    with_settings: bool,
) -> Result<RouteNetlinkMessage, DecodeError> {
    let wanted = match payload.first() {
        // Other families describe other things than the link itself, such as
        // VLANs of a bridge.
        Some(family) if kind == RTM_NEWLINK && i32::from(*family) == AF_UNSPEC => {
            Some(wanted_of_link(payload, with_settings)?)
        }
        _ => None,
    };
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    RouteNetlinkMessage::deserialize(&header, wanted.as_deref().unwrap_or(payload))
}

/// The description of a link, less what nobody reads.
fn wanted_of_link(payload: &[u8], with_settings: bool) -> Result<Vec<u8>, DecodeError> {
    let (header, attributes) = payload
        .split_at_checked(LINK_HEADER)
        .ok_or_else(|| DecodeError::from("the description of a link is shorter than its header"))?;
    let mut wanted = Vec::with_capacity(256);
    wanted.extend_from_slice(header);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        match attribute.kind() {
            IFLA_LINKINFO => nest(&mut wanted, IFLA_LINKINFO, |wanted| add_info(wanted, value(attribute)))?,
            IFLA_AF_SPEC if with_settings => {
                nest(&mut wanted, IFLA_AF_SPEC, |wanted| add_ipv6(wanted, value(attribute)))?;
            }
            kind if OF_LINK.contains(&kind) => add(&mut wanted, attribute),
            _ => {}
        }
    }
    Ok(wanted)
}

/// Adds what is read of `IFLA_LINKINFO`, in which a kind comes before what is
/// special to it.
fn add_info(wanted: &mut Vec<u8>, info: &[u8]) -> Result<(), DecodeError> {
    let (mut is_bridge, mut is_port) = (false, false);
    for attribute in NlasIterator::new(info) {
        let attribute = attribute?;
        let of_bridge = value(attribute).starts_with(BRIDGE);
        match attribute.kind() {
            IFLA_INFO_KIND => is_bridge = of_bridge,
            IFLA_INFO_SLAVE_KIND => is_port = of_bridge,
            _ => {}
        }
        match attribute.kind() {
            IFLA_INFO_DATA if is_bridge => add_some(wanted, attribute, OF_BRIDGE)?,
            IFLA_INFO_SLAVE_DATA if is_port => add_some(wanted, attribute, OF_PORT)?,
            _ => add(wanted, attribute),
        }
    }
    Ok(())
}

/// Adds what is read of `IFLA_AF_SPEC`: the settings of IPv6.
fn add_ipv6(wanted: &mut Vec<u8>, families: &[u8]) -> Result<(), DecodeError> {
    for family in NlasIterator::new(families) {
        let family = family?;
        if i32::from(family.kind()) == AF_INET6 {
            add_some(wanted, family, OF_IPV6)?;
        }
    }
    Ok(())
}

/// Adds an attribute with some of those inside of it.
fn add_some(wanted: &mut Vec<u8>, attribute: Attribute<'_>, kinds: &[u16]) -> Result<(), DecodeError> {
    nest(wanted, attribute.kind(), |wanted| {
        for inner in NlasIterator::new(value(attribute)) {
            let inner = inner?;
            if kinds.contains(&inner.kind()) {
                add(wanted, inner);
            }
        }
        Ok(())
    })
}

/// Adds an attribute as it is.
fn add(wanted: &mut Vec<u8>, attribute: Attribute<'_>) {
    let length = usize::from(attribute.length());
    wanted.extend_from_slice(&attribute.into_inner()[..length]);
    wanted.resize(wanted.len().next_multiple_of(NLA_ALIGNTO), 0);
}

/// Adds an attribute around others.
fn nest(
    wanted: &mut Vec<u8>,
    kind: u16,
    add: impl FnOnce(&mut Vec<u8>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let start = wanted.len();
    wanted.extend([0; NLA_HEADER_SIZE]);
    add(wanted)?;
    // It is shorter than what the kernel sent.
    let length = u16::try_from(wanted.len() - start).unwrap_or(u16::MAX);
    wanted[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    wanted[start + 2..start + NLA_HEADER_SIZE].copy_from_slice(&kind.to_ne_bytes());
    Ok(())
}

fn value(attribute: Attribute<'_>) -> &[u8] {
    &attribute.into_inner()[NLA_HEADER_SIZE..usize::from(attribute.length())]
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::Emitable;
    use rtnetlink::packet_route::link::{
        AfSpecInet, AfSpecInet6, AfSpecUnspec, Inet6DevConf, InfoBridge, InfoBridgePort, InfoData, InfoKind,
        InfoMacVlan, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode, State,
    };

    use super::*;

    /// What is read of a link that the kernel describes so.
    fn read_link(attributes: Vec<LinkAttribute>, with_settings: bool) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.attributes = attributes;
        let mut payload = vec![0; message.buffer_len()];
        message.emit(&mut payload);
        match read(RTM_NEWLINK, &payload, with_settings).unwrap() {
            RouteNetlinkMessage::NewLink(read) if read.header == message.header => read,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_describes_a_link_is_read_and_nothing_else() {
        let known = [
            LinkAttribute::IfName("cni0".to_owned()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::Mtu(1400),
            LinkAttribute::Link(3),
            LinkAttribute::Controller(4),
            LinkAttribute::OperState(State::Up),
            LinkAttribute::LinkNetNsId(5),
        ];
        let mut sent = known.to_vec();
        sent.insert(1, LinkAttribute::TxQueueLen(1000));
        assert_eq!(read_link(sent, false).attributes, known);
    }

    #[test]
    fn of_families_the_settings_of_ipv6_are_read_if_they_are_wanted() {
        let mut settings = Inet6DevConf::default();
        settings.disable_ipv6 = 1;
        let settings = AfSpecInet6::DevConf(settings);
        let sent = LinkAttribute::AfSpecUnspec(vec![
            AfSpecUnspec::Inet(vec![AfSpecInet::DevConf(Default::default())]),
            AfSpecUnspec::Inet6(vec![AfSpecInet6::Stats(Default::default()), settings.clone()]),
        ]);
        let expected = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![settings])]);
        assert_eq!(read_link(vec![sent.clone()], true).attributes, [expected]);
        assert_eq!(read_link(vec![sent], false).attributes, []);
    }

    #[test]
    fn of_bridges_and_ports_only_that_is_read_which_is_known() {
        let bridge = |data| LinkInfo::Data(InfoData::Bridge(data));
        let port = |data| LinkInfo::PortData(InfoPortData::BridgePort(data));
        let sent = LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            bridge(vec![
                InfoBridge::AgeingTime(3),
                InfoBridge::VlanFiltering(true),
                InfoBridge::HelloTime(2),
            ]),
            LinkInfo::PortKind(InfoPortKind::Bridge),
            port(vec![
                InfoBridgePort::Cost(9),
                InfoBridgePort::HairpinMode(true),
                InfoBridgePort::Learning(true),
                InfoBridgePort::Isolated(true),
            ]),
        ]);
        let expected = LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            bridge(vec![InfoBridge::VlanFiltering(true)]),
            LinkInfo::PortKind(InfoPortKind::Bridge),
            port(vec![InfoBridgePort::HairpinMode(true), InfoBridgePort::Isolated(true)]),
        ]);
        assert_eq!(read_link(vec![sent], false).attributes, [expected]);
    }

    #[test]
    fn of_other_kinds_all_is_read() {
        let sent = LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![
                InfoMacVlan::Mode(MacVlanMode::Passthrough),
                InfoMacVlan::MacAddrCount(0),
            ])),
        ]);
        assert_eq!(read_link(vec![sent.clone()], false).attributes, [sent]);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])),
        ]));
        let mut payload = vec![0; message.buffer_len()];
        message.emit(&mut payload);
        for length in 0..payload.len() {
            // Nothing but the header is a link of which nothing is told.
            let is_whole = length == LINK_HEADER;
            let read = read(RTM_NEWLINK, &payload[..length], true);
            assert_eq!(read.is_ok(), is_whole, "{length}: {read:?}");
        }
    }
}
