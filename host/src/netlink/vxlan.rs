//! VXLAN tunnel endpoints.

use std::net::IpAddr;

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo};

use super::link::end_message;
use super::{LinkState, NetlinkError, Netns, VethEnd};

/// A tunnel endpoint to be made.
#[derive(Debug, Clone)]
pub(crate) struct VxlanSpec {
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    /// 0 leaves the choice to the kernel.
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) vni: u32,
    pub(crate) port: u16,
    pub(crate) local: Option<IpAddr>,
    pub(crate) learning: bool,
    /// The link that packets go out of.
    pub(crate) underlay: Option<u32>,
    /// The bridge that it becomes a port of.
    pub(crate) controller: Option<u32>,
}

impl VxlanSpec {
    /// What stands in front of a frame, in bytes: Ethernet, IP, UDP and VXLAN
    /// headers.
    pub(crate) fn overhead(&self) -> u32 {
        let ip = if self.local.is_some_and(|local| local.is_ipv6()) { 40 } else { 20 };
        14 + ip + 8 + 8
    }
}

impl Netns {
    /// Makes a tunnel endpoint.
    pub(crate) fn create_vxlan(&self, vxlan: &VxlanSpec) -> Result<LinkState, NetlinkError> {
        let VxlanSpec { name, mac, mtu, up, .. } = vxlan;
        let mut message = end_message(&VethEnd { name: name.clone(), mac: *mac, up: *up }, *mtu);
        message.attributes.extend(vxlan.controller.map(LinkAttribute::Controller));
        let mut data =
            vec![InfoVxlan::Id(vxlan.vni), InfoVxlan::Port(vxlan.port), InfoVxlan::Learning(vxlan.learning)];
        data.extend(vxlan.underlay.map(InfoVxlan::Link));
        data.extend(vxlan.local.map(|local| match local {
            IpAddr::V4(local) => InfoVxlan::Local(local),
            IpAddr::V6(local) => InfoVxlan::Local6(local),
        }));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]));
        self.create(message, name, &format!("VXLAN endpoint {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_ipv6_are_longer() {
        let vxlan = VxlanSpec {
            name: "vx0".to_owned(),
            mac: [0; 6],
            mtu: 0,
            up: true,
            vni: 1,
            port: 4789,
            local: None,
            learning: false,
            underlay: None,
            controller: None,
        };
        let over = |local: &str| VxlanSpec { local: Some(local.parse().unwrap()), ..vxlan.clone() };
        assert_eq!(
            (vxlan.overhead(), over("192.0.2.1").overhead(), over("fd00::1").overhead()),
            (50, 50, 70)
        );
    }
}
