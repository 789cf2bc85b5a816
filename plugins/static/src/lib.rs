//! `static`: hands out the addresses that the configuration or the runtime
//! names. It keeps nothing.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::Deserialize;
use weir_sdk::request::{Attachment, Network};
use weir_sdk::types::IpConfig;
use weir_sdk::{
    Arguments, CniError, DnsConfig, IpNet, IpamPlugin, IpamResult, RouteConfig, parse_address, parse_net,
    read_config,
};

/// The network configuration, as far as it concerns addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NetworkConfig {
    ipam: Option<IpamConfig>,
    args: Args,
    runtime_config: Addresses,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IpamConfig {
    addresses: Vec<AddressConfig>,
    routes: Vec<RouteConfig>,
    dns: DnsConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AddressConfig {
    address: String,
    gateway: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Addresses,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Addresses {
    ips: Vec<String>,
}

struct Static;

weir_sdk::export_ipam_plugin!(Static);

impl IpamPlugin for Static {
    fn add(attachment: &Attachment) -> Result<IpamResult, CniError> {
        let NetworkConfig { ipam, args, runtime_config } = read_config(attachment)?;
        let IpamConfig { addresses, routes, dns } =
            ipam.ok_or_else(|| CniError::config("key \"ipam\" is missing"))?;
        let mut ips = addresses.into_iter().map(configured).collect::<Result<Vec<_>, _>>()?;
        ips.extend(requested(&Arguments::read(attachment)?)?);
        // What the runtime asks for replaces all that; capabilities win.
        for (key, wishes) in [("args.cni.ips", args.cni.ips), ("runtimeConfig.ips", runtime_config.ips)] {
            if !wishes.is_empty() {
                ips = wishes
                    .iter()
                    .map(|text| Ok(ip_config(prefix(key, text)?, None)))
                    .collect::<Result<_, CniError>>()?;
            }
        }
        check_count(&ips, &attachment.cni_version())?;
        let routes = routes.into_iter().map(|route| route.check("ipam.routes")).collect::<Result<_, _>>()?;
        Ok(IpamResult { ips, routes, dns: dns.into() })
    }

    fn del(_: &Attachment) -> Result<(), CniError> {
        Ok(())
    }

    fn check(attachment: &Attachment) -> Result<(), CniError> {
        let expected = Self::add(attachment)?;
        let present = attachment.prev_result().map(|result| result.ips).unwrap_or_default();
        for ip in expected.ips {
            if !present.iter().any(|other| other.address == ip.address) {
                let address = IpNet::from(ip.address);
                return Err(CniError::changed(format!(
                    "static: Failed to find address {address} in prevResult"
                )));
            }
        }
        Ok(())
    }

    fn gc(_: &Network) -> Result<(), CniError> {
        Ok(())
    }

    fn status(network: &Network) -> Result<(), CniError> {
        read_config::<NetworkConfig>(network)?
            .ipam
            .map(drop)
            .ok_or_else(|| CniError::config("key \"ipam\" is missing"))
    }
}

fn configured(config: AddressConfig) -> Result<IpConfig, CniError> {
    let gateway = Some(config.gateway).filter(|gateway| !gateway.is_empty()).map(|text| parse_address(&text));
    let gateway = gateway
        .transpose()
        .map_err(|reason| CniError::config(format!("key \"ipam.addresses\": \"gateway\": {reason}")))?;
    Ok(ip_config(prefix("ipam.addresses", &config.address)?, gateway))
}

/// Reads `IP` and `GATEWAY` of `CNI_ARGS`: lists, of which each gateway
/// belongs to the addresses whose network it is in.
fn requested(arguments: &Arguments) -> Result<Vec<IpConfig>, CniError> {
    let list = |key| arguments.get(key).unwrap_or_default().split(',').filter(|text| !text.is_empty());
    let gateways = list("GATEWAY")
        .map(|text| {
            parse_address(text)
                .map_err(|reason| CniError::environment(format!("CNI_ARGS: GATEWAY: {reason}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    list("IP")
        .map(|text| {
            let net = prefix("CNI_ARGS: IP", text)?;
            let gateway = gateways.iter().rfind(|gateway| net.contains(*gateway));
            Ok(ip_config(net, gateway.copied()))
        })
        .collect()
}

fn prefix(key: &str, text: &str) -> Result<IpNet, CniError> {
    parse_net(text.trim()).map_err(|_| {
        CniError::config(format!(
            "{key}: the 'address' field is expected to be in CIDR notation, as 10.1.2.3/24, got: {text:?}"
        ))
    })
}

fn ip_config(net: IpNet, gateway: Option<IpAddr>) -> IpConfig {
    IpConfig { address: net.into(), gateway: gateway.map(Into::into), interface: None }
}

/// Results before 0.3.0 have room for one address of each family.
fn check_count(ips: &[IpConfig], cni_version: &str) -> Result<(), CniError> {
    let ipv4 = ips.iter().filter(|ip| IpNet::from(ip.address).addr().is_ipv4()).count();
    let is_old = matches!(cni_version, "0.1.0" | "0.2.0");
    if is_old && (ipv4 > 1 || ips.len() - ipv4 > 1) {
        return Err(CniError::config(format!(
            "key \"ipam\": CNI version {cni_version} does not support more than 1 address per family"
        ))
        .details("raise \"cniVersion\" to 0.3.0 or more"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
