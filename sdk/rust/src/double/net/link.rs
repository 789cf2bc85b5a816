//! A link in the hands of a plugin.

use super::kernel;
use super::links::{
    LinkInfo, MacAddress, MacvlanMode, NetError, OperState, PortOptions, VlanRange, check_mac, check_mtu,
};
use super::namespace::Device;
use super::vlans::Vlans;
use crate::double::Side;
use crate::double::state::{Shared, State};

/// A link in a namespace.
#[derive(Debug)]
pub struct Link {
    pub(super) node: Shared,
    pub(super) side: Side,
    pub(super) index: u32,
    /// The name when the handle was made.
    pub(super) name: String,
    /// The state when the handle was made.
    pub(super) found: LinkInfo,
    /// This attachment made it in this call.
    pub(super) is_own: bool,
}

impl Link {
    pub(in crate::double) fn is_own(&self) -> bool {
        self.is_own
    }

    pub(in crate::double) fn side(&self) -> Side {
        self.side
    }

    pub(in crate::double) fn name(&self) -> &str {
        &self.name
    }

    /// Makes one change to the link, or looks at it.
    pub(super) fn work<T>(
        &self,
        operation: &str,
        work: impl FnOnce(&mut State) -> Result<T, NetError>,
    ) -> Result<T, NetError> {
        let mut state = self.node.borrow_mut();
        state.pass(operation)?;
        // Before anything else: the link may be gone.
        state.device(self.side, self.index)?;
        work(&mut state)
    }

    fn set(&self, operation: &str, change: impl FnOnce(&mut Device)) -> Result<(), NetError> {
        self.work(operation, |state| {
            change(state.device_mut(self.side, self.index)?);
            Ok(())
        })
    }

    /// Refuses what may be done in the node's namespace only to links of this
    /// attachment.
    pub(super) fn own_only(&self, state: &State, attempt: &str) -> Result<(), NetError> {
        let owner = &state.device(self.side, self.index)?.owner;
        if self.side == Side::Container || self.is_own || *owner == Some(state.owner()) {
            return Ok(());
        }
        Err(NetError::Denied(format!(
            "{attempt} link {} of the host namespace: it was not made by this attachment",
            self.name
        )))
    }

    /// Refuses what would be done to the parent of a macvlan too.
    fn spare_parent(&self, state: &State, attempt: &str) -> Result<(), NetError> {
        if !state.device(self.side, self.index)?.is_macvlan() {
            return Ok(());
        }
        Err(NetError::Denied(format!("{attempt} link {}: it is a macvlan", self.name)))
    }

    pub(super) fn join(&self, state: &mut State, bridge: &Self) -> Result<(), NetError> {
        self.spare_parent(state, "attach")?;
        let attempt = format!("attach link {} to {}", self.name, bridge.name);
        if bridge.side != self.side {
            return Err(kernel(22, &attempt, "Invalid argument"));
        }
        let controller = state.device(bridge.side, bridge.index)?;
        if !controller.is_bridge() {
            return Err(NetError::Unsupported(format!("{attempt}: it is not a bridge")));
        }
        let vlans = Vlans::of_port(controller.default_vlan);
        let port = state.device_mut(self.side, self.index)?;
        if port.is_bridge() || port.is_loopback() {
            return Err(kernel(if port.is_bridge() { 40 } else { 22 }, &attempt, "it cannot be a port"));
        }
        *port =
            Device { controller: Some(bridge.index), hairpin: false, isolated: false, vlans, ..port.clone() };
        Ok(())
    }

    /// Asks the kernel for the link's present state.
    pub fn describe(&self) -> Result<LinkInfo, NetError> {
        self.work("link.describe", |state| state.describe(self.side, self.index))
    }

    /// The link's state when this handle was made.
    pub fn as_found(&self) -> LinkInfo {
        self.found.clone()
    }

    /// Sets it administratively up or down.
    pub fn set_up(&self, up: bool) -> Result<(), NetError> {
        self.work("link.set-up", |state| state.set_up(self.side, self.index, up))
    }

    /// Sets the MTU in bytes.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), NetError> {
        check_mtu(mtu, &format!("set MTU {mtu} of link {}", self.name))?;
        self.set("link.set-mtu", |device| device.mtu = mtu)
    }

    /// Sets the hardware address.
    pub fn set_mac(&self, mac: MacAddress) -> Result<(), NetError> {
        check_mac(mac, &format!("set hardware address of link {}", self.name))?;
        self.work("link.set-mac", |state| {
            let device = state.device_mut(self.side, self.index)?;
            if device.macvlan == Some(MacvlanMode::Passthru) {
                let message = format!("set hardware address of link {}: it is its parent's", self.name);
                return Err(NetError::Denied(message));
            }
            device.mac = Some(mac);
            Ok(())
        })
    }

    /// Turns promiscuous mode on or off.
    pub fn set_promiscuous(&self, on: bool) -> Result<(), NetError> {
        self.work("link.set-promiscuous", |state| {
            self.spare_parent(state, "turn on promiscuous mode of")?;
            if !on {
                self.own_only(state, "turn off promiscuous mode of")?;
            }
            state.device_mut(self.side, self.index)?.promiscuous = on;
            Ok(())
        })
    }

    /// Makes it a port of a bridge in the same namespace.
    pub fn attach_to(&self, bridge: &Self) -> Result<(), NetError> {
        self.work("link.attach-to", |state| {
            self.own_only(state, "attach")?;
            self.join(state, bridge)
        })
    }

    /// Sets its flags as a port of a bridge.
    pub fn set_port(&self, options: PortOptions) -> Result<(), NetError> {
        self.work("link.set-port", |state| {
            self.own_only(state, "set port flags of")?;
            let device = self.port(state, "set port flags of")?;
            (device.hairpin, device.isolated) = (options.hairpin, options.isolated);
            Ok(())
        })
    }

    /// Turns VLAN filtering of this bridge on or off.
    pub fn set_vlan_filtering(&self, on: bool) -> Result<(), NetError> {
        self.work("link.set-vlan-filtering", |state| {
            if !state.device(self.side, self.index)?.is_bridge() {
                let message = format!("set VLAN filtering of link {}: Operation not supported", self.name);
                return Err(NetError::Unsupported(message));
            }
            if !on {
                self.own_only(state, "turn off VLAN filtering of")?;
            }
            state.device_mut(self.side, self.index)?.vlan_filtering = on;
            Ok(())
        })
    }

    /// Adds the port to VLANs.
    pub fn add_vlans(&self, vlans: &[VlanRange]) -> Result<(), NetError> {
        self.work("link.add-vlans", |state| {
            self.own_only(state, "change the VLANs of")?;
            self.port(state, "change the VLANs of")?.vlans.add(vlans)
        })
    }

    /// Takes the port out of VLANs.
    pub fn remove_vlans(&self, vlans: &[VlanRange]) -> Result<(), NetError> {
        self.work("link.remove-vlans", |state| {
            self.own_only(state, "change the VLANs of")?;
            self.port(state, "change the VLANs of")?.vlans.remove(vlans)
        })
    }

    /// Lists the VLANs of the port.
    pub fn vlans(&self) -> Result<Vec<VlanRange>, NetError> {
        self.work("link.vlans", |state| Ok(state.device(self.side, self.index)?.vlans.list()))
    }

    /// Waits until the operational state is `up`: the clock is put forward.
    pub fn wait_until_up(&self, timeout: u32) -> Result<(), NetError> {
        self.work("link.wait-until-up", |state| {
            if state.oper_state(self.side, self.index) == OperState::Up {
                return Ok(());
            }
            state.ambient.wait(timeout);
            Err(NetError::Busy(format!(
                "wait for link {}: it is not operational after {timeout}ms",
                self.name
            )))
        })
    }

    /// Deletes the link, and the other end of a veth pair.
    pub fn remove(&self) -> Result<(), NetError> {
        self.work("link.remove", |state| {
            self.own_only(state, "delete")?;
            if state.device(self.side, self.index)?.is_loopback() {
                return Err(NetError::Unsupported(format!(
                    "delete link {}: Operation not supported",
                    self.name
                )));
            }
            state.remove_device(self.side, self.index);
            Ok(())
        })
    }

    fn port<'a>(&self, state: &'a mut State, attempt: &str) -> Result<&'a mut Device, NetError> {
        let device = state.device_mut(self.side, self.index)?;
        if device.controller.is_none() && !device.is_bridge() {
            return Err(NetError::Unsupported(format!(
                "{attempt} link {}: it is no port of a bridge",
                self.name
            )));
        }
        Ok(device)
    }
}
