//! `weir:firewall/masquerade`: hiding containers behind the node.

use std::net::IpAddr;

use crate::IpNet;
pub use crate::bindings::platform::weir::firewall::masquerade::Entry;
pub use crate::bindings::platform::weir::net::types::{IpAddress, IpPrefix, NetError};
use crate::double::{Node, state};

impl Node {
    /// The addresses that are masqueraded, of any attachment.
    pub fn masqueraded(&self) -> Vec<Entry> {
        self.0.borrow().masquerade.iter().map(|(_, entry)| *entry).collect()
    }
}

/// Masquerades what a container sends to anywhere but its network.
pub fn add(entry: Entry) -> Result<(), NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("masquerade.add")?;
    let (source, direct) = (IpAddr::from(entry.source), IpNet::from(entry.direct));
    if source.is_ipv4() != direct.addr().is_ipv4() {
        return Err(NetError::Invalid(format!("masquerade {source}: its network is of another family")));
    }
    let owner = state.owner();
    state.masquerade.retain(|(_, other)| other.source != entry.source);
    state.masquerade.push((owner, Entry { direct: direct.trunc().into(), ..entry }));
    Ok(())
}

/// Removes every entry of this attachment.
pub fn remove() -> Result<(), NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("masquerade.remove")?;
    let owner = state.owner();
    state.masquerade.retain(|(other, _)| *other != owner);
    Ok(())
}

/// Lists the entries of this attachment.
pub fn list() -> Result<Vec<Entry>, NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("masquerade.list")?;
    let owner = state.owner();
    Ok(state.masquerade.iter().filter(|(other, _)| *other == owner).map(|(_, entry)| *entry).collect())
}
