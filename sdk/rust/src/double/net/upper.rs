//! Links that sit on other links.

use super::kernel;
use super::links::{
    DEFAULT_MTU, Link, MacvlanMode, MacvlanOptions, NetError, Netns, VxlanOptions, check_mac, check_mtu,
    check_name, namespace_gone,
};
use super::namespace::Device;
use crate::double::state::State;
use crate::double::{Node, Side};

impl Node {
    /// The mode of a link, if it is a macvlan.
    pub fn macvlan(&self, side: Side, name: &str) -> Option<MacvlanMode> {
        self.look_at(side, name, |device| device.macvlan)
    }

    /// What a tunnel endpoint of the node was made with.
    pub fn vxlan(&self, name: &str) -> Option<VxlanOptions> {
        self.look_at(Side::Host, name, |device| device.vxlan.clone())
    }
}

impl Netns {
    /// Makes a macvlan link on `parent`, a link of this namespace, in
    /// `target`.
    pub fn create_macvlan(
        &self,
        options: &MacvlanOptions,
        parent: &Link,
        target: &Self,
    ) -> Result<Link, NetError> {
        let mut state = self.node.borrow_mut();
        state.pass("netns.create-macvlan")?;
        check_name(&options.name)?;
        let attempt = format!("create macvlan {} on {}", options.name, parent.name);
        let invalid = |reason: &str| Err(NetError::Invalid(format!("{attempt}: {reason}")));
        if parent.side != self.side {
            return invalid("the parent is in the other namespace");
        }
        if (self.side, target.side) == (Side::Container, Side::Host) {
            return invalid("on a link of the container it stays in the container");
        }
        let place = (parent.side, parent.index);
        let below = state.device(place.0, place.1)?.clone();
        if below.is_macvlan() {
            return invalid("the parent is a macvlan itself");
        }
        if options.mtu > below.mtu {
            return invalid("the MTU is above the parent's");
        }
        let is_passthru = options.mode == MacvlanMode::Passthru;
        if is_passthru && options.mac.is_some() {
            return invalid("in mode passthru it has the parent's hardware address");
        }
        if below.controller.is_some() {
            return Err(NetError::Busy(format!("{attempt}: the parent is a port of a bridge")));
        }
        target.must_be_free(&state, &options.name, "macvlan")?;
        options.mac.map_or(Ok(()), |mac| check_mac(mac, &attempt))?;
        if options.mtu != 0 {
            check_mtu(options.mtu, &attempt)?;
        }
        let others = uppers(&state, place);
        let is_taken = others.iter().any(|other| other.macvlan == Some(MacvlanMode::Passthru));
        if below.is_loopback() || is_taken || (is_passthru && others.iter().any(Device::is_macvlan)) {
            return Err(kernel(22, &attempt, "Invalid argument"));
        }
        let own = options.mac.unwrap_or_else(|| state.random_mac());
        let device = Device {
            name: options.name.clone(),
            kind: Some("macvlan".to_owned()),
            mac: if is_passthru { below.mac } else { Some(own) },
            mtu: if options.mtu == 0 { below.mtu } else { options.mtu },
            up: options.up,
            parent: Some(place),
            macvlan: Some(options.mode),
            owner: Some(state.owner()),
            ..Device::default()
        };
        let index = state.namespace_mut(target.side).ok_or_else(namespace_gone)?.push(device);
        target.handle(&state, index, true)
    }

    /// Makes a VXLAN tunnel endpoint on the node.
    pub fn create_vxlan(
        &self,
        options: &VxlanOptions,
        underlay: Option<&Link>,
        bridge: Option<&Link>,
    ) -> Result<Link, NetError> {
        let mut state = self.node.borrow_mut();
        state.pass("netns.create-vxlan")?;
        check_name(&options.name)?;
        let attempt = format!("create VXLAN endpoint {}", options.name);
        let invalid = |reason: &str| Err(NetError::Invalid(format!("{attempt}: {reason}")));
        if self.side == Side::Container || underlay.is_some_and(|underlay| underlay.side != self.side) {
            return invalid("it has no place in a container");
        }
        if options.vni >= 1 << 24 {
            return invalid("the identifier has more than 24 bits");
        }
        if options.port < 1024 {
            return invalid("the port belongs to the node");
        }
        let below = underlay.map(|underlay| state.device(underlay.side, underlay.index)).transpose()?;
        let overhead = if matches!(options.local, Some(super::types::IpAddress::Ipv6(_))) { 70 } else { 50 };
        let most = below.map(|below| below.mtu.saturating_sub(overhead));
        if most.is_some_and(|most| options.mtu > most) {
            return invalid("the MTU and the headers are above that of the underlay");
        }
        self.must_be_free(&state, &options.name, "VXLAN endpoint")?;
        options.mac.map_or(Ok(()), |mac| check_mac(mac, &attempt))?;
        if options.mtu != 0 {
            check_mtu(options.mtu, &attempt)?;
        }
        let is_same = |other: &VxlanOptions| (other.vni, other.port) == (options.vni, options.port);
        if state.host.devices.values().any(|device| device.vxlan.as_ref().is_some_and(is_same)) {
            return Err(NetError::AlreadyExists(format!("{attempt}: the identifier is in use")));
        }
        let device = Device {
            name: options.name.clone(),
            kind: Some("vxlan".to_owned()),
            mac: Some(options.mac.unwrap_or_else(|| state.random_mac())),
            mtu: if options.mtu == 0 { most.unwrap_or(DEFAULT_MTU) } else { options.mtu },
            up: options.up,
            parent: underlay.map(|underlay| (underlay.side, underlay.index)),
            vxlan: Some(options.clone()),
            ..Device::default()
        };
        let index = state.host.push(device);
        if let Some(bridge) = bridge
            && let Err(error) = self.handle(&state, index, true)?.join(&mut state, bridge)
        {
            state.remove_device(Side::Host, index);
            return Err(error);
        }
        self.handle(&state, index, true)
    }
}

/// The links that sit on a link.
fn uppers(state: &State, place: (Side, u32)) -> Vec<Device> {
    let namespaces = [Side::Host, Side::Container].into_iter().filter_map(|side| state.namespace(side));
    let devices = namespaces.flat_map(|namespace| namespace.devices.values());
    devices.filter(|device| device.parent == Some(place)).cloned().collect()
}
