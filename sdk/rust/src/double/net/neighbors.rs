//! `weir:net/neighbors`: neighbors of links, and forwarding databases.

use std::net::IpAddr;

pub use super::links::Link;
use super::namespace::Device;
use super::parsed_address;
pub use super::types::{IpAddress, IpFamily, MacAddress, NetError};
pub use crate::bindings::platform::weir::net::neighbors::{
    Forwarding, ForwardingInfo, Neighbor, NeighborInfo,
};
use crate::double::state::State;
use crate::double::{Node, Side};
use crate::mac;

/// Items of a list.
const LIST_LIMIT: usize = 1024;
/// Stands for all addresses without an entry on a VXLAN link.
const ALL_ADDRESSES: MacAddress = (0, 0, 0, 0, 0, 0);

impl Node {
    /// The kernel has learned a neighbor of a link.
    ///
    /// # Panics
    ///
    /// If there is no such link, or the text is no address.
    #[must_use]
    pub fn with_learned_neighbor(self, side: Side, link: &str, address: &str, mac: MacAddress) -> Self {
        let info = NeighborInfo { address: parsed_address(address).into(), mac, permanent: false };
        self.with_device(side, link, |device| device.neighbors.push(info))
    }

    /// A forwarding database has learned where a station is: behind a
    /// destination, or at this port of a bridge.
    ///
    /// # Panics
    ///
    /// If there is no such link, or the text is no address.
    #[must_use]
    pub fn with_learned_station(
        self,
        side: Side,
        link: &str,
        mac: MacAddress,
        destination: Option<&str>,
    ) -> Self {
        let destination = destination.map(|text| parsed_address(text).into());
        let info = ForwardingInfo { mac, destination, permanent: false };
        self.with_device(side, link, |device| device.forwarding.push(info))
    }

    fn with_device(self, side: Side, link: &str, change: impl FnOnce(&mut Device)) -> Self {
        let mut state = self.0.borrow_mut();
        let device = state.namespace_mut(side).and_then(|namespace| {
            let index = namespace.find(link)?;
            namespace.devices.get_mut(&index)
        });
        change(device.unwrap_or_else(|| panic!("there is no link {link}")));
        drop(state);
        self
    }

    /// The neighbors of a link.
    pub fn neighbors(&self, side: Side, link: &str) -> Vec<NeighborInfo> {
        self.look_at(side, link, |device| device.neighbors.clone())
    }

    /// What the forwarding databases hold about a link.
    pub fn forwarding(&self, side: Side, link: &str) -> Vec<ForwardingInfo> {
        self.look_at(side, link, |device| device.forwarding.clone())
    }
}

/// Lists the neighbors of a link, of one family or of both.
pub fn list(link: &Link, family: Option<IpFamily>) -> Result<Vec<NeighborInfo>, NetError> {
    link.work("neighbors.list", |state| {
        let mut neighbors = state.device(link.side, link.index)?.neighbors.clone();
        neighbors
            .retain(|info| family.is_none_or(|family| IpFamily::from(IpAddr::from(info.address)) == family));
        Ok(neighbors)
    })
}

/// Adds permanent neighbors.
pub fn add(link: &Link, neighbors: &[Neighbor]) -> Result<(), NetError> {
    link.work("neighbors.add", |state| {
        check_neighbors(neighbors)?;
        let mut present = state.device(link.side, link.index)?.neighbors.clone();
        for &Neighbor { address, mac } in neighbors {
            let known = present.iter().find(|info| info.permanent && info.address == address);
            match known {
                Some(known) if known.mac == mac => continue,
                Some(known) => {
                    return Err(NetError::AlreadyExists(format!(
                        "add neighbor {} to link {}: File exists: it is at {}",
                        IpAddr::from(address),
                        link.name(),
                        mac::text(Some(known.mac))
                    )));
                }
                None => {}
            }
            present.retain(|info| info.address != address);
            present.push(NeighborInfo { address, mac, permanent: true });
        }
        state.device_mut(link.side, link.index)?.neighbors = present;
        Ok(())
    })
}

/// Removes permanent neighbors.
pub fn remove(link: &Link, neighbors: &[Neighbor]) -> Result<(), NetError> {
    link.work("neighbors.remove", |state| {
        check_neighbors(neighbors)?;
        state.device_mut(link.side, link.index)?.neighbors.retain(|info| {
            let is_meant = |neighbor: &Neighbor| (neighbor.address, neighbor.mac) == (info.address, info.mac);
            !info.permanent || !neighbors.iter().any(is_meant)
        });
        Ok(())
    })
}

/// Lists what the forwarding databases hold about a link.
pub fn list_forwarding(link: &Link) -> Result<Vec<ForwardingInfo>, NetError> {
    link.work("neighbors.list-forwarding", |state| {
        let device = state.device(link.side, link.index)?;
        if device.controller.is_none() && !device.is_tunnel() {
            return Err(without_database(link));
        }
        Ok(device.forwarding.clone())
    })
}

/// Adds permanent entries to a forwarding database.
pub fn add_forwarding(link: &Link, entries: &[Forwarding]) -> Result<(), NetError> {
    link.work("neighbors.add-forwarding", |state| {
        check_entries(state, link, entries)?;
        let device = state.device(link.side, link.index)?;
        let mut present = device.forwarding.clone();
        for &Forwarding { mac, destination } in entries {
            let has_place = match destination {
                Some(_) => device.is_tunnel(),
                None => device.controller.is_some(),
            };
            if !has_place {
                return Err(without_database(link));
            }
            let is_of_place = |info: &&ForwardingInfo| {
                info.mac == mac && info.destination.is_some() == destination.is_some()
            };
            let added = present.iter().filter(is_of_place).filter(|info| info.permanent);
            let destinations: Vec<_> = added.map(|info| info.destination).collect();
            if destinations.contains(&destination) {
                continue;
            }
            let is_single = mac != ALL_ADDRESSES;
            if (is_single && !destinations.is_empty())
                || (destination.is_none() && state.is_elsewhere(link, device, mac))
            {
                return Err(NetError::AlreadyExists(format!(
                    "add forwarding of {} to link {}: File exists",
                    mac::text(Some(mac)),
                    link.name()
                )));
            }
            present.retain(|info| !is_single || info.permanent || !is_of_place(&info));
            present.push(ForwardingInfo { mac, destination, permanent: true });
        }
        state.device_mut(link.side, link.index)?.forwarding = present;
        Ok(())
    })
}

/// Removes permanent entries from a forwarding database.
pub fn remove_forwarding(link: &Link, entries: &[Forwarding]) -> Result<(), NetError> {
    link.work("neighbors.remove-forwarding", |state| {
        check_entries(state, link, entries)?;
        state.device_mut(link.side, link.index)?.forwarding.retain(|info| {
            let is_meant =
                |entry: &Forwarding| (entry.mac, entry.destination) == (info.mac, info.destination);
            !info.permanent || !entries.iter().any(is_meant)
        });
        Ok(())
    })
}

impl State {
    /// Whether the bridge of a port has an address, or knows it at another
    /// port.
    fn is_elsewhere(&self, link: &Link, port: &Device, mac: MacAddress) -> bool {
        let devices = self.namespace(link.side).into_iter().flat_map(|namespace| &namespace.devices);
        let mut of_bridge = devices.filter(|(index, device)| {
            Some(**index) == port.controller || device.controller == port.controller
        });
        of_bridge.any(|(index, device)| {
            let is_known = |info: &ForwardingInfo| info.mac == mac && info.destination.is_none();
            device.mac == Some(mac) || (*index != link.index && device.forwarding.iter().any(is_known))
        })
    }
}

fn check_length(items: usize) -> Result<(), NetError> {
    if items > LIST_LIMIT {
        let message = format!("{items} entries in one list, at most {LIST_LIMIT}");
        return Err(NetError::Invalid(message));
    }
    Ok(())
}

fn check_address(address: IpAddress) -> Result<(), NetError> {
    let address = IpAddr::from(address);
    let is_station = match address {
        IpAddr::V4(address) => !address.is_broadcast(),
        IpAddr::V6(address) => address.to_ipv4_mapped().is_none(),
    };
    if is_station && !address.is_unspecified() && !address.is_multicast() && !address.is_loopback() {
        return Ok(());
    }
    Err(NetError::Invalid(format!("{address} is not the address of another station")))
}

fn check_station(mac: MacAddress) -> Result<(), NetError> {
    if mac == ALL_ADDRESSES || mac.0 & 1 == 1 {
        let mac = mac::text(Some(mac));
        return Err(NetError::Invalid(format!("{mac} is not the hardware address of one station")));
    }
    Ok(())
}

fn check_neighbors(neighbors: &[Neighbor]) -> Result<(), NetError> {
    check_length(neighbors.len())?;
    neighbors.iter().try_for_each(|neighbor| {
        check_address(neighbor.address)?;
        check_station(neighbor.mac)
    })
}

fn check_entries(state: &State, link: &Link, entries: &[Forwarding]) -> Result<(), NetError> {
    check_length(entries.len())?;
    for entry in entries {
        entry.destination.map_or(Ok(()), check_address)?;
        if entry.mac != ALL_ADDRESSES || entry.destination.is_none() {
            check_station(entry.mac)?;
        }
    }
    if entries.iter().any(|entry| entry.destination.is_none()) {
        link.own_only(state, "change forwarding entries without a destination of")?;
    }
    Ok(())
}

fn without_database(link: &Link) -> NetError {
    NetError::Unsupported(format!(
        "forwarding entries of link {}: those with a destination are for VXLAN links, those without one for ports of bridges",
        link.name()
    ))
}
