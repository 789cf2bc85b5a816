//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nix::libc::{EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ESRCH};
use rtnetlink::packet_core::NLM_F_EXCL;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{FIRST_INDEX, Inquiry, NetlinkError};
use crate::netlink::route;

/// The metric of IPv6 routes that name none.
const IPV6_METRIC: u32 = 1024;

/// The metric of the routes to the networks of IPv6 addresses.
const IPV6_CONNECTED_METRIC: u32 = 256;

/// What tells a route from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    destination: IpNet,
    table: u32,
    priority: u32,
    out: Option<u32>,
    gateway: Option<IpAddr>,
}

type Answers = Result<Vec<RouteNetlinkMessage>, NetlinkError>;

impl Inquiry<'_> {
    /// Lists the routes out of a link, or all.
    pub(super) fn routes(&mut self, message: RouteMessage, _: u16) -> Answers {
        let (out, family) = (out_of(&message), message.header.address_family);
        let mut answers = Vec::new();
        if out.is_none_or(|out| out < FIRST_INDEX) {
            answers = self.ask_all(RouteNetlinkMessage::GetRoute(message))?;
            answers = answers.into_iter().flat_map(by_hop).collect();
        }
        let space = self.space();
        answers.retain(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => {
                let is_gone = out_of(route).is_some_and(|out| space.gone.contains(&out));
                let removed = read(route).is_some_and(|route| space.removed_routes.contains(&route));
                !is_gone && !removed
            }
            _ => true,
        });
        let is_wanted = |route: &&RouteMessage| {
            (out.is_none() || out_of(route) == out)
                && (family == AddressFamily::Unspec || route.header.address_family == family)
        };
        let own = space.routes.iter().filter(is_wanted).cloned();
        answers.extend(own.map(RouteNetlinkMessage::NewRoute));
        Ok(answers)
    }

    fn routes_like(
        &mut self,
        family: AddressFamily,
        out: Option<u32>,
    ) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.attributes.extend(out.map(RouteAttribute::Oif));
        let answers = self.routes(question, 0)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Unicast => {
                    Some(route)
                }
                _ => None,
            })
            .collect())
    }

    /// Adds a route, if it may be beside others to its destination
    /// (`NLM_F_EXCL`), and is not there yet.
    pub(super) fn add_route(&mut self, message: RouteMessage, flags: u16) -> Answers {
        let Some((wanted, out)) = read(&message).and_then(|route| Some((route.clone(), route.out?))) else {
            return Err(self.refusal(EINVAL));
        };
        if !self.link_by_index(out)?.header.flags.contains(LinkFlags::Up) {
            return Err(self.refusal(ENETDOWN));
        }
        let family = message.header.address_family;
        let is_obstacle = |other: &RouteMessage| {
            read(other).is_some_and(|other| {
                let is_alike = (other.destination, other.table, other.priority)
                    == (wanted.destination, wanted.table, wanted.priority);
                if flags & NLM_F_EXCL != 0 { is_alike } else { other == wanted }
            })
        };
        if self.routes_like(family, None)?.iter().any(is_obstacle) {
            return Err(self.refusal(EEXIST));
        }
        if let Some(gateway) = wanted.gateway {
            // The kernel has to know on the link itself where that is.
            let is_near = self
                .routes_like(family, Some(out))?
                .iter()
                .filter_map(read)
                .any(|route| route.gateway.is_none() && route.destination.contains(&gateway));
            let is_link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
            if !is_near && !is_link_local {
                return Err(self.refusal(ENETUNREACH));
            }
        }
        let space = self.space();
        match space.removed_routes.iter().position(|removed| *removed == wanted) {
            // The kernel still has it.
            Some(place) => drop(space.removed_routes.swap_remove(place)),
            None => space.routes.push(message),
        }
        Ok(Vec::new())
    }

    /// Removes the first route that is as the message says.
    pub(super) fn remove_route(&mut self, message: &RouteMessage) -> Answers {
        let Some(wanted) = read(message) else { return Err(self.refusal(EINVAL)) };
        let names_metric =
            message.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Priority(_)));
        let fits = |route: &Route| {
            route.destination == wanted.destination
                && route.table == wanted.table
                && route.out == wanted.out
                && (!names_metric || route.priority == wanted.priority)
                && (wanted.gateway.is_none() || route.gateway == wanted.gateway)
        };
        let all = self.routes_like(message.header.address_family, wanted.out)?;
        let Some(found) = all.iter().filter_map(read).find(fits) else { return Err(self.refusal(ESRCH)) };
        let space = self.space();
        let own = space.routes.iter().position(|route| read(route).as_ref() == Some(&found));
        match own {
            Some(place) => drop(space.routes.remove(place)),
            None => space.removed_routes.push(found),
        }
        Ok(Vec::new())
    }

    /// Adds the route to the network of an address.
    pub(super) fn connect_route(&mut self, index: u32, address: IpAddr, length: u8) {
        let Some(route) = connected(index, address, length) else { return };
        let key = read(&route);
        let space = self.space();
        if !space.routes.iter().any(|other| read(other) == key) {
            space.routes.push(route);
        }
    }

    /// Removes the route to the network of an address.
    pub(super) fn disconnect_route(&mut self, index: u32, address: IpAddr, length: u8) {
        let Some(route) = connected(index, address, length).as_ref().and_then(read) else { return };
        let space = self.space();
        let before = space.routes.len();
        space.routes.retain(|other| read(other).as_ref() != Some(&route));
        if space.routes.len() == before && index < FIRST_INDEX {
            space.removed_routes.push(route);
        }
    }

    /// Removes the routes out of a link that went down.
    pub(super) fn drop_routes(&mut self, index: u32) {
        self.space().routes.retain(|route| out_of(route) != Some(index));
    }
}

/// What is told of a route, for each of its next hops.
fn by_hop(answer: RouteNetlinkMessage) -> Vec<RouteNetlinkMessage> {
    match answer {
        RouteNetlinkMessage::NewRoute(route) => {
            route::by_hop(route).into_iter().map(RouteNetlinkMessage::NewRoute).collect()
        }
        other => vec![other],
    }
}

/// The link that a route leads out of.
pub(super) fn out_of(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn read(message: &RouteMessage) -> Option<Route> {
    let (is_ipv4, unspecified): (bool, IpAddr) = match message.header.address_family {
        AddressFamily::Inet => (true, Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => (false, Ipv6Addr::UNSPECIFIED.into()),
        _ => return None,
    };
    let mut destination = unspecified;
    let mut route = Route {
        destination: IpNet::from(unspecified),
        table: message.header.table.into(),
        priority: if is_ipv4 { 0 } else { IPV6_METRIC },
        out: out_of(message),
        gateway: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = (*address).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = (*address).into(),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateway = Some((*address).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => route.gateway = Some((*address).into()),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(priority) if *priority != 0 => route.priority = *priority,
            _ => {}
        }
    }
    if route.table == 0 {
        route.table = RouteHeader::RT_TABLE_MAIN.into();
    }
    route.destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(route)
}

/// The route that the kernel makes for an address by itself; a single IPv4
/// address needs none.
fn connected(index: u32, address: IpAddr, length: u8) -> Option<RouteMessage> {
    let network = IpNet::new(address, length).ok()?.trunc();
    // What is local is in a table of its own.
    if address.is_loopback() || (address.is_ipv4() && length == 32) {
        return None;
    }
    let mut route = RouteMessage::default();
    route.header.destination_prefix_length = length;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Kernel;
    route.header.kind = RouteType::Unicast;
    route.attributes.push(RouteAttribute::Destination(network.addr().into()));
    route.attributes.push(RouteAttribute::Oif(index));
    if address.is_ipv4() {
        route.header.address_family = AddressFamily::Inet;
        route.header.scope = RouteScope::Link;
        route.attributes.push(RouteAttribute::PrefSource(address.into()));
    } else {
        route.header.address_family = AddressFamily::Inet6;
        route.header.scope = RouteScope::Universe;
        route.attributes.push(RouteAttribute::Priority(IPV6_CONNECTED_METRIC));
    }
    Some(route)
}
