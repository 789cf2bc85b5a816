//! The veth pair: one end in the container, the other a port of the bridge.

use weir_sdk::CniError;
use weir_sdk::mac;
use weir_sdk::net::links::{Link, LinkInfo, Netns, PortOptions, VethEnd, VlanRange};
use weir_sdk::net::types::NetError;
use weir_sdk::types::{Interface, Sandbox};
use weir_sdk::veth::{self, Pair};

use crate::config::Config;

/// How long the port may take to become operational, in milliseconds.
pub(crate) const UP_TIME: u32 = 3_000;

/// Connects the container; the node's end becomes a port of the bridge.
pub(crate) fn create(
    host: &Netns,
    container: &Netns,
    bridge: &Link,
    ifname: &str,
    config: &Config,
) -> Result<Pair, CniError> {
    let end = VethEnd { name: ifname.to_owned(), mac: config.mac, up: false };
    let pair = veth::connect(host, container, &end, config.mtu, Some(bridge))?;
    if config.hairpin || config.isolated {
        pair.near.set_port(PortOptions { hairpin: config.hairpin, isolated: config.isolated })?;
    }
    join_vlans(&pair.near, config)?;
    Ok(pair)
}

/// Puts a port into the configured VLANs.
pub(crate) fn join_vlans(port: &Link, config: &Config) -> Result<(), CniError> {
    if config.vlans.is_empty() {
        return Ok(());
    }
    if !config.keeps_default_vlan {
        match port.remove_vlans(&[VlanRange { first: 1, last: 1, pvid: false, untagged: false }]) {
            Err(NetError::NotFound(_)) => {}
            removed => removed?,
        }
    }
    port.add_vlans(&config.vlans)?;
    Ok(())
}

/// Finds the port of a container's end, which prevResult lists.
pub(crate) fn of(
    host: &Netns,
    interfaces: &[Interface],
    far: &LinkInfo,
    bridge: &LinkInfo,
) -> Result<Link, CniError> {
    for interface in interfaces.iter().filter(|interface| interface.sandbox == Sandbox::Host) {
        let Ok(link) = host.link(&interface.name) else { continue };
        let info = link.as_found();
        if info.kind.as_deref() != Some("veth") || Some(info.index) != far.peer {
            continue;
        }
        let mac = mac::text(info.mac);
        if !interface.mac.is_empty() && interface.mac != mac {
            return Err(CniError::changed(format!(
                "check port {}: its hardware address is {mac}, not {}",
                info.name, interface.mac
            )));
        }
        if info.controller != Some(bridge.index) {
            return Err(CniError::changed(format!(
                "check port {}: it is not attached to bridge {}",
                info.name, bridge.name
            )));
        }
        return Ok(link);
    }
    Err(CniError::changed(format!(
        "check the port of {}: prevResult lists no link that is its other end",
        far.name
    )))
}

/// Compares a port with the configuration.
pub(crate) fn check(port: &Link, config: &Config) -> Result<(), CniError> {
    let info = port.describe()?;
    let expected = PortOptions { hairpin: config.hairpin, isolated: config.isolated };
    if info.port != Some(expected) {
        return Err(CniError::changed(format!(
            "check port {}: its hairpin or isolation flag has changed",
            info.name
        )));
    }
    if let Some(vlan) = config.access_vlan
        && !port.vlans()?.iter().any(|range| range.pvid && range.first <= vlan && vlan <= range.last)
    {
        return Err(CniError::changed(format!("check port {}: it is not in VLAN {vlan}", info.name)));
    }
    Ok(())
}
