//! `weir:net/links`: links.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Resource;

use super::error::net_error;
use super::link_info::link_info;
use crate::call::Served;
use crate::journal::{Inverse, LinkId, Side};
use crate::netlink::{LinkState, NetlinkError, Netns, PortFlags};
use crate::request::Command;
use crate::session::Session;
use crate::wit;
use crate::wit::weir::net::links::{self, LinkInfo, PortOptions, VlanRange};
use crate::wit::weir::net::types::{self, MacAddress, NetError};

/// What ports of bridges are, and a macvlan's parent with it.
const PROMISCUOUS: &str = "its parent would receive every frame too";

/// A link in the hands of a plugin.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct LinkHandle {
    pub(super) netns: Arc<Netns>,
    pub(super) side: Side,
    /// Its state when the handle was made. Only the index and the kind stay
    /// what they are.
    pub(super) found: LinkState,
    /// Whether this attachment made it in this call.
    pub(super) is_own: bool,
}

impl LinkHandle {
    /// The way back of a change to the link. What this attachment made goes
    /// away whole; what attachments share keeps what it was given.
    pub(super) fn inverse<T>(&self, inverse: impl FnOnce(LinkId) -> T) -> Option<T> {
        let is_shared = self.side == Side::Host && self.is_shared();
        (!self.is_own && !is_shared).then(|| inverse(self.id()))
    }

    /// How the journal finds it again.
    pub(super) fn id(&self) -> LinkId {
        LinkId { index: Some(self.index()), ..LinkId::new(self.side, self.name()) }
    }

    /// Its index, which means something in its own namespace only.
    pub(super) fn index(&self) -> u32 {
        self.found.index
    }

    /// Its name when the handle was made.
    pub(super) fn name(&self) -> &str {
        &self.found.name
    }

    pub(super) fn is_bridge(&self) -> bool {
        self.found.is_kind("bridge")
    }

    /// Whether attachments share such links of the node.
    pub(super) fn is_shared(&self) -> bool {
        ["bridge", "vxlan"].iter().any(|kind| self.found.is_kind(kind))
    }
}

impl types::Host for Session {}

impl Session {
    pub(super) fn link_of(&self, handle: &Resource<LinkHandle>) -> Served<&LinkHandle> {
        Ok(self.table.get(handle)?)
    }

    pub(super) fn push_link(
        &mut self,
        netns: Arc<Netns>,
        side: Side,
        found: LinkState,
        is_own: bool,
    ) -> Served<Resource<LinkHandle>> {
        Ok(self.table.push(LinkHandle { netns, side, found, is_own })?)
    }

    /// Makes one change to a link.
    fn change_link(
        &mut self,
        handle: &Resource<LinkHandle>,
        operation: &'static str,
        what: &str,
        inverse: impl FnOnce(LinkId, LinkState) -> Inverse,
        work: impl FnOnce(&Netns, u32) -> Result<(), NetlinkError>,
    ) -> Served<Result<(), NetError>> {
        let link = self.link_of(handle)?;
        // What has to be put back is known before the change only.
        let inverse = link.inverse(|id| Ok(inverse(id, link.netns.link_by_index(link.index())?)));
        let inverse = match inverse.transpose() {
            Ok(inverse) => inverse,
            Err(error) => return Ok(Err(net_error(error))),
        };
        let object = format!("{}{what}", link.name());
        let done =
            self.call.change(&self.guest, operation, object, inverse, || work(&link.netns, link.index()))?;
        Ok(done.map_err(net_error))
    }
}

impl links::HostLink for Session {
    fn describe(&mut self, link: Resource<LinkHandle>) -> Served<Result<LinkInfo, NetError>> {
        self.call.check_time()?;
        let link = self.link_of(&link)?;
        Ok(link.netns.link_by_index(link.index()).map(link_info).map_err(net_error))
    }

    fn as_found(&mut self, link: Resource<LinkHandle>) -> Served<LinkInfo> {
        Ok(link_info(self.link_of(&link)?.found.clone()))
    }

    fn set_up(&mut self, link: Resource<LinkHandle>, up: bool) -> Served<Result<(), NetError>> {
        let operation = if up { "set-up" } else { "set-down" };
        if let Err(denied) = self.may_switch(&link, operation, up)? {
            return Ok(Err(denied));
        }
        let done = self.change_link(
            &link,
            "set-up",
            if up { " up" } else { " down" },
            |link, found| Inverse::SetUp { link, up: found.up },
            |netns, index| netns.set_up(index, up),
        )?;
        if done.is_ok() && self.call.request.environment.command == Command::Del {
            // The plugin knows better than what was found at ADD.
            let id = self.link_of(&link)?.id();
            self.call.settle(|inverse| matches!(inverse, Inverse::SetUp { link, .. } if link.is(&id)))?;
        }
        Ok(done)
    }

    fn set_mtu(&mut self, link: Resource<LinkHandle>, mtu: u32) -> Served<Result<(), NetError>> {
        let denied = self.own_only(&link, "set-mtu")?;
        if let Err(denied) = denied {
            return Ok(Err(denied));
        }
        self.change_link(
            &link,
            "set-mtu",
            &format!(" to {mtu}"),
            |link, found| Inverse::SetMtu { link, mtu: found.mtu },
            |netns, index| netns.set_mtu(index, mtu),
        )
    }

    fn set_mac(&mut self, link: Resource<LinkHandle>, mac: MacAddress) -> Served<Result<(), NetError>> {
        // Given its own address once more, a bridge keeps it.
        let denied = if self.link_of(&link)?.found.mac == Some(wit::mac(mac)) {
            self.own_or_shared(&link, "set-mac")?
        } else {
            self.own_only(&link, "set-mac")?
        };
        if let Err(denied) = denied {
            return Ok(Err(denied));
        }
        if self.link_of(&link)?.found.is_passthru
            && let Err(denied) = self.spare_parent(&link, "set-mac", "its address is its parent's")?
        {
            return Ok(Err(denied));
        }
        self.expect_mac(&link, wit::mac(mac))?;
        self.change_link(
            &link,
            "set-mac",
            "",
            |link, found| Inverse::SetMac { link, mac: found.mac.unwrap_or_default() },
            |netns, index| netns.set_mac(index, wit::mac(mac)),
        )
    }

    fn set_promiscuous(&mut self, link: Resource<LinkHandle>, on: bool) -> Served<Result<(), NetError>> {
        if let Err(denied) = self.may_switch(&link, "set-promiscuous", on)? {
            return Ok(Err(denied));
        }
        if let Err(denied) = self.spare_parent(&link, "set-promiscuous", PROMISCUOUS)? {
            return Ok(Err(denied));
        }
        self.change_link(
            &link,
            "set-promiscuous",
            if on { " on" } else { " off" },
            |link, found| Inverse::SetPromiscuous { link, on: found.promiscuous },
            |netns, index| netns.set_promiscuous(index, on),
        )
    }

    fn attach_to(
        &mut self,
        link: Resource<LinkHandle>,
        bridge: Resource<LinkHandle>,
    ) -> Served<Result<(), NetError>> {
        let side = self.link_of(&link)?.side;
        let what = format!(" to {}", self.link_of(&bridge)?.name());
        let to = match self.index_in(&bridge, side)? {
            Ok(to) => to,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(denied) = self.own_only(&link, "attach-to")? {
            return Ok(Err(denied));
        }
        if let Err(denied) = self.permit_bridge(&bridge, "attach-to")? {
            return Ok(Err(denied));
        }
        if let Err(denied) = self.spare_parent(&link, "attach-to", PROMISCUOUS)? {
            return Ok(Err(denied));
        }
        self.change_own(&link, "attach-to", &what, |netns, index| netns.set_controller(index, to))
    }

    fn set_port(&mut self, link: Resource<LinkHandle>, options: PortOptions) -> Served<Result<(), NetError>> {
        if let Err(denied) = self.own_only(&link, "set-port")? {
            return Ok(Err(denied));
        }
        let flags = PortFlags { hairpin: options.hairpin, isolated: options.isolated };
        self.change_own(&link, "set-port", "", |netns, index| netns.set_port(index, flags))
    }

    fn set_vlan_filtering(&mut self, link: Resource<LinkHandle>, on: bool) -> Served<Result<(), NetError>> {
        // Without it, ports are in the VLANs of all others.
        if let Err(denied) = self.may_switch(&link, "set-vlan-filtering", on)? {
            return Ok(Err(denied));
        }
        self.change_own(&link, "set-vlan-filtering", "", |netns, index| netns.set_vlan_filtering(index, on))
    }

    fn add_vlans(
        &mut self,
        link: Resource<LinkHandle>,
        vlans: Vec<VlanRange>,
    ) -> Served<Result<(), NetError>> {
        self.join_vlans(&link, vlans)
    }

    fn remove_vlans(
        &mut self,
        link: Resource<LinkHandle>,
        vlans: Vec<VlanRange>,
    ) -> Served<Result<(), NetError>> {
        self.leave_vlans(&link, vlans)
    }

    fn vlans(&mut self, link: Resource<LinkHandle>) -> Served<Result<Vec<VlanRange>, NetError>> {
        self.list_vlans(&link)
    }

    fn wait_until_up(&mut self, link: Resource<LinkHandle>, timeout: u32) -> Served<Result<(), NetError>> {
        self.call.check_time()?;
        let link = self.link_of(&link)?;
        let timeout = Duration::from_millis(timeout.into()).min(self.call.remaining());
        Ok(match link.netns.wait_until_up(link.index(), timeout) {
            Ok(true) => Ok(()),
            Ok(false) => Err(NetError::Busy(format!(
                "wait for link {}: it is not operational after {timeout:?}",
                link.name()
            ))),
            Err(error) => Err(net_error(error)),
        })
    }

    fn remove(&mut self, link: Resource<LinkHandle>) -> Served<Result<(), NetError>> {
        if let Err(denied) = self.own_only(&link, "remove")? {
            return Ok(Err(denied));
        }
        let (id, is_pair) = {
            let link = self.link_of(&link)?;
            (link.id(), link.found.is_kind("veth"))
        };
        let removed = self.change_own(&link, "remove", "", |netns, index| netns.remove_link(index))?;
        if removed.is_ok() {
            // With one end of a pair the other is gone.
            let is_inside = id.side == Side::Container;
            let gone = if is_inside && is_pair { self.absent_host_ends() } else { Vec::new() };
            self.call.settle(|inverse| {
                inverse.link().is_some_and(|link| {
                    link.is(&id) || (link.side == Side::Host && gone.contains(&link.name))
                })
            })?;
        }
        Ok(removed)
    }

    fn drop(&mut self, link: Resource<LinkHandle>) -> Served<()> {
        self.table.delete(link)?;
        Ok(())
    }
}

impl Session {
    /// The index of a link, which means something in its own namespace only.
    pub(super) fn index_in(&self, link: &Resource<LinkHandle>, side: Side) -> Served<Result<u32, NetError>> {
        let link = self.link_of(link)?;
        if link.side == side {
            return Ok(Ok(link.index()));
        }
        Ok(Err(NetError::Invalid(format!("link {} is in the other namespace", link.name()))))
    }

    /// Has the way back of a link's making find it under another address.
    fn expect_mac(&self, link: &Resource<LinkHandle>, mac: [u8; 6]) -> Served<()> {
        let link = self.link_of(link)?;
        if self.is_journaled(link) {
            let kind = link.found.kind.clone().unwrap_or_default();
            self.call.record(Some(Inverse::DeleteLink { link: link.id(), kind, mac: Some(mac) }))?;
        }
        Ok(())
    }

    /// Makes a change that needs no way back of its own.
    pub(super) fn change_own(
        &mut self,
        handle: &Resource<LinkHandle>,
        operation: &'static str,
        what: &str,
        work: impl FnOnce(&Netns, u32) -> Result<(), NetlinkError>,
    ) -> Served<Result<(), NetError>> {
        let link = self.link_of(handle)?;
        let object = format!("{}{what}", link.name());
        let done =
            self.call.change(&self.guest, operation, object, None, || work(&link.netns, link.index()))?;
        Ok(done.map_err(net_error))
    }
}
