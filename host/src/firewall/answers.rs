//! Answers that would not come back by way of the node: a container answers
//! its neighbours directly, and itself even more so, and nobody can answer to
//! a loopback address. Connections from there get the node's address.
//!
//! Each network has a chain that says which these are; all containers of the
//! network share it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::network::octets;
use super::rule::{self, Expression};

const PREFIX: &str = "answers-";

/// The name of a network's chain. nft allows no colon in a name.
pub(super) fn chain_name(network: IpNet) -> String {
    format!("{PREFIX}{network}").replace(':', "_")
}

/// The network whose chain has this name, if it is one.
pub(super) fn of_chain(name: &str) -> Option<IpNet> {
    name.strip_prefix(PREFIX)?.replace('_', ":").parse().ok()
}

/// How many rules a network's chain has.
pub(super) fn count(network: IpNet) -> u32 {
    if network.addr().is_ipv4() { 2 } else { 1 }
}

/// The rules of a network's chain.
pub(super) fn rules(network: IpNet) -> Vec<Vec<Expression>> {
    // Nothing leaves the node from `::1`.
    let loopback = Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).trunc();
    let mut sources = vec![network];
    if network.addr().is_ipv4() {
        sources.push(loopback.into());
    }
    sources.into_iter().map(masquerade_from).collect()
}

fn masquerade_from(network: IpNet) -> Vec<Expression> {
    let like: IpAddr = network.addr();
    let mut expressions = Vec::from(rule::family(like));
    // All addresses need not be compared.
    if network.prefix_len() > 0 {
        expressions.push(rule::source(like));
        if network.prefix_len() < network.max_prefix_len() {
            let netmask = octets(network.netmask());
            expressions.push(rule::mask(netmask.len() as u32, netmask));
        }
        expressions.push(rule::equals(octets(network.network())));
    }
    expressions.push(rule::masquerade());
    expressions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::network;

    #[test]
    fn a_chain_is_named_after_its_network() {
        for text in ["10.88.0.0/16", "0.0.0.0/0", "10.1.0.5/32", "fd00::/64", "::/0"] {
            let network: IpNet = text.parse().unwrap();
            assert_eq!(of_chain(&chain_name(network)), Some(network));
            assert_eq!(network::of_chain(&chain_name(network)), None);
            assert_eq!(of_chain(&network::chain_name(network)), None);
            assert_eq!(rules(network).len(), count(network) as usize);
        }
    }

    #[test]
    fn names_fit_the_kernels_limit() {
        let longest: IpNet = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap();
        assert!(chain_name(longest).len() < 128, "NFT_CHAIN_MAXNAMELEN");
    }
}
