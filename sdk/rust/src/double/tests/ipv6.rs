//! Addresses of IPv6, and what is told of them.

use std::net::IpAddr;

use super::{assert_errno, pair, prefix};
use crate::double::net::links::Link;
use crate::double::net::types::{IpFamily, NetError};
use crate::double::net::{addresses, sysctls};
use crate::double::{Node, Side};

#[test]
fn addresses_are_announced_as_the_settings_say() {
    let node = Node::new();
    let (_near, far) = pair();
    addresses::add(&far, prefix("10.1.0.5/24")).unwrap();
    addresses::add(&far, prefix("fd00::5/64")).unwrap();
    addresses::announce(&far).unwrap();
    assert!(node.announced().is_empty());
    sysctls::set(&far, IpFamily::Ipv4, "arp_notify", "1").unwrap();
    sysctls::set(&far, IpFamily::Ipv6, "ndisc_notify", "1").unwrap();
    addresses::announce(&far).unwrap();
    assert_eq!(node.announced(), ["10.1.0.5".parse::<IpAddr>().unwrap()], "the other one is tentative");
    addresses::settle(&far, 100).unwrap();
    addresses::announce(&far).unwrap();
    assert!(node.announced().contains(&"fd00::5".parse::<IpAddr>().unwrap()));
}

#[test]
fn ipv6_addresses_are_tentative_until_they_settle() {
    let _node = Node::new().with_duplicate("fd00::6");
    let (_near, far) = pair();
    far.set_up(false).unwrap();
    addresses::add(&far, prefix("fd00::5/64")).unwrap();
    let is_tentative = |far: &Link| addresses::list(far, Some(IpFamily::Ipv6)).unwrap()[0].tentative;
    assert!(is_tentative(&far));
    assert!(matches!(addresses::settle(&far, 100), Err(NetError::Busy(_))));
    sysctls::set(&far, IpFamily::Ipv6, "keep_addr_on_down", "1").unwrap();
    far.set_up(true).unwrap();
    addresses::settle(&far, 100).unwrap();
    assert!(!is_tentative(&far));
    addresses::add(&far, prefix("fd00::6/64")).unwrap();
    assert!(matches!(addresses::settle(&far, 100), Err(NetError::AlreadyExists(_))));
}

#[test]
fn ipv6_may_be_missing_or_turned_off() {
    let node = Node::new();
    let (_near, far) = pair();
    sysctls::set(&far, IpFamily::Ipv6, "disable_ipv6", "1").unwrap();
    assert_errno(addresses::add(&far, prefix("fd00::5/64")), 13);
    assert!(matches!(sysctls::get(&far, IpFamily::Ipv6, "no_such"), Err(NetError::NotFound(_))));
    assert!(matches!(sysctls::get(&far, IpFamily::Ipv6, "../all"), Err(NetError::Invalid(_))));
    assert_errno(sysctls::set(&far, IpFamily::Ipv4, "arp_notify", "yes"), 22);
    let node = node.without_ipv6();
    assert!(matches!(sysctls::get(&far, IpFamily::Ipv6, "disable_ipv6"), Err(NetError::NotFound(_))));
    assert!(matches!(addresses::add(&far, prefix("fd00::5/64")), Err(NetError::Unsupported(_))));
    assert_eq!(node.sysctl(Side::Container, "eth0", IpFamily::Ipv4, "arp_notify").as_deref(), Some("0"));
}
