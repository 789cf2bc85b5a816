//! `weir:net/routes`: routes out of links.

use wasmtime::component::Resource;

use super::addresses::{address_family, bad_prefix};
use super::links::{LinkHandle, net_error};
use crate::call::Served;
use crate::journal::Inverse;
use crate::netlink::RouteSpec;
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
        let link = self.link_of(&link)?;
        let route = match route_spec(route) {
            Ok(route) => route,
            Err(error) => return Ok(Err(error)),
        };
        let inverse = link.inverse(|side, name| Inverse::RemoveRoute {
            side,
            name,
            destination: route.destination.to_string(),
            gateway: route.gateway,
            table: route.table,
            priority: route.priority,
        });
        let object = format!("{} out of {}", route.destination, link.name());
        let added = self.call.change(self.plugin, "add-route", object, inverse, || {
            link.netns.add_route(link.index(), &route)
        })?;
        Ok(added.map_err(net_error))
    }

    fn remove(&mut self, link: Resource<LinkHandle>, route: Route) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        if !link.is_own && link.side == crate::journal::Side::Host {
            return Ok(Err(NetError::Denied(format!(
                "remove a route out of link {} of the host namespace: it was not made by this attachment",
                link.name()
            ))));
        }
        let route = match route_spec(route) {
            Ok(route) => route,
            Err(error) => return Ok(Err(error)),
        };
        let object = format!("{} out of {}", route.destination, link.name());
        let removed = self.call.change(self.plugin, "remove-route", object, None, || {
            link.netns.remove_route(link.index(), &route)
        })?;
        Ok(removed.map_err(net_error))
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
