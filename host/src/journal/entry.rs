//! The lines of a journal.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which namespace a change was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// The node's.
    Host,
    /// The container's.
    Container,
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
    /// Put a setting of a link back.
    RestoreSysctl { side: Side, ipv4: bool, path: String, value: String },
    /// Release a lease.
    ReleaseLease { data_dir: PathBuf, address: IpAddr },
    /// Take an address out of masquerading.
    RemoveMasquerade { source: IpAddr },
    /// Take a hardware address off a port's guard.
    RemoveGuard { port: String, mac: [u8; 6] },
    /// Call DEL of a native IPAM plugin, with the attachment's configuration.
    DelegateDel { plugin: String, path: Vec<PathBuf> },
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
