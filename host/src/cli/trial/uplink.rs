//! The networks between the node of a trial and the host outside: for
//! documentation, and none that the configuration uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::Value;

use crate::result::Prefix;

/// RFC 5737, and RFC 3849 and 9637.
const CANDIDATES: [&[&str]; 2] =
    [&["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"], &["2001:db8::/64", "3fff::/64"]];

/// The two ends in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uplink {
    pub(super) node: Prefix,
    pub(super) outside: Prefix,
}

/// The ends in IPv4 and in IPv6 for a network with these plugins.
pub(super) fn uplinks(plugins: &[Value]) -> Result<[Uplink; 2]> {
    let mut used = Vec::new();
    for plugin in plugins {
        collect(plugin, &mut used);
    }
    let [ipv4, ipv6] = CANDIDATES.map(|candidates| {
        candidates
            .iter()
            .filter_map(|text| text.parse::<IpNet>().ok())
            .find(|net| !used.iter().any(|other| other.contains(net) || net.contains(other)))
            .map(uplink)
            .with_context(|| {
                let networks = candidates.join(", ");
                format!("a trial needs one of the networks {networks}, all of which the configuration uses")
            })
    });
    Ok([ipv4?, ipv6?])
}

fn uplink(network: IpNet) -> Uplink {
    let end = |number: u8| {
        let address = match network.addr() {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(number)).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(number)).into(),
        };
        Prefix { address, length: network.prefix_len() }
    };
    Uplink { node: end(1), outside: end(2) }
}

/// Every network and address but the destinations of routes, which may well be
/// outside.
fn collect(value: &Value, into: &mut Vec<IpNet>) {
    match value {
        Value::String(text) => {
            let net = text.parse::<IpNet>().map(|net| net.trunc());
            into.extend(net.ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(object) => object
            .iter()
            .filter(|(key, _)| !key.eq_ignore_ascii_case("dst"))
            .for_each(|(_, value)| collect(value, into)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn networks_that_are_used_are_not_used_again() {
        let nodes = |plugin: Value| {
            let uplinks = uplinks(&[plugin])?;
            anyhow::Ok(uplinks.map(|uplink| uplink.node.to_string()))
        };
        let free = ["192.0.2.1/24", "2001:db8::1/64"];
        let config = json!({"ipam": {"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}});
        assert_eq!(nodes(config).unwrap(), free);
        let config =
            json!({"ipam": {"addresses": [{"address": "192.0.2.128/25"}], "gateway": "2001:db8::7"}});
        assert_eq!(nodes(config).unwrap(), ["198.51.100.1/24", "3fff::1/64"]);
        let all = ["192.0.0.0/16", "198.51.100.4/30", "203.0.113.1"].map(Value::from);
        assert!(nodes(json!({ "ranges": all })).is_err());
    }
}
