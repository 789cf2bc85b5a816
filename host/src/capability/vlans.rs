//! `weir:net/links`: the VLANs of a bridge's ports.

use wasmtime::component::Resource;

use super::error::net_error;
use super::links::LinkHandle;
use crate::call::Served;
use crate::journal::Side;
use crate::netlink;
use crate::policy::{LAST_VLAN, Numbers, Operation};
use crate::session::Session;
use crate::wit::weir::net::links::VlanRange;
use crate::wit::weir::net::types::NetError;

/// A list has no more ranges than there are VLANs.
const RANGE_LIMIT: usize = LAST_VLAN as usize;

impl Session {
    /// Adds a port to VLANs.
    pub(super) fn join_vlans(
        &mut self,
        link: &Resource<LinkHandle>,
        vlans: Vec<VlanRange>,
    ) -> Served<Result<(), NetError>> {
        let vlans = match self.ranges_for(link, vlans)? {
            Ok(vlans) => vlans,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(denied) = self.permit_vlans(link, &vlans)? {
            return Ok(Err(denied));
        }
        self.change_own(link, "add-vlans", "", |netns, index| netns.add_vlans(index, &vlans))
    }

    /// Takes a port out of VLANs.
    pub(super) fn leave_vlans(
        &mut self,
        link: &Resource<LinkHandle>,
        vlans: Vec<VlanRange>,
    ) -> Served<Result<(), NetError>> {
        let vlans = match self.ranges_for(link, vlans)? {
            Ok(vlans) => vlans,
            Err(error) => return Ok(Err(error)),
        };
        self.change_own(link, "remove-vlans", "", |netns, index| netns.remove_vlans(index, &vlans))
    }

    /// Lists the VLANs of a port.
    pub(super) fn list_vlans(
        &mut self,
        link: &Resource<LinkHandle>,
    ) -> Served<Result<Vec<VlanRange>, NetError>> {
        self.call.check_time()?;
        let link = self.link_of(link)?;
        let vlans = link.netns.vlans(link.index()).map_err(net_error);
        Ok(vlans.map(|vlans| {
            let range = |vlan: netlink::VlanRange| VlanRange {
                first: vlan.first,
                last: vlan.last,
                pvid: vlan.pvid,
                untagged: vlan.untagged,
            };
            vlans.into_iter().map(range).collect()
        }))
    }

    /// The ranges of a list that is about a port of the plugin's own.
    fn ranges_for(
        &mut self,
        link: &Resource<LinkHandle>,
        vlans: Vec<VlanRange>,
    ) -> Served<Result<Vec<netlink::VlanRange>, NetError>> {
        Ok(self.own_only(link, "change-vlans")?.and_then(|()| vlan_ranges(vlans)))
    }

    /// Whether a port may be in all of these VLANs. Ports in the container's
    /// namespace are the plugin's.
    fn permit_vlans(
        &mut self,
        handle: &Resource<LinkHandle>,
        vlans: &[netlink::VlanRange],
    ) -> Served<Result<(), NetError>> {
        let link = self.link_of(handle)?;
        let (netns, object) = (&link.netns, link.name());
        if link.side == Side::Container || self.guest.is_unrestricted() {
            return Ok(Ok(()));
        }
        let bridge = netns.link_by_index(link.index()).and_then(|found| match found.controller {
            Some(bridge) => netns.link_name(bridge).map(Some),
            None => Ok(found.is_kind("bridge").then_some(found.name)),
        });
        let bridge = match bridge {
            Ok(bridge) => bridge,
            Err(error) => return Ok(Err(net_error(error))),
        };
        let range = |vlan: &netlink::VlanRange| Numbers::between(vlan.first.into(), vlan.last.into());
        let wanted =
            vlans.iter().map(range).map(|vlans| Operation::Vlans { bridge: bridge.as_deref(), vlans });
        self.permit("add-vlans", object, &wanted.collect::<Vec<_>>())
    }
}

fn vlan_ranges(vlans: Vec<VlanRange>) -> Result<Vec<netlink::VlanRange>, NetError> {
    // The length of an attribute of netlink has 16 bits.
    if vlans.len() > RANGE_LIMIT {
        let message = format!("{} ranges of VLANs in one list, at most {RANGE_LIMIT}", vlans.len());
        return Err(NetError::Invalid(message));
    }
    let range = |vlan: VlanRange| netlink::VlanRange {
        first: vlan.first,
        last: vlan.last,
        pvid: vlan.pvid,
        untagged: vlan.untagged,
    };
    Ok(vlans.into_iter().map(range).collect())
}
