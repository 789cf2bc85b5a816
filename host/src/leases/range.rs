//! Ranges of addresses, and the order in which they are tried.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LeaseError;

/// An inclusive range of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressRange {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
}

/// How full a list of ranges is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Addresses in the ranges, less those to be skipped (saturating).
    pub(crate) total: u64,
    /// Addresses that are leased.
    pub(crate) used: u64,
}

/// A stretch of addresses of one family as numbers, so that both families are
/// walked alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    v6: bool,
    first: u128,
    last: u128,
}

impl Stretch {
    fn of(range: &AddressRange) -> Result<Self, LeaseError> {
        let ((v6, first), (last_v6, last)) = (number(range.first), number(range.last));
        if v6 != last_v6 {
            return Err(LeaseError::Invalid(format!(
                "address range {} to {}: both ends must be of one family",
                range.first, range.last
            )));
        }
        if first > last {
            return Err(LeaseError::Invalid(format!(
                "address range {} to {}: it ends before it starts",
                range.first, range.last
            )));
        }
        Ok(Self { v6, first, last })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let (v6, number) = number(address);
        v6 == self.v6 && (self.first..=self.last).contains(&number)
    }

    fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (self.first..=self.last).map(move |number| address(self.v6, number))
    }
}

/// The order in which the addresses of `ranges` are tried: behind `after` to
/// the end, then from the start up to and including `after`. From the start
/// if `after` is none or in no range.
///
/// The iterator is lazy; each address comes once per range that contains it.
pub(super) fn walk(
    ranges: &[AddressRange],
    after: Option<IpAddr>,
) -> Result<impl Iterator<Item = IpAddr>, LeaseError> {
    let stretches = ranges.iter().map(Stretch::of).collect::<Result<Vec<_>, _>>()?;
    let start = after.and_then(|after| {
        let position = stretches.iter().position(|stretch| stretch.contains(after))?;
        Some((position, number(after).1))
    });
    let order = match start {
        None => stretches,
        Some((position, after)) => {
            let current = stretches[position];
            let mut order = Vec::with_capacity(stretches.len() + 1);
            if after < current.last {
                order.push(Stretch { first: after + 1, ..current });
            }
            order.extend_from_slice(&stretches[position + 1..]);
            order.extend_from_slice(&stretches[..position]);
            order.push(Stretch { last: after, ..current });
            order
        }
    };
    Ok(order.into_iter().flat_map(|stretch| stretch.addresses()))
}

/// Counts `leased` within `ranges`.
pub(super) fn usage(
    ranges: &[AddressRange],
    skip: &[IpAddr],
    leased: impl Iterator<Item = IpAddr>,
) -> Result<Usage, LeaseError> {
    let stretches = ranges.iter().map(Stretch::of).collect::<Result<Vec<_>, _>>()?;
    let within = |address: &IpAddr| stretches.iter().any(|stretch| stretch.contains(*address));
    let skip: HashSet<IpAddr> = skip.iter().map(IpAddr::to_canonical).filter(within).collect();
    let size = stretches
        .iter()
        .fold(0u128, |sum, stretch| sum.saturating_add((stretch.last - stretch.first).saturating_add(1)));
    let total = u64::try_from(size.saturating_sub(skip.len() as u128)).unwrap_or(u64::MAX);
    let used = leased.filter(|address| within(address) && !skip.contains(address)).count() as u64;
    Ok(Usage { total, used })
}

/// Whether the address is an IPv6 one, and its value.
fn number(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

fn address(v6: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if !v6 => IpAddr::V4(Ipv4Addr::from_bits(number)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> AddressRange {
        AddressRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
    }

    fn order(ranges: &[AddressRange], after: Option<&str>) -> Vec<String> {
        walk(ranges, after.map(|text| text.parse().unwrap())).unwrap().map(|a| a.to_string()).collect()
    }

    #[test]
    fn walks_once_around_from_behind_the_last() {
        let ranges = [range("10.0.0.1", "10.0.0.3"), range("10.0.1.1", "10.0.1.2")];
        assert_eq!(order(&ranges, None), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2"]);
        assert_eq!(
            order(&ranges, Some("10.0.0.2")),
            ["10.0.0.3", "10.0.1.1", "10.0.1.2", "10.0.0.1", "10.0.0.2"]
        );
        assert_eq!(
            order(&ranges, Some("10.0.1.2")),
            ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2"]
        );
        assert_eq!(order(&ranges, Some("10.9.9.9"))[0], "10.0.0.1");
        assert_eq!(order(&ranges, Some("::1"))[0], "10.0.0.1");
    }

    #[test]
    fn reaches_both_ends_of_the_families() {
        assert_eq!(order(&[range("255.255.255.254", "255.255.255.255")], Some("255.255.255.255")).len(), 2);
        let everything = [range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")];
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(walk(&everything, Some(last)).unwrap().next(), Some("::".parse().unwrap()));
    }

    #[test]
    fn counts_without_walking() {
        let ranges = [range("fd00::", "fd00::ffff:ffff:ffff:ffff")];
        let leased = ["fd00::2", "fd00::1", "fd01::1", "10.0.0.1"].map(|text| text.parse().unwrap());
        let usage = usage(&ranges, &["fd00::1".parse().unwrap()], leased.into_iter()).unwrap();
        assert_eq!(usage, Usage { total: u64::MAX, used: 1 });
        let all = [range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")];
        assert_eq!(super::usage(&all, &[], [].into_iter()).unwrap().total, u64::MAX);
        let small =
            super::usage(&[range("10.0.0.0", "10.0.0.9")], &["10.0.0.1".parse().unwrap()], [].into_iter());
        assert_eq!(small.unwrap(), Usage { total: 9, used: 0 });
    }

    #[test]
    fn refuses_senseless_ranges() {
        assert!(matches!(
            walk(&[range("10.0.0.2", "10.0.0.1")], None).map(drop),
            Err(LeaseError::Invalid(_))
        ));
        assert!(matches!(walk(&[range("10.0.0.2", "::ffff")], None).map(drop), Err(LeaseError::Invalid(_))));
    }
}
