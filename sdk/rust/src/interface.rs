//! What every interface plugin does to the container's link: addresses and
//! routes of a result, and comparing them with the kernel's.

use std::net::IpAddr;

use crate::firewall::masquerade::{self, Entry};
use crate::host::log::{Level, emit};
use crate::net::addresses;
use crate::net::links::{self, Link, LinkInfo, Netns};
use crate::net::routes::{self, Route as KernelRoute};
use crate::net::sysctls;
use crate::net::types::{IpFamily, IpPrefix, NetError};
use crate::types::{CniResult, Interface, IpConfig, Route, Sandbox};
use crate::{CniError, IpNet, mac};

/// rtnetlink(7): a route to anywhere.
pub const SCOPE_UNIVERSE: u8 = 0;
/// rtnetlink(7): a route to what is on the link itself.
pub const SCOPE_LINK: u8 = 253;
/// The main routing table.
const TABLE_MAIN: u32 = 254;
/// The metric of IPv6 routes that name none.
const IPV6_METRIC: u32 = 1024;

/// errno(3): the file system is read-only.
const EROFS: i32 = 30;

/// How long addresses may take to be confirmed as unique, in milliseconds.
const SETTLE_TIME: u32 = 10_000;

/// Gives `link` the addresses, brings it up and adds the routes.
pub fn configure(netns: &Netns, link: &Link, name: &str, result: &CniResult) -> Result<(), CniError> {
    add_addresses(netns, link, name, result)?;
    link.set_up(true)?;
    add_routes(link, result)
}

/// Gives `link` the addresses.
///
/// It is still down, because the kernel announces (`arp_notify`) those that are
/// there when it comes up.
pub fn add_addresses(netns: &Netns, link: &Link, name: &str, result: &CniResult) -> Result<(), CniError> {
    let has_ipv6 = result.ips.iter().any(is_ipv6);
    if has_ipv6 {
        allow_ipv6(netns, link, name)?;
    }
    for ip in &result.ips {
        addresses::add(link, ip.address)?;
    }
    if has_ipv6 {
        // They stay when the link goes down for a moment, as IPv4's do.
        optional(sysctls::set(link, IpFamily::Ipv6, "keep_addr_on_down", "1"))?;
    }
    Ok(())
}

/// Adds the routes by way of `link`, which is up.
pub fn add_routes(link: &Link, result: &CniResult) -> Result<(), CniError> {
    if result.ips.iter().any(is_ipv6) {
        // Routes by a gateway need a source address that may be used.
        addresses::settle(link, SETTLE_TIME)?;
    }
    for route in &result.routes {
        // Of several networks with a default route, a container uses that of
        // the one that it joined last.
        unless_there(routes::prepend(link, kernel_route(route, &result.ips)))?;
    }
    Ok(())
}

/// Lets an address or a route be there already.
pub fn unless_there(added: Result<(), NetError>) -> Result<(), CniError> {
    match added {
        Err(NetError::AlreadyExists(_)) => Ok(()),
        added => Ok(added?),
    }
}

/// Images for containers often turn IPv6 off, for all links or for new ones.
fn allow_ipv6(netns: &Netns, link: &Link, name: &str) -> Result<(), CniError> {
    let lo = netns.link("lo")?;
    for (link, name) in [(&lo, "lo"), (link, name)] {
        match sysctls::get(link, IpFamily::Ipv6, "disable_ipv6") {
            Ok(value) if value == "0" => {}
            Ok(_) => sysctls::set(link, IpFamily::Ipv6, "disable_ipv6", "0")?,
            Err(NetError::NotFound(_)) => {
                return Err(CniError::new(
                    CniError::KERNEL,
                    format!("give {name} an IPv6 address: this kernel has no IPv6"),
                )
                .details(
                    "boot the node with IPv6, or remove the IPv6 ranges from the network configuration",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Lets a setting be missing, as all of IPv6's are on kernels without it, or
/// be read-only, as all are where `/proc/sys` is mounted so.
pub fn optional(result: Result<(), NetError>) -> Result<(), CniError> {
    match result {
        Err(NetError::NotFound(_)) => Ok(()),
        Err(NetError::Kernel(error)) if error.errno == EROFS => {
            emit(Level::Warning, &format!("{}; it stays as it is", error.message));
            Ok(())
        }
        other => Ok(other?),
    }
}

/// The route as the kernel takes it: without a gateway of its own, the one of
/// the first address of the family.
fn kernel_route(route: &Route, ips: &[IpConfig]) -> KernelRoute {
    let is_ipv4 = IpNet::from(route.destination).addr().is_ipv4();
    let scope = route.scope.and_then(|scope| u8::try_from(scope).ok());
    let of_family = |ip: &&IpConfig| is_ipv6(ip) != is_ipv4;
    let gateway = match (route.gateway, scope) {
        (Some(gateway), _) => Some(gateway),
        // What is on the link has no gateway. IPv6 knows no scopes.
        (None, Some(scope)) if is_ipv4 && scope >= SCOPE_LINK => None,
        (None, _) => ips.iter().filter(of_family).find_map(|ip| ip.gateway),
    };
    KernelRoute {
        destination: route.destination,
        gateway,
        source: None,
        scope: scope.unwrap_or(if gateway.is_some() || !is_ipv4 { SCOPE_UNIVERSE } else { SCOPE_LINK }),
        table: route.table,
        priority: route.priority,
        mtu: route.mtu,
        advmss: route.advmss,
    }
}

/// Whether it is an IPv6 address.
pub fn is_ipv6(ip: &IpConfig) -> bool {
    IpNet::from(ip.address).addr().is_ipv6()
}

/// Masquerades what the addresses send to anywhere outside of their networks
/// (`ipMasq`).
pub fn masquerade(ips: &[IpConfig]) -> Result<(), CniError> {
    for ip in ips {
        let direct = IpNet::from(ip.address).trunc();
        masquerade::add(Entry { source: ip.address.address, direct: direct.into() })?;
    }
    Ok(())
}

/// Fails unless what the addresses send to anywhere else is masqueraded.
pub fn check_masquerade(ips: &[IpConfig]) -> Result<(), CniError> {
    let entries = masquerade::list()?;
    for ip in ips {
        if !entries.iter().any(|entry| entry.source == ip.address.address) {
            let address = IpNet::from(ip.address).addr();
            return Err(CniError::changed(format!("check masquerading: {address} is not masqueraded")));
        }
    }
    Ok(())
}

/// Checks `ipMasqBackend`, which makes no difference.
pub fn check_masquerade_backend(backend: &str) -> Result<(), CniError> {
    if ["", "iptables", "nftables"].contains(&backend) {
        return Ok(());
    }
    Err(CniError::config(format!("key \"ipMasqBackend\": {backend:?} is neither iptables nor nftables"))
        .details("weir masquerades by nf_tables in a table of its own, whichever of them is named"))
}

/// Deletes the container's link, if it and the container are still there.
pub fn remove(ifname: &str) -> Result<(), CniError> {
    let removed =
        links::container().and_then(|container| container.link(ifname)).and_then(|link| link.remove());
    match removed {
        Err(NetError::NotFound(_)) => Ok(()),
        removed => Ok(removed?),
    }
}

/// How a result lists a link that was found or made in this call.
pub fn described(link: &Link, sandbox: Sandbox) -> Interface {
    let info = link.as_found();
    Interface { name: info.name, mac: mac::text(info.mac), mtu: Some(info.mtu), sandbox }
}

/// Fails unless the container's link is what the result says.
pub fn check_link(info: &LinkInfo, kind: &str, result: &CniResult) -> Result<(), CniError> {
    let ifname = &info.name;
    let listed =
        |interface: &&Interface| interface.name == *ifname && interface.sandbox == Sandbox::Container;
    let expected = result
        .interfaces
        .iter()
        .find(listed)
        .ok_or_else(|| CniError::changed(format!("check {ifname}: prevResult does not list it")))?;
    if info.kind.as_deref() != Some(kind) {
        return Err(CniError::changed(format!("check {ifname}: it is not a {kind} link any more")));
    }
    let mac = mac::text(info.mac);
    if !expected.mac.is_empty() && expected.mac != mac {
        return Err(CniError::changed(format!(
            "check {ifname}: its hardware address is {mac}, not {}",
            expected.mac
        )));
    }
    Ok(())
}

/// Fails if the container's link is down.
pub fn check_up(info: &LinkInfo) -> Result<(), CniError> {
    if info.up { Ok(()) } else { Err(CniError::changed(format!("check {}: it is down", info.name))) }
}

/// Fails unless the link has the addresses of the result, and reaches their
/// networks.
pub fn check_addresses(link: &Link, name: &str, ips: &[IpConfig]) -> Result<(), CniError> {
    let present: Vec<IpNet> =
        addresses::list(link, None)?.into_iter().map(|address| address.prefix.into()).collect();
    for ip in ips {
        let expected = IpNet::from(ip.address);
        if !present.contains(&expected) {
            return Err(CniError::changed(format!("check addresses of {name}: {expected} is missing")));
        }
        // An address alone has no route.
        if expected.prefix_len() == expected.max_prefix_len() {
            continue;
        }
        let network = expected.trunc().into();
        if !routes::list(link, expected.addr().into())?.iter().any(|route| route.destination == network) {
            return Err(CniError::changed(format!(
                "check addresses of {name}: the route to {} is missing",
                expected.trunc()
            )));
        }
    }
    Ok(())
}

/// Fails unless there are the routes of the result.
pub fn check_routes(link: &Link, name: &str, result: &CniResult) -> Result<(), CniError> {
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        let of_family = |route: &&Route| IpFamily::from(IpAddr::from(route.destination.address)) == family;
        let expected: Vec<&Route> = result.routes.iter().filter(of_family).collect();
        if expected.is_empty() {
            continue;
        }
        let present = routes::list(link, family)?;
        let mut seen = Vec::new();
        for route in expected {
            let wanted = kernel_route(route, &result.ips);
            // The first of several to the same destination is there.
            if seen.contains(&key(&wanted, family)) {
                continue;
            }
            seen.push(key(&wanted, family));
            if !present.iter().any(|there| is_same(there, &wanted, family)) {
                let destination = IpNet::from(route.destination);
                return Err(CniError::changed(format!(
                    "check routes of {name}: the one to {destination} is missing"
                )));
            }
        }
    }
    Ok(())
}

/// What may be in a table only once.
fn key(route: &KernelRoute, family: IpFamily) -> (IpPrefix, u32, u32) {
    let default_metric = if family == IpFamily::Ipv6 { IPV6_METRIC } else { 0 };
    let metric = route.priority.filter(|&metric| metric != 0).unwrap_or(default_metric);
    // rtnetlink(7): table 0 is none, which means the main one.
    let table = route.table.filter(|&table| table != 0).unwrap_or(TABLE_MAIN);
    (route.destination, table, metric)
}

fn is_same(one: &KernelRoute, other: &KernelRoute, family: IpFamily) -> bool {
    // To the kernel, the unspecified address is none.
    let gateway =
        |route: &KernelRoute| route.gateway.map(IpAddr::from).filter(|gateway| !gateway.is_unspecified());
    key(one, family) == key(other, family) && gateway(one) == gateway(other)
}
