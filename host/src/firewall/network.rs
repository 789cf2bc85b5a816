//! The chain that each network has: what a container of the network sends to
//! the network itself or to multicast keeps its address, all else is
//! masqueraded. All containers of the network share it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_netfilter::nftables::Verdict;

use super::rule::{self, Expression};

/// How many rules a network's chain has.
pub(super) const RULES: u32 = 3;

const PREFIX: &str = "direct-";

/// The name of a network's chain. nft allows no colon in a name.
pub(super) fn chain_name(direct: IpNet) -> String {
    format!("{PREFIX}{direct}").replace(':', "_")
}

/// The network whose chain has this name, if it is one.
pub(super) fn of_chain(name: &str) -> Option<IpNet> {
    name.strip_prefix(PREFIX)?.replace('_', ":").parse().ok()
}

/// The rules of a network's chain.
pub(super) fn rules(direct: IpNet) -> [Vec<Expression>; RULES as usize] {
    let multicast = match direct {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
    };
    let stays_direct = |destination: IpNet| {
        let mut rule = Vec::from(rule::family(destination.addr()));
        rule.extend(destination_in(destination));
        rule.push(rule::verdict(Verdict::Return));
        rule
    };
    [stays_direct(direct), stays_direct(multicast), vec![rule::masquerade()]]
}

fn destination_in(network: IpNet) -> Vec<Expression> {
    let (load, length) = rule::destination(network.addr());
    let mut expressions = vec![load];
    if network.prefix_len() < network.max_prefix_len() {
        expressions.push(rule::mask(length, octets(network.netmask())));
    }
    expressions.push(rule::equals(octets(network.network())));
    expressions
}

/// The bytes of an address as they are in a packet.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_named_after_its_network() {
        for (network, name) in [
            ("10.88.0.0/16", "direct-10.88.0.0/16"),
            ("0.0.0.0/0", "direct-0.0.0.0/0"),
            ("fd00::/64", "direct-fd00__/64"),
            ("::/0", "direct-__/0"),
            ("::ffff:1.2.3.4/128", "direct-__ffff_1.2.3.4/128"),
        ] {
            let network: IpNet = network.parse().unwrap();
            assert_eq!(chain_name(network), name);
            assert_eq!(of_chain(name), Some(network));
        }
    }

    #[test]
    fn other_chains_are_no_networks() {
        for name in ["postrouting", "direct-", "direct-x", "10.0.0.0/8"] {
            assert_eq!(of_chain(name), None);
        }
    }

    #[test]
    fn names_fit_the_kernels_limit() {
        let longest: IpNet = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap();
        assert!(chain_name(longest).len() < 128, "NFT_CHAIN_MAXNAMELEN");
    }
}
