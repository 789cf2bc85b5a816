//! Address prefixes, of which each has one spelling.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// `::ffff:0:0/96`: IPv4 addresses in the clothes of IPv6.
const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
const MAPPED_LENGTH: u8 = 96;

/// The prefix that is meant: IPv4 for IPv4-mapped IPv6, and no bits behind the
/// prefix.
pub(super) fn canonical(prefix: IpNet) -> IpNet {
    if let IpNet::V6(v6) = prefix
        && v6.prefix_len() >= MAPPED_LENGTH
        && let Some(address) = v6.addr().to_ipv4_mapped()
        && let Ok(v4) = Ipv4Net::new(address, v6.prefix_len() - MAPPED_LENGTH)
    {
        return IpNet::V4(v4.trunc());
    }
    prefix.trunc()
}

/// Whether a canonical prefix lies inside of another.
pub(super) fn covers(wide: &IpNet, narrow: &IpNet) -> bool {
    wide.contains(narrow)
}

/// Whether two canonical prefixes have addresses in common.
pub(super) fn overlaps(one: &IpNet, other: &IpNet) -> bool {
    match (one, other) {
        (IpNet::V4(_), IpNet::V6(v6)) | (IpNet::V6(v6), IpNet::V4(_)) => is_around_mapped(v6),
        _ => one.contains(other) || other.contains(one),
    }
}

/// Whether a prefix has all of the mapped range in it, but for `::/0`, which
/// is how everybody writes "all of IPv6".
fn is_around_mapped(prefix: &Ipv6Net) -> bool {
    (1..MAPPED_LENGTH).contains(&prefix.prefix_len()) && prefix.contains(&MAPPED)
}

/// Reads a prefix, or an address, of a policy file.
pub(super) fn parse(text: &str) -> Result<IpNet, String> {
    // What has zeros before a number is octal to some, and no address.
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    let prefix = match text.parse::<IpNet>() {
        Ok(prefix) if address.parse::<IpAddr>().is_ok() => prefix,
        _ => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| {
            format!("{text:?} is no address prefix: expected the like of \"10.1.0.0/16\" or \"fd00:1::/64\"")
        })?,
    };
    if prefix.trunc() != prefix {
        return Err(format!("{text:?} has bits behind the prefix: write \"{}\"", prefix.trunc()));
    }
    if let IpNet::V6(v6) = prefix
        && is_around_mapped(&v6)
    {
        return Err(format!(
            "{text:?} contains the IPv4-mapped addresses, so that it is unclear what it means for IPv4: write the IPv4 and the IPv6 prefixes that are meant"
        ));
    }
    Ok(canonical(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn each_prefix_has_one_spelling() {
        for (spelled, meant) in [
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:a01:203/112", "10.1.0.0/16"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("::10.1.2.3/128", "::a01:203/128"),
            ("fd00::1/64", "fd00::/64"),
        ] {
            assert_eq!(canonical(prefix(spelled)), prefix(meant), "{spelled}");
        }
    }

    #[test]
    fn files_say_what_they_mean() {
        assert_eq!(parse("10.1.2.3"), Ok(prefix("10.1.2.3/32")));
        assert_eq!(parse("::ffff:10.1.0.0/112"), Ok(prefix("10.1.0.0/16")));
        assert_eq!(parse("::/0"), Ok(prefix("::/0")));
        assert!(parse("10.1.2.3/16").unwrap_err().contains("10.1.0.0/16"));
        for bad in [
            "",
            "10.1/16",
            "10.0.0.0/33",
            "::/1",
            "::ffff:0:0/95",
            "::/80",
            "fe80::1%eth0",
            "010.0.0.1",
            "010.0.0.0/8",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn families_meet_only_around_the_mapped_range() {
        assert!(overlaps(&prefix("::/64"), &prefix("10.0.0.0/8")));
        assert!(!overlaps(&prefix("::/0"), &prefix("10.0.0.0/8")));
        assert!(!overlaps(&prefix("fd00::/8"), &prefix("0.0.0.0/0")));
        assert!(!covers(&prefix("::/0"), &prefix("10.0.0.0/8")));
        assert!(overlaps(&prefix("0.0.0.0/0"), &prefix("10.0.0.0/8")));
        assert!(!overlaps(&prefix("10.1.0.0/16"), &prefix("10.2.0.0/16")));
    }
}
