//! The bridge itself. Containers share it, so it is never removed.

use weir_sdk::net::addresses;
use weir_sdk::net::links::{BridgeOptions, Link, LinkInfo, Netns, OperState};
use weir_sdk::net::types::{IpFamily, NetError};
use weir_sdk::types::{Interface, Sandbox};
use weir_sdk::{CniError, IpNet, interface, mac, veth};

use crate::config::Config;

/// Finds the bridge or makes it.
pub(crate) fn ensure(host: &Netns, config: &Config) -> Result<Link, CniError> {
    let bridge = match host.link(&config.bridge) {
        Ok(link) => link,
        Err(NetError::NotFound(_)) => {
            let options = BridgeOptions {
                name: config.bridge.clone(),
                mtu: config.mtu,
                vlan_filtering: !config.vlans.is_empty(),
                default_vlan: true,
            };
            match host.create_bridge(&options) {
                Ok(bridge) => bridge,
                // Another container's call was faster.
                Err(NetError::AlreadyExists(_)) => host.link(&config.bridge)?,
                Err(error) => return Err(explain(error, config)),
            }
        }
        Err(error) => return Err(error.into()),
    };
    let info = bridge.as_found();
    require_bridge(&config.bridge, &info)?;
    if config.promiscuous && !info.promiscuous {
        bridge.set_promiscuous(true)?;
    }
    if !config.vlans.is_empty() && !info.vlan_filtering {
        bridge.set_vlan_filtering(true).map_err(|error| explain(error, config))?;
    }
    // Also of a bridge that the operator made.
    veth::refuse_router_advertisements(&bridge)?;
    if !info.up {
        bridge.set_up(true)?;
    }
    Ok(bridge)
}

/// Names the keys that ask for what the kernel may lack.
fn explain(error: NetError, config: &Config) -> CniError {
    match error {
        NetError::Unsupported(reason) if !config.vlans.is_empty() => CniError::new(
            CniError::KERNEL,
            format!(
                "keys \"vlan\" and \"vlanTrunk\": this kernel has no VLAN filtering of bridges: {reason}"
            ),
        )
        .details("boot a kernel with CONFIG_BRIDGE_VLAN_FILTERING, or remove these keys"),
        error => error.into(),
    }
}

/// Finds the bridge.
pub(crate) fn find(host: &Netns, name: &str) -> Result<Link, CniError> {
    let bridge = host.link(name)?;
    require_bridge(name, &bridge.as_found())?;
    Ok(bridge)
}

/// How the result lists the bridge, now that `port` has joined it.
///
/// A bridge that was never given a hardware address has the lowest of its
/// ports', or a random one before the first (`br_stp_recalculate_bridge_id`
/// of the kernel), so that only a lower one can have changed it.
pub(crate) fn described(bridge: &Link, port: &Link) -> Result<Interface, CniError> {
    let (found, joined) = (bridge.as_found(), port.as_found());
    let mut listed = interface::described(bridge, Sandbox::Host);
    if found.state != OperState::Up || joined.mac < found.mac {
        listed.mac = mac::text(bridge.describe()?.mac);
    }
    Ok(listed)
}

/// Refuses a link of another kind.
pub(crate) fn require_bridge(name: &str, info: &LinkInfo) -> Result<(), CniError> {
    if info.kind.as_deref() == Some("bridge") {
        return Ok(());
    }
    Err(CniError::config(format!("key \"bridge\": {name:?} already exists but is not a bridge"))
        .details("name another bridge, or remove that link"))
}

/// Gives a link of the node the gateway's address, next to which no other may
/// stand that would compete with it.
pub(crate) fn ensure_address(link: &Link, name: &str, gateway: IpNet, force: bool) -> Result<(), CniError> {
    let family = IpFamily::from(gateway.addr());
    for present in addresses::list(link, Some(family))? {
        let other = IpNet::from(present.prefix);
        if other == gateway {
            return Ok(());
        }
        let is_competing =
            family == IpFamily::Ipv4 || other.contains(&gateway.addr()) || gateway.contains(&other.addr());
        if !is_competing {
            continue;
        }
        if !force {
            return Err(CniError::config(format!(
                "{name:?} already has an IP address different from {gateway}: {other}"
            ))
            .details("set \"forceAddress\", or name another bridge"));
        }
        match addresses::remove(link, present.prefix) {
            Err(NetError::NotFound(_)) => {}
            removed => removed?,
        }
    }
    match addresses::add(link, gateway.into()) {
        // Another container's call was faster.
        Err(NetError::AlreadyExists(_)) => Ok(()),
        added => Ok(added?),
    }
}
