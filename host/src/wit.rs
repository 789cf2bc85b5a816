//! Bindings of the contract in `wit/`, and conversions of its plain values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::result::Prefix;

wasmtime::component::bindgen!({
    path: ["../wit/host", "../wit/net", "../wit/firewall", "../wit/store", "../wit/plugin"],
    world: "weir:plugin/host-side",
    imports: { default: trappable },
    with: {
        "weir:net/links.netns": crate::capability::namespaces::NetnsHandle,
        "weir:net/links.link": crate::capability::links::LinkHandle,
        "weir:store/leases.pool": crate::capability::leases::PoolHandle,
        "weir:store/bucket.bucket": crate::capability::bucket::BucketHandle,
        "weir:plugin/request.attachment": crate::capability::request::AttachmentHandle,
        "weir:plugin/request.network": crate::capability::request::NetworkHandle,
    },
});

pub(crate) use self::weir::net::types::{IpAddress, IpFamily, IpPrefix, MacAddress, NetError};

/// Reads an address.
pub(crate) fn ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
    }
}

/// Writes an address.
pub(crate) fn to_ip(address: IpAddr) -> IpAddress {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            IpAddress::Ipv4((a, b, c, d))
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments();
            IpAddress::Ipv6((a, b, c, d, e, f, g, h))
        }
    }
}

/// Reads a hardware address.
pub(crate) fn mac((a, b, c, d, e, f): MacAddress) -> [u8; 6] {
    [a, b, c, d, e, f]
}

/// Writes a hardware address.
pub(crate) fn to_mac([a, b, c, d, e, f]: [u8; 6]) -> MacAddress {
    (a, b, c, d, e, f)
}

/// Reads an address with a prefix length; `None` if the length is too large.
pub(crate) fn prefix(value: IpPrefix) -> Option<Prefix> {
    let address = ip(value.address);
    let limit = if address.is_ipv4() { 32 } else { 128 };
    (value.length <= limit).then_some(Prefix { address, length: value.length })
}

/// Writes an address with a prefix length.
pub(crate) fn to_prefix(value: Prefix) -> IpPrefix {
    IpPrefix { address: to_ip(value.address), length: value.length }
}
