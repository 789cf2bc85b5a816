//! `weir:firewall/publish`: ports of containers at the node's addresses.

use std::net::IpAddr;

use crate::IpNet;
pub use crate::bindings::platform::weir::firewall::publish::{Port, Protocol};
use crate::bindings::platform::weir::net::types::IpFamily;
pub use crate::bindings::platform::weir::net::types::{IpAddress, IpPrefix, NetError};
pub use crate::double::net::links::Link;
use crate::double::net::sysctls;
use crate::double::{Node, Side, state};

/// Ports in one list.
const PORT_LIMIT: usize = 128;

impl Node {
    /// The published ports, of any attachment.
    pub fn published(&self) -> Vec<Port> {
        self.0.borrow().published.iter().map(|(_, port)| *port).collect()
    }
}

/// Publishes ports: all of them, or none if that fails.
pub fn add(ports: &[Port]) -> Result<(), NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("publish.add")?;
    if ports.len() > PORT_LIMIT {
        return Err(NetError::Invalid(format!(
            "publish {} ports at once: at most {PORT_LIMIT} can be",
            ports.len()
        )));
    }
    let owner = state.owner();
    for (number, port) in ports.iter().enumerate() {
        check(port)?;
        if ports[..number].iter().any(|other| is_same_place(port, other)) {
            return Err(NetError::Invalid(format!(
                "publish {}: the same port is to lead to another one",
                port.host_port
            )));
        }
        let address = IpAddr::from(port.container.address);
        if state.has_address(Side::Host, address) {
            return Err(NetError::Denied(format!(
                "publish {}: {address} is an address of the node",
                port.host_port
            )));
        }
        if !state.has_address(Side::Container, address) {
            return Err(NetError::Denied(format!(
                "publish {}: no link of the container has the address {address}",
                port.host_port
            )));
        }
        if state.published.iter().any(|(other, held)| *other != owner && meets(port, held)) {
            return Err(NetError::AlreadyExists(format!(
                "publish {}: another attachment publishes that port",
                port.host_port
            )));
        }
    }
    for port in ports {
        state.published.retain(|(_, held)| !is_same_place(port, held));
        state.published.push((owner.clone(), *port));
    }
    Ok(())
}

/// Lets connections from 127.0.0.0/8 leave by a link of the node.
pub fn enable_loopback(link: &Link) -> Result<(), NetError> {
    state::current().borrow_mut().pass("publish.enable-loopback")?;
    if link.side() == Side::Container {
        return Err(NetError::Invalid(format!("{} is no link of the node", link.name())));
    }
    sysctls::set(link, IpFamily::Ipv4, "route_localnet", "1")
}

/// Ends the publishing of every port of this attachment.
pub fn remove() -> Result<(), NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("publish.remove")?;
    let owner = state.owner();
    state.published.retain(|(other, _)| *other != owner);
    Ok(())
}

/// Lists the ports of this attachment.
pub fn list() -> Result<Vec<Port>, NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("publish.list")?;
    let owner = state.owner();
    Ok(state.published.iter().filter(|(other, _)| *other == owner).map(|(_, port)| *port).collect())
}

/// Refuses what can never work.
fn check(port: &Port) -> Result<(), NetError> {
    let container = IpNet::from(port.container);
    let host = port.host_address.map(IpAddr::from);
    let reason = if port.host_port == 0 || port.container_port == 0 {
        "ports begin with 1"
    } else if host.is_some_and(|host| host.is_ipv4() != container.addr().is_ipv4()) {
        "both addresses have to be of one family"
    } else if host.is_some_and(|host| host.is_unspecified()) {
        "leave the node's address out to mean all of them"
    } else if host.is_some_and(|host| host.is_ipv6() && host.is_loopback()) {
        "nothing can be forwarded from ::1"
    } else {
        return Ok(());
    };
    Err(NetError::Invalid(format!("publish {}: {reason}", port.host_port)))
}

fn is_same_family(one: &Port, other: &Port) -> bool {
    IpNet::from(one.container).addr().is_ipv4() == IpNet::from(other.container).addr().is_ipv4()
}

fn is_same_port(one: &Port, other: &Port) -> bool {
    one.protocol == other.protocol && one.host_port == other.host_port && is_same_family(one, other)
}

fn is_same_place(one: &Port, other: &Port) -> bool {
    is_same_port(one, other) && one.host_address == other.host_address
}

/// Whether both have an address and a port of the node in common.
fn meets(one: &Port, other: &Port) -> bool {
    is_same_port(one, other)
        && (one.host_address.is_none()
            || other.host_address.is_none()
            || one.host_address == other.host_address)
}
