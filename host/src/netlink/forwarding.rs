//! Forwarding databases: of the bridge that a link is a port of, and of VXLAN
//! links (`bridge fdb`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use super::batch::{BatchError, all_or_none};
use super::neighbor::{Mac, is, mac_of};
use super::{NetlinkError, Netns};

/// Stands for all addresses without an entry on a VXLAN link.
pub(crate) const ALL_ADDRESSES: [u8; 6] = [0; 6];

/// Where frames go: through the tunnel to a destination, or without one out of
/// the bridge by the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Forwarding {
    pub(crate) mac: [u8; 6],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) destination: Option<IpAddr>,
}

/// An entry as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForwardingState {
    pub(crate) forwarding: Forwarding,
    /// Somebody added it; else the kernel has learned it.
    pub(crate) permanent: bool,
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination {
            Some(destination) => write!(f, "{} to {destination}", Mac(self.mac)),
            None => Mac(self.mac).fmt(f),
        }
    }
}

impl Netns {
    /// Lists the entries about a link, without addresses of the bridge itself.
    pub(crate) fn forwarding(&self, index: u32) -> Result<Vec<ForwardingState>, NetlinkError> {
        let answers = self.forwarding_dump(NeighbourAttribute::IfIndex(index), || {
            format!("list the forwarding entries of link number {index}")
        })?;
        let mut states: Vec<ForwardingState> = Vec::new();
        // A bridge has one of them for each VLAN.
        let mut places = HashMap::new();
        let of_link = answers.iter().filter(|message| message.header.ifindex == index);
        for state in of_link.filter_map(forwarding_state) {
            let place = *places.entry(state.forwarding).or_insert(states.len());
            match states.get_mut(place) {
                Some(known) => known.permanent |= state.permanent,
                None => states.push(state),
            }
        }
        Ok(states)
    }

    /// The hardware addresses that a bridge has, or knows at other ports.
    pub(crate) fn stations_elsewhere(&self, bridge: u32, port: u32) -> Result<Vec<[u8; 6]>, NetlinkError> {
        let answers = self.forwarding_dump(NeighbourAttribute::Controller(bridge), || {
            format!("list the forwarding entries of bridge number {bridge}")
        })?;
        let is_elsewhere = |message: &&NeighbourMessage| {
            let is_of_bridge = message.attributes.contains(&NeighbourAttribute::Controller(bridge));
            let is_bridge = is(message, NeighbourState::Permanent);
            is_of_bridge && (message.header.ifindex != port || is_bridge)
        };
        Ok(answers.iter().filter(is_elsewhere).filter_map(mac_of).collect())
    }

    fn forwarding_dump(
        &self,
        of: NeighbourAttribute,
        attempt: impl Fn() -> String,
    ) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.attributes.push(of);
        let answers = self.dump(RouteNetlinkMessage::GetNeighbour(message), attempt)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(message) => Some(message),
                _ => None,
            })
            .collect())
    }

    /// Those of `wanted` that nobody has added yet; fails if one leads to
    /// another destination.
    pub(crate) fn missing_forwarding(
        &self,
        index: u32,
        wanted: &[Forwarding],
    ) -> Result<Vec<Forwarding>, NetlinkError> {
        let mut present: HashMap<[u8; 6], Vec<Option<IpAddr>>> = HashMap::new();
        for state in self.forwarding(index)?.into_iter().filter(|state| state.permanent) {
            present.entry(state.forwarding.mac).or_default().push(state.forwarding.destination);
        }
        let mut missing = Vec::new();
        for entry in wanted {
            let present = present.entry(entry.mac).or_default();
            if present.contains(&entry.destination) {
                continue;
            }
            let other = present.iter().find(|other| other.is_some() && entry.destination.is_some());
            if let Some(Some(other)) = other
                && entry.mac != ALL_ADDRESSES
            {
                return Err(NetlinkError::Kernel {
                    attempt: format!("add forwarding of {entry} to link number {index} in {}", self.label),
                    errno: nix::libc::EEXIST,
                    reason: format!("{}: it leads to {other}", nix::Error::EEXIST.desc()),
                });
            }
            present.push(entry.destination);
            missing.push(*entry);
        }
        Ok(missing)
    }

    /// Adds permanent entries, all of them or none. What the kernel has learned
    /// gives way.
    pub(crate) fn add_forwarding(&self, index: u32, entries: &[Forwarding]) -> Result<(), BatchError> {
        let mut permanent: Option<Vec<[u8; 6]>> = None;
        let add = |entry: &Forwarding| {
            if entry.mac == ALL_ADDRESSES {
                return self.add_entry(index, entry, NLM_F_APPEND);
            }
            match self.add_entry(index, entry, NLM_F_EXCL) {
                Err(error) if error.is_existing() => {
                    if permanent.is_none() {
                        let present = self.forwarding(index)?.into_iter().filter(|state| state.permanent);
                        let present = present.filter(|state| {
                            state.forwarding.destination.is_some() == entry.destination.is_some()
                        });
                        permanent = Some(present.map(|state| state.forwarding.mac).collect());
                    }
                    let is_permanent = permanent.iter().flatten().any(|mac| *mac == entry.mac);
                    if is_permanent { Err(error) } else { self.add_entry(index, entry, NLM_F_REPLACE) }
                }
                added => added,
            }
        };
        all_or_none(entries, add, |entry| self.remove_entry(index, entry))
    }

    /// Those of `wanted` that are there, permanently and unchanged.
    pub(crate) fn present_forwarding(
        &self,
        index: u32,
        wanted: &[Forwarding],
    ) -> Result<Vec<Forwarding>, NetlinkError> {
        let wanted: HashSet<&Forwarding> = wanted.iter().collect();
        let mut present = self.forwarding(index)?;
        present.retain(|state| state.permanent && wanted.contains(&state.forwarding));
        Ok(present.into_iter().map(|state| state.forwarding).collect())
    }

    /// Removes permanent entries, all of them or none.
    pub(crate) fn remove_forwarding(&self, index: u32, entries: &[Forwarding]) -> Result<(), BatchError> {
        all_or_none(
            entries,
            |entry| self.remove_entry(index, entry),
            |entry| {
                let many = if entry.mac == ALL_ADDRESSES { NLM_F_APPEND } else { NLM_F_REPLACE };
                self.add_entry(index, entry, many)
            },
        )
    }

    fn add_entry(&self, index: u32, entry: &Forwarding, flags: u16) -> Result<(), NetlinkError> {
        let mut message = forwarding_message(index, entry);
        // To a bridge, a permanent one would be an address of its own.
        message.header.state =
            if entry.destination.is_some() { NeighbourState::Permanent } else { NeighbourState::Noarp };
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | flags, || {
            format!("add forwarding of {entry} to link number {index}")
        })
        .map(drop)
    }

    /// What is gone already need not be removed.
    fn remove_entry(&self, index: u32, entry: &Forwarding) -> Result<(), NetlinkError> {
        let message = forwarding_message(index, entry);
        let removed = self.change(RouteNetlinkMessage::DelNeighbour(message), 0, || {
            format!("remove forwarding of {entry} from link number {index}")
        });
        match removed {
            Err(error) if error.is_absent() => Ok(()),
            removed => removed.map(drop),
        }
    }
}

fn forwarding_message(index: u32, entry: &Forwarding) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags =
        if entry.destination.is_some() { NeighbourFlags::Own } else { NeighbourFlags::Controller };
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.to_vec()));
    message
        .attributes
        .extend(entry.destination.map(|address| NeighbourAttribute::Destination(address.into())));
    message
}

fn forwarding_state(message: &NeighbourMessage) -> Option<ForwardingState> {
    let mac = mac_of(message)?;
    if is_of_bridge(message) {
        if is(message, NeighbourState::Permanent) {
            return None;
        }
        let permanent = is(message, NeighbourState::Noarp);
        return Some(ForwardingState { forwarding: Forwarding { mac, destination: None }, permanent });
    }
    // What has no destination are addresses that the link itself listens to.
    let destination = Some(destination_of(message)?);
    let permanent = is(message, NeighbourState::Permanent) || is(message, NeighbourState::Noarp);
    Some(ForwardingState { forwarding: Forwarding { mac, destination }, permanent })
}

/// Whether an entry stands in the database of a bridge. The kernel names the
/// bridge in its answers, and wants a flag in questions.
pub(super) fn is_of_bridge(message: &NeighbourMessage) -> bool {
    message.header.flags.contains(NeighbourFlags::Controller)
        || message.attributes.iter().any(|attribute| matches!(attribute, NeighbourAttribute::Controller(_)))
}

/// The remote end that an entry leads to. The family of the message says
/// nothing about it.
pub(super) fn destination_of(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            let ipv4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
            ipv4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from)).ok()
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_written() {
        let mac = [2, 0, 0, 0, 0, 1];
        for destination in [None, Some("192.0.2.9"), Some("2001:db8::9")] {
            let forwarding = Forwarding { mac, destination: destination.map(|text| text.parse().unwrap()) };
            let mut message = forwarding_message(7, &forwarding);
            if destination.is_none() {
                message.header.flags = NeighbourFlags::empty();
                message.attributes.push(NeighbourAttribute::Controller(5));
            }
            for (state, permanent) in [(NeighbourState::Stale, false), (NeighbourState::Noarp, true)] {
                message.header.state = state;
                assert_eq!(forwarding_state(&message), Some(ForwardingState { forwarding, permanent }));
            }
            // To a bridge it is an address of its own.
            message.header.state = NeighbourState::Permanent;
            assert_eq!(forwarding_state(&message).is_some(), destination.is_some());
        }
        // An address that a link listens to.
        let mut message = forwarding_message(7, &Forwarding { mac, destination: None });
        message.header.flags = NeighbourFlags::Own;
        assert_eq!(forwarding_state(&message), None);
    }

    #[test]
    fn journals_know_entries_without_a_destination() {
        let entry = Forwarding { mac: ALL_ADDRESSES, destination: None };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(text, "{\"mac\":[0,0,0,0,0,0]}");
        assert_eq!(serde_json::from_str::<Forwarding>(&text).unwrap(), entry);
    }
}
