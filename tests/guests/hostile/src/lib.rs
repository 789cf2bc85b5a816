//! A plugin that means harm. What it tries stands in the network
//! configuration, as lists of steps under the names of the commands:
//!
//! ```json
//! { "attack": { "ADD": [{ "do": "find", "link": "up0" }, { "do": "remove", "link": "up0" }] } }
//! ```
//!
//! A step that fails ends the call with its error, unless it has `"anyway"`;
//! `"times"` repeats one. For its role as an IPAM plugin the lists stand in
//! `ipam`.

// It attacks the host, not the SDK's double.
#![cfg(target_arch = "wasm32")]

mod answers;
mod bucket;
mod neighbors;
mod network;
mod resources;
mod store;

use std::collections::HashMap;

use serde_json::Value;
use weir_sdk::net::links::{Link, Netns};
use weir_sdk::request::{Attachment, Network};
use weir_sdk::store::bucket::Bucket;
use weir_sdk::store::leases::Pool;
use weir_sdk::types::Dns;
use weir_sdk::{CniError, CniResult, InterfacePlugin, IpamPlugin, IpamResult};

struct Hostile;

weir_sdk::export_interface_plugin!(Hostile);
weir_sdk::export_ipam_plugin!(Hostile);

/// What it is doing.
struct Raid<'a> {
    attachment: Option<&'a Attachment>,
    network: Option<&'a Network>,
    /// Links that it made or found, by their names.
    links: HashMap<String, Link>,
    namespaces: Vec<Netns>,
    pools: Vec<Pool>,
    buckets: Vec<Bucket>,
    result: CniResult,
}

/// One step of an attack.
#[derive(Clone, Copy)]
struct Step<'a>(&'a Value);

impl<'a> Step<'a> {
    fn text(self, key: &str) -> &'a str {
        self.0[key].as_str().unwrap_or_default()
    }

    fn number(self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_default()
    }

    /// A number of the size that the contract has; too large ones become the
    /// largest.
    fn count(self, key: &str) -> u32 {
        self.number(key).try_into().unwrap_or(u32::MAX)
    }

    fn is(self, key: &str) -> bool {
        self.0[key] == true
    }

    fn has(self, key: &str) -> bool {
        !self.0[key].is_null()
    }

    /// A text, or a short one many times.
    fn long_text(self, key: &str) -> String {
        self.text(key).repeat(self.number("repeat").max(1) as usize)
    }
}

impl<'a> Raid<'a> {
    fn new(attachment: Option<&'a Attachment>, network: Option<&'a Network>) -> Self {
        let dns = Dns { nameservers: Vec::new(), domain: None, search: Vec::new(), options: Vec::new() };
        Self {
            attachment,
            network,
            links: HashMap::new(),
            namespaces: Vec::new(),
            pools: Vec::new(),
            buckets: Vec::new(),
            result: CniResult { interfaces: Vec::new(), ips: Vec::new(), routes: Vec::new(), dns },
        }
    }

    fn run(&mut self, config: &str, command: &str, is_ipam: bool) -> Result<(), CniError> {
        let config: Value =
            serde_json::from_str(config).map_err(|error| CniError::config(error.to_string()))?;
        let attack = if is_ipam { &config["ipam"]["attack"] } else { &config["attack"] };
        for step in attack[command].as_array().into_iter().flatten() {
            for _ in 0..step["times"].as_u64().unwrap_or(1) {
                match self.take(Step(step)) {
                    Err(error) if step["anyway"] != true => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Step<'_>) -> Result<(), CniError> {
        let taken = self
            .resources(step)
            .or_else(|| self.network(step))
            .or_else(|| self.addresses(step))
            .or_else(|| self.neighbors(step))
            .or_else(|| self.store(step))
            .or_else(|| self.bucket(step))
            .or_else(|| self.answer(step));
        taken.unwrap_or_else(|| Err(CniError::config(format!("there is no step {}", step.text("do")))))
    }
}

fn serve(attachment: &Attachment, command: &str, is_ipam: bool) -> Result<CniResult, CniError> {
    let mut raid = Raid::new(Some(attachment), None);
    raid.run(&attachment.config(), command, is_ipam)?;
    Ok(raid.result)
}

fn serve_network(network: &Network, command: &str, is_ipam: bool) -> Result<(), CniError> {
    Raid::new(None, Some(network)).run(&network.config(), command, is_ipam)
}

impl InterfacePlugin for Hostile {
    fn add(attachment: &Attachment) -> Result<CniResult, CniError> {
        serve(attachment, "ADD", false)
    }

    fn del(attachment: &Attachment) -> Result<(), CniError> {
        serve(attachment, "DEL", false).map(drop)
    }

    fn check(attachment: &Attachment) -> Result<(), CniError> {
        serve(attachment, "CHECK", false).map(drop)
    }

    fn gc(network: &Network) -> Result<(), CniError> {
        serve_network(network, "GC", false)
    }

    fn status(network: &Network) -> Result<(), CniError> {
        serve_network(network, "STATUS", false)
    }
}

impl IpamPlugin for Hostile {
    fn add(attachment: &Attachment) -> Result<IpamResult, CniError> {
        let CniResult { ips, routes, dns, .. } = serve(attachment, "ADD", true)?;
        Ok(IpamResult { ips, routes, dns })
    }

    fn del(attachment: &Attachment) -> Result<(), CniError> {
        serve(attachment, "DEL", true).map(drop)
    }

    fn check(attachment: &Attachment) -> Result<(), CniError> {
        serve(attachment, "CHECK", true).map(drop)
    }

    fn gc(network: &Network) -> Result<(), CniError> {
        serve_network(network, "GC", true)
    }

    fn status(network: &Network) -> Result<(), CniError> {
        serve_network(network, "STATUS", true)
    }
}
