//! A namespace and the links in it.

use std::collections::BTreeMap;

use super::addresses::Address;
use super::links::{LinkInfo, MacvlanMode, OperState, PortOptions, VethEnd, VxlanOptions};
use super::neighbors::{ForwardingInfo, NeighborInfo};
use super::routes::Route;
use super::types::{IpFamily, MacAddress, NetError};
use super::vlans::Vlans;
use crate::IpNet;
use crate::double::Side;
use crate::double::request::Owner;
use crate::double::state::State;

#[derive(Debug, Default)]
pub(in crate::double) struct Namespace {
    pub(super) devices: BTreeMap<u32, Device>,
    pub(super) forwards: Vec<IpFamily>,
}

/// A link, and what hangs on it.
#[derive(Debug, Clone, Default)]
pub(in crate::double) struct Device {
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) mac: Option<MacAddress>,
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) promiscuous: bool,
    /// The other end of a veth pair.
    pub(super) peer: Option<(Side, u32)>,
    /// The link that it sits on.
    pub(super) parent: Option<(Side, u32)>,
    pub(super) macvlan: Option<MacvlanMode>,
    pub(super) vxlan: Option<VxlanOptions>,
    /// The bridge that it is a port of.
    pub(super) controller: Option<u32>,
    pub(super) hairpin: bool,
    pub(super) isolated: bool,
    pub(super) vlan_filtering: bool,
    /// VLAN 1 is the default of a bridge's new ports.
    pub(super) default_vlan: bool,
    pub(super) vlans: Vlans,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<Route>,
    pub(super) neighbors: Vec<NeighborInfo>,
    /// What forwarding databases hold about it.
    pub(super) forwarding: Vec<ForwardingInfo>,
    /// Networks of its addresses to which the kernel's route was removed.
    pub(super) withdrawn: Vec<IpNet>,
    /// Settings that are not at their default.
    pub(super) settings: BTreeMap<(IpFamily, String), String>,
    /// The attachment that made it and whose end takes it away.
    pub(super) owner: Option<Owner>,
}

impl Device {
    pub(super) fn is_loopback(&self) -> bool {
        self.name == "lo"
    }

    pub(super) fn is_macvlan(&self) -> bool {
        self.macvlan.is_some()
    }

    pub(super) fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.kind.as_deref() == Some("vxlan")
    }
}

impl Namespace {
    pub(in crate::double) fn of_host() -> Self {
        let mut host = Self::of_container();
        host.devices.entry(1).and_modify(|lo| lo.up = true);
        let mac = Some((2, 0, 0, 0, 0, 1));
        host.push(Device { name: "eth0".to_owned(), mac, mtu: 1500, up: true, ..Device::default() });
        host
    }

    pub(in crate::double) fn of_container() -> Self {
        let mut container = Self::default();
        let mac = Some((0, 0, 0, 0, 0, 0));
        container.push(Device { name: "lo".to_owned(), mac, mtu: 65_536, ..Device::default() });
        container
    }

    /// Adds a link under the next index, and returns that.
    pub(super) fn push(&mut self, device: Device) -> u32 {
        let index = self.devices.keys().next_back().map_or(1, |last| last + 1);
        self.devices.insert(index, device);
        index
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.devices.iter().find(|(_, device)| device.name == name).map(|(index, _)| *index)
    }
}

impl State {
    pub(super) fn device(&self, side: Side, index: u32) -> Result<&Device, NetError> {
        let found = self.namespace(side).and_then(|namespace| namespace.devices.get(&index));
        found.ok_or_else(|| gone(index))
    }

    pub(super) fn device_mut(&mut self, side: Side, index: u32) -> Result<&mut Device, NetError> {
        let found = self.namespace_mut(side).and_then(|namespace| namespace.devices.get_mut(&index));
        found.ok_or_else(|| gone(index))
    }

    /// A random hardware address, locally administered.
    pub(super) fn random_mac(&mut self) -> MacAddress {
        let mut byte = || self.ambient.random_byte();
        (byte() & 0xfc | 0x02, byte(), byte(), byte(), byte(), byte())
    }

    /// An end with a name, as the host draws one if it has none.
    pub(super) fn named(&mut self, end: &VethEnd) -> VethEnd {
        let mut end = end.clone();
        if end.name.is_empty() {
            end.name =
                (0..4).fold("veth".to_owned(), |name, _| format!("{name}{:02x}", self.ambient.random_byte()));
        }
        end
    }

    pub(super) fn oper_state(&self, side: Side, index: u32) -> OperState {
        let Ok(device) = self.device(side, index) else { return OperState::Down };
        if !device.up {
            return OperState::Down;
        }
        match device.kind.as_deref() {
            None if device.is_loopback() => OperState::Unknown,
            None => OperState::Up,
            Some("veth") => {
                let peer = device.peer.and_then(|(side, index)| self.device(side, index).ok());
                if peer.is_some_and(|peer| peer.up) { OperState::Up } else { OperState::LowerLayerDown }
            }
            // A bridge is as good as its ports.
            Some("bridge") => {
                let ports = self.namespace(side).into_iter().flat_map(|namespace| &namespace.devices);
                let mut ports = ports.filter(|(_, port)| port.controller == Some(index));
                let is_up = ports.any(|(port, _)| self.oper_state(side, *port) == OperState::Up);
                if is_up { OperState::Up } else { OperState::Down }
            }
            Some("macvlan") => {
                let state = device.parent.map(|(side, index)| self.oper_state(side, index));
                let is_up = matches!(state, Some(OperState::Up | OperState::Unknown));
                if is_up { OperState::Up } else { OperState::LowerLayerDown }
            }
            Some(_) => OperState::Unknown,
        }
    }

    pub(super) fn describe(&self, side: Side, index: u32) -> Result<LinkInfo, NetError> {
        let device = self.device(side, index)?;
        Ok(LinkInfo {
            name: device.name.clone(),
            index,
            mac: device.mac,
            mtu: device.mtu,
            up: device.up,
            promiscuous: device.promiscuous,
            state: self.oper_state(side, index),
            kind: device.kind.clone(),
            controller: device.controller,
            // The kernel does not tell it of a tunnel.
            peer: device.peer.or(device.parent.filter(|_| device.is_macvlan())).map(|(_, index)| index),
            port: device
                .controller
                .map(|_| PortOptions { hairpin: device.hairpin, isolated: device.isolated }),
            vlan_filtering: device.vlan_filtering,
        })
    }

    /// Takes a link away, with the other end of a veth pair and what sits on
    /// it; ports of a bridge stay behind on their own.
    pub(super) fn remove_device(&mut self, side: Side, index: u32) {
        let Some(namespace) = self.namespace_mut(side) else { return };
        let Some(device) = namespace.devices.remove(&index) else { return };
        for port in namespace.devices.values_mut().filter(|port| port.controller == Some(index)) {
            port.controller = None;
            port.vlans = Vlans::default();
            port.forwarding.retain(|entry| entry.destination.is_some());
        }
        if let Some((side, index)) = device.peer {
            self.remove_device(side, index);
        }
        for there in [Side::Host, Side::Container] {
            let devices = self.namespace(there).into_iter().flat_map(|namespace| &namespace.devices);
            let upper = devices.filter(|(_, device)| device.parent == Some((side, index)));
            let upper: Vec<u32> = upper.map(|(index, _)| *index).collect();
            upper.into_iter().for_each(|index| self.remove_device(there, index));
        }
    }

    pub(in crate::double) fn remove_container(&mut self) {
        let links: Vec<u32> =
            self.container.iter().flat_map(|container| container.devices.keys().copied()).collect();
        links.into_iter().for_each(|index| self.remove_device(Side::Container, index));
        self.container = None;
    }

    /// Sets a link up or down. Down it loses its routes and neighbors, and its
    /// IPv6 addresses unless it is told to keep them.
    pub(super) fn set_up(&mut self, side: Side, index: u32, up: bool) -> Result<(), NetError> {
        let keeps =
            self.setting(side, index, IpFamily::Ipv6, "keep_addr_on_down").is_some_and(|value| value == "1");
        let device = self.device_mut(side, index)?;
        if device.up && !up {
            device.routes.clear();
            device.neighbors.clear();
            device.withdrawn.clear();
            device.addresses.retain(|address| address.is_ipv4() || keeps);
        }
        device.up = up;
        Ok(())
    }
}

fn gone(index: u32) -> NetError {
    NetError::NotFound(format!("look at link number {index}: No such device"))
}
