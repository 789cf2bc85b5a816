//! `host-local`: hands out addresses of ranges, one of each range set, and
//! keeps them in files on the node.

#![forbid(unsafe_code)]

mod config;
mod range;

use std::net::IpAddr;

use weir_sdk::request::{Attachment, Network};
use weir_sdk::store::files;
use weir_sdk::store::leases::{self, Pool, StoreError};
use weir_sdk::types::{Dns, IpConfig};
use weir_sdk::{Arguments, CniError, IpamPlugin, IpamResult, read_config};

use crate::config::{Config, NetworkConfig};
use crate::range::RangeSet;

struct HostLocal;

weir_sdk::export_ipam_plugin!(HostLocal);

impl IpamPlugin for HostLocal {
    fn add(attachment: &Attachment) -> Result<IpamResult, CniError> {
        let network: NetworkConfig = read_config(attachment)?;
        let config = Config::new(network, &attachment.cni_version(), &Arguments::read(attachment)?)?;
        let dns = match &config.resolv_conf {
            Some(path) => Dns::from_resolv_conf(&files::read(path)?),
            None => Dns::none(),
        };
        let pool = leases::open(config.data_dir.as_deref())?;
        let held = pool.held()?;
        let mut requested = config.requested.clone();
        let mut ips = Vec::new();
        for (number, set) in (0..).zip(&config.sets) {
            if let Some(address) = held.iter().find(|address| set.range_of((**address).into()).is_some()) {
                let address = IpAddr::from(*address);
                return Err(CniError::config(format!(
                    "{address} has been allocated to {}, duplicate allocation is not allowed",
                    attachment.id().container_id
                ))
                .details("delete the attachment before it is added again"));
            }
            let wish = requested.iter().position(|address| set.range_of(*address).is_some());
            let wish = wish.map(|position| requested.remove(position));
            ips.push(lease(&pool, set, number, wish)?);
        }
        if !requested.is_empty() {
            let list: Vec<String> = requested.iter().map(ToString::to_string).collect();
            return Err(CniError::config(format!(
                "failed to allocate all requested IPs: {}: each has to be in a range set of its own",
                list.join(" ")
            )));
        }
        Ok(IpamResult { ips, routes: config.routes, dns })
    }

    fn del(attachment: &Attachment) -> Result<(), CniError> {
        // Only the place of the leases matters: a configuration whose ranges
        // have become invalid must not keep addresses from being released.
        let network: NetworkConfig = read_config(attachment)?;
        leases::open(network.data_dir())?.release()?;
        Ok(())
    }

    fn check(attachment: &Attachment) -> Result<(), CniError> {
        let network: NetworkConfig = read_config(attachment)?;
        let held: Vec<IpAddr> =
            leases::open(network.data_dir())?.held()?.into_iter().map(IpAddr::from).collect();
        let id = attachment.id().container_id;
        if held.is_empty() {
            return Err(CniError::changed(format!(
                "host-local: Failed to find address added by container {id}"
            )));
        }
        let config = Config::new(network, &attachment.cni_version(), &Arguments::read(attachment)?)?;
        for ip in attachment.prev_result().into_iter().flat_map(|result| result.ips) {
            let address = IpAddr::from(ip.address.address);
            // Addresses of other plugins in the chain are theirs to check.
            if config.sets.iter().any(|set| set.range_of(address).is_some()) && !held.contains(&address) {
                return Err(CniError::changed(format!(
                    "host-local: {address} is not leased to container {id}"
                )));
            }
        }
        Ok(())
    }

    fn gc(network: &Network) -> Result<(), CniError> {
        let config: NetworkConfig = read_config(network)?;
        leases::open(config.data_dir())?.release_stale()?;
        Ok(())
    }

    fn status(network: &Network) -> Result<(), CniError> {
        let config: NetworkConfig = read_config(network)?;
        let unavailable = |error: StoreError| CniError { code: CniError::UNAVAILABLE, ..error.into() };
        if config.waits_for_ranges() {
            return leases::open(config.data_dir()).map(drop).map_err(unavailable);
        }
        let config = Config::new(config, "1.1.0", &Arguments::default())?;
        let pool = leases::open(config.data_dir.as_deref()).map_err(unavailable)?;
        for set in &config.sets {
            let usage = pool.usage(&set.address_ranges(), &set.gateways()).map_err(unavailable)?;
            if usage.used >= usage.total {
                return Err(CniError::new(
                    CniError::UNAVAILABLE,
                    format!("no IP addresses available in range set: {set} ({} are leased)", usage.used),
                )
                .details("widen the range, or remove leases of containers that are gone (GC)"));
            }
        }
        Ok(())
    }
}

/// Leases an address of a set: the requested one, or the next that is free.
fn lease(pool: &Pool, set: &RangeSet, number: u32, wish: Option<IpAddr>) -> Result<IpConfig, CniError> {
    let address = match wish {
        Some(address) => {
            if set.gateways().contains(&address.into()) {
                return Err(CniError::config(format!(
                    "failed to allocate for range {number}: requested ip {address} is subnet's gateway"
                )));
            }
            pool.reserve(address.into(), number).map_err(|error| match error {
                StoreError::Taken(reason) => CniError::config(format!(
                    "failed to allocate for range {number}: requested IP address {address} is not available in \
                     range set {set}: {reason}"
                )),
                other => other.into(),
            })?;
            address
        }
        None => {
            let after = pool.last_reserved(number)?;
            let leased = pool.reserve_next(&set.address_ranges(), after, &set.gateways(), number)?;
            let Some(address) = leased else {
                return Err(CniError::new(
                    CniError::EXHAUSTED,
                    format!(
                        "failed to allocate for range {number}: no IP addresses available in range set: {set}"
                    ),
                )
                .details("widen the range, or remove leases of containers that are gone (GC)"));
            };
            address.into()
        }
    };
    let range = set.range_of(address).ok_or_else(|| {
        CniError::new(CniError::IO, format!("leased {address}, which is outside of range set {set}"))
    })?;
    Ok(IpConfig {
        address: range.with_prefix(address).into(),
        gateway: Some(range.gateway.into()),
        interface: None,
    })
}

#[cfg(test)]
mod tests;
