//! `weir:net`: links, addresses, routes, neighbors and sysctls.

use std::net::IpAddr;

use crate::IpNet;
pub use crate::bindings::platform::weir::net::types;
use types::{KernelError, NetError};

pub mod addresses;
mod link;
pub mod links;
pub(super) mod namespace;
pub mod neighbors;
pub mod routes;
pub mod sysctls;
mod upper;
mod vlans;

/// The kernel refuses with a number and words (errno(3)).
fn kernel(errno: i32, attempt: &str, words: &str) -> NetError {
    NetError::Kernel(KernelError { errno, message: format!("{attempt}: {words}") })
}

/// Reads what the author of a test wrote.
pub(super) fn parsed_net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address with a prefix length, as 10.1.0.5/24"))
}

/// Reads what the author of a test wrote.
pub(super) fn parsed_address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address, as 10.1.0.5"))
}
