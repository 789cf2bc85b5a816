//! Reading and writing results as JSON.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{CniResult, Dns, Interface, IpConfig, Route};
use crate::version::Version;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ReadResult {
    cni_version: Option<String>,
    interfaces: Vec<ReadInterface>,
    ips: Vec<ReadIp>,
    routes: Vec<ReadRoute>,
    dns: ReadDns,
    ip4: Option<ReadFamily>,
    ip6: Option<ReadFamily>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadInterface {
    name: String,
    mac: String,
    mtu: Option<u32>,
    sandbox: String,
    #[serde(rename = "socketPath")]
    socket_path: String,
    #[serde(rename = "pciID")]
    pci_id: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadIp {
    address: String,
    gateway: String,
    // Some plugins write -1 for "none".
    interface: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadRoute {
    dst: String,
    gw: String,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadDns {
    nameservers: Vec<String>,
    domain: String,
    search: Vec<String>,
    options: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadFamily {
    ip: String,
    gateway: String,
    routes: Vec<ReadRoute>,
}

pub(super) fn read(value: &Value, version: Version) -> Result<CniResult, String> {
    let read: ReadResult = weir_config::from_value(value).map_err(|error| error.to_string())?;
    let version = match read.cni_version.as_deref() {
        None | Some("") => version,
        Some(text) => {
            Version::parse(text).ok_or_else(|| format!("cniVersion \"{text}\" is not supported"))?
        }
    };
    let mut result = CniResult {
        dns: Dns {
            nameservers: read.dns.nameservers,
            domain: read.dns.domain,
            search: read.dns.search,
            options: read.dns.options,
        },
        ..CniResult::default()
    };
    if version < Version::V0_3_0 {
        for family in [read.ip4, read.ip6].into_iter().flatten() {
            result.ips.push(IpConfig {
                address: family.ip.parse()?,
                gateway: gateway(&family.gateway)?,
                interface: None,
            });
            for route in family.routes {
                result.routes.push(read_route(route)?);
            }
        }
        return Ok(result);
    }
    result.interfaces = read
        .interfaces
        .into_iter()
        .map(|interface| Interface {
            name: interface.name,
            mac: interface.mac,
            mtu: interface.mtu.filter(|&mtu| mtu != 0),
            sandbox: interface.sandbox,
            socket_path: interface.socket_path,
            pci_id: interface.pci_id,
        })
        .collect();
    for ip in read.ips {
        result.ips.push(IpConfig {
            address: ip.address.parse()?,
            gateway: gateway(&ip.gateway)?,
            interface: ip.interface.and_then(|index| u32::try_from(index).ok()),
        });
    }
    for route in read.routes {
        result.routes.push(read_route(route)?);
    }
    Ok(result)
}

fn gateway(text: &str) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("gateway {text:?} is not an address"))
}

fn read_route(route: ReadRoute) -> Result<Route, String> {
    Ok(Route {
        destination: route.dst.parse()?,
        gateway: gateway(&route.gw)?,
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
    })
}

pub(super) fn write(result: &CniResult, version: Version) -> Result<Value, String> {
    let mut out = Map::new();
    out.insert("cniVersion".into(), version.as_str().into());
    if version < Version::V0_3_0 {
        write_families(result, &mut out)?;
    } else {
        write_lists(result, version, &mut out);
    }
    out.insert("dns".into(), dns(&result.dns));
    Ok(Value::Object(out))
}

fn write_lists(result: &CniResult, version: Version, out: &mut Map<String, Value>) {
    if !result.interfaces.is_empty() {
        let list = result.interfaces.iter().map(|interface| write_interface(interface, version)).collect();
        out.insert("interfaces".into(), Value::Array(list));
    }
    if !result.ips.is_empty() {
        let list = result.ips.iter().map(|ip| {
            let mut item = Map::new();
            if version < Version::V1_0_0 {
                item.insert("version".into(), if ip.address.address.is_ipv4() { "4" } else { "6" }.into());
            }
            if let Some(index) = ip.interface {
                item.insert("interface".into(), index.into());
            }
            item.insert("address".into(), ip.address.to_string().into());
            if let Some(gateway) = ip.gateway {
                item.insert("gateway".into(), gateway.to_string().into());
            }
            Value::Object(item)
        });
        out.insert("ips".into(), list.collect());
    }
    if !result.routes.is_empty() {
        out.insert("routes".into(), result.routes.iter().map(write_route).collect());
    }
}

fn write_interface(interface: &Interface, version: Version) -> Value {
    let mut item = Map::new();
    item.insert("name".into(), interface.name.as_str().into());
    let mut text = |key: &str, value: &str| {
        if !value.is_empty() {
            item.insert(key.into(), value.into());
        }
    };
    text("mac", &interface.mac);
    text("sandbox", &interface.sandbox);
    if version >= Version::V1_1_0 {
        text("socketPath", &interface.socket_path);
        text("pciID", &interface.pci_id);
        if let Some(mtu) = interface.mtu {
            item.insert("mtu".into(), mtu.into());
        }
    }
    Value::Object(item)
}

/// With all that a route has, also in versions that do not know it: CHECK
/// compares it, and native plugins ask weir's for routes in them.
fn write_route(route: &Route) -> Value {
    let mut item = Map::new();
    item.insert("dst".into(), route.destination.to_string().into());
    if let Some(gateway) = route.gateway {
        item.insert("gw".into(), gateway.to_string().into());
    }
    let numbers = [
        ("mtu", route.mtu),
        ("advmss", route.advmss),
        ("priority", route.priority),
        ("table", route.table),
        ("scope", route.scope),
    ];
    for (key, value) in numbers {
        if let Some(value) = value {
            item.insert(key.into(), value.into());
        }
    }
    Value::Object(item)
}

fn write_families(result: &CniResult, out: &mut Map<String, Value>) -> Result<(), String> {
    let mut any = false;
    for (key, is_ipv4) in [("ip4", true), ("ip6", false)] {
        let Some(ip) = result.ips.iter().find(|ip| ip.address.address.is_ipv4() == is_ipv4) else { continue };
        any = true;
        let mut item = Map::new();
        item.insert("ip".into(), ip.address.to_string().into());
        if let Some(gateway) = ip.gateway {
            item.insert("gateway".into(), gateway.to_string().into());
        }
        let routes: Vec<Value> = result
            .routes
            .iter()
            .filter(|route| route.destination.address.is_ipv4() == is_ipv4)
            .map(write_route)
            .collect();
        if !routes.is_empty() {
            item.insert("routes".into(), routes.into());
        }
        out.insert(key.into(), item.into());
    }
    if any {
        return Ok(());
    }
    Err("results before version 0.3.0 need an address, and there is none: raise \"cniVersion\"".into())
}

fn dns(dns: &Dns) -> Value {
    let mut out = json!({});
    let mut list = |key: &str, values: &[String]| {
        if !values.is_empty() {
            out[key] = values.into();
        }
    };
    list("nameservers", &dns.nameservers);
    list("search", &dns.search);
    list("options", &dns.options);
    if !dns.domain.is_empty() {
        out["domain"] = dns.domain.as_str().into();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CniResult {
        read(
            &json!({
                "interfaces": [{"name": "cni0", "mac": "aa:bb:cc:dd:ee:ff"}, {"name": "eth0", "mtu": 1400, "sandbox": "/run/netns/x"}],
                "ips": [
                    {"address": "10.1.2.3/16", "gateway": "10.1.0.1", "interface": 1},
                    {"address": "fd00::3/64", "interface": -1},
                ],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1", "mtu": 1300}],
                "dns": {"nameservers": ["10.1.0.1"], "domain": "x.y"},
            }),
            Version::V1_1_0,
        )
        .unwrap()
    }

    #[test]
    fn the_newest_form_is_lossless() {
        let written = write(&sample(), Version::V1_1_0).unwrap();
        assert_eq!(read(&written, Version::V1_1_0).unwrap(), sample());
    }

    #[test]
    fn addresses_name_their_family_before_1_0_0() {
        let old = write(&sample(), Version::V0_4_0).unwrap();
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["ips"][1]["version"], "6");
        assert_eq!(old["interfaces"][1].get("mtu"), None);
        assert_eq!(old["routes"][1], json!({"dst": "::/0", "gw": "fd00::1", "mtu": 1300}));
        assert_eq!(write(&sample(), Version::V1_0_0).unwrap()["ips"][0].get("version"), None);
    }

    #[test]
    fn the_oldest_form_has_an_address_of_each_family() {
        let old = write(&sample(), Version::V0_2_0).unwrap();
        assert_eq!(
            old["ip4"],
            json!({"ip": "10.1.2.3/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]})
        );
        assert_eq!(old["ip6"]["routes"][0]["gw"], "fd00::1");
        let back = read(&old, Version::V0_2_0).unwrap();
        assert_eq!(back.ips.len(), 2);
        assert!(back.ips.iter().all(|ip| ip.interface.is_none()));
    }

    #[test]
    fn the_oldest_form_needs_an_address() {
        assert!(write(&CniResult::default(), Version::V0_1_0).is_err());
    }

    #[test]
    fn prev_result_with_wrong_values_is_refused_with_its_path() {
        let reason = read(&json!({"ips": [{"address": 5}]}), Version::V1_0_0).unwrap_err();
        assert!(reason.contains("ips[0].address"), "{reason}");
    }
}
