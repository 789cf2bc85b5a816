//! Addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc::{EADDRNOTAVAIL, EEXIST, EINVAL};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link_message::name;
use super::{FIRST_INDEX, Inquiry, NetlinkError};

type Answers = Result<Vec<RouteNetlinkMessage>, NetlinkError>;

impl Inquiry<'_> {
    /// Lists the addresses of a link, or of all.
    pub(super) fn addresses(&mut self, message: AddressMessage, _: u16) -> Answers {
        let (index, family) = (message.header.index, message.header.family);
        let mut answers = Vec::new();
        if index < FIRST_INDEX {
            answers = self.ask_all(RouteNetlinkMessage::GetAddress(message))?;
        }
        let space = self.space();
        answers.retain(|answer| match answer {
            RouteNetlinkMessage::NewAddress(address) => {
                let removed = key(address).is_some_and(|key| space.removed_addresses.contains(&key));
                !removed && !space.gone.contains(&address.header.index)
            }
            _ => true,
        });
        let is_wanted = |address: &&AddressMessage| {
            (index == 0 || address.header.index == index)
                && (family == AddressFamily::Unspec || address.header.family == family)
        };
        let own = space.addresses.iter().filter(is_wanted).cloned();
        answers.extend(own.map(RouteNetlinkMessage::NewAddress));
        Ok(answers)
    }

    fn addresses_of(&mut self, index: u32) -> Result<Vec<AddressMessage>, NetlinkError> {
        let mut question = AddressMessage::default();
        question.header.index = index;
        let answers = self.addresses(question, 0)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) if address.header.index == index => Some(address),
                _ => None,
            })
            .collect())
    }

    /// Adds an address. Nobody else has it, so that it is not tentative.
    pub(super) fn add_address(&mut self, mut message: AddressMessage) -> Answers {
        let index = message.header.index;
        let link = self.link_by_index(index)?;
        let Some(wanted) = key(&message) else { return Err(self.refusal(EINVAL)) };
        if self.addresses_of(index)?.iter().any(|address| key(address) == Some(wanted)) {
            return Err(self.refusal(EEXIST));
        }
        let is_link_local = match wanted.1 {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        message.header.scope = if is_link_local { AddressScope::Link } else { AddressScope::Universe };
        let space = self.space();
        match space.removed_addresses.iter().position(|removed| *removed == wanted) {
            // The kernel still has it.
            Some(place) => drop(space.removed_addresses.swap_remove(place)),
            None => space.addresses.push(message),
        }
        if link.header.flags.contains(LinkFlags::Up) {
            self.connect_route(index, wanted.1, wanted.2);
        }
        Ok(Vec::new())
    }

    /// Removes an address, and the route to its network.
    pub(super) fn remove_address(&mut self, message: &AddressMessage) -> Answers {
        let index = message.header.index;
        self.link_by_index(index)?;
        let Some(wanted) = key(message) else { return Err(self.refusal(EINVAL)) };
        if !self.addresses_of(index)?.iter().any(|address| key(address) == Some(wanted)) {
            return Err(self.refusal(EADDRNOTAVAIL));
        }
        let space = self.space();
        let before = space.addresses.len();
        space.addresses.retain(|address| key(address) != Some(wanted));
        if space.addresses.len() == before {
            space.removed_addresses.push(wanted);
        }
        self.disconnect_route(index, wanted.1, wanted.2);
        Ok(Vec::new())
    }

    /// Gives a loopback link that comes up the addresses that the kernel gives
    /// it by itself.
    pub(super) fn address_loopback(&mut self, index: u32) -> Result<(), NetlinkError> {
        let link = self.link_by_index(index)?;
        if !link.header.flags.contains(LinkFlags::Loopback) {
            return Ok(());
        }
        let mut own = vec![(IpAddr::from(Ipv4Addr::LOCALHOST), 8)];
        if self.has_ipv6(&link) {
            own.push((Ipv6Addr::LOCALHOST.into(), 128));
        }
        let present = self.addresses_of(index)?;
        for (address, length) in own {
            let mut message = AddressMessage::default();
            message.header.index = index;
            message.header.family =
                if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            message.header.prefix_len = length;
            message.header.scope = AddressScope::Host;
            message.attributes.push(AddressAttribute::Local(address));
            if !present.iter().any(|other| key(other) == key(&message)) {
                self.space().addresses.push(message);
            }
        }
        Ok(())
    }

    /// Whether a real link may have addresses of IPv6.
    fn has_ipv6(&mut self, link: &LinkMessage) -> bool {
        let path = format!("conf/{}/disable_ipv6", name(link));
        if let Some(set) = self.space().settings.get(&(false, path)) {
            return set == "0";
        }
        let specs = link.attributes.iter().filter_map(|attribute| match attribute {
            LinkAttribute::AfSpecUnspec(specs) => Some(specs),
            _ => None,
        });
        let inet6 = specs.flatten().filter_map(|spec| match spec {
            AfSpecUnspec::Inet6(specs) => Some(specs),
            _ => None,
        });
        inet6.flatten().any(|spec| matches!(spec, AfSpecInet6::DevConf(conf) if conf.disable_ipv6 == 0))
    }

    /// Adds the routes that a link's imagined addresses bring when it comes up.
    pub(super) fn connect_routes(&mut self, index: u32) {
        let of_link = self.space().addresses.iter().filter(|address| address.header.index == index);
        let keys: Vec<_> = of_link.filter_map(key).collect();
        for (index, address, length) in keys {
            self.connect_route(index, address, length);
        }
    }
}

/// What tells an address from others: link, address, prefix length.
fn key(message: &AddressMessage) -> Option<(u32, IpAddr, u8)> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    Some((message.header.index, address, message.header.prefix_len))
}
