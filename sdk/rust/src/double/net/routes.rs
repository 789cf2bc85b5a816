//! `weir:net/routes`: routes out of links.

use std::net::IpAddr;

use super::addresses::checked;
use super::kernel;
pub use super::links::Link;
pub use super::types::{IpAddress, IpFamily, IpPrefix, NetError};
use crate::IpNet;
pub use crate::bindings::platform::weir::net::routes::Route;
use crate::double::state::State;
use crate::double::{Node, Side};

/// The main routing table.
const TABLE_MAIN: u32 = 254;
/// rtnetlink(7): a route to anywhere, and to what is on the link itself.
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
/// Matches any scope when a route is removed.
const SCOPE_NOWHERE: u8 = 255;
/// Metrics of IPv6: of routes that name none, and of the kernel's own.
const IPV6_METRIC: u32 = 1024;
const IPV6_OWN_METRIC: u32 = 256;

impl Node {
    /// The routes out of a link, without those that the kernel made.
    pub fn routes(&self, side: Side, link: &str) -> Vec<Route> {
        self.look_at(side, link, |device| device.routes.clone())
    }
}

/// Lists the routes out of a link in all tables.
pub fn list(link: &Link, family: IpFamily) -> Result<Vec<Route>, NetError> {
    link.work("routes.list", |state| {
        let added = state.device(link.side, link.index)?.routes.iter().copied();
        let own = state.connected(link.side, link.index);
        Ok(added.chain(own).filter(|route| family_of(route) == family).collect())
    })
}

/// Adds a route, unless there is one to the same destination.
pub fn add(link: &Link, route: Route) -> Result<(), NetError> {
    link.work("routes.add", |state| state.add_route(link, route, false))
}

/// Adds a route in the container's namespace, before those to the same
/// destination.
pub fn prepend(link: &Link, route: Route) -> Result<(), NetError> {
    link.work("routes.prepend", |state| {
        if link.side == Side::Host {
            return Err(NetError::Denied(format!(
                "add-route {} out of {}: only a container's routes can be put before others",
                destination(&route)?,
                link.name()
            )));
        }
        state.add_route(link, route, true)
    })
}

/// Removes a route.
pub fn remove(link: &Link, route: Route) -> Result<(), NetError> {
    link.work("routes.remove", |state| {
        if link.side == Side::Host && !link.is_own() {
            return Err(NetError::Denied(format!(
                "remove a route out of link {} of the host namespace: it was not made by this attachment",
                link.name()
            )));
        }
        let destination = destination(&route)?;
        let present = state.routes_of(link.side, link.index).into_iter();
        let meant = present.filter(|other| is_meant(&route, other)).min_by_key(|other| key(other).2);
        let meant = meant.ok_or_else(|| {
            NetError::NotFound(format!(
                "remove route to {destination} out of link {}: No such process",
                link.name()
            ))
        })?;
        let device = state.device_mut(link.side, link.index)?;
        match device.routes.iter().position(|other| key(other) == key(&meant)) {
            Some(position) => drop(device.routes.remove(position)),
            None => device.withdrawn.push(destination),
        }
        Ok(())
    })
}

impl State {
    fn add_route(&mut self, link: &Link, route: Route, first: bool) -> Result<(), NetError> {
        let destination = destination(&route)?;
        let attempt = format!("add route to {destination} out of link {}", link.name());
        let device = self.device(link.side, link.index)?;
        if destination.addr().is_ipv6() {
            self.allow_ipv6(link, &attempt)?;
        }
        if !device.up {
            return Err(kernel(100, &attempt, "Network is down: Nexthop device is not up"));
        }
        if let Some(gateway) = route.gateway {
            self.check_gateway(link, &route, gateway.into(), &attempt)?;
        }
        if route.source.is_some_and(|source| !self.is_local(link.side, source.into())) {
            return Err(kernel(22, &attempt, "Invalid argument: Invalid prefsrc address"));
        }
        let route = normal(route);
        let present = self.namespace(link.side).into_iter().flat_map(|namespace| namespace.devices.keys());
        let mut present = present
            .flat_map(|index| self.routes_of(link.side, *index).into_iter().map(|other| (*index, other)));
        // The routing table belongs to the namespace, not to the link.
        let is_obstacle = |(index, other): (u32, Route)| {
            key(&other) == key(&route) && (!first || (index, other.gateway) == (link.index, route.gateway))
        };
        if present.any(is_obstacle) {
            return Err(NetError::AlreadyExists(format!("{attempt}: File exists")));
        }
        drop(present);
        let routes = &mut self.device_mut(link.side, link.index)?.routes;
        // Only a route that goes first gets here beside others.
        let alike = routes.iter().position(|other| key(other) == key(&route));
        routes.insert(alike.unwrap_or(routes.len()), route);
        Ok(())
    }

    fn routes_of(&self, side: Side, index: u32) -> Vec<Route> {
        let added = self.device(side, index).map(|device| device.routes.clone()).unwrap_or_default();
        added.into_iter().chain(self.connected(side, index)).collect()
    }

    /// Routes that the kernel makes for the addresses of a link that is up.
    fn connected(&self, side: Side, index: u32) -> Vec<Route> {
        let Ok(device) = self.device(side, index) else { return Vec::new() };
        if !device.up || device.is_loopback() {
            return Vec::new();
        }
        let mut routes: Vec<Route> = Vec::new();
        let addresses = device.addresses.iter().map(|address| address.net);
        for net in addresses.chain(self.kernel_addresses(side, index)) {
            let is_ipv4 = net.addr().is_ipv4();
            let route = Route {
                destination: net.trunc().into(),
                gateway: None,
                source: is_ipv4.then(|| net.addr().into()),
                scope: if is_ipv4 { SCOPE_LINK } else { SCOPE_UNIVERSE },
                table: Some(TABLE_MAIN),
                priority: (!is_ipv4).then_some(IPV6_OWN_METRIC),
                mtu: None,
                advmss: None,
            };
            let is_host = net.prefix_len() == net.max_prefix_len();
            let is_withdrawn = device.withdrawn.contains(&net.trunc());
            if !is_host && !is_withdrawn && !routes.iter().any(|other| key(other) == key(&route)) {
                routes.push(route);
            }
        }
        routes
    }

    /// A gateway has to be somebody else, on the link itself.
    fn check_gateway(
        &self,
        link: &Link,
        route: &Route,
        gateway: IpAddr,
        attempt: &str,
    ) -> Result<(), NetError> {
        let is_ipv4 = gateway.is_ipv4();
        if is_ipv4 != IpAddr::from(route.destination.address).is_ipv4() {
            return Err(kernel(22, attempt, "Invalid argument: the gateway is of another family"));
        }
        if is_ipv4 && route.scope >= SCOPE_LINK {
            return Err(kernel(22, attempt, "Invalid argument: Nexthop has invalid scope"));
        }
        if self.is_local(link.side, gateway) {
            return Err(kernel(22, attempt, "Invalid argument: Nexthop has invalid gateway"));
        }
        let on_link = self
            .routes_of(link.side, link.index)
            .into_iter()
            .filter(|route| route.gateway.is_none() && (!is_ipv4 || route.scope >= SCOPE_LINK));
        let mut on_link = on_link.map(|route| IpNet::from(route.destination));
        if on_link.any(|net| net.contains(&gateway)) {
            return Ok(());
        }
        if is_ipv4 {
            Err(kernel(101, attempt, "Network is unreachable: Nexthop has invalid gateway"))
        } else {
            Err(kernel(113, attempt, "No route to host: Gateway is not reachable"))
        }
    }

    /// Whether any link of the namespace has the address.
    fn is_local(&self, side: Side, address: IpAddr) -> bool {
        let devices = self.namespace(side).into_iter().flat_map(|namespace| &namespace.devices);
        let mut addresses = devices.flat_map(|(index, device)| {
            device.addresses.iter().map(|address| address.net).chain(self.kernel_addresses(side, *index))
        });
        addresses.any(|net| net.addr() == address)
    }
}

fn destination(route: &Route) -> Result<IpNet, NetError> {
    let destination = checked(route.destination)?;
    if destination.trunc() != destination {
        return Err(NetError::Invalid(format!("route to {destination}: the destination has host bits")));
    }
    Ok(destination)
}

fn family_of(route: &Route) -> IpFamily {
    IpAddr::from(route.destination.address).into()
}

/// The route as the kernel describes it once it is there.
fn normal(route: Route) -> Route {
    let is_ipv6 = family_of(&route) == IpFamily::Ipv6;
    let metric = route.priority.filter(|&metric| metric != 0);
    Route {
        table: Some(route.table.filter(|&table| table != 0).unwrap_or(TABLE_MAIN)),
        priority: if is_ipv6 { Some(metric.unwrap_or(IPV6_METRIC)) } else { metric },
        // IPv6 has no scopes of routes.
        scope: if is_ipv6 { SCOPE_UNIVERSE } else { route.scope },
        ..route
    }
}

/// Whether a request to remove `route` means this one: what it leaves open
/// matches any.
fn is_meant(route: &Route, other: &Route) -> bool {
    let wanted = normal(*route);
    let is_any_scope = family_of(route) == IpFamily::Ipv6 || route.scope == SCOPE_NOWHERE;
    (wanted.destination, wanted.table) == (other.destination, other.table)
        && route.priority.is_none_or(|metric| metric == 0 || Some(metric) == other.priority)
        && route.gateway.is_none_or(|gateway| Some(gateway) == other.gateway)
        && (is_any_scope || route.scope == other.scope)
}

/// What two routes of a namespace may not have in common.
fn key(route: &Route) -> (IpNet, Option<u32>, u32) {
    (route.destination.into(), route.table, route.priority.unwrap_or(0))
}
