//! `bridge`: connects a container to a bridge of the node by a veth pair, and
//! gives it the addresses that the IPAM plugin hands out.

#![forbid(unsafe_code)]

mod config;
mod device;
mod gateway;
mod port;

use weir_sdk::firewall::{guards, masquerade};
use weir_sdk::net::links;
use weir_sdk::net::sysctls;
use weir_sdk::net::types::{IpFamily, NetError};
use weir_sdk::request::{Attachment, Network};
use weir_sdk::types::{CniResult, Dns, Sandbox};
use weir_sdk::veth::Pair;
use weir_sdk::{CniError, InterfacePlugin, interface, ipam, read_config};

use crate::config::{Config, NetworkConfig};
use crate::gateway::Gateways;

/// Position of the container's end in the result's interfaces.
const CONTAINER_INTERFACE: u32 = 2;

struct Bridge;

weir_sdk::export_interface_plugin!(Bridge);

impl InterfacePlugin for Bridge {
    fn add(attachment: &Attachment) -> Result<CniResult, CniError> {
        let config = Config::read(attachment)?;
        let ifname = attachment.id().ifname;
        let ask = || if config.has_ipam { addresses(attachment) } else { Ok(without_addresses()) };
        // First, where it does without the link: it fails most often, and nothing
        // else has to be undone then.
        let early = if attachment.has_native_ipam() { None } else { Some(ask()?) };
        let host = links::host()?;
        let container = links::container()?;
        let bridge = device::ensure(&host, &config)?;
        let pair = port::create(&host, &container, &bridge, &ifname, &config)?;
        let Pair { near, far, .. } = &pair;
        if config.guards_mac
            && let Some(mac) = far.as_found().mac
        {
            guards::add(near, mac)?;
        }
        let mut result = match early {
            Some(result) => result,
            None => {
                // It may send packets, as DHCP does.
                near.set_up(true)?;
                ask()?
            }
        };
        let gateways = Gateways::of(&mut result, &bridge, &config)?;
        if config.has_ipam {
            settings(far, &config, &result)?;
            pair.configure(&container, &ifname, &result)?;
            let addressed = gateways.assign(&host, &bridge, &config)?;
            if config.masquerades {
                interface::masquerade(&result.ips)?;
            }
            result.interfaces.extend(addressed);
            // Last, as the kernel brings it up meanwhile.
            near.wait_until_up(port::UP_TIME)?;
            pair.announce()?;
        } else if config.container_stays_down {
            near.set_up(true)?;
        } else {
            pair.set_up()?;
        }
        if config.dns.is_set() {
            result.dns = config.dns.clone().into();
        }
        let made = [
            device::described(&bridge, near)?,
            interface::described(near, Sandbox::Host),
            interface::described(far, Sandbox::Container),
        ];
        result.interfaces.splice(0..0, made);
        Ok(result)
    }

    fn del(attachment: &Attachment) -> Result<(), CniError> {
        // A configuration that has become invalid must not keep the container
        // from being disconnected, so nothing else of it is looked at.
        let config: NetworkConfig = read_config(attachment)?;
        // The kernel clears away both these and the link behind the call's
        // back, and waits at its end for what is not done: begun first, they
        // are done by the time that the link is.
        if config.macspoofchk {
            guards::remove()?;
        }
        if config.ip_masq {
            masquerade::remove()?;
        }
        let release = || if config.has_ipam() { ipam::del(attachment) } else { Ok(()) };
        if attachment.has_native_ipam() {
            let released = release();
            interface::remove(&attachment.id().ifname)?;
            return released;
        }
        interface::remove(&attachment.id().ifname)?;
        release()
    }

    fn check(attachment: &Attachment) -> Result<(), CniError> {
        let config = Config::read(attachment)?;
        let ifname = attachment.id().ifname;
        if config.has_ipam {
            ipam::check(attachment)?;
        }
        let result = attachment
            .prev_result()
            .ok_or_else(|| CniError::config("key \"prevResult\": required for CHECK, and missing"))?;
        let (host, container) = (links::host()?, links::container()?);
        let bridge = device::find(&host, &config.bridge)?;
        let named = |sandbox: &Sandbox, name: &str| {
            result.interfaces.iter().any(|interface| interface.sandbox == *sandbox && interface.name == name)
        };
        if !named(&Sandbox::Host, &config.bridge) {
            return Err(CniError::changed(format!(
                "check bridge {}: prevResult does not list it",
                config.bridge
            )));
        }
        if config.promiscuous && !bridge.as_found().promiscuous {
            return Err(CniError::changed(format!("check bridge {}: it is not promiscuous", config.bridge)));
        }
        let far = container.link(&ifname)?;
        let far_info = far.as_found();
        interface::check_link(&far_info, "veth", &result)?;
        if !config.container_stays_down {
            interface::check_up(&far_info)?;
        }
        let near = port::of(&host, &result.interfaces, &far_info, &bridge.as_found())?;
        port::check(&near, &config)?;
        let ours: Vec<_> =
            result.ips.iter().filter(|ip| ip.interface == Some(CONTAINER_INTERFACE)).cloned().collect();
        interface::check_addresses(&far, &ifname, &ours)?;
        interface::check_routes(&far, &ifname, &result)?;
        // Of what native plugins made, these are elsewhere, and they do not
        // look at them either.
        let is_filtered = (config.masquerades || config.guards_mac) && attachment.is_made_here();
        if config.masquerades && is_filtered {
            interface::check_masquerade(&ours)?;
        }
        if let (true, Some(mac)) = (config.guards_mac && is_filtered, far_info.mac)
            && !guards::present(&near, mac)?
        {
            return Err(CniError::changed(format!("check the guard of {ifname}: it is missing")));
        }
        Ok(())
    }

    fn gc(network: &Network) -> Result<(), CniError> {
        let config: NetworkConfig = read_config(network)?;
        if config.has_ipam() { ipam::gc(network) } else { Ok(()) }
    }

    fn status(network: &Network) -> Result<(), CniError> {
        let config = Config::check(read_config(network)?, None)?;
        if let Some(bridge) = present(links::host()?.link(&config.bridge))? {
            device::require_bridge(&config.bridge, &bridge.as_found())
                .map_err(|error| CniError { code: CniError::UNAVAILABLE, ..error })?;
        }
        if config.has_ipam { ipam::status(network) } else { Ok(()) }
    }
}

/// Asks the IPAM plugin.
fn addresses(attachment: &Attachment) -> Result<CniResult, CniError> {
    let answer = ipam::add(attachment)?;
    if answer.ips.is_empty() {
        return Err(CniError::config(
            "IPAM plugin returned missing IP config: it has to hand out an address",
        ));
    }
    let mut ips = answer.ips;
    for ip in &mut ips {
        ip.interface = Some(CONTAINER_INTERFACE);
    }
    Ok(CniResult { interfaces: Vec::new(), ips, routes: answer.routes, dns: answer.dns })
}

fn without_addresses() -> CniResult {
    CniResult { interfaces: Vec::new(), ips: Vec::new(), routes: Vec::new(), dns: Dns::none() }
}

/// Settings of the container's end that have to be there before its addresses.
fn settings(far: &links::Link, config: &Config, result: &CniResult) -> Result<(), CniError> {
    let dad = if config.detects_duplicates { "1" } else { "0" };
    if config.detects_duplicates {
        interface::optional(sysctls::set(far, IpFamily::Ipv6, "enhanced_dad", "1"))?;
    }
    interface::optional(sysctls::set(far, IpFamily::Ipv6, "accept_dad", dad))?;
    if result.ips.iter().any(interface::is_ipv6) {
        interface::optional(sysctls::set(far, IpFamily::Ipv6, "ndisc_notify", "1"))?;
    }
    interface::optional(sysctls::set(far, IpFamily::Ipv4, "arp_notify", "1"))
}

/// None for what does not exist.
fn present<T>(found: Result<T, NetError>) -> Result<Option<T>, NetError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(NetError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
