//! Addresses of links.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NetlinkError, Netns};
use crate::result::Prefix;

/// An address as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressState {
    pub(crate) prefix: Prefix,
    pub(crate) tentative: bool,
    pub(crate) duplicate: bool,
    pub(crate) link_local: bool,
}

impl Netns {
    /// Lists the addresses of a link.
    pub(crate) fn addresses(
        &self,
        index: u32,
        family: Option<AddressFamily>,
    ) -> Result<Vec<AddressState>, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family.unwrap_or(AddressFamily::Unspec);
        message.header.index = index;
        let answers = self.dump(RouteNetlinkMessage::GetAddress(message), || {
            format!("list the addresses of link number {index}")
        })?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message) if message.header.index == index => {
                    address_state(message)
                }
                _ => None,
            })
            .collect())
    }

    /// Lists the addresses of all links.
    pub(crate) fn all_addresses(&self, family: AddressFamily) -> Result<Vec<IpAddr>, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family;
        let answers = self.dump(RouteNetlinkMessage::GetAddress(message), || {
            "list the addresses of all links".to_owned()
        })?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message) => address_state(message),
                _ => None,
            })
            .map(|state| state.prefix.address)
            .collect())
    }

    /// Adds an address; an IPv4 address gets its broadcast address.
    pub(crate) fn add_address(&self, index: u32, prefix: Prefix) -> Result<(), NetlinkError> {
        let mut message = address_message(index, prefix);
        if let IpAddr::V4(address) = prefix.address
            && prefix.length < 31
        {
            let hosts = u32::MAX.checked_shr(prefix.length.into()).unwrap_or(0);
            let broadcast = Ipv4Addr::from_bits(address.to_bits() | hosts);
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add address {prefix} to link number {index}")
        })
        .map(drop)
    }

    /// Removes an address.
    pub(crate) fn remove_address(&self, index: u32, prefix: Prefix) -> Result<(), NetlinkError> {
        let attempt = || format!("remove address {prefix} from link number {index}");
        let removed =
            self.change(RouteNetlinkMessage::DelAddress(address_message(index, prefix)), 0, attempt);
        match removed {
            Err(error) if error.errno() == nix::libc::EADDRNOTAVAIL => {
                Err(NetlinkError::Absent { attempt: attempt() })
            }
            removed => removed.map(drop),
        }
    }

    /// Waits until duplicate address detection is over; returns the addresses,
    /// some still tentative if the time runs out.
    pub(crate) fn settle(&self, index: u32, timeout: Duration) -> Result<Vec<AddressState>, NetlinkError> {
        let end = Instant::now() + timeout;
        let mut pause = Duration::from_millis(1);
        loop {
            let addresses = self.addresses(index, Some(AddressFamily::Inet6))?;
            if !addresses.iter().any(|address| address.tentative) || Instant::now() >= end {
                return Ok(addresses);
            }
            self.pause(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

fn address_message(index: u32, prefix: Prefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if prefix.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix.length;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(prefix.address));
    message.attributes.push(AddressAttribute::Address(prefix.address));
    message
}

fn address_state(message: &AddressMessage) -> Option<AddressState> {
    let mut local = None;
    let mut peer = None;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    Some(AddressState {
        prefix: Prefix { address: local.or(peer)?, length: message.header.prefix_len },
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        link_local: message.header.scope == AddressScope::Link,
    })
}
