//! Routes.

use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteProtocol,
    RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NetlinkError, Netns};
use crate::result::Prefix;

/// A route out of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteSpec {
    pub(crate) destination: Prefix,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
    pub(crate) scope: u8,
    pub(crate) table: Option<u32>,
    pub(crate) priority: Option<u32>,
    pub(crate) mtu: Option<u32>,
    pub(crate) advmss: Option<u32>,
}

/// Where a route goes if there are others with its destination, table and
/// metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: they are an obstacle.
    Alone,
    /// Before those of IPv4, and beside those of IPv6 if all have gateways. Only
    /// the very same route is an obstacle.
    First,
}

impl Netns {
    /// Lists the routes out of a link, in all tables, except those that the
    /// kernel keeps for local, broadcast and multicast addresses.
    pub(crate) fn routes(&self, index: u32, family: AddressFamily) -> Result<Vec<RouteSpec>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.attributes.push(RouteAttribute::Oif(index));
        let answers = self.dump(RouteNetlinkMessage::GetRoute(message), || {
            format!("list the routes of link number {index}")
        })?;
        let unicast = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) if message.header.kind == RouteType::Unicast => {
                Some(message)
            }
            _ => None,
        });
        Ok(unicast.flat_map(by_hop).filter_map(|message| route_spec(&message, index)).collect())
    }

    /// Adds a route.
    pub(crate) fn add_route(&self, index: u32, route: &RouteSpec, place: Place) -> Result<(), NetlinkError> {
        let flags = match place {
            Place::Alone => NLM_F_CREATE | NLM_F_EXCL,
            Place::First => NLM_F_CREATE,
        };
        let mut message = route_message(index, route);
        message.header.protocol = RouteProtocol::Boot;
        self.change(RouteNetlinkMessage::NewRoute(message), flags, || {
            format!("add route to {} out of link number {index}{}", route.destination, via(route))
        })
        .map(drop)
    }

    /// Removes a route.
    pub(crate) fn remove_route(&self, index: u32, route: &RouteSpec) -> Result<(), NetlinkError> {
        let mut message = route_message(index, route);
        message.header.protocol = RouteProtocol::Unspec;
        self.change(RouteNetlinkMessage::DelRoute(message), 0, || {
            format!("remove route to {} out of link number {index}{}", route.destination, via(route))
        })
        .map(drop)
    }
}

/// A route by several gateways, as the kernel tells of IPv6's, as a route by
/// each of them.
pub(super) fn by_hop(mut message: RouteMessage) -> Vec<RouteMessage> {
    let is_list = |attribute: &mut RouteAttribute| matches!(attribute, RouteAttribute::MultiPath(_));
    let Some(RouteAttribute::MultiPath(hops)) = message.attributes.extract_if(.., is_list).next() else {
        return vec![message];
    };
    let of_hop = |hop: RouteNextHop| {
        let mut route = message.clone();
        route.attributes.push(RouteAttribute::Oif(hop.interface_index));
        route.attributes.extend(hop.attributes);
        route
    };
    hops.into_iter().map(of_hop).collect()
}

fn via(route: &RouteSpec) -> String {
    route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default()
}

fn route_message(index: u32, route: &RouteSpec) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family =
        if route.destination.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = route.destination.length;
    message.header.scope = RouteScope::from(route.scope);
    message.header.kind = RouteType::Unicast;
    let table = route.table.unwrap_or(RouteHeader::RT_TABLE_MAIN.into());
    match u8::try_from(table) {
        Ok(table) => message.header.table = table,
        Err(_) => message.attributes.push(RouteAttribute::Table(table)),
    }
    if !(route.destination.length == 0 && route.destination.address.is_unspecified()) {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination.address)));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.extend(route.gateway.map(|address| RouteAttribute::Gateway(address.into())));
    message.attributes.extend(route.source.map(|address| RouteAttribute::PrefSource(address.into())));
    message.attributes.extend(route.priority.map(RouteAttribute::Priority));
    let metrics: Vec<RouteMetric> =
        route.mtu.map(RouteMetric::Mtu).into_iter().chain(route.advmss.map(RouteMetric::Advmss)).collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

fn route_spec(message: &RouteMessage, index: u32) -> Option<RouteSpec> {
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut route = RouteSpec {
        destination: Prefix { address: unspecified, length: message.header.destination_prefix_length },
        gateway: None,
        source: None,
        scope: message.header.scope.into(),
        table: Some(message.header.table.into()),
        priority: None,
        mtu: None,
        advmss: None,
    };
    let mut out = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination.address = ip(address)?,
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Priority(priority) => route.priority = Some(*priority),
            RouteAttribute::Table(table) => route.table = Some(*table),
            RouteAttribute::Oif(index) => out = Some(*index),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
                        RouteMetric::Advmss(advmss) => route.advmss = Some(*advmss),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (out == Some(index)).then_some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_by_several_gateways_is_one_by_each() {
        let hop = |index: u32, gateway: &str| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.attributes.push(RouteAttribute::Gateway(gateway.parse::<IpAddr>().unwrap().into()));
            hop
        };
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        message.attributes.push(RouteAttribute::MultiPath(vec![hop(7, "fd00::1"), hop(8, "fd00::2")]));
        message.attributes.push(RouteAttribute::Priority(1024));
        let routes = by_hop(message);
        let gateway = |index| {
            let found: Vec<RouteSpec> = routes.iter().filter_map(|route| route_spec(route, index)).collect();
            found.iter().map(|route| (route.gateway, route.priority)).collect::<Vec<_>>()
        };
        assert_eq!(gateway(7), [("fd00::1".parse().ok(), Some(1024))]);
        assert_eq!(gateway(8), [("fd00::2".parse().ok(), Some(1024))]);
        assert_eq!(gateway(9), []);
    }
}
