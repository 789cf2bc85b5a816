//! `weir:net/routes`: routes out of links.

use wasmtime::component::Resource;

use super::addresses::{address_family, bad_prefix};
use super::error::net_error;
use super::links::LinkHandle;
use crate::call::Served;
use crate::journal::{Inverse, Side};
use crate::netlink::{Place, RouteSpec};
use crate::policy::Operation;
use crate::session::Session;
use crate::wit::weir::net::routes::{self, Route};
use crate::wit::{self, IpFamily, NetError};

impl routes::Host for Session {
    fn list(&mut self, link: Resource<LinkHandle>, family: IpFamily) -> Served<Result<Vec<Route>, NetError>> {
        self.call.check_time()?;
        let link = self.link_of(&link)?;
        let routes = link.netns.routes(link.index(), address_family(family)).map_err(net_error);
        Ok(routes.map(|routes| {
            routes
                .into_iter()
                .map(|route| Route {
                    destination: wit::to_prefix(route.destination),
                    gateway: route.gateway.map(wit::to_ip),
                    source: route.source.map(wit::to_ip),
                    scope: route.scope,
                    table: route.table,
                    priority: route.priority,
                    mtu: route.mtu,
                    advmss: route.advmss,
                })
                .collect()
        }))
    }

    fn add(&mut self, link: Resource<LinkHandle>, route: Route) -> Served<Result<(), NetError>> {
        self.put_route(&link, route, Place::Alone)
    }

    fn prepend(&mut self, link: Resource<LinkHandle>, route: Route) -> Served<Result<(), NetError>> {
        self.put_route(&link, route, Place::First)
    }

    fn remove(&mut self, link: Resource<LinkHandle>, route: Route) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        let route = match route_spec(route) {
            Ok(route) => route,
            Err(error) => return Ok(Err(error)),
        };
        let object = format!("{} out of {}", route.destination, link.name());
        if link.side == Side::Host && !self.is_own(link) {
            let reason = format!(
                "remove a route out of link {} of the host namespace: it was not made by this attachment",
                link.name()
            );
            return self.forbid("remove-route", &object, reason);
        }
        if let Err(denied) = self.permit_use(link, "remove-route", &object)? {
            return Ok(Err(denied));
        }
        let removed = self.call.change(&self.guest, "remove-route", object, None, || {
            link.netns.remove_route(link.index(), &route)
        })?;
        Ok(removed.map_err(net_error))
    }
}

/// The kernel's main routing table (rtnetlink(7)).
const TABLE_MAIN: u32 = 254;

impl Session {
    fn put_route(
        &self,
        link: &Resource<LinkHandle>,
        route: Route,
        place: Place,
    ) -> Served<Result<(), NetError>> {
        let link = self.link_of(link)?;
        let route = match route_spec(route) {
            Ok(route) => route,
            Err(error) => return Ok(Err(error)),
        };
        let inverse = link.inverse(|link| Inverse::RemoveRoute {
            link,
            destination: route.destination.to_string(),
            gateway: route.gateway,
            table: route.table,
            priority: route.priority,
        });
        let object = format!("{} out of {}", route.destination, link.name());
        if let Err(denied) = self.permit_use(link, "add-route", &object)? {
            return Ok(Err(denied));
        }
        if let Err(denied) = self.permit_host_route(link, &route, place, &object)? {
            return Ok(Err(denied));
        }
        let added = self.call.change(&self.guest, "add-route", object, inverse, || {
            link.netns.add_route(link.index(), &route, place)
        })?;
        Ok(added.map_err(net_error))
    }

    /// Whether the node may get a route. Nobody gets before a route that the
    /// node has. Those of other tables are for nobody whom rules bound: the
    /// table of local addresses comes before all others.
    fn permit_host_route(
        &self,
        link: &LinkHandle,
        route: &RouteSpec,
        place: Place,
        object: &str,
    ) -> Served<Result<(), NetError>> {
        if link.side == Side::Container {
            return Ok(Ok(()));
        }
        if place == Place::First {
            let reason = format!("add-route {object}: only a container's routes can be put before others");
            return self.forbid("add-route", object, reason);
        }
        if self.guest.is_unrestricted() {
            return Ok(Ok(()));
        }
        if let Some(table) = route.table.filter(|&table| table != 0 && table != TABLE_MAIN) {
            let reason = format!("add-route {object}: table {table} of the host namespace is out of reach");
            return self.forbid("add-route", object, reason);
        }
        match route.destination.network() {
            Some(destination) => self.permit("add-route", object, &[Operation::Route(destination)]),
            None => Ok(Err(NetError::Invalid(format!("add-route {object}: this is no destination")))),
        }
    }
}

fn route_spec(route: Route) -> Result<RouteSpec, NetError> {
    let destination = wit::prefix(route.destination).ok_or_else(|| bad_prefix(route.destination))?;
    let is_network = destination.network().is_some_and(|network| network.addr() == destination.address);
    if !is_network {
        return Err(NetError::Invalid(format!("route to {destination}: the destination has host bits")));
    }
    Ok(RouteSpec {
        destination,
        gateway: route.gateway.map(wit::ip),
        source: route.source.map(wit::ip),
        scope: route.scope,
        table: route.table,
        priority: route.priority,
        mtu: route.mtu,
        advmss: route.advmss,
    })
}
