//! Neighbors of links: entries of ARP and of neighbor discovery.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use super::batch::{BatchError, all_or_none};
use super::{NetlinkError, Netns};

/// A station and its IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Neighbor {
    pub(crate) address: IpAddr,
    pub(crate) mac: [u8; 6],
}

/// A neighbor as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeighborState {
    pub(crate) neighbor: Neighbor,
    /// Somebody added it; else the kernel has learned it.
    pub(crate) permanent: bool,
}

/// A hardware address as people write it.
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for Neighbor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.address, Mac(self.mac))
    }
}

impl Netns {
    /// Lists the neighbors of a link whose hardware addresses are known,
    /// without groups.
    pub(crate) fn neighbors(
        &self,
        index: u32,
        family: Option<AddressFamily>,
    ) -> Result<Vec<NeighborState>, NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family.unwrap_or(AddressFamily::Unspec);
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        let answers = self.dump(RouteNetlinkMessage::GetNeighbour(message), || {
            format!("list the neighbors of link number {index}")
        })?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == index => {
                    neighbor_state(message)
                }
                _ => None,
            })
            .collect())
    }

    /// Those of `wanted` that nobody has added yet; fails if one has another
    /// hardware address.
    pub(crate) fn missing_neighbors(
        &self,
        index: u32,
        wanted: &[Neighbor],
    ) -> Result<Vec<Neighbor>, NetlinkError> {
        let present = self.neighbors(index, None)?.into_iter().filter(|state| state.permanent);
        let mut present: HashMap<IpAddr, [u8; 6]> =
            present.map(|state| (state.neighbor.address, state.neighbor.mac)).collect();
        let mut missing = Vec::new();
        for neighbor in wanted {
            match present.insert(neighbor.address, neighbor.mac) {
                None => missing.push(*neighbor),
                Some(mac) if mac == neighbor.mac => {}
                Some(mac) => return Err(self.taken(index, neighbor, &format!("it is at {}", Mac(mac)))),
            }
        }
        Ok(missing)
    }

    /// Adds permanent neighbors, all of them or none. What the kernel has
    /// learned gives way.
    pub(crate) fn add_neighbors(&self, index: u32, neighbors: &[Neighbor]) -> Result<(), BatchError> {
        let mut permanent: Option<Vec<IpAddr>> = None;
        let add = |neighbor: &Neighbor| match self.add_neighbor(index, neighbor, NLM_F_EXCL) {
            Err(error) if error.is_existing() => {
                if permanent.is_none() {
                    let present = self.neighbors(index, None)?.into_iter().filter(|state| state.permanent);
                    permanent = Some(present.map(|state| state.neighbor.address).collect());
                }
                let is_permanent = permanent.iter().flatten().any(|address| *address == neighbor.address);
                if is_permanent { Err(error) } else { self.add_neighbor(index, neighbor, NLM_F_REPLACE) }
            }
            added => added,
        };
        all_or_none(neighbors, add, |neighbor| self.remove_neighbor(index, neighbor))
    }

    /// Those of `wanted` that are there, permanently and unchanged.
    pub(crate) fn present_neighbors(
        &self,
        index: u32,
        wanted: &[Neighbor],
    ) -> Result<Vec<Neighbor>, NetlinkError> {
        let wanted: HashSet<&Neighbor> = wanted.iter().collect();
        let mut present = self.neighbors(index, None)?;
        present.retain(|state| state.permanent && wanted.contains(&state.neighbor));
        Ok(present.into_iter().map(|state| state.neighbor).collect())
    }

    /// Removes permanent neighbors, all of them or none.
    pub(crate) fn remove_neighbors(&self, index: u32, neighbors: &[Neighbor]) -> Result<(), BatchError> {
        all_or_none(
            neighbors,
            |neighbor| self.remove_neighbor(index, neighbor),
            |neighbor| self.add_neighbor(index, neighbor, NLM_F_REPLACE),
        )
    }

    fn add_neighbor(&self, index: u32, neighbor: &Neighbor, flags: u16) -> Result<(), NetlinkError> {
        let mut message = neighbor_message(index, neighbor.address);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(neighbor.mac.to_vec()));
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | flags, || {
            format!("add neighbor {neighbor} to link number {index}")
        })
        .map(drop)
    }

    /// What is gone already need not be removed.
    fn remove_neighbor(&self, index: u32, neighbor: &Neighbor) -> Result<(), NetlinkError> {
        let message = neighbor_message(index, neighbor.address);
        let removed = self.change(RouteNetlinkMessage::DelNeighbour(message), 0, || {
            format!("remove neighbor {neighbor} from link number {index}")
        });
        match removed {
            Err(error) if error.is_absent() => Ok(()),
            removed => removed.map(drop),
        }
    }

    fn taken(&self, index: u32, neighbor: &Neighbor, why: &str) -> NetlinkError {
        NetlinkError::Kernel {
            attempt: format!("add neighbor {neighbor} to link number {index} in {}", self.label),
            errno: nix::libc::EEXIST,
            reason: format!("{}: {why}", nix::Error::EEXIST.desc()),
        }
    }
}

fn neighbor_message(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

fn neighbor_state(message: &NeighbourMessage) -> Option<NeighborState> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    })?;
    // Groups, and what has no station, are the kernel's.
    let mac = mac_of(message).filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])?;
    let permanent = is(message, NeighbourState::Permanent) || is(message, NeighbourState::Noarp);
    Some(NeighborState { neighbor: Neighbor { address, mac }, permanent })
}

/// Whether an entry is in a state, of which some come together.
pub(super) fn is(message: &NeighbourMessage, state: NeighbourState) -> bool {
    u16::from(message.header.state) & u16::from(state) != 0
}

/// The hardware address that an entry has.
pub(super) fn mac_of(message: &NeighbourMessage) -> Option<[u8; 6]> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_together() {
        // As bridge(8) adds entries of VXLAN links.
        let mut message = NeighbourMessage::default();
        message.header.state = NeighbourState::from(0xc0);
        assert!(is(&message, NeighbourState::Permanent) && is(&message, NeighbourState::Noarp));
        assert!(!is(&message, NeighbourState::Stale));
    }

    #[test]
    fn neighbors_are_read_as_they_are_written() {
        for text in ["10.1.0.5", "fd00::5"] {
            let address = text.parse().unwrap();
            let mut message = neighbor_message(7, address);
            // Not found yet.
            assert_eq!(neighbor_state(&message), None);
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]));
            let neighbor = Neighbor { address, mac: [2, 0, 0, 0, 0, 1] };
            for (state, permanent) in [
                (NeighbourState::Stale, false),
                (NeighbourState::Permanent, true),
                (NeighbourState::Noarp, true),
            ] {
                message.header.state = state;
                assert_eq!(neighbor_state(&message), Some(NeighborState { neighbor, permanent }));
            }
            // A group.
            message.attributes.pop();
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![1, 0, 0x5e, 0, 0, 1]));
            assert_eq!(neighbor_state(&message), None);
        }
    }
}
