//! `weir:net/links`: namespaces and links.

use super::kernel;
pub use super::link::Link;
use super::namespace::Device;
pub use super::types::{IpFamily, MacAddress, NetError};
pub use crate::bindings::platform::weir::net::links::{
    BridgeOptions, LinkInfo, MacvlanMode, MacvlanOptions, OperState, PortOptions, VethEnd, VlanRange,
    VxlanOptions,
};
use crate::double::state::{self, Shared, State};
use crate::double::{Node, Side};

/// Bytes of a link's name.
const NAME_LIMIT: usize = 15;
/// What the kernel gives a link whose maker names no MTU.
pub(super) const DEFAULT_MTU: u32 = 1500;

const EADDRNOTAVAIL_TEXT: &str = "Cannot assign requested address";

impl Node {
    /// There is a link that somebody else made, up. Kinds are the kernel's:
    /// `bridge`, `dummy`, ….
    ///
    /// # Panics
    ///
    /// If the container is gone.
    #[must_use]
    pub fn with_link(self, side: Side, name: &str, kind: &str) -> Self {
        let mut state = self.0.borrow_mut();
        let device = Device {
            name: name.to_owned(),
            kind: Some(kind.to_owned()),
            mac: Some(state.random_mac()),
            mtu: DEFAULT_MTU,
            up: true,
            default_vlan: true,
            ..Device::default()
        };
        state.namespace_mut(side).expect("there is a container").push(device);
        drop(state);
        self
    }

    /// Somebody else takes a link away.
    pub fn remove_link(&self, side: Side, name: &str) {
        let mut state = self.0.borrow_mut();
        if let Some(index) = state.namespace(side).and_then(|namespace| namespace.find(name)) {
            state.remove_device(side, index);
        }
    }

    /// Describes a link, if there is one of that name.
    pub fn link(&self, side: Side, name: &str) -> Option<LinkInfo> {
        self.links(side).into_iter().find(|link| link.name == name)
    }

    /// Describes all links of a namespace; none if it is gone.
    pub fn links(&self, side: Side) -> Vec<LinkInfo> {
        let state = self.0.borrow();
        let indexes = state.namespace(side).into_iter().flat_map(|namespace| namespace.devices.keys());
        indexes.filter_map(|index| state.describe(side, *index).ok()).collect()
    }

    /// The VLANs of a bridge port.
    pub fn vlans(&self, side: Side, name: &str) -> Vec<VlanRange> {
        self.look_at(side, name, |device| device.vlans.list())
    }

    /// Whether packets of a family are forwarded between links.
    pub fn forwards(&self, side: Side, family: IpFamily) -> bool {
        self.0.borrow().namespace(side).is_some_and(|namespace| namespace.forwards.contains(&family))
    }

    /// Looks at a link; nothing if there is none.
    pub(super) fn look_at<T: Default>(&self, side: Side, name: &str, look: impl FnOnce(&Device) -> T) -> T {
        let state = self.0.borrow();
        let device =
            state.namespace(side).and_then(|namespace| namespace.devices.get(&namespace.find(name)?));
        device.map(look).unwrap_or_default()
    }
}

/// A network namespace.
#[derive(Debug)]
pub struct Netns {
    pub(super) node: Shared,
    pub(super) side: Side,
}

/// The namespace of the node.
pub fn host() -> Result<Netns, NetError> {
    let node = state::current();
    node.borrow_mut().pass("links.host")?;
    Ok(Netns { node, side: Side::Host })
}

/// The namespace of the container that is being served.
pub fn container() -> Result<Netns, NetError> {
    let node = state::current();
    node.borrow_mut().pass("links.container")?;
    if node.borrow().container.is_none() {
        return Err(NetError::NotFound("the container namespace does not exist any more".to_owned()));
    }
    Ok(Netns { node, side: Side::Container })
}

impl Netns {
    /// Finds a link by name.
    pub fn link(&self, name: &str) -> Result<Link, NetError> {
        let mut state = self.node.borrow_mut();
        state.pass("netns.link")?;
        check_name(name)?;
        let found = state.namespace(self.side).and_then(|namespace| namespace.find(name));
        let index = found.ok_or_else(|| NetError::NotFound(format!("find link {name}: No such device")))?;
        self.handle(&state, index, false)
    }

    /// Makes a pair of virtual Ethernet links, one end here and one in
    /// `peer_netns`.
    pub fn create_veth(
        &self,
        near: &VethEnd,
        far: &VethEnd,
        peer_netns: &Self,
        mtu: u32,
        controller: Option<&Link>,
    ) -> Result<(Link, Link), NetError> {
        let mut state = self.node.borrow_mut();
        state.pass("netns.create-veth")?;
        let ends = [near, far].map(|end| state.named(end));
        self.pair(&mut state, ends.each_ref(), peer_netns, mtu, controller, true)
    }

    /// Makes a pair of virtual Ethernet links with both ends here.
    pub fn create_shared_veth(
        &self,
        port: &VethEnd,
        node_end: &VethEnd,
        mtu: u32,
        bridge: &Link,
    ) -> Result<(Link, Link), NetError> {
        let mut state = self.node.borrow_mut();
        state.pass("netns.create-shared-veth")?;
        let ends = [port, node_end].map(|end| state.named(end));
        self.pair(&mut state, ends.each_ref(), self, mtu, Some(bridge), false)
    }

    /// Makes a bridge and brings it up.
    pub fn create_bridge(&self, options: &BridgeOptions) -> Result<Link, NetError> {
        let mut state = self.node.borrow_mut();
        state.pass("netns.create-bridge")?;
        check_name(&options.name)?;
        self.must_be_free(&state, &options.name, "bridge")?;
        let device = Device {
            name: options.name.clone(),
            kind: Some("bridge".to_owned()),
            mac: Some(state.random_mac()),
            mtu: if options.mtu == 0 { DEFAULT_MTU } else { options.mtu },
            up: true,
            vlan_filtering: options.vlan_filtering,
            default_vlan: options.default_vlan || !options.vlan_filtering,
            ..Device::default()
        };
        let index = state.namespace_mut(self.side).ok_or_else(namespace_gone)?.push(device);
        self.handle(&state, index, false)
    }

    /// Lets the kernel forward packets of `family`.
    pub fn enable_forwarding(&self, family: IpFamily) -> Result<(), NetError> {
        let mut state = self.node.borrow_mut();
        state.pass("netns.enable-forwarding")?;
        if family == IpFamily::Ipv6 && !state.has_ipv6 {
            return Err(NetError::NotFound("read sysctl net/ipv6/conf/all/forwarding".to_owned()));
        }
        let forwards = &mut state.namespace_mut(self.side).ok_or_else(namespace_gone)?.forwards;
        if !forwards.contains(&family) {
            forwards.push(family);
        }
        Ok(())
    }

    pub(super) fn handle(&self, state: &State, index: u32, is_own: bool) -> Result<Link, NetError> {
        let found = state.describe(self.side, index)?;
        let (node, side, name) = (self.node.clone(), self.side, found.name.clone());
        Ok(Link { node, side, index, name, found, is_own })
    }

    pub(super) fn must_be_free(&self, state: &State, name: &str, what: &str) -> Result<(), NetError> {
        match state.namespace(self.side).ok_or_else(namespace_gone)?.find(name) {
            Some(_) => Err(NetError::AlreadyExists(format!("create {what} {name}: File exists"))),
            None => Ok(()),
        }
    }

    fn pair(
        &self,
        state: &mut State,
        [near, far]: [&VethEnd; 2],
        peer: &Self,
        mtu: u32,
        controller: Option<&Link>,
        has_owner: bool,
    ) -> Result<(Link, Link), NetError> {
        let attempt = format!("create veth pair {}", near.name);
        for (end, netns) in [(near, self), (far, peer)] {
            check_name(&end.name)?;
            netns.must_be_free(state, &end.name, "veth pair")?;
            end.mac.map_or(Ok(()), |mac| check_mac(mac, &attempt))?;
        }
        if near.name == far.name && self.side == peer.side {
            return Err(NetError::AlreadyExists(format!("{attempt}: File exists")));
        }
        if mtu != 0 {
            check_mtu(mtu, &attempt)?;
        }
        let owner = has_owner.then(|| state.owner());
        let mut made = [(near, self), (far, peer)].into_iter().map(|(end, netns)| {
            let device = Device {
                name: end.name.clone(),
                kind: Some("veth".to_owned()),
                mac: Some(end.mac.unwrap_or_else(|| state.random_mac())),
                mtu: if mtu == 0 { DEFAULT_MTU } else { mtu },
                up: end.up,
                owner: owner.clone(),
                ..Device::default()
            };
            Ok(state.namespace_mut(netns.side).ok_or_else(namespace_gone)?.push(device))
        });
        let (Some(near), Some(far)) = (made.next(), made.next()) else { unreachable!("there are two ends") };
        drop(made);
        let (near, far): (u32, u32) = (near?, far?);
        state.device_mut(self.side, near)?.peer = Some((peer.side, far));
        state.device_mut(peer.side, far)?.peer = Some((self.side, near));
        if let Some(bridge) = controller
            && let Err(error) = self.handle(state, near, true)?.join(state, bridge)
        {
            state.remove_device(self.side, near);
            return Err(error);
        }
        Ok((self.handle(state, near, true)?, peer.handle(state, far, true)?))
    }
}

pub(super) fn namespace_gone() -> NetError {
    NetError::NotFound("the container namespace does not exist any more".to_owned())
}

pub(super) fn check_name(name: &str) -> Result<(), NetError> {
    let is_bad = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > NAME_LIMIT || [".", ".."].contains(&name) || name.contains(is_bad) {
        return Err(NetError::Invalid(format!("{name:?} is no name for a link")));
    }
    Ok(())
}

/// Neither a group's address nor none.
pub(super) fn check_mac(mac: MacAddress, attempt: &str) -> Result<(), NetError> {
    // The host says of this errno that something does not exist.
    let is_group = mac.0 & 1 == 1;
    if is_group || mac == (0, 0, 0, 0, 0, 0) {
        return Err(NetError::NotFound(format!("{attempt}: {EADDRNOTAVAIL_TEXT}")));
    }
    Ok(())
}

pub(super) fn check_mtu(mtu: u32, attempt: &str) -> Result<(), NetError> {
    if (68..=65_535).contains(&mtu) { Ok(()) } else { Err(kernel(22, attempt, "Invalid argument")) }
}
