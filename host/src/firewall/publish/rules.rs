//! The chains and rules that all published ports share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_netfilter::nftables::{InetHookNumber, Verdict};

use super::maps::{MAPS_4, MAPS_6, Maps};
use crate::firewall::batch::{BaseChain, Batch, Role};
use crate::firewall::rule::{self, Field};
use crate::firewall::set::Set;
use crate::protocol::Protocol;

const NEEDS_TABLE: &str = "nf_tables for IPv4 and IPv6 together (CONFIG_NF_TABLES_INET)";
const NEEDS_NAT: &str =
    "address translation of nf_tables (CONFIG_NFT_NAT, Linux 5.2 or newer, module nft_chain_nat)";
const NEEDS_FIB: &str = "lookups of addresses by nf_tables (CONFIG_NFT_FIB_INET, module nft_fib_inet)";
const NEEDS_CT: &str = "connection tracking in nf_tables (CONFIG_NFT_CT, module nft_ct)";
const NEEDS_FILTER: &str = "filtering by nf_tables (CONFIG_NF_TABLES_INET)";

/// After those of others (-100): the address of a service may be one of the
/// node's, and what leads to it is more specific.
const PRIORITY: i32 = -99;

static PREROUTING: BaseChain = BaseChain {
    name: "prerouting",
    kind: "nat",
    hook: InetHookNumber::PreRouting,
    priority: PRIORITY,
    needs: NEEDS_NAT,
};

static OUTPUT: BaseChain = BaseChain {
    name: "output",
    kind: "nat",
    hook: InetHookNumber::LocalOut,
    priority: PRIORITY,
    needs: NEEDS_NAT,
};

/// Before the masquerading of containers, whose chains end the way of a packet
/// that stays in its network.
static ANSWERS: BaseChain = BaseChain {
    name: "answers",
    kind: "nat",
    hook: InetHookNumber::PostRouting,
    priority: 99,
    needs: NEEDS_NAT,
};

/// Before connections are tracked: there, what comes back for the node still
/// has the address that it was sent to.
static LOOPBACK: BaseChain = BaseChain {
    name: "loopback",
    kind: "filter",
    hook: InetHookNumber::PreRouting,
    priority: -300,
    needs: NEEDS_FILTER,
};

/// Where connections to the node are sent on.
const PUBLISHED: &str = "published";

const AT_ALL: [Field; 2] = [Field::Protocol, Field::Port];
const AT_ONE: [Field; 3] = [Field::Destination, Field::Protocol, Field::Port];
const ANSWERS_AT_ALL: [Field; 3] = [Field::Destination, Field::Protocol, Field::OriginalPort];
const ANSWERS_AT_ONE: [Field; 4] =
    [Field::OriginalDestination, Field::Destination, Field::Protocol, Field::OriginalPort];

/// What all containers share. The sets make it happen once.
pub(super) fn base(batch: &mut Batch) {
    batch.table(
        "weir's: ports of containers, and containers behind the node; changes by others are lost",
        NEEDS_TABLE,
    );
    for chain in [&PREROUTING, &OUTPUT, &ANSWERS, &LOOPBACK] {
        batch.base_chain(chain);
    }
    for maps in [&MAPS_4, &MAPS_6] {
        for map in [&maps.at_all, &maps.at_one, &maps.answers_at_all, &maps.answers_at_one] {
            batch.set(map);
        }
    }
    batch.chain(Role::Base, PUBLISHED);
    for chain in [&PREROUTING, &OUTPUT] {
        let mut rule = Vec::from(rule::to_the_node());
        rule.push(rule::goto(PUBLISHED));
        batch.rule(Role::Base, chain.name, rule, NEEDS_FIB);
    }
    batch.rule(
        Role::Base,
        ANSWERS.name,
        [Vec::from(rule::keeps_destination()), vec![rule::verdict(Verdict::Return)]].concat(),
        NEEDS_CT,
    );
    for (like, maps) in [(Ipv4Addr::LOCALHOST.into(), &MAPS_4), (Ipv6Addr::LOCALHOST.into(), &MAPS_6)] {
        send_on(batch, like, maps);
        for protocol in Protocol::ALL {
            answer(batch, like, protocol, maps.answers_at_one.name, &ANSWERS_AT_ONE);
            answer(batch, like, protocol, maps.answers_at_all.name, &ANSWERS_AT_ALL);
        }
    }
    let mut from_outside = Vec::from(rule::family(Ipv4Addr::LOCALHOST.into()));
    from_outside.extend(to_loopback(Ipv4Addr::LOCALHOST.into()));
    from_outside.push(rule::equals(vec![127, 0, 0, 0]));
    from_outside.extend(rule::not_from_loopback());
    from_outside.push(rule::verdict(rule::DROP));
    batch.rule(Role::Base, LOOPBACK.name, from_outside, NEEDS_FILTER);
}

/// The rules of a family that send connections on: one address is more
/// specific than all of them, which are all but those of loopback.
fn send_on(batch: &mut Batch, like: IpAddr, maps: &Maps) {
    let to_container = |map: &Set, fields: &[Field]| {
        let mut rule = rule::key(like, fields);
        rule.extend([rule::look_up(map.name), rule::redirect(like)]);
        rule
    };
    let mut at_one = Vec::from(rule::family(like));
    at_one.extend(to_container(&maps.at_one, &AT_ONE));
    batch.rule(Role::Base, PUBLISHED, at_one, NEEDS_NAT);
    let mut at_all = Vec::from(rule::family(like));
    at_all.extend(to_loopback(like));
    at_all.push(rule::differs(match like {
        IpAddr::V4(_) => vec![127, 0, 0, 0],
        IpAddr::V6(address) => address.octets().to_vec(),
    }));
    at_all.extend(to_container(&maps.at_all, &AT_ALL));
    batch.rule(Role::Base, PUBLISHED, at_all, NEEDS_NAT);
}

/// Loads what tells whether a packet goes to a loopback address.
fn to_loopback(like: IpAddr) -> Vec<rule::Expression> {
    let (load, length) = rule::destination(like);
    match like {
        IpAddr::V4(_) => vec![load, rule::mask(length, vec![255, 0, 0, 0])],
        IpAddr::V6(_) => vec![load],
    }
}

/// nft understands ports only behind the protocol that they are of.
fn answer(batch: &mut Batch, like: IpAddr, protocol: Protocol, map: &str, fields: &[Field]) {
    let mut rule = Vec::from(rule::family(like));
    rule.extend(rule::protocol(protocol.number()));
    rule.extend(rule::key(like, fields));
    rule.push(rule::follow(map));
    batch.rule(Role::Base, ANSWERS.name, rule, NEEDS_CT);
}
