//! `ptp`: connects a container to the node by a veth pair of its own, without
//! a bridge; the node routes.

#![forbid(unsafe_code)]

use serde::Deserialize;
use weir_sdk::firewall::masquerade;
use weir_sdk::interface::{SCOPE_LINK, SCOPE_UNIVERSE};
use weir_sdk::net::links::{self, Link, VethEnd};
use weir_sdk::net::routes::{self, Route};
use weir_sdk::net::types::{IpAddress, IpFamily, IpPrefix};
use weir_sdk::net::{addresses, sysctls};
use weir_sdk::request::{Attachment, Network};
use weir_sdk::types::{CniResult, IpConfig, Sandbox};
use weir_sdk::veth::{self, Pair};
use weir_sdk::{CniError, DnsConfig, InterfacePlugin, IpNet, interface, ipam, read_config};

/// Position of the container's end in the result's interfaces.
const CONTAINER_INTERFACE: u32 = 1;

/// rtnetlink(7) scopes.
const SCOPE_HOST: u8 = 254;
/// Matches any scope when a route is removed.
const SCOPE_NOWHERE: u8 = 255;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NetworkConfig {
    ip_masq: bool,
    ip_masq_backend: String,
    mtu: u32,
    ipam: Ipam,
    dns: DnsConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    r#type: String,
}

impl NetworkConfig {
    fn check(&self) -> Result<(), CniError> {
        if self.ipam.r#type.is_empty() {
            return Err(CniError::config("key \"ipam.type\": required by ptp, and missing"));
        }
        interface::check_masquerade_backend(&self.ip_masq_backend)
    }
}

struct Ptp;

weir_sdk::export_interface_plugin!(Ptp);

impl InterfacePlugin for Ptp {
    fn add(attachment: &Attachment) -> Result<CniResult, CniError> {
        let config: NetworkConfig = read_config(attachment)?;
        config.check()?;
        let ifname = attachment.id().ifname;
        let mut result = addresses_of(attachment)?;
        let (host, container) = (links::host()?, links::container()?);
        for ip in &result.ips {
            host.enable_forwarding(IpNet::from(ip.address).addr().into())?;
        }
        let end = VethEnd { name: ifname.clone(), mac: None, up: false };
        let pair = veth::connect(&host, &container, &end, config.mtu, None)?;
        let Pair { near, far, .. } = &pair;
        interface::optional(sysctls::set(far, IpFamily::Ipv6, "accept_dad", "0"))?;
        pair.configure(&container, &ifname, &result)?;
        for ip in &result.ips {
            route_by_gateway(far, ip)?;
        }
        for ip in &result.ips {
            route_to_container(near, ip)?;
        }
        if config.ip_masq {
            interface::masquerade(&result.ips)?;
        }
        if config.dns.is_set() {
            result.dns = config.dns.into();
        }
        result.interfaces =
            vec![interface::described(near, Sandbox::Host), interface::described(far, Sandbox::Container)];
        Ok(result)
    }

    fn del(attachment: &Attachment) -> Result<(), CniError> {
        let config: NetworkConfig = read_config(attachment)?;
        // Begun first, this is done by the time that the link is gone, and
        // the kernel has nothing to wait for.
        if config.ip_masq {
            masquerade::remove()?;
        }
        interface::remove(&attachment.id().ifname)?;
        if config.ipam.r#type.is_empty() { Ok(()) } else { ipam::del(attachment) }
    }

    fn check(attachment: &Attachment) -> Result<(), CniError> {
        let config: NetworkConfig = read_config(attachment)?;
        config.check()?;
        ipam::check(attachment)?;
        let ifname = attachment.id().ifname;
        let result = attachment
            .prev_result()
            .ok_or_else(|| CniError::config("key \"prevResult\": required for CHECK, and missing"))?;
        let far = links::container()?.link(&ifname)?;
        let info = far.as_found();
        interface::check_link(&info, "veth", &result)?;
        interface::check_up(&info)?;
        let ours: Vec<IpConfig> =
            result.ips.iter().filter(|ip| ip.interface == Some(CONTAINER_INTERFACE)).cloned().collect();
        interface::check_addresses(&far, &ifname, &ours)?;
        // Of what native plugins made, it is elsewhere.
        if config.ip_masq && attachment.is_made_here() {
            interface::check_masquerade(&ours)?;
        }
        interface::check_routes(&far, &ifname, &result)
    }

    fn gc(network: &Network) -> Result<(), CniError> {
        let config: NetworkConfig = read_config(network)?;
        if config.ipam.r#type.is_empty() { Ok(()) } else { ipam::gc(network) }
    }

    fn status(network: &Network) -> Result<(), CniError> {
        let config: NetworkConfig = read_config(network)?;
        config.check()?;
        ipam::status(network)
    }
}

/// Asks the IPAM plugin. Without a gateway there is nothing to route by.
fn addresses_of(attachment: &Attachment) -> Result<CniResult, CniError> {
    let answer = ipam::add(attachment)?;
    let mut ips = answer.ips;
    if ips.is_empty() {
        return Err(CniError::config(
            "IPAM plugin returned missing IP config: it has to hand out an address",
        ));
    }
    for ip in &mut ips {
        ip.interface = Some(CONTAINER_INTERFACE);
        if ip.gateway.is_none() {
            let address = IpNet::from(ip.address);
            return Err(CniError::config(format!(
                "IPAM plugin returned {address} without a gateway, which ptp needs"
            )));
        }
    }
    Ok(CniResult { interfaces: Vec::new(), ips, routes: answer.routes, dns: answer.dns })
}

/// Sends everything by the gateway, the own subnet too: the kernel's route to
/// the subnet gives way to one to the gateway alone and one by it.
fn route_by_gateway(far: &Link, ip: &IpConfig) -> Result<(), CniError> {
    let (Some(gateway), net) = (ip.gateway, IpNet::from(ip.address)) else { return Ok(()) };
    let subnet = IpPrefix::from(net.trunc());
    let source = Some(ip.address.address);
    routes::remove(far, route(subnet, None, None, SCOPE_NOWHERE))?;
    routes::add(far, route(host_prefix(gateway), None, source, SCOPE_LINK))?;
    routes::add(far, route(subnet, Some(gateway), source, SCOPE_UNIVERSE))?;
    Ok(())
}

/// Makes the node the gateway, and routes the container's address to it.
fn route_to_container(near: &Link, ip: &IpConfig) -> Result<(), CniError> {
    let Some(gateway) = ip.gateway else { return Ok(()) };
    interface::unless_there(addresses::add(near, host_prefix(gateway)))?;
    interface::unless_there(routes::add(near, route(host_prefix(ip.address.address), None, None, SCOPE_HOST)))
}

fn route(destination: IpPrefix, gateway: Option<IpAddress>, source: Option<IpAddress>, scope: u8) -> Route {
    Route { destination, gateway, source, scope, table: None, priority: None, mtu: None, advmss: None }
}

/// The address alone.
fn host_prefix(address: IpAddress) -> IpPrefix {
    let length = if matches!(address, IpAddress::Ipv4(_)) { 32 } else { 128 };
    IpPrefix { address, length }
}

#[cfg(test)]
mod tests;
