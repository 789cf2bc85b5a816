//! The configuration's `ipam` key, and the addresses that others request.

use std::net::IpAddr;

use serde::Deserialize;
use weir_sdk::types::Route;
use weir_sdk::{Arguments, CniError, RouteConfig, parse_address};

use crate::range::{RangeConfig, RangeSet};

/// The network configuration, as far as it concerns addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetworkConfig {
    ipam: Option<IpamConfig>,
    args: Args,
    runtime_config: RuntimeConfig,
    capabilities: Capabilities,
}

/// What the runtime is to give in each call.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Capabilities {
    ip_ranges: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct IpamConfig {
    ranges: Vec<Vec<RangeConfig>>,
    // One range, as configurations had before there were sets.
    subnet: Option<String>,
    range_start: Option<String>,
    range_end: Option<String>,
    gateway: Option<String>,
    routes: Vec<RouteConfig>,
    resolv_conf: Option<String>,
    data_dir: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    ips: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    ips: Vec<String>,
    ip_ranges: Vec<Vec<RangeConfig>>,
}

impl NetworkConfig {
    /// Whether there are no ranges but those that come with each call for a
    /// container.
    pub(crate) fn waits_for_ranges(&self) -> bool {
        let has_ranges = self.ipam.as_ref().is_none_or(|ipam| {
            !ipam.ranges.is_empty() || ipam.subnet.as_ref().is_some_and(|subnet| !subnet.is_empty())
        });
        self.capabilities.ip_ranges && !has_ranges && self.runtime_config.ip_ranges.is_empty()
    }

    /// Where leases are kept, if not at the node's default.
    pub(crate) fn data_dir(&self) -> Option<&str> {
        self.ipam.as_ref()?.data_dir.as_deref().filter(|path| !path.is_empty())
    }
}

/// The same, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// One address is leased from each.
    pub(crate) sets: Vec<RangeSet>,
    /// Addresses to lease rather than others.
    pub(crate) requested: Vec<IpAddr>,
    /// Copied to the result.
    pub(crate) routes: Vec<Route>,
    /// A file to read name resolution from.
    pub(crate) resolv_conf: Option<String>,
    /// Where leases are kept, if not at the node's default.
    pub(crate) data_dir: Option<String>,
}

impl Config {
    /// Checks a configuration of version `cni_version`.
    pub(crate) fn new(
        network: NetworkConfig,
        cni_version: &str,
        arguments: &Arguments,
    ) -> Result<Self, CniError> {
        let NetworkConfig { ipam, args, runtime_config, .. } = network;
        let ipam = ipam.ok_or_else(|| CniError::config("key \"ipam\" is missing"))?;
        let argument = arguments.get("IP").map(str::to_owned);
        let mut requested = Vec::new();
        for text in argument.into_iter().chain(args.cni.ips).chain(runtime_config.ips) {
            let address = parse_address(&text).map_err(|reason| {
                CniError::config(format!("requested address (CNI_ARGS, args or runtimeConfig): {reason}"))
            })?;
            if !requested.contains(&address) {
                requested.push(address);
            }
        }
        let flat = ipam.subnet.filter(|subnet| !subnet.is_empty()).map(|subnet| {
            vec![RangeConfig {
                subnet,
                range_start: ipam.range_start,
                range_end: ipam.range_end,
                gateway: ipam.gateway,
            }]
        });
        let sets: Vec<RangeSet> = runtime_config
            .ip_ranges
            .into_iter()
            .chain(flat)
            .chain(ipam.ranges)
            .enumerate()
            .map(|(number, ranges)| {
                RangeSet::new(ranges).map_err(|reason| {
                    CniError::config(format!("key \"ipam\": invalid range set {number}: {reason}"))
                })
            })
            .collect::<Result<_, _>>()?;
        check_sets(&sets, cni_version)?;
        let routes =
            ipam.routes.into_iter().map(|route| route.check("ipam.routes")).collect::<Result<_, _>>()?;
        let resolv_conf = ipam.resolv_conf.filter(|path| !path.is_empty());
        let data_dir = ipam.data_dir.filter(|path| !path.is_empty());
        Ok(Self { sets, requested, routes, resolv_conf, data_dir })
    }
}

fn check_sets(sets: &[RangeSet], cni_version: &str) -> Result<(), CniError> {
    if sets.is_empty() {
        return Err(CniError::config("key \"ipam\": no IP ranges specified")
            .details("give \"subnet\" or \"ranges\": [[{\"subnet\": \"10.1.0.0/16\"}]]"));
    }
    // Results before 0.3.0 have room for one address of each family.
    let is_old = matches!(cni_version, "0.1.0" | "0.2.0");
    let ipv4 = sets.iter().filter(|set| set.is_ipv4()).count();
    if is_old && (ipv4 > 1 || sets.len() - ipv4 > 1) {
        return Err(CniError::config(format!(
            "key \"ipam\": CNI version {cni_version} does not support more than 1 address per family"
        ))
        .details("raise \"cniVersion\" to 0.3.0 or more"));
    }
    for (number, set) in sets.iter().enumerate() {
        for (other, later) in sets.iter().enumerate().skip(number + 1) {
            if set.overlaps(later) {
                return Err(CniError::config(format!(
                    "key \"ipam\": range set {number} overlaps with {other}"
                )));
            }
        }
    }
    Ok(())
}
