//! Requests to the kernel's routing netlink (rtnetlink(7)), in one namespace.
//!
//! The operations know nothing of plugins, policy or journals; those stand
//! above, in `capability` and `journal`.

mod address;
mod batch;
mod connection;
mod forwarding;
mod imagined;
mod link;
mod link_state;
mod macvlan;
mod message;
mod namespace;
mod neighbor;
mod route;
mod sysctl;
mod vlan;
mod vxlan;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::packet_route::RouteNetlinkMessage;

pub(crate) use batch::BatchError;
pub(crate) use connection::Budget;
use connection::{Cause, Connection};
pub(crate) use forwarding::{ALL_ADDRESSES, Forwarding, ForwardingState};
use imagined::Imagined;
pub(crate) use imagined::World;
pub(crate) use link::{BridgeSpec, VethEnd};
pub(crate) use link_state::{LinkState, OperState, PortFlags};
pub(crate) use macvlan::{MacvlanMode, MacvlanSpec};
pub(crate) use neighbor::{Mac, Neighbor, NeighborState};
pub(crate) use route::{Place, RouteSpec};
pub(crate) use vlan::VlanRange;
pub(crate) use vxlan::VxlanSpec;

use crate::kernel::{Interruption, Refusal};
use crate::netns::{Doors, NetnsFile};

/// Why a request to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    /// The kernel refused.
    #[error("{attempt}: {reason} (errno {errno})")]
    Kernel {
        /// What was attempted, on which object.
        attempt: String,
        /// The positive errno.
        errno: i32,
        /// The kernel's words.
        reason: String,
    },
    /// What was looked for does not exist.
    #[error("{attempt}: it does not exist")]
    Absent {
        /// What was attempted, on which object.
        attempt: String,
    },
    /// No answer within the call's time.
    #[error("{attempt}: no answer within the time that the call has left")]
    TimedOut {
        /// What was attempted, on which object.
        attempt: String,
    },
    /// The socket failed.
    #[error("{attempt}: {reason}")]
    Socket {
        /// What was attempted, on which object.
        attempt: String,
        /// Why.
        reason: String,
    },
}

impl NetlinkError {
    /// The kernel's errno, or 0.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::Kernel { errno, .. } => *errno,
            Self::Absent { .. } => nix::libc::ENODEV,
            Self::TimedOut { .. } | Self::Socket { .. } => 0,
        }
    }

    /// Whether the object was not there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.errno(), nix::libc::ENODEV | nix::libc::ENOENT | nix::libc::ESRCH | nix::libc::ENXIO)
    }

    /// Whether the object was there already.
    pub(crate) fn is_existing(&self) -> bool {
        self.errno() == nix::libc::EEXIST
    }
}

/// An open namespace and the requests that can be made in it.
pub(crate) struct Netns {
    file: Arc<NetnsFile>,
    label: &'static str,
    connection: Connection,
    ipv4: OwnedFd,
    ipv6: Option<OwnedFd>,
    budget: Arc<Budget>,
    /// In a plan, what stands between it and the kernel.
    imagined: Option<Imagined>,
}

impl Netns {
    /// Opens the namespace of the node, which the calling thread is in.
    pub(crate) fn host(file: Arc<NetnsFile>, budget: Arc<Budget>) -> std::io::Result<Self> {
        let doors = file.own_doors()?;
        Self::with_doors(file, "the host namespace", doors, budget)
    }

    /// Opens the namespace of a container; `own` is the one that the calling
    /// thread is in.
    pub(crate) fn container(file: NetnsFile, own: &NetnsFile, budget: Arc<Budget>) -> std::io::Result<Self> {
        let doors = file.doors(own)?;
        Self::with_doors(Arc::new(file), "the container namespace", doors, budget)
    }

    fn with_doors(
        file: Arc<NetnsFile>,
        label: &'static str,
        doors: Doors,
        budget: Arc<Budget>,
    ) -> std::io::Result<Self> {
        let connection = Connection::new(doors.route)?;
        Ok(Self { file, label, connection, ipv4: doors.ipv4, ipv6: doors.ipv6, budget, imagined: None })
    }

    /// The same for a plan: from now on nothing is changed but `world`.
    pub(crate) fn imagining(self, world: &Arc<World>) -> std::io::Result<Self> {
        let number = self.file.inode().ok_or_else(std::io::Error::last_os_error)?;
        Ok(Self { imagined: Some(Imagined::new(Arc::clone(world), number)), ..self })
    }

    /// How messages call this namespace.
    pub(crate) fn label(&self) -> &'static str {
        self.label
    }

    /// The namespace itself.
    pub(crate) fn file(&self) -> &NetnsFile {
        &self.file
    }

    /// Asks for a change and returns what the kernel echoes.
    fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        attempt: impl Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.transact(message, NLM_F_REQUEST | NLM_F_ACK | flags, attempt)
    }

    /// Asks for one object.
    fn get(
        &self,
        message: RouteNetlinkMessage,
        attempt: impl Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.transact(message, NLM_F_REQUEST, attempt)
    }

    /// Asks for all objects of a kind.
    fn dump(
        &self,
        message: RouteNetlinkMessage,
        attempt: impl Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.transact(message, NLM_F_REQUEST | NLM_F_DUMP, attempt)
    }

    fn transact(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        attempt: impl Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let attempt = || format!("{} in {}", attempt(), self.label);
        if let Some(imagined) = &self.imagined {
            return imagined
                .answer(message, flags, &attempt, &|question, flags| self.send(question, flags, &attempt));
        }
        self.send(message, flags, &attempt)
    }

    fn send(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        attempt: &dyn Fn() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        // What stands in for the kernel in a plan is alone in reading settings.
        let with_settings = self.imagined.is_some();
        self.connection.exchange(message, flags, with_settings, &self.budget).map_err(|cause| match cause {
            Cause::Refused(Refusal { errno, reason }) => {
                NetlinkError::Kernel { attempt: attempt(), errno, reason }
            }
            Cause::Interrupted(Interruption::TimedOut) => NetlinkError::TimedOut { attempt: attempt() },
            Cause::Interrupted(Interruption::Socket(reason)) => {
                NetlinkError::Socket { attempt: attempt(), reason }
            }
        })
    }

    /// Sleeps, at most until the deadline.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time.min(self.budget.remaining()));
    }
}
