//! Everything that a weir plugin written in Rust needs.
//!
//! A plugin implements [`InterfacePlugin`] or [`IpamPlugin`], names its type in
//! [`export_interface_plugin!`] or [`export_ipam_plugin!`], and uses the
//! modules [`host`], [`net`], [`firewall`] and [`store`], which are the
//! contract's packages. It is built for `wasm32-unknown-unknown`.
//!
//! Everywhere else these modules are a *double*: a node that exists only in
//! the memory of the thread, so that a plugin's logic has ordinary unit tests
//! (see [`double`]).

#![forbid(unsafe_op_in_unsafe_fn)]

mod arguments;
#[doc(hidden)]
#[allow(missing_docs, reason = "generated")]
pub mod bindings;
mod config;
mod dns;
#[cfg(not(target_arch = "wasm32"))]
pub mod double;
mod error;
#[cfg(all(target_arch = "wasm32", feature = "heap"))]
mod heap;
pub mod interface;
pub mod mac;
mod plugin;
mod route;
mod values;
pub mod veth;

pub use arguments::Arguments;
pub use bindings::platform::weir::plugin::types;
pub use config::{Config, read as read_config};
pub use dns::DnsConfig;
pub use ipnet::IpNet;
pub use plugin::{InterfacePlugin, IpamPlugin};
pub use route::RouteConfig;
pub use types::{CniError, CniResult, IpamResult};
pub use values::{parse_address, parse_net};

#[cfg(target_arch = "wasm32")]
pub use bindings::{
    interface::weir::plugin::ipam,
    platform::weir::{firewall, host, net, plugin::request, store},
};
#[cfg(not(target_arch = "wasm32"))]
pub use double::{firewall, host, ipam, net, request, store};

#[doc(hidden)]
pub use plugin::install_panic_hook;
