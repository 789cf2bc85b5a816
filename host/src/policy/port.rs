//! Ports of the node, as rules name them: `8080/tcp`, `8000-8099/tcp`,
//! `127.0.0.1:8080/tcp`, `[2001:db8::1]:443/tcp`.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

/// A port of the node that is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The node's address; none for all that it has.
    pub address: Option<IpAddr>,
    /// The number.
    pub number: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// Ports that follow on each other, at one address of the node or, if there is
/// none, at every address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    address: Option<IpAddr>,
    first: u16,
    last: u16,
    protocol: Protocol,
}

impl Port {
    /// In its one spelling.
    pub(super) fn canonical(self) -> Self {
        Self { address: self.address.map(|address| address.to_canonical()), ..self }
    }

    /// Reads a port, as in `127.0.0.1:8080/tcp`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let ports = Ports::parse(text)?;
        if ports.first != ports.last {
            return Err(format!("{text:?} is a range of ports: expected one"));
        }
        Ok(Self { address: ports.address, number: ports.first, protocol: ports.protocol })
    }
}

impl From<Port> for Ports {
    fn from(port: Port) -> Self {
        let Port { address, number, protocol } = port.canonical();
        Self { address, first: number, last: number, protocol }
    }
}

impl Ports {
    /// Reads an entry of a policy file.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} names no ports: expected the like of \"8080/tcp\", \"8000-8099/udp\", \"127.0.0.1:8080/tcp\" or \"[2001:db8::1]:443/tcp\""
            )
        };
        let (ports, protocol) = text.rsplit_once('/').ok_or_else(bad)?;
        let protocol = protocol.parse().map_err(|reason| format!("{text:?}: {reason}"))?;
        let (address, numbers) = match ports.rsplit_once(':') {
            Some((address, numbers)) => (Some(self::address(address).ok_or_else(bad)?), numbers),
            None => (None, ports),
        };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        if first > last {
            return Err(format!("{text:?} ends before it begins: write the lower port first"));
        }
        if address.is_some_and(|address| address.is_unspecified()) {
            return Err(format!("{text:?}: leave the address out to mean every address of the node"));
        }
        Ok(Self { address, first, last, protocol })
    }

    /// Whether all of `narrow` is in it.
    pub(super) fn covers(&self, narrow: &Self) -> bool {
        self.protocol == narrow.protocol
            && self.first <= narrow.first
            && narrow.last <= self.last
            && (self.address.is_none() || self.address == narrow.address)
    }

    /// Whether it has a port in common with `other`.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.first <= other.last
            && other.first <= self.last
            && (self.address.is_none() || other.address.is_none() || self.address == other.address)
    }
}

/// Reads an address, which has brackets if it is of IPv6.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(|address| address.to_canonical()),
        None => text.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Reads a port's number in its one spelling.
fn number(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            None => {}
        }
        match (self.first, self.last) {
            (first, last) if first == last => write!(f, "{first}")?,
            (first, last) => write!(f, "{first}-{last}")?,
        }
        write!(f, "/{}", self.protocol)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ports::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Ports {
        Ports::parse(text).unwrap()
    }

    #[test]
    fn entries_read_back() {
        for text in [
            "8080/tcp",
            "8000-8099/udp",
            "1-65535/sctp",
            "127.0.0.1:8080/tcp",
            "[2001:db8::1]:443/tcp",
            "[fd00::1]:1-9/udp",
        ] {
            assert_eq!(ports(text).to_string(), text);
        }
        assert_eq!(ports("5-5/tcp").to_string(), "5/tcp");
        assert_eq!(ports("[::ffff:127.0.0.1]:80/tcp"), ports("127.0.0.1:80/tcp"));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for bad in [
            "",
            "80",
            "/tcp",
            "80/",
            "80/icmp",
            "80/TCP",
            "0/tcp",
            "65536/tcp",
            "080/tcp",
            "+80/tcp",
            "80-/tcp",
            "-80/tcp",
            "90-80/tcp",
            "80-90-99/tcp",
            "*/tcp",
            "80/*",
            ":80/tcp",
            "0.0.0.0:80/tcp",
            "[::]:80/tcp",
            "::1:80/tcp",
            "[127.0.0.1]:80/tcp",
            "10.0.0.0/8:80/tcp",
            "localhost:80/tcp",
            "[fe80::1%eth0]:80/tcp",
            " 80/tcp",
        ] {
            assert!(Ports::parse(bad).is_err(), "{bad}");
        }
        assert!(Ports::parse("90-80/tcp").unwrap_err().contains("lower port first"));
        assert!(Ports::parse("[::]:80/tcp").unwrap_err().contains("leave the address out"));
        assert!(Port::parse("80-81/tcp").is_err() && Port::parse("80-80/tcp").is_ok());
    }

    #[test]
    fn every_address_is_more_than_one() {
        let (all, one) = (ports("80-89/tcp"), ports("127.0.0.1:80/tcp"));
        assert!(all.covers(&one) && !one.covers(&ports("80/tcp")));
        assert!(all.overlaps(&one) && one.overlaps(&all) && one.overlaps(&ports("80/tcp")));
        assert!(!one.overlaps(&ports("127.0.0.2:80/tcp")) && !one.covers(&ports("127.0.0.2:80/tcp")));
        for other in ["80/udp", "90/tcp", "79/tcp"] {
            assert!(!all.overlaps(&ports(other)) && !all.covers(&ports(other)), "{other}");
        }
        assert!(all.overlaps(&ports("89-99/tcp")) && !all.covers(&ports("89-99/tcp")));
    }
}
