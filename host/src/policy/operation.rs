//! What a policy is asked about.

use std::fmt;

use ipnet::IpNet;

use super::number::Numbers;
use super::port::Port;
use super::rule::Key;
use super::{interface, prefix};

/// Which namespace is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The node's.
    Host,
    /// The container's.
    Container,
}

impl Side {
    /// Its name in a file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Container => "container",
        }
    }
}

impl From<crate::journal::Side> for Side {
    fn from(side: crate::journal::Side) -> Self {
        match side {
            crate::journal::Side::Host => Self::Host,
            crate::journal::Side::Container => Self::Container,
        }
    }
}

/// Something that a plugin wants to do. Links, bridges, routes, neighbors and
/// sysctls are those of the node; what is in the container's namespace is the plugin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Import an interface; its version does not matter.
    Import(&'a str),
    /// Work in a namespace.
    Namespace(Side),
    /// Make a link, or give one this name.
    CreateLink {
        /// Its kind.
        kind: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// Make, use or configure a bridge.
    Bridge(&'a str),
    /// See a link that others may be put on.
    Parent(&'a str),
    /// Put a link on another one.
    PutOn {
        /// The kind of the link that is put.
        kind: &'a str,
        /// The name of the link below; none if any may turn out to be it.
        parent: Option<&'a str>,
    },
    /// Put a link on another one that takes all that arrives there, and makes
    /// it promiscuous.
    Passthru(&'a str),
    /// Lease, report, configure, masquerade or publish an address, or all of a
    /// prefix.
    Address(IpNet),
    /// Add a route to a destination.
    Route(IpNet),
    /// Say which station has an address, or add it as the remote end of a
    /// tunnel.
    Neighbor(IpNet),
    /// Write a setting of a link.
    Sysctl(&'a str),
    /// Execute a native program.
    Delegate(&'a str),
    /// Publish a port of the node.
    Port(Port),
    /// Put a port of a bridge into VLANs.
    Vlans {
        /// The bridge; none if it is a port of none, or nobody knows of which.
        bridge: Option<&'a str>,
        /// The VLANs.
        vlans: Numbers,
    },
    /// Make the end of a tunnel to a VXLAN network.
    Vni {
        /// The link below; none if any may turn out to be it.
        parent: Option<&'a str>,
        /// The network's identifier.
        vni: u32,
    },
    /// Keep leases in a directory that is not the node's default.
    DataDir {
        /// The directory.
        path: &'a str,
        /// The network's own in it, in which they are.
        pool: &'a str,
    },
}

/// What has to be covered under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Name(&'a str),
    /// Every name that there can be.
    AnyName,
    /// In its one spelling.
    Prefix(IpNet),
    /// In its one spelling.
    Port(Port),
    Numbers(Numbers),
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::AnyName => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Numbers(numbers) => write!(f, "{numbers}"),
        }
    }
}

impl<'a> Operation<'a> {
    /// What one allow rule has to cover, all of it.
    pub(super) fn needs(&self) -> Vec<(Key, Target<'a>)> {
        match *self {
            Self::Import(import) => {
                vec![(Key::Interfaces, Target::Name(interface::unversioned(import)))]
            }
            Self::Namespace(side) => vec![(Key::Namespaces, Target::Name(side.as_str()))],
            Self::CreateLink { kind, name } => {
                let names = if kind == "bridge" { Key::Bridges } else { Key::Links };
                vec![(Key::LinkKinds, Target::Name(kind)), (names, Target::Name(name))]
            }
            Self::Bridge(name) => vec![(Key::Bridges, Target::Name(name))],
            Self::Parent(name) => vec![(Key::Parents, Target::Name(name))],
            Self::PutOn { kind, parent } => {
                let parent = parent.map_or(Target::AnyName, Target::Name);
                vec![(Key::LinkKinds, Target::Name(kind)), (Key::Parents, parent)]
            }
            Self::Passthru(name) => {
                let kind = (Key::LinkKinds, Target::Name("macvlan"));
                vec![kind, (Key::Links, Target::Name(name)), (Key::Parents, Target::Name(name))]
            }
            Self::Address(wanted) => vec![(Key::Addresses, Target::Prefix(prefix::canonical(wanted)))],
            Self::Route(wanted) => vec![(Key::Routes, Target::Prefix(prefix::canonical(wanted)))],
            Self::Neighbor(wanted) => vec![(Key::Neighbors, Target::Prefix(prefix::canonical(wanted)))],
            Self::Sysctl(name) => vec![(Key::Sysctls, Target::Name(name))],
            Self::Delegate(name) => vec![(Key::Delegates, Target::Name(name))],
            Self::Port(port) => vec![(Key::Ports, Target::Port(port.canonical()))],
            Self::Vlans { bridge, vlans } => {
                let bridge = bridge.map_or(Target::AnyName, Target::Name);
                vec![(Key::Bridges, bridge), (Key::Vlans, Target::Numbers(vlans))]
            }
            Self::Vni { parent, vni } => {
                let parent = parent.map_or(Target::AnyName, Target::Name);
                vec![(Key::Parents, parent), (Key::Vnis, Target::Numbers(Numbers::between(vni, vni)))]
            }
            Self::DataDir { path, .. } => vec![(Key::DataDirs, Target::Name(path))],
        }
    }

    /// What a deny rule may name, any of it.
    pub(super) fn exposes(&self) -> Vec<(Key, Target<'a>)> {
        let mut exposed = self.needs();
        match *self {
            // A bridge's name is a link's name too.
            Self::CreateLink { kind: "bridge", name } => exposed.push((Key::Links, Target::Name(name))),
            // Who may not touch a link may not put anything on it either.
            Self::Parent(name) | Self::PutOn { parent: Some(name), .. } | Self::Passthru(name) => {
                exposed.extend([Key::Links, Key::Bridges].map(|key| (key, Target::Name(name))));
            }
            Self::PutOn { parent: None, .. } => {
                exposed.extend([Key::Links, Key::Bridges].map(|key| (key, Target::AnyName)));
            }
            Self::DataDir { pool, .. } => exposed.push((Key::DataDirs, Target::Name(pool))),
            _ => {}
        }
        exposed
    }
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import(import) => write!(f, "import {import:?}"),
            Self::Namespace(Side::Host) => f.write_str("work in the node's namespace"),
            Self::Namespace(Side::Container) => f.write_str("work in the container's namespace"),
            Self::CreateLink { kind, name } => write!(f, "create the link {name:?} of kind {kind:?}"),
            Self::Bridge(name) => write!(f, "use the bridge {name:?}"),
            Self::Parent(name) => write!(f, "use the link {name:?} as a parent of others"),
            Self::PutOn { kind, parent: Some(name) } => {
                write!(f, "put a link of kind {kind:?} on the link {name:?}")
            }
            Self::PutOn { kind, parent: None } => {
                write!(f, "make a link of kind {kind:?} that may use every link of the node")
            }
            Self::Passthru(name) => write!(f, "take over the link {name:?} with a macvlan in mode passthru"),
            Self::Address(prefix) => write!(f, "use {prefix} as address"),
            Self::Route(prefix) => write!(f, "add a route to {prefix}"),
            Self::Neighbor(prefix) => write!(f, "have {prefix} as neighbor"),
            Self::Sysctl(name) => write!(f, "set the link setting {name:?}"),
            Self::Delegate(name) => write!(f, "execute the program {name:?}"),
            Self::Port(port) => write!(f, "publish the node's port {port}"),
            Self::Vlans { bridge: Some(bridge), vlans } => {
                write!(f, "put a port of {bridge:?} into VLAN {vlans}")
            }
            Self::Vlans { bridge: None, vlans } => write!(f, "put a port of any bridge into VLAN {vlans}"),
            Self::Vni { parent: Some(parent), vni } => {
                write!(f, "join the VXLAN network {vni} by the link {parent:?}")
            }
            Self::Vni { parent: None, vni } => {
                write!(f, "join the VXLAN network {vni} by any link of the node")
            }
            Self::DataDir { path, .. } => write!(f, "keep leases in {path:?}"),
        }
    }
}
