//! Results and errors on their way between the contract and the host.

use std::path::Path;

use crate::failure::{Failure, code};
use crate::printable::{is_harmless, printable, printable_lines};
use crate::request::Request;
use crate::result::{CniResult, Dns, Interface, IpConfig, Prefix, Route};
use crate::wit::weir::plugin::types;
use crate::wit::{self, IpPrefix};

/// Items in each list of a result.
const LIST_LIMIT: usize = 4096;
/// Bytes in a text of a result or an error.
const TEXT_LIMIT: usize = 8 << 10;

/// Reads the result of a plugin. The reason of a refusal is for an operator.
pub(crate) fn cni_result(result: types::CniResult, request: &Request) -> Result<CniResult, String> {
    let netns = request.environment.netns.as_deref();
    let reported = request.config.prev_result.iter().flat_map(|result| &result.interfaces);
    let reported: Vec<&str> = reported.map(|interface| interface.sandbox.as_str()).collect();
    let types::CniResult { interfaces, ips, routes, dns } = result;
    if interfaces.len() > LIST_LIMIT {
        return Err(format!("it lists {} interfaces", interfaces.len()));
    }
    let interfaces: Vec<Interface> = interfaces
        .into_iter()
        .map(|interface| {
            Ok(Interface {
                name: text(interface.name)?,
                mac: text(interface.mac)?,
                mtu: interface.mtu,
                sandbox: match interface.sandbox {
                    types::Sandbox::Host => String::new(),
                    types::Sandbox::Container => {
                        netns.map(|netns| netns.display().to_string()).unwrap_or_default()
                    }
                    types::Sandbox::Other(other) if reported.contains(&other.as_str()) => text(other)?,
                    types::Sandbox::Other(other) => {
                        return Err(format!(
                            "an interface is in {:?}, which no plugin before it reported",
                            printable(&other)
                        ));
                    }
                },
                ..Interface::default()
            })
        })
        .collect::<Result<_, String>>()?;
    let result = ipam_result(types::IpamResult { ips, routes, dns })?;
    if let Some(index) =
        result.ips.iter().filter_map(|ip| ip.interface).find(|&i| i as usize >= interfaces.len())
    {
        return Err(format!("an address names interface {index} of {}", interfaces.len()));
    }
    Ok(CniResult { interfaces, ..result })
}

/// Reads the result of an IPAM plugin.
pub(crate) fn ipam_result(result: types::IpamResult) -> Result<CniResult, String> {
    let types::IpamResult { ips, routes, dns } = result;
    if ips.len().max(routes.len()) > LIST_LIMIT {
        return Err(format!("it lists {} addresses and {} routes", ips.len(), routes.len()));
    }
    let prefix = |value: IpPrefix| {
        wit::prefix(value).ok_or_else(|| format!("prefix length {} is too large", value.length))
    };
    Ok(CniResult {
        interfaces: Vec::new(),
        ips: ips
            .into_iter()
            .map(|ip| {
                Ok(IpConfig {
                    address: prefix(ip.address)?,
                    gateway: ip.gateway.map(wit::ip),
                    interface: ip.interface,
                })
            })
            .collect::<Result<_, String>>()?,
        routes: routes
            .into_iter()
            .map(|route| {
                Ok(Route {
                    destination: prefix(route.destination)?,
                    gateway: route.gateway.map(wit::ip),
                    mtu: route.mtu,
                    advmss: route.advmss,
                    priority: route.priority,
                    table: route.table,
                    scope: route.scope,
                })
            })
            .collect::<Result<_, String>>()?,
        dns: Dns {
            nameservers: texts(dns.nameservers)?,
            domain: text(dns.domain.unwrap_or_default())?,
            search: texts(dns.search)?,
            options: texts(dns.options)?,
        },
    })
}

fn texts(values: Vec<String>) -> Result<Vec<String>, String> {
    if values.len() > LIST_LIMIT {
        return Err(format!("it lists {} name servers, domains or options", values.len()));
    }
    values.into_iter().map(text).collect()
}

fn text(value: String) -> Result<String, String> {
    if value.len() > TEXT_LIMIT {
        return Err(format!("it has a text of {} bytes", value.len()));
    }
    match value.chars().find(|character| !is_harmless(*character)) {
        Some(character) => Err(format!("it has a text with the character {character:?}")),
        None => Ok(value),
    }
}

/// Writes a result for a plugin.
pub(super) fn to_cni_result(result: &CniResult, netns: Option<&Path>) -> types::CniResult {
    let types::IpamResult { ips, routes, dns } = to_ipam_result(result);
    let sandbox = |path: &str| match path {
        "" => types::Sandbox::Host,
        path if netns.is_some_and(|netns| netns == Path::new(path)) => types::Sandbox::Container,
        path => types::Sandbox::Other(path.to_owned()),
    };
    types::CniResult {
        interfaces: result
            .interfaces
            .iter()
            .map(|interface| types::Interface {
                name: interface.name.clone(),
                mac: interface.mac.clone(),
                mtu: interface.mtu,
                sandbox: sandbox(&interface.sandbox),
            })
            .collect(),
        ips,
        routes,
        dns,
    }
}

/// Writes the result of an IPAM plugin.
pub(super) fn to_ipam_result(result: &CniResult) -> types::IpamResult {
    let prefix = |value: Prefix| wit::to_prefix(value);
    types::IpamResult {
        ips: result
            .ips
            .iter()
            .map(|ip| types::IpConfig {
                address: prefix(ip.address),
                gateway: ip.gateway.map(wit::to_ip),
                interface: ip.interface,
            })
            .collect(),
        routes: result
            .routes
            .iter()
            .map(|route| types::Route {
                destination: prefix(route.destination),
                gateway: route.gateway.map(wit::to_ip),
                mtu: route.mtu,
                advmss: route.advmss,
                priority: route.priority,
                table: route.table,
                scope: route.scope,
            })
            .collect(),
        dns: types::Dns {
            nameservers: result.dns.nameservers.clone(),
            domain: Some(result.dns.domain.clone()).filter(|domain| !domain.is_empty()),
            search: result.dns.search.clone(),
            options: result.dns.options.clone(),
        },
    }
}

/// Reads an error of a plugin. One with the code of success would be none.
pub(crate) fn failure(error: types::CniError) -> Failure {
    let code = if error.code == 0 { code::INTERNAL } else { error.code };
    let [message, details] = [error.message, error.details].map(|text| printable_lines(&text, TEXT_LIMIT));
    Failure { code, message, details }
}

/// Writes an error for a plugin.
pub(super) fn cni_error(failure: Failure) -> types::CniError {
    types::CniError { code: failure.code, message: failure.message, details: failure.details }
}
