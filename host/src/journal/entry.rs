//! The lines of a journal.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::buckets::Value;
use crate::delegate::Process;
use crate::firewall::{self, Publication};
use crate::netlink::{Forwarding, Neighbor};
use crate::printable::printable;

/// Which namespace a change was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// The node's.
    Host,
    /// The container's.
    Container,
}

impl Side {
    /// How messages call it.
    fn label(self) -> &'static str {
        match self {
            Self::Host => "the host namespace",
            Self::Container => "the container namespace",
        }
    }
}

/// The link that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkId {
    pub(crate) side: Side,
    /// Its name, which another link may have by now.
    pub(crate) name: String,
    /// Its index, which the kernel gives no other link of the namespace; none
    /// if the link was not there yet, and in journals of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u32>,
}

impl LinkId {
    /// A link that is about to be made.
    pub(crate) fn new(side: Side, name: &str) -> Self {
        Self { side, name: name.to_owned(), index: None }
    }

    /// The link, and what it is to be.
    fn with(&self, value: impl fmt::Display) -> String {
        format!("{} {value} in {}", self.name, self.side.label())
    }

    /// Whether it is the same link, as far as both say so.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let is_same = match (self.index, other.index) {
            (Some(one), Some(other)) => one == other,
            _ => self.name == other.name,
        };
        self.side == other.side && is_same
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name, self.side.label())
    }
}

/// How to take a change back. Carrying one out twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub(crate) enum Inverse {
    /// Delete a link, if it still is of that kind, and has the hardware address
    /// (none in journals of earlier releases) that tells it from another link
    /// that was there before, or came afterwards.
    DeleteLink {
        #[serde(flatten)]
        link: LinkId,
        kind: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<[u8; 6]>,
    },
    /// Set a link up or down again.
    SetUp {
        #[serde(flatten)]
        link: LinkId,
        up: bool,
    },
    /// Set a link's MTU again.
    SetMtu {
        #[serde(flatten)]
        link: LinkId,
        mtu: u32,
    },
    /// Set a link's hardware address again.
    SetMac {
        #[serde(flatten)]
        link: LinkId,
        mac: [u8; 6],
    },
    /// Turn promiscuous mode on or off again.
    SetPromiscuous {
        #[serde(flatten)]
        link: LinkId,
        on: bool,
    },
    /// Remove an address from a link that the attachment did not make.
    RemoveAddress {
        #[serde(flatten)]
        link: LinkId,
        prefix: String,
    },
    /// Put an address back.
    RestoreAddress {
        #[serde(flatten)]
        link: LinkId,
        prefix: String,
    },
    /// Remove a route out of a link that the attachment did not make.
    RemoveRoute {
        #[serde(flatten)]
        link: LinkId,
        destination: String,
        gateway: Option<IpAddr>,
        table: Option<u32>,
        priority: Option<u32>,
    },
    /// Remove neighbors from a link that the attachment did not make, unless
    /// somebody else has replaced them.
    RemoveNeighbors {
        #[serde(flatten)]
        link: LinkId,
        neighbors: Vec<Neighbor>,
    },
    /// Put neighbors back.
    RestoreNeighbors {
        #[serde(flatten)]
        link: LinkId,
        neighbors: Vec<Neighbor>,
    },
    /// Remove entries from the forwarding database of a link that the
    /// attachment did not make, unless somebody else has replaced them.
    RemoveForwarding {
        #[serde(flatten)]
        link: LinkId,
        entries: Vec<Forwarding>,
    },
    /// Put entries of a forwarding database back.
    RestoreForwarding {
        #[serde(flatten)]
        link: LinkId,
        entries: Vec<Forwarding>,
    },
    /// Put a setting of a link back.
    RestoreSysctl {
        #[serde(flatten)]
        link: LinkId,
        ipv4: bool,
        key: String,
        value: String,
    },
    /// Release a lease.
    ReleaseLease { data_dir: PathBuf, address: IpAddr },
    /// Take an address out of masquerading.
    RemoveMasquerade { source: IpAddr },
    /// Take a hardware address off a port's guard.
    RemoveGuard { port: String, mac: [u8; 6] },
    /// Give a key of a plugin's bucket the value that it had (none: remove it),
    /// if it still has the one of this tag (none: is still removed). Counts
    /// only until the ADD has succeeded.
    RestoreValue { plugin: String, key: String, earlier: Option<Value>, written: Option<u64> },
    /// End the publishing of ports.
    RemovePorts { ports: Vec<Publication> },
    /// Call DEL of a native IPAM plugin, with the attachment's configuration.
    DelegateDel { plugin: String, path: Vec<PathBuf> },
}

impl Inverse {
    /// Whether the change is for good once the ADD has succeeded.
    pub(super) fn is_until_added(&self) -> bool {
        matches!(self, Self::RestoreValue { .. })
    }

    /// The link that was changed or made.
    pub(crate) fn link(&self) -> Option<&LinkId> {
        match self {
            Self::DeleteLink { link, .. }
            | Self::SetUp { link, .. }
            | Self::SetMtu { link, .. }
            | Self::SetMac { link, .. }
            | Self::SetPromiscuous { link, .. }
            | Self::RemoveAddress { link, .. }
            | Self::RestoreAddress { link, .. }
            | Self::RemoveRoute { link, .. }
            | Self::RemoveNeighbors { link, .. }
            | Self::RestoreNeighbors { link, .. }
            | Self::RemoveForwarding { link, .. }
            | Self::RestoreForwarding { link, .. }
            | Self::RestoreSysctl { link, .. } => Some(link),
            Self::ReleaseLease { .. }
            | Self::RemoveMasquerade { .. }
            | Self::RemoveGuard { .. }
            | Self::RestoreValue { .. }
            | Self::RemovePorts { .. }
            | Self::DelegateDel { .. } => None,
        }
    }

    /// The operation's name, for the audit log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::DeleteLink { .. } => "undo create-link",
            Self::SetUp { .. } => "undo set-up",
            Self::SetMtu { .. } => "undo set-mtu",
            Self::SetMac { .. } => "undo set-mac",
            Self::SetPromiscuous { .. } => "undo set-promiscuous",
            Self::RemoveAddress { .. } => "undo add-address",
            Self::RestoreAddress { .. } => "undo remove-address",
            Self::RemoveRoute { .. } => "undo add-route",
            Self::RemoveNeighbors { .. } => "undo add-neighbors",
            Self::RestoreNeighbors { .. } => "undo remove-neighbors",
            Self::RemoveForwarding { .. } => "undo add-forwarding",
            Self::RestoreForwarding { .. } => "undo remove-forwarding",
            Self::RestoreSysctl { .. } => "undo set-sysctl",
            Self::ReleaseLease { .. } => "undo reserve",
            Self::RemoveMasquerade { .. } => "undo masquerade",
            Self::RemoveGuard { .. } => "undo guard",
            Self::RestoreValue { written: Some(_), .. } => "undo set-value",
            Self::RestoreValue { written: None, .. } => "undo remove-value",
            Self::RemovePorts { .. } => "undo publish",
            Self::DelegateDel { .. } => "undo delegate",
        }
    }

    /// What it is done to, for the audit log.
    pub(crate) fn object(&self) -> String {
        match self {
            Self::DeleteLink { link, .. } => link.to_string(),
            Self::SetUp { link, up } => link.with(if *up { "up" } else { "down" }),
            Self::SetMtu { link, mtu } => link.with(mtu),
            Self::SetMac { link, mac: [a, b, c, d, e, f] } => {
                link.with(format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
            }
            Self::SetPromiscuous { link, on } => link.with(if *on { "on" } else { "off" }),
            Self::RemoveAddress { link, prefix } | Self::RestoreAddress { link, prefix } => {
                format!("{prefix} on {link}")
            }
            Self::RemoveRoute { link, destination, .. } => format!("{destination} through {link}"),
            Self::RemoveNeighbors { link, neighbors } | Self::RestoreNeighbors { link, neighbors } => {
                format!("{} on {link}", some_of(neighbors))
            }
            Self::RemoveForwarding { link, entries } | Self::RestoreForwarding { link, entries } => {
                format!("{} on {link}", some_of(entries))
            }
            Self::RestoreSysctl { link, key, value, .. } => {
                format!("conf/{}/{key} to {value} in {}", link.name, link.side.label())
            }
            Self::ReleaseLease { address, .. } => address.to_string(),
            Self::RemoveMasquerade { source } => source.to_string(),
            Self::RemoveGuard { port, .. } => port.clone(),
            Self::RestoreValue { key, .. } => printable(key).into_owned(),
            Self::RemovePorts { ports } => firewall::summary(ports),
            Self::DelegateDel { plugin, .. } => plugin.clone(),
        }
    }
}

/// The items of a list, as far as a line of the audit log has room for them.
pub(crate) fn some_of(items: &[impl fmt::Display]) -> String {
    const SHOWN: usize = 8;
    let mut text: String = items.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = items.len().checked_sub(SHOWN) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// A line after the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    /// The change number `cancel` (from 0) was not made.
    Cancelled { cancel: usize },
    /// ADD succeeded with these addresses.
    Added { added: Vec<String> },
    /// ADD waits for a program.
    Waiting(Process),
    /// A change is about to be made.
    Change(Inverse),
}
