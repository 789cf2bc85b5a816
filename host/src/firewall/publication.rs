//! A published port, and the keys under which the packet filter keeps it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::network::octets;
use crate::protocol::Protocol;

/// A port of a container at the node's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Publication {
    pub(crate) protocol: Protocol,
    /// The node's address; none for all of them.
    pub(crate) host: Option<IpAddr>,
    pub(crate) host_port: u16,
    /// The container's address, with its network.
    pub(crate) container: IpNet,
    pub(crate) container_port: u16,
}

impl Publication {
    /// Whether it is at the same address and port of the node.
    pub(crate) fn is_at_place_of(&self, other: &Self) -> bool {
        self.key() == other.key() && self.is_ipv4() == other.is_ipv4()
    }

    /// Whether both have an address and a port of the node in common.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && self.is_ipv4() == other.is_ipv4()
            && (self.host.is_none() || other.host.is_none() || self.host == other.host)
    }

    pub(super) fn is_ipv4(&self) -> bool {
        self.container.addr().is_ipv4()
    }

    /// The key under which packets to the node find it.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = self.host.map(octets).unwrap_or_default();
        key.extend(self.port_fields(self.host_port));
        key
    }

    /// The key of the same at all addresses.
    pub(super) fn key_of_all(&self) -> Vec<u8> {
        Self { host: None, ..*self }.key()
    }

    /// Where the connection goes.
    pub(super) fn value(&self) -> Vec<u8> {
        let mut value = octets(self.container.addr());
        value.extend(padded(&self.container_port.to_be_bytes()));
        value
    }

    /// The key under which packets that are on their way to the container find
    /// out whether their answers would get lost.
    pub(super) fn answer_key(&self) -> Vec<u8> {
        let mut key = self.host.map(octets).unwrap_or_default();
        key.extend(octets(self.container.addr()));
        key.extend(self.port_fields(self.host_port));
        key
    }

    /// Each field of a key fills whole words of four bytes.
    fn port_fields(&self, port: u16) -> Vec<u8> {
        [padded(&[self.protocol.number()]), padded(&port.to_be_bytes())].concat()
    }

    /// Reads an element of the maps that lead to containers. The network is
    /// not in there.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (address, ports) = key.split_at_checked(key.len().checked_sub(8)?)?;
        let (container, container_port) = value.split_at_checked(value.len().checked_sub(4)?)?;
        let host = if address.is_empty() { None } else { Some(self::address(address)?) };
        Some(Self {
            protocol: Protocol::of_number(*ports.first()?)?,
            host,
            host_port: u16::from_be_bytes(*ports.get(4..)?.first_chunk()?),
            container: self::address(container)?.into(),
            container_port: u16::from_be_bytes(*container_port.first_chunk()?),
        })
    }
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut word = vec![0; 4];
    word[..bytes.len()].copy_from_slice(bytes);
    word
}

/// The address that these bytes are.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}/{} to ", self.host_port, self.protocol)?;
        std::net::SocketAddr::new(self.container.addr(), self.container_port).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(host: Option<&str>, container: &str) -> Publication {
        Publication {
            protocol: Protocol::Sctp,
            host: host.map(|host| host.parse().unwrap()),
            host_port: 0x1234,
            container: container.parse().unwrap(),
            container_port: 80,
        }
    }

    #[test]
    fn elements_read_back() {
        for (host, container) in [
            (None, "10.1.0.5/32"),
            (Some("192.0.2.1"), "10.1.0.5/32"),
            (None, "fd00::5/128"),
            (Some("2001:db8::1"), "fd00::5/128"),
        ] {
            let one = publication(host, container);
            assert_eq!(Publication::read(&one.key(), &one.value()), Some(one));
        }
        for (key, value) in [(&[][..], &[][..]), (&[6; 8], &[0; 3]), (&[1; 8], &[0; 8]), (&[6; 11], &[0; 8])]
        {
            assert_eq!(Publication::read(key, value), None);
        }
    }

    #[test]
    fn keys_have_whole_words() {
        let one = publication(Some("192.0.2.1"), "10.1.0.5/24");
        assert_eq!(one.key(), [192, 0, 2, 1, 132, 0, 0, 0, 0x12, 0x34, 0, 0]);
        assert_eq!(one.key_of_all(), [132, 0, 0, 0, 0x12, 0x34, 0, 0]);
        assert_eq!(one.value(), [10, 1, 0, 5, 0, 80, 0, 0]);
        assert_eq!(one.answer_key(), [192, 0, 2, 1, 10, 1, 0, 5, 132, 0, 0, 0, 0x12, 0x34, 0, 0]);
    }

    #[test]
    fn all_addresses_meet_each_of_their_family() {
        let (all, one) = (publication(None, "10.1.0.5/24"), publication(Some("192.0.2.1"), "10.1.0.6/24"));
        assert!(all.meets(&one) && one.meets(&all) && !all.is_at_place_of(&one));
        assert!(!one.meets(&publication(Some("192.0.2.2"), "10.1.0.6/24")));
        assert!(
            !all.meets(&publication(None, "fd00::5/64"))
                && !all.is_at_place_of(&publication(None, "fd00::5/64"))
        );
        assert!(all.is_at_place_of(&publication(None, "10.1.0.9/24")));
    }

    #[test]
    fn messages_name_both_ends() {
        assert_eq!(publication(None, "fd00::5/64").to_string(), "4660/sctp to [fd00::5]:80");
        assert_eq!(
            publication(Some("127.0.0.1"), "10.1.0.5/24").to_string(),
            "127.0.0.1:4660/sctp to 10.1.0.5:80"
        );
    }
}
