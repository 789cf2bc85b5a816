//! Routes of a configuration.

use ipnet::IpNet;
use serde::Deserialize;

use crate::types::Route;
use crate::{CniError, parse_address, parse_net};

/// A route as the operator wrote it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RouteConfig {
    dst: String,
    gw: Option<String>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u32>,
}

impl RouteConfig {
    /// Checks it; `key` is where it stands in the configuration.
    pub fn check(self, key: &str) -> Result<Route, CniError> {
        let refuse = |reason: String| CniError::config(format!("key \"{key}\": {reason}"));
        let destination: IpNet =
            parse_net(&self.dst).map_err(|_| refuse(format!("\"dst\": {:?} is not a network", self.dst)))?;
        let gateway = self.gw.filter(|gateway| !gateway.is_empty());
        let gateway = gateway.map(|text| parse_address(&text)).transpose();
        Ok(Route {
            destination: destination.trunc().into(),
            gateway: gateway.map_err(|reason| refuse(format!("\"gw\": {reason}")))?.map(Into::into),
            mtu: self.mtu,
            advmss: self.advmss,
            priority: self.priority,
            table: self.table,
            scope: self.scope,
        })
    }
}
