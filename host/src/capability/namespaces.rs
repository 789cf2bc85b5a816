//! `weir:net/links`: namespaces, and what can be found or made in them.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::ambient::random_bytes;
use super::error::net_error;
use super::links::LinkHandle;
use crate::call::{Served, Stop};
use crate::journal::{Inverse, LinkId, Side};
use crate::netlink::{BridgeSpec, Netns, VethEnd};
use crate::policy::Operation;
use crate::printable::is_harmless;
use crate::request::NAME_LIMIT;
use crate::session::Session;
use crate::wit;
use crate::wit::weir::net::links::{self, BridgeOptions, MacvlanOptions, VxlanOptions};
use crate::wit::weir::net::types::{IpFamily, NetError};

/// A namespace in the hands of a plugin.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct NetnsHandle {
    netns: Arc<Netns>,
    side: Side,
}

impl links::Host for Session {
    fn host(&mut self) -> Served<Result<Resource<NetnsHandle>, NetError>> {
        if let Err(denied) = self.permit("host", "namespace", &[Operation::Namespace(Side::Host.into())])? {
            return Ok(Err(denied));
        }
        let netns = self.call.node.host().map_err(Stop)?;
        Ok(Ok(self.table.push(NetnsHandle { netns, side: Side::Host })?))
    }

    fn container(&mut self) -> Served<Result<Resource<NetnsHandle>, NetError>> {
        if let Err(denied) =
            self.permit("container", "namespace", &[Operation::Namespace(Side::Container.into())])?
        {
            return Ok(Err(denied));
        }
        // The runtime may insist on a container that has none of its own.
        if self.guest.grants.is_none() && self.call.node.is_shared().map_err(Stop)? {
            return self.host();
        }
        match self.call.node.container().map_err(Stop)? {
            Some(netns) => Ok(Ok(self.table.push(NetnsHandle { netns, side: Side::Container })?)),
            None => Ok(Err(NetError::NotFound("the container namespace does not exist any more".to_owned()))),
        }
    }
}

impl links::HostNetns for Session {
    fn link(
        &mut self,
        netns: Resource<NetnsHandle>,
        name: String,
    ) -> Served<Result<Resource<LinkHandle>, NetError>> {
        self.call.check_time()?;
        if let Err(error) = check_name(&name) {
            return Ok(Err(error));
        }
        let NetnsHandle { netns, side } = self.table.get(&netns)?;
        let (netns, side) = (Arc::clone(netns), *side);
        match netns.link_by_name(&name) {
            Ok(link) => {
                let handle = LinkHandle { netns, side, found: link, is_own: false };
                if let Err(denied) = self.permit_sight(&handle)? {
                    return Ok(Err(denied));
                }
                Ok(Ok(self.table.push(handle)?))
            }
            Err(error) => Ok(Err(net_error(error))),
        }
    }

    fn create_veth(
        &mut self,
        netns: Resource<NetnsHandle>,
        near: links::VethEnd,
        far: links::VethEnd,
        peer_netns: Resource<NetnsHandle>,
        mtu: u32,
        controller: Option<Resource<LinkHandle>>,
    ) -> Served<Result<(Resource<LinkHandle>, Resource<LinkHandle>), NetError>> {
        let (near, far) = (named(near)?, named(far)?);
        for name in [&near.name, &far.name] {
            if let Err(error) = check_name(name) {
                return Ok(Err(error));
            }
        }
        let (here, side) = self.netns_of(&netns)?;
        let (there, far_side) = self.netns_of(&peer_netns)?;
        for (end, side) in [(&near.name, side), (&far.name, far_side)] {
            if let Err(denied) = self.permit_veth("create-veth", end, side)? {
                return Ok(Err(denied));
            }
        }
        let controller = match controller {
            Some(bridge) => match self.index_in(&bridge, side)? {
                Ok(index) => match self.permit_bridge(&bridge, "create-veth")? {
                    Ok(()) => Some(index),
                    Err(denied) => return Ok(Err(denied)),
                },
                Err(error) => return Ok(Err(error)),
            },
            None => None,
        };
        let object = format!("{} and {} in {}", near.name, far.name, there.label());
        let is_unique = near.mac.is_none();
        let (near, far) = (veth_end(near)?, veth_end(far)?);
        if !is_unique && let Err(error) = here.refuse_existing(&near.name) {
            return Ok(Err(net_error(error)));
        }
        // The address tells the way back which link of that name is meant.
        let link = LinkId::new(side, &near.name);
        let inverse = Inverse::DeleteLink { link, kind: "veth".to_owned(), mac: Some(near.mac) };
        let made = self.call.change(&self.guest, "create-veth", object, Some(inverse), || {
            here.create_veth(&near, &far, &there, mtu, controller)
        })?;
        match made {
            Ok((near, far)) => {
                let near = self.push_link(here, side, near, true)?;
                let far = self.push_link(there, far_side, far, true)?;
                Ok(Ok((near, far)))
            }
            Err(error) => Ok(Err(net_error(error))),
        }
    }

    fn create_shared_veth(
        &mut self,
        netns: Resource<NetnsHandle>,
        port: links::VethEnd,
        own: links::VethEnd,
        mtu: u32,
        bridge: Resource<LinkHandle>,
    ) -> Served<Result<(Resource<LinkHandle>, Resource<LinkHandle>), NetError>> {
        let (port, own) = (named(port)?, named(own)?);
        for name in [&port.name, &own.name] {
            if let Err(error) = check_name(name) {
                return Ok(Err(error));
            }
        }
        let (netns, side) = self.netns_of(&netns)?;
        for end in [&port.name, &own.name] {
            if let Err(denied) = self.permit_veth("create-shared-veth", end, side)? {
                return Ok(Err(denied));
            }
        }
        if let Err(denied) = self.permit_bridge(&bridge, "create-shared-veth")? {
            return Ok(Err(denied));
        }
        let bridge = match self.index_in(&bridge, side)? {
            Ok(bridge) => bridge,
            Err(error) => return Ok(Err(error)),
        };
        let object = format!("{} and {}", port.name, own.name);
        let (port, own) = (veth_end(port)?, veth_end(own)?);
        let made = self.call.change_shared(&self.guest, "create-shared-veth", object, || {
            netns.create_veth(&port, &own, &netns, mtu, Some(bridge))
        })?;
        match made {
            Ok((port, own)) => {
                let port = self.push_link(Arc::clone(&netns), side, port, true)?;
                let own = self.push_link(netns, side, own, true)?;
                Ok(Ok((port, own)))
            }
            Err(error) => Ok(Err(net_error(error))),
        }
    }

    fn create_bridge(
        &mut self,
        netns: Resource<NetnsHandle>,
        options: BridgeOptions,
    ) -> Served<Result<Resource<LinkHandle>, NetError>> {
        if let Err(error) = check_name(&options.name) {
            return Ok(Err(error));
        }
        let (netns, side) = self.netns_of(&netns)?;
        if side == Side::Host {
            let wanted = Operation::CreateLink { kind: "bridge", name: &options.name };
            if let Err(denied) = self.permit("create-bridge", &options.name, &[wanted])? {
                return Ok(Err(denied));
            }
        }
        let bridge = BridgeSpec {
            mac: random_mac()?,
            name: options.name,
            mtu: options.mtu,
            vlan_filtering: options.vlan_filtering,
            default_vlan: options.default_vlan,
        };
        let made = self.call.change_shared(&self.guest, "create-bridge", bridge.name.as_str(), || {
            netns.create_bridge(&bridge)
        })?;
        match made {
            Ok(link) => Ok(Ok(self.push_link(netns, side, link, false)?)),
            Err(error) => Ok(Err(net_error(error))),
        }
    }

    fn create_macvlan(
        &mut self,
        netns: Resource<NetnsHandle>,
        options: MacvlanOptions,
        parent: Resource<LinkHandle>,
        target: Resource<NetnsHandle>,
    ) -> Served<Result<Resource<LinkHandle>, NetError>> {
        self.make_macvlan(&netns, options, &parent, &target)
    }

    fn create_vxlan(
        &mut self,
        netns: Resource<NetnsHandle>,
        options: VxlanOptions,
        underlay: Option<Resource<LinkHandle>>,
        bridge: Option<Resource<LinkHandle>>,
    ) -> Served<Result<Resource<LinkHandle>, NetError>> {
        self.make_vxlan(&netns, options, underlay.as_ref(), bridge.as_ref())
    }

    fn enable_forwarding(
        &mut self,
        netns: Resource<NetnsHandle>,
        family: IpFamily,
    ) -> Served<Result<(), NetError>> {
        self.call.check_time()?;
        let (netns, side) = self.netns_of(&netns)?;
        let path = "conf/all/forwarding";
        // IPv4's is better known by its other name.
        let (is_ipv4, object) = match family {
            IpFamily::Ipv4 => (true, "ip_forward"),
            IpFamily::Ipv6 => (false, path),
        };
        if side == Side::Host
            && let Err(denied) =
                self.permit("enable-forwarding", object, &[Operation::Sysctl("forwarding")])?
        {
            return Ok(Err(denied));
        }
        // Writing it again makes the kernel walk over all links.
        match netns.sysctl(is_ipv4, path) {
            Ok(value) if value == "1" => return Ok(Ok(())),
            Ok(_) => {}
            Err(error) => return Ok(Err(net_error(error))),
        }
        let done = self.call.change_shared(&self.guest, "enable-forwarding", object, || {
            netns.set_sysctl(is_ipv4, path, "1")
        })?;
        Ok(done.map_err(net_error))
    }

    fn drop(&mut self, netns: Resource<NetnsHandle>) -> Served<()> {
        self.table.delete(netns)?;
        Ok(())
    }
}

impl Session {
    /// Whether one end of a pair may have its name.
    fn permit_veth(&self, operation: &str, name: &str, side: Side) -> Served<Result<(), NetError>> {
        match side {
            Side::Host => self.permit(operation, name, &[Operation::CreateLink { kind: "veth", name }]),
            Side::Container => Ok(Ok(())),
        }
    }

    pub(super) fn netns_of(&self, handle: &Resource<NetnsHandle>) -> Served<(Arc<Netns>, Side)> {
        let NetnsHandle { netns, side } = self.table.get(handle)?;
        Ok((Arc::clone(netns), *side))
    }
}

pub(super) fn check_name(name: &str) -> Result<(), NetError> {
    let is_good = !name.is_empty()
        && name.len() <= NAME_LIMIT
        && name != "."
        && name != ".."
        // Settings of all links, and of those to come.
        && !["all", "default"].contains(&name)
        && !name.contains(|c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || !is_harmless(c));
    if is_good { Ok(()) } else { Err(NetError::Invalid(format!("{name:?} is no name for a link"))) }
}

pub(super) fn random_mac() -> Served<[u8; 6]> {
    let bytes = random_bytes(6)?;
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes);
    // Locally administered, for one station (IEEE 802, section 8.2).
    mac[0] = (mac[0] & 0xfe) | 0x02;
    Ok(mac)
}

/// A name that no link has.
pub(super) fn random_name(beginning: &str) -> Served<String> {
    let digits = random_bytes(4)?;
    Ok(digits.iter().fold(beginning.to_owned(), |name, byte| format!("{name}{byte:02x}")))
}

/// An end with a name, as the reference plugins give if it has none.
fn named(mut end: links::VethEnd) -> Served<links::VethEnd> {
    if end.name.is_empty() {
        end.name = random_name("veth")?;
    }
    Ok(end)
}

fn veth_end(end: links::VethEnd) -> Served<VethEnd> {
    let mac = end.mac.map(wit::mac).map_or_else(random_mac, Ok)?;
    Ok(VethEnd { name: end.name, mac, up: end.up })
}
