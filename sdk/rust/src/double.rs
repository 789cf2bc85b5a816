//! A node that exists only in the memory of the thread: the double of the
//! contract, on which plugins have ordinary unit tests.
//!
//! The modules [`host`], [`net`], [`firewall`], [`store`], [`request`] and
//! [`ipam`] have the functions that the bindings for wasm have. They work on
//! the thread's [`Node`], which refuses what the real host and the kernel
//! refuse: a link of somebody else cannot be deleted, a gateway has to be
//! reachable, a file has to stand in the configuration. Nothing of it needs
//! root, and tests run in parallel, since each has a thread of its own.
//!
//! # Writing a test
//!
//! [`Node::new`] makes a node with a container and lets the thread use it.
//! [`Attachment::new`](request::Attachment::new) is what the runtime asks for.
//! The plugin's functions are called as they are, and afterwards the node tells
//! what it has become.
//!
//! ```
//! use weir_sdk::double::{Node, Side};
//! use weir_sdk::net::addresses;
//! use weir_sdk::net::links::{self, VethEnd};
//! use weir_sdk::net::types::NetError;
//! use weir_sdk::request::{Attachment, Network};
//! use weir_sdk::{CniError, CniResult, InterfacePlugin, interface, ipam, types::Dns};
//!
//! struct Wire;
//!
//! impl InterfacePlugin for Wire {
//!     fn add(attachment: &Attachment) -> Result<CniResult, CniError> {
//!         let answer = ipam::add(attachment)?;
//!         let result =
//!             CniResult { interfaces: Vec::new(), ips: answer.ips, routes: answer.routes, dns: Dns::none() };
//!         let ifname = attachment.id().ifname;
//!         let (host, container) = (links::host()?, links::container()?);
//!         let near = VethEnd { name: "wire0".to_owned(), mac: None, up: true };
//!         let far = VethEnd { name: ifname.clone(), mac: None, up: false };
//!         let (_near, far) = host.create_veth(&near, &far, &container, 1400, None)?;
//!         interface::configure(&container, &far, &ifname, &result)?;
//!         Ok(result)
//!     }
//! #   fn del(_: &Attachment) -> Result<(), CniError> { Ok(()) }
//! #   fn check(_: &Attachment) -> Result<(), CniError> { Ok(()) }
//! #   fn gc(_: &Network) -> Result<(), CniError> { Ok(()) }
//! #   fn status(_: &Network) -> Result<(), CniError> { Ok(()) }
//! }
//!
//! // A node, and the answer of the IPAM plugin.
//! let node = Node::new()
//!     .with_ipam_address("10.1.0.5/24", Some("10.1.0.1"))
//!     .with_ipam_route("10.2.0.0/16", None);
//! let attachment = Attachment::new(r#"{"cniVersion": "1.1.0", "ipam": {"type": "host-local"}}"#);
//!
//! Wire::add(&attachment).unwrap();
//!
//! // What has become of the node.
//! assert_eq!(node.link(Side::Container, "eth0").unwrap().mtu, 1400);
//! assert_eq!(node.addresses(Side::Container, "eth0"), ["10.1.0.5/24".parse().unwrap()]);
//! assert_eq!(node.routes(Side::Container, "eth0").len(), 1);
//!
//! // What somebody else does meanwhile is done by the contract's functions.
//! let far = links::container().unwrap().link("eth0").unwrap();
//! far.remove().unwrap();
//! assert!(node.link(Side::Host, "wire0").is_none(), "the other end goes with it");
//!
//! // A refusal. The node complains at its end if the plugin did not meet it.
//! node.fail_next("netns.create-veth", NetError::Busy("the kernel has no time".to_owned()));
//! assert_eq!(Wire::add(&attachment).unwrap_err().code, CniError::TRY_AGAIN);
//! ```
//!
//! # Which attachment is served
//!
//! Leases, links and firewall entries belong to the attachment that is being
//! served, which the contract's functions do not name. Here it is the one that
//! the plugin looked at last: any function of
//! [`Attachment`](request::Attachment) or [`Network`](request::Network) makes
//! it so, and every plugin begins by reading its configuration.

pub mod firewall;
pub mod host;
pub mod ipam;
pub mod net;
mod node;
mod refusal;
pub mod request;
mod state;
pub mod store;

#[cfg(test)]
mod tests;

pub use ipam::IpamCall;
pub use node::{Node, Side};
pub use refusal::Refusal;
pub use store::leases::Lease;
