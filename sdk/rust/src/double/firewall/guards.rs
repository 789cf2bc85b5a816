//! `weir:firewall/guards`: hardware addresses that a port may send from.

pub use crate::bindings::platform::weir::net::types::{MacAddress, NetError};
pub use crate::double::net::links::Link;
use crate::double::request::Owner;
use crate::double::{Node, state};

/// A guard, which knows its port by name.
#[derive(Debug)]
pub(in crate::double) struct Guard {
    owner: Owner,
    port: String,
    mac: MacAddress,
}

impl Node {
    /// The guarded ports and what they may send from, of any attachment.
    pub fn guards(&self) -> Vec<(String, MacAddress)> {
        self.0.borrow().guards.iter().map(|guard| (guard.port.clone(), guard.mac)).collect()
    }
}

/// Drops frames that enter by the port `link` from a source other than `mac`.
pub fn add(link: &Link, mac: MacAddress) -> Result<(), NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("guards.add")?;
    if !link.is_own() {
        return Err(NetError::Denied(format!(
            "guard link {}: it was not made by this attachment",
            link.name()
        )));
    }
    let owner = state.owner();
    state.guards.push(Guard { owner, port: link.name().to_owned(), mac });
    Ok(())
}

/// Removes every guard of this attachment.
pub fn remove() -> Result<(), NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("guards.remove")?;
    let owner = state.owner();
    state.guards.retain(|guard| guard.owner != owner);
    Ok(())
}

/// Tells whether the guard is in place.
pub fn present(link: &Link, mac: MacAddress) -> Result<bool, NetError> {
    let node = state::current();
    let mut state = node.borrow_mut();
    state.pass("guards.present")?;
    Ok(state.guards.iter().any(|guard| guard.port == link.name() && guard.mac == mac))
}
