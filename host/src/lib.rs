//! weir, a CNI plugin host: privileged operations are done here, decisions are
//! made by sandboxed WebAssembly components.
//!
//! The modules follow the path of a call: `request` reads it, `catalog` finds
//! the component, `policy` says what it may do, `session` starts it with what it
//! may use, `role` calls it, `capability` serves what it asks for and writes the
//! way back into the `journal`, `reply` answers. `netlink` and `firewall` are
//! what is asked of the `kernel`. In a plan, `imagination` stands between that
//! and the node.

mod aot;
mod audit;
mod boot;
mod buckets;
mod call;
mod capability;
mod catalog;
pub mod cli;
mod confine;
mod delegate;
pub mod dispatch;
mod engine;
mod failure;
mod firewall;
mod gc;
mod guest;
pub mod heap;
mod imagination;
mod journal;
mod kernel;
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
mod large_pages;
mod leases;
mod limits;
mod lock;
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
mod memory;
mod netlink;
mod netns;
mod node;
mod paths;
mod platform;
pub mod policy;
mod printable;
mod protocol;
mod real_path;
pub mod reply;
pub mod request;
pub mod result;
mod role;
mod session;
pub mod start;
mod trace;
pub mod version;
mod wit;

pub use failure::Failure;
pub use paths::Paths;
