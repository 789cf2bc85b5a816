//! The gateway: the bridge's own addresses, and default routes to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_sdk::net::addresses;
use weir_sdk::net::links::{Link, Netns, VethEnd};
use weir_sdk::net::types::{IpFamily, MacAddress, NetError};
use weir_sdk::types::{CniResult, Interface, Route, Sandbox};
use weir_sdk::{CniError, IpNet, interface, veth};

use crate::config::Config;
use crate::{device, port};

/// Addresses that the node needs as the containers' gateway.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Gateways {
    all: Vec<IpNet>,
    /// Those that are not there yet.
    missing: Vec<IpNet>,
    /// The bridge's own hardware address.
    mac: Option<MacAddress>,
}

impl Gateways {
    /// Completes the result by what `isGateway` and `isDefaultGateway` imply,
    /// and looks at what the bridge has of it.
    pub(crate) fn of(result: &mut CniResult, bridge: &Link, config: &Config) -> Result<Self, CniError> {
        let mut gateways = Self::default();
        let has_default_route = |family: IpFamily, routes: &[Route]| {
            routes.iter().any(|route| {
                route.gateway.is_some() && route.destination.length == 0 && family_of(route) == family
            })
        };
        for ip in &mut result.ips {
            let net = IpNet::from(ip.address);
            if ip.gateway.is_none() && config.is_gateway {
                ip.gateway = Some(first_host(net).into());
            }
            let Some(gateway) = ip.gateway.filter(|_| config.is_gateway) else { continue };
            let family = IpFamily::from(net.addr());
            if config.is_default_gateway && !has_default_route(family, &result.routes) {
                result.routes.push(default_route(family, gateway.into()));
            }
            if let Ok(gateway) = IpNet::new(gateway.into(), net.prefix_len()) {
                gateways.all.push(gateway);
            }
        }
        gateways.missing.clone_from(&gateways.all);
        if gateways.all.is_empty() || config.access_vlan.is_some() {
            return Ok(gateways);
        }
        let present: Vec<IpNet> =
            addresses::list(bridge, None)?.into_iter().map(|address| address.prefix.into()).collect();
        // Where addresses are forced, the bridge has one of IPv4: the last.
        let last = gateways.all.iter().rfind(|gateway| gateway.addr().is_ipv4());
        let is_replaced = |gateway: &IpNet| {
            config.forces_address && gateway.addr().is_ipv4() && last.is_some_and(|last| last != gateway)
        };
        gateways.missing.retain(|gateway| !present.contains(gateway) && !is_replaced(gateway));
        if !gateways.missing.is_empty() {
            // Before the container joined it.
            gateways.mac = bridge.as_found().mac;
        }
        Ok(gateways)
    }

    /// Puts the addresses on the bridge, or on the node's port in the access
    /// VLAN, and forwards packets. Returns that port, if there is one.
    pub(crate) fn assign(
        &self,
        host: &Netns,
        bridge: &Link,
        config: &Config,
    ) -> Result<Option<Interface>, CniError> {
        if self.all.is_empty() {
            return Ok(None);
        }
        let vlan_port = config.access_vlan.map(|vlan| vlan_port(host, bridge, config, vlan)).transpose()?;
        let (link, name) = match &vlan_port {
            Some((link, interface)) => (link, interface.name.as_str()),
            None => (bridge, config.bridge.as_str()),
        };
        for gateway in &self.missing {
            device::ensure_address(link, name, *gateway, config.forces_address)?;
        }
        // One that was never given an address takes the lowest of its ports',
        // and then the gateway's changes as containers come and go.
        if let (false, Some(mac)) = (self.missing.is_empty(), self.mac) {
            bridge.set_mac(mac)?;
        }
        for gateway in &self.all {
            host.enable_forwarding(gateway.addr().into())?;
        }
        Ok(vlan_port.map(|(_, interface)| interface))
    }
}

/// The node's own port in a VLAN of the bridge: one end of a veth pair, the
/// other of which is plugged into the bridge.
fn vlan_port(host: &Netns, bridge: &Link, config: &Config, vlan: u16) -> Result<(Link, Interface), CniError> {
    let name = format!("{}.{vlan}", config.bridge);
    let link = match host.link(&name) {
        Ok(link) => link,
        Err(NetError::NotFound(_)) => {
            let plug = VethEnd { name: String::new(), mac: None, up: true };
            let own = VethEnd { name: name.clone(), mac: None, up: true };
            let created = host.create_shared_veth(&plug, &own, config.mtu, bridge);
            match created {
                Ok((plug, own)) => {
                    port::join_vlans(&plug, config)?;
                    veth::refuse_router_advertisements(&plug)?;
                    veth::refuse_router_advertisements(&own)?;
                    own
                }
                Err(NetError::AlreadyExists(_)) => host.link(&name)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    let interface = interface::described(&link, Sandbox::Host);
    Ok((link, interface))
}

fn family_of(route: &Route) -> IpFamily {
    IpAddr::from(route.destination.address).into()
}

fn default_route(family: IpFamily, gateway: IpAddr) -> Route {
    let anywhere: IpAddr = match family {
        IpFamily::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        IpFamily::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let destination = weir_sdk::net::types::IpPrefix { address: anywhere.into(), length: 0 };
    Route {
        destination,
        gateway: Some(gateway.into()),
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

/// The first address after the network's own.
fn first_host(net: IpNet) -> IpAddr {
    match net.network() {
        IpAddr::V4(network) => Ipv4Addr::from_bits(network.to_bits().saturating_add(1)).into(),
        IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits().saturating_add(1)).into(),
    }
}
