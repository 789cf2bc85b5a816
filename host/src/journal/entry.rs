//! The lines of a journal.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::buckets::Value;
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

/// How to take a change back. Carrying one out twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub(crate) enum Inverse {
    /// Delete a link, if it still is of that kind, and has the hardware address
    /// (none in journals of earlier releases) that tells it from another link
    /// that was there before, or came afterwards.
    DeleteLink {
        side: Side,
        name: String,
        kind: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<[u8; 6]>,
    },
    /// Set a link up or down again.
    SetUp { side: Side, name: String, up: bool },
    /// Set a link's MTU again.
    SetMtu { side: Side, name: String, mtu: u32 },
    /// Set a link's hardware address again.
    SetMac { side: Side, name: String, mac: [u8; 6] },
    /// Turn promiscuous mode on or off again.
    SetPromiscuous { side: Side, name: String, on: bool },
    /// Remove an address from a link that the attachment did not make.
    RemoveAddress { side: Side, name: String, prefix: String },
    /// Put an address back.
    RestoreAddress { side: Side, name: String, prefix: String },
    /// Remove a route out of a link that the attachment did not make.
    RemoveRoute {
        side: Side,
        name: String,
        destination: String,
        gateway: Option<IpAddr>,
        table: Option<u32>,
        priority: Option<u32>,
    },
    /// Remove neighbors from a link that the attachment did not make, unless
    /// somebody else has replaced them.
    RemoveNeighbors { side: Side, name: String, neighbors: Vec<Neighbor> },
    /// Put neighbors back.
    RestoreNeighbors { side: Side, name: String, neighbors: Vec<Neighbor> },
    /// Remove entries from the forwarding database of a link that the
    /// attachment did not make, unless somebody else has replaced them.
    RemoveForwarding { side: Side, name: String, entries: Vec<Forwarding> },
    /// Put entries of a forwarding database back.
    RestoreForwarding { side: Side, name: String, entries: Vec<Forwarding> },
    /// Put a setting of a link back.
    RestoreSysctl { side: Side, ipv4: bool, path: String, value: String },
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
            Self::DeleteLink { side, name, .. } => format!("{name} in {}", side.label()),
            Self::SetUp { side, name, up } => {
                format!("{name} {} in {}", if *up { "up" } else { "down" }, side.label())
            }
            Self::SetMtu { side, name, mtu } => format!("{name} {mtu} in {}", side.label()),
            Self::SetMac { side, name, mac: [a, b, c, d, e, f] } => {
                format!("{name} {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} in {}", side.label())
            }
            Self::SetPromiscuous { side, name, on } => {
                format!("{name} {} in {}", if *on { "on" } else { "off" }, side.label())
            }
            Self::RemoveAddress { side, name, prefix } | Self::RestoreAddress { side, name, prefix } => {
                format!("{prefix} on {name} in {}", side.label())
            }
            Self::RemoveRoute { side, name, destination, .. } => {
                format!("{destination} through {name} in {}", side.label())
            }
            Self::RemoveNeighbors { side, name, neighbors }
            | Self::RestoreNeighbors { side, name, neighbors } => {
                format!("{} on {name} in {}", some_of(neighbors), side.label())
            }
            Self::RemoveForwarding { side, name, entries }
            | Self::RestoreForwarding { side, name, entries } => {
                format!("{} on {name} in {}", some_of(entries), side.label())
            }
            Self::RestoreSysctl { side, path, value, .. } => format!("{path} to {value} in {}", side.label()),
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
    /// A change is about to be made.
    Change(Inverse),
}
