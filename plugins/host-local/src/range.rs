//! Ranges of addresses and sets of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Deserialize;
use weir_sdk::net::types::IpAddress;
use weir_sdk::store::leases::AddressRange;
use weir_sdk::{parse_address, parse_net};

/// A range as the operator wrote it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RangeConfig {
    pub(crate) subnet: String,
    pub(crate) range_start: Option<String>,
    pub(crate) range_end: Option<String>,
    pub(crate) gateway: Option<String>,
}

/// Addresses of one subnet, in a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    subnet: IpNet,
    first: IpAddr,
    last: IpAddr,
    /// Never leased.
    pub(crate) gateway: IpAddr,
}

/// Ranges of one family, of which one address is leased.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RangeSet(Vec<Range>);

impl Range {
    fn new(config: RangeConfig) -> Result<Self, String> {
        let subnet: IpNet = parse_net(&config.subnet)
            .map_err(|_| format!("\"subnet\": {:?} is not a network", config.subnet))?;
        if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
            return Err(format!("Network {subnet} too small to allocate from"));
        }
        if subnet.addr() != subnet.network() {
            return Err(format!(
                "Network has host bits set. For a subnet mask of length {} the network address is {}",
                subnet.prefix_len(),
                subnet.network()
            ));
        }
        let first_host = next(subnet.network());
        // An IPv4 subnet's last address is its broadcast address.
        let last_host = match subnet {
            IpNet::V4(subnet) => Ipv4Addr::from_bits(subnet.broadcast().to_bits() - 1).into(),
            IpNet::V6(subnet) => subnet.broadcast().into(),
        };
        let address = |key: &str, text: Option<String>| match text.filter(|text| !text.is_empty()) {
            Some(text) => parse_address(&text).map(Some).map_err(|reason| format!("{key:?}: {reason}")),
            None => Ok(None),
        };
        let gateway = address("gateway", config.gateway)?.unwrap_or(first_host);
        let first = address("rangeStart", config.range_start)?.unwrap_or(first_host);
        let last = address("rangeEnd", config.range_end)?.unwrap_or(last_host);
        for (key, end) in [("RangeStart", first), ("RangeEnd", last)] {
            if !subnet.contains(&end) {
                return Err(format!("{key} {end} not in network {subnet}"));
            }
        }
        if first > last {
            return Err(format!("RangeStart {first} is after RangeEnd {last}"));
        }
        Ok(Self { subnet, first, last, gateway })
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(&address) && self.first <= address && address <= self.last
    }

    fn overlaps(&self, other: &Self) -> bool {
        let same_family = self.subnet.addr().is_ipv4() == other.subnet.addr().is_ipv4();
        same_family
            && (self.contains(other.first)
                || self.contains(other.last)
                || other.contains(self.first)
                || other.contains(self.last))
    }

    /// The address with the prefix length of its subnet.
    pub(crate) fn with_prefix(&self, address: IpAddr) -> IpNet {
        IpNet::new(address, self.subnet.prefix_len()).unwrap_or(self.subnet)
    }
}

impl RangeSet {
    pub(crate) fn new(ranges: Vec<RangeConfig>) -> Result<Self, String> {
        if ranges.is_empty() {
            return Err("empty range set".to_owned());
        }
        let ranges: Vec<Range> = ranges.into_iter().map(Range::new).collect::<Result<_, _>>()?;
        for (number, range) in ranges.iter().enumerate() {
            for later in &ranges[number + 1..] {
                if range.subnet.addr().is_ipv4() != later.subnet.addr().is_ipv4() {
                    return Err("mixed address families".to_owned());
                }
                if range.overlaps(later) {
                    return Err(format!("subnets {} and {} overlap", range.subnet, later.subnet));
                }
            }
        }
        Ok(Self(ranges))
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.0.iter().all(|range| range.subnet.addr().is_ipv4())
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|range| other.0.iter().any(|later| range.overlaps(later)))
    }

    /// The range that an address is in.
    pub(crate) fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// As the store takes them.
    pub(crate) fn address_ranges(&self) -> Vec<AddressRange> {
        self.0
            .iter()
            .map(|range| AddressRange { first: range.first.into(), last: range.last.into() })
            .collect()
    }

    /// Addresses that are never leased.
    pub(crate) fn gateways(&self) -> Vec<IpAddress> {
        self.0.iter().map(|range| range.gateway.into()).collect()
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{}-{}", range.first, range.last)?;
        }
        Ok(())
    }
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().saturating_add(1)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().saturating_add(1)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(subnet: &str) -> RangeConfig {
        RangeConfig { subnet: subnet.to_owned(), ..RangeConfig::default() }
    }

    fn set(subnets: &[&str]) -> Result<RangeSet, String> {
        RangeSet::new(subnets.iter().map(|subnet| config(subnet)).collect())
    }

    #[test]
    fn a_subnet_alone_gives_its_hosts() {
        assert_eq!(set(&["10.1.0.0/16"]).unwrap().to_string(), "10.1.0.1-10.1.255.254");
        assert_eq!(set(&["fd00::/64"]).unwrap().to_string(), "fd00::1-fd00::ffff:ffff:ffff:ffff");
        assert_eq!(set(&["10.1.0.0/30"]).unwrap().0[0].gateway, "10.1.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for (subnet, reason) in [
            ("", "is not a network"),
            ("10.1.0.0", "is not a network"),
            ("10.1.0.0/31", "too small"),
            ("fd00::/127", "too small"),
            ("10.1.0.1/16", "host bits set. For a subnet mask of length 16 the network address is 10.1.0.0"),
        ] {
            let error = set(&[subnet]).unwrap_err();
            assert!(error.contains(reason), "{subnet}: {error}");
        }
        assert_eq!(RangeSet::new(Vec::new()), Err("empty range set".to_owned()));
        assert_eq!(set(&["10.1.0.0/16", "fd00::/64"]), Err("mixed address families".to_owned()));
        assert!(set(&["10.1.0.0/16", "10.1.2.0/24"]).unwrap_err().contains("overlap"));
    }

    #[test]
    fn ends_have_to_be_inside_and_in_order() {
        let range = |start: &str, end: &str| {
            Range::new(RangeConfig {
                range_start: Some(start.to_owned()),
                range_end: Some(end.to_owned()),
                ..config("10.1.0.0/24")
            })
        };
        assert!(range("10.1.0.10", "10.1.0.20").is_ok());
        assert!(range("10.2.0.10", "10.1.0.20").unwrap_err().contains("RangeStart 10.2.0.10 not in network"));
        assert!(range("10.1.0.10", "10.2.0.20").unwrap_err().contains("RangeEnd 10.2.0.20 not in network"));
        assert!(range("10.1.0.20", "10.1.0.10").unwrap_err().contains("is after"));
    }
}
