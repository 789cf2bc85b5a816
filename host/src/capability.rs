//! What plugins can ask the host to do: one module for each interface of the
//! contract, with its checks, and the way back that each change gets in the
//! journal.

mod addresses;
mod ambient;
pub(crate) mod bucket;
mod error;
mod files;
mod forwarding;
mod guards;
mod ipam;
pub(crate) mod leases;
mod link_info;
pub(crate) mod links;
mod macvlan;
mod masquerade;
pub(crate) mod namespaces;
mod native;
mod neighbors;
mod permission;
mod publish;
pub(crate) mod request;
mod routes;
mod sysctls;
mod values;
mod vlans;
mod vxlan;

pub(crate) use request::{AttachmentHandle, NetworkHandle};
pub(crate) use values::{cni_result, failure, ipam_result};
