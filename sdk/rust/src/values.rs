//! Addresses between the contract and the standard library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::bindings::platform::weir::net::types::{IpAddress, IpFamily, IpPrefix};

impl From<IpAddr> for IpAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                Self::Ipv4((a, b, c, d))
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h] = address.segments();
                Self::Ipv6((a, b, c, d, e, f, g, h))
            }
        }
    }
}

impl From<IpAddress> for IpAddr {
    fn from(address: IpAddress) -> Self {
        match address {
            IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
            IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
        }
    }
}

/// An address with a prefix length keeps its host bits.
impl From<IpNet> for IpPrefix {
    fn from(net: IpNet) -> Self {
        Self { address: net.addr().into(), length: net.prefix_len() }
    }
}

/// The host never says a length that is too large for the family.
impl From<IpPrefix> for IpNet {
    fn from(prefix: IpPrefix) -> Self {
        let address = IpAddr::from(prefix.address);
        Self::new(address, prefix.length).unwrap_or_else(|_| address.into())
    }
}

impl From<IpAddr> for IpFamily {
    fn from(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// Reads an address with a prefix length. Numbers with zeros before them are
/// refused: to some they are octal.
pub fn parse_net(text: &str) -> Result<IpNet, String> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    match (text.parse::<IpNet>(), address.parse::<IpAddr>()) {
        (Ok(net), Ok(_)) => Ok(net),
        _ => Err(format!("{text:?} is not an address with a prefix length")),
    }
}

/// Reads an address, with or without a prefix length, and writes an IPv4
/// address that is wrapped in IPv6 as the IPv4 address that it is.
pub fn parse_address(text: &str) -> Result<IpAddr, String> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    if text.contains('/') {
        parse_net(text)?;
    }
    let address: IpAddr = address.trim().parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    Ok(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_no_octal_numbers() {
        assert_eq!(parse_net("10.1.2.3/24").unwrap().to_string(), "10.1.2.3/24");
        for bad in ["010.1.2.3/24", "10.1.2.03/24", "10.1.2.3", "10.1.2.3/", "/24", "10.1.2.3/33"] {
            assert!(parse_net(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for text in ["10.1.2.3/24", "fd00::5/64", "0.0.0.0/0"] {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(IpNet::from(IpPrefix::from(net)), net);
        }
    }

    #[test]
    fn addresses_come_in_many_forms() {
        assert_eq!(parse_address("10.0.0.5/24"), Ok("10.0.0.5".parse().unwrap()));
        assert_eq!(parse_address("::ffff:10.0.0.5"), Ok("10.0.0.5".parse().unwrap()));
        for bad in ["", "10.0.0", "10.0.0.5/33", "10.0.0.5/", "x"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
