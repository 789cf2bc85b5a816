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

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

pub(crate) use batch::BatchError;
pub(crate) use connection::Budget;
use connection::{ANSWER_LIMIT, Connection, Interruption};
pub(crate) use forwarding::{ALL_ADDRESSES, Forwarding, ForwardingState};
use imagined::Imagined;
pub(crate) use imagined::World;
pub(crate) use link::{BridgeSpec, VethEnd};
pub(crate) use link_state::{LinkState, OperState, PortFlags};
pub(crate) use macvlan::{MacvlanMode, MacvlanSpec};
use message::Message;
pub(crate) use neighbor::{Mac, Neighbor, NeighborState};
pub(crate) use route::{Place, RouteSpec};
pub(crate) use vlan::VlanRange;
pub(crate) use vxlan::VxlanSpec;

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
        // The kernel then answers failures with a text, and without the
        // request that they belong to.
        doors.route.set_ext_ack(true)?;
        doors.route.set_cap_ack(true)?;
        // Lists are then filtered by the kernel. Old ones cannot, so that what
        // they list is filtered here as well.
        let _ = doors.route.set_netlink_get_strict_chk(true);
        let connection = Connection::new(doors.route);
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
        // What is not sent is not done behind our back.
        if self.budget.remaining().is_zero() {
            return Err(NetlinkError::TimedOut { attempt: attempt() });
        }
        let mut request = NetlinkMessage::from(Message(message));
        request.header.flags = flags;
        let responses = self.connection.exchange(request, &self.budget).map_err(|why| match why {
            Interruption::TimedOut => NetlinkError::TimedOut { attempt: attempt() },
            Interruption::TooMany => NetlinkError::Socket {
                attempt: attempt(),
                reason: format!("there are more than {ANSWER_LIMIT}"),
            },
            Interruption::Socket(reason) => NetlinkError::Socket { attempt: attempt(), reason },
        })?;
        let mut answers = Vec::new();
        for response in responses {
            match response.payload {
                NetlinkPayload::InnerMessage(Message(answer)) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(NetlinkError::Kernel {
                        attempt: attempt(),
                        errno: -error.raw_code(),
                        reason: kernel_words(-error.raw_code(), &error.header),
                    });
                }
                _ => {}
            }
        }
        Ok(answers)
    }

    /// Sleeps, at most until the deadline.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time.min(self.budget.remaining()));
    }
}

/// The errno's text, and the kernel's own (`NLMSGERR_ATTR_MSG`) if it sent one.
///
/// `rest` is what follows the error code: the header of the refused request
/// (16 bytes, as `NETLINK_CAP_ACK` is on), then attributes.
fn kernel_words(errno: i32, rest: &[u8]) -> String {
    const REQUEST_HEADER: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let errno_text = nix::Error::from_raw(errno).desc();
    let mut attributes = rest.get(REQUEST_HEADER..).unwrap_or_default();
    while let [l0, l1, k0, k1, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = attributes.get(4..length) else { break };
        if u16::from_ne_bytes([k0, k1]) == NLMSGERR_ATTR_MSG {
            let text = String::from_utf8_lossy(value);
            return format!("{errno_text}: {}", text.trim_end_matches('\0'));
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    errno_text.to_owned()
}
