//! The veth pair that connects a container with the node.

use crate::net::addresses;
use crate::net::links::{Link, Netns, OperState, VethEnd};
use crate::net::sysctls;
use crate::net::types::{IpFamily, NetError};
use crate::types::CniResult;
use crate::{CniError, interface};

/// How many names are drawn.
const NAME_TRIES: usize = 10;

/// A connected container. Both ends are still down, so that settings can be
/// made first.
pub struct Pair {
    /// The node's end.
    pub near: Link,
    /// The container's end.
    pub far: Link,
    /// There may be others who know where its addresses were before.
    has_neighbors: bool,
}

impl Pair {
    /// Gives the container's end the addresses, brings both ends up and adds
    /// the routes, as [`interface::configure`] does for a link alone.
    pub fn configure(&self, container: &Netns, ifname: &str, result: &CniResult) -> Result<(), CniError> {
        interface::add_addresses(container, &self.far, ifname, result)?;
        self.set_up()?;
        interface::add_routes(&self.far, result)
    }

    /// Brings both ends up.
    ///
    /// The container's is the first, so that there is a carrier when the node's
    /// comes up: an end without one, and a bridge that has no other port, is
    /// taken out of service, and the kernel waits until no processor uses it
    /// any more.
    pub fn set_up(&self) -> Result<(), CniError> {
        self.far.set_up(true)?;
        Ok(self.near.set_up(true)?)
    }

    /// Announces the container's addresses, if somebody may hear it. The node's
    /// end has to be operational: it is not yet when the container's comes up.
    pub fn announce(&self) -> Result<(), CniError> {
        if self.has_neighbors {
            addresses::announce(&self.far)?;
        }
        Ok(())
    }
}

/// Makes the pair; with `bridge` the node's end becomes a port of it. `mtu` 0
/// leaves the choice to the kernel.
pub fn connect(
    host: &Netns,
    container: &Netns,
    far: &VethEnd,
    mtu: u32,
    bridge: Option<&Link>,
) -> Result<Pair, CniError> {
    let mut tries = 0;
    let (near, far) = loop {
        let near = VethEnd { name: String::new(), mac: None, up: false };
        match host.create_veth(&near, far, container, mtu, bridge) {
            Err(NetError::AlreadyExists(_)) if tries < NAME_TRIES => {
                refuse_existing(container, &far.name)?;
                tries += 1;
            }
            created => break created?,
        }
    };
    refuse_router_advertisements(&near)?;
    let has_neighbors = bridge.is_some_and(|bridge| bridge.as_found().state == OperState::Up);
    Ok(Pair { near, far, has_neighbors })
}

/// Fails if it is the container's end whose name is taken.
fn refuse_existing(container: &Netns, ifname: &str) -> Result<(), CniError> {
    let Ok(link) = container.link(ifname) else { return Ok(()) };
    let kind = link.as_found().kind.unwrap_or_default();
    Err(CniError::config(format!(
        "container veth name provided ({ifname}) already exists: there is a {kind} link of that name in the container"
    ))
    .details("delete the attachment that made it, or name another interface (CNI_IFNAME)"))
}

/// Turns off what would let a container configure the node (CVE-2020-10749).
pub fn refuse_router_advertisements(link: &Link) -> Result<(), CniError> {
    interface::optional(sysctls::set(link, IpFamily::Ipv6, "accept_ra", "0"))
}
