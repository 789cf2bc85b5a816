//! Results of ADD, and their forms in the versions of the specification
//! (section "Success"; the older forms in the tags spec-v0.2.0 to spec-v0.4.0).

mod json;

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::version::Version;

/// An address with its prefix length; unlike a network it has host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// The prefix length.
    pub length: u8,
}

impl Prefix {
    /// The network that the address is in.
    pub fn network(self) -> Option<IpNet> {
        IpNet::new(self.address, self.length).ok().map(|net| net.trunc())
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl std::str::FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let net: IpNet =
            text.parse().map_err(|_| format!("{text:?} is not an address with a prefix length"))?;
        Ok(Self { address: net.addr(), length: net.prefix_len() })
    }
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address; empty if it has none.
    pub mac: String,
    /// Its MTU (1.1.0).
    pub mtu: Option<u32>,
    /// The namespace's path; empty for the node's.
    pub sandbox: String,
    /// Path of a socket (1.1.0), as another plugin reported it.
    pub socket_path: String,
    /// PCI address (1.1.0), as another plugin reported it.
    pub pci_id: String,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// The address.
    pub address: Prefix,
    /// The network's gateway.
    pub gateway: Option<IpAddr>,
    /// Position in the list of interfaces.
    pub interface: Option<u32>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: Prefix,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// Path MTU (1.1.0, as all that follow).
    pub mtu: Option<u32>,
    /// Maximum segment size.
    pub advmss: Option<u32>,
    /// Metric.
    pub priority: Option<u32>,
    /// Routing table.
    pub table: Option<u32>,
    /// Scope.
    pub scope: Option<u32>,
}

/// Name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers.
    pub nameservers: Vec<String>,
    /// Local domain.
    pub domain: String,
    /// Search list.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// What ADD made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniResult {
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Name resolution.
    pub dns: Dns,
}

impl CniResult {
    /// Reads a result in the form of `version`, or of the version that it
    /// names itself.
    pub fn read(value: &Value, version: Version) -> Result<Self, String> {
        json::read(value, version)
    }

    /// Writes it in the form of `version`. Versions before 0.3.0 cannot say
    /// more than one address of each family, and must say one.
    pub fn write(&self, version: Version) -> Result<Value, String> {
        json::write(self, version)
    }
}
