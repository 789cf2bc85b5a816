//! Masquerading: containers leave the node with its addresses.
//!
//! One map per family leads from a container's address to the chain of its
//! network. The chain's use count is the kernel's: a chain that an element
//! leads to cannot be removed, whoever tries.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{ChainAttribute, ChainMessage, InetHookNumber, NfTablesMessage};
use nix::libc::{EBUSY, EEXIST, ENOENT};

use super::batch::{BaseChain, Batch, Outcome, Refused, Role};
use super::channel::Channel;
use super::comment::{self, ByteOrder};
use super::error::{Cause, FirewallError};
use super::set::{Element, Set, key_type};
use super::{Firewall, TABLE, network, rule};

const FAMILY: NetfilterProtoFamily = NetfilterProtoFamily::Inet;
const NEEDS_TABLE: &str = "nf_tables for IPv4 and IPv6 together (CONFIG_NF_TABLES_INET)";
const NEEDS_LOOKUP: &str = "lookups of nf_tables (CONFIG_NF_TABLES)";
const NEEDS_MASQUERADE: &str = "masquerading of nf_tables (CONFIG_NFT_MASQ, module nft_masq)";

static POSTROUTING: BaseChain = BaseChain {
    name: "postrouting",
    kind: "nat",
    hook: InetHookNumber::PostRouting,
    priority: 100,
    needs: "address translation of nf_tables (CONFIG_NFT_NAT, Linux 5.2 or newer, module nft_chain_nat)",
};

static SOURCES_4: Set = Set {
    family: FAMILY,
    name: "masquerade4",
    key_type: key_type::IPV4,
    key_length: 4,
    byte_order: ByteOrder::Network,
    maps_to_chain: true,
    comment: "container addresses that stay inside the node, by their network",
    number: 1,
};

static SOURCES_6: Set = Set {
    family: FAMILY,
    name: "masquerade6",
    key_type: key_type::IPV6,
    key_length: 16,
    byte_order: ByteOrder::Network,
    maps_to_chain: true,
    comment: "container addresses that stay inside the node, by their network",
    number: 2,
};

fn sources(like: IpAddr) -> &'static Set {
    if like.is_ipv4() { &SOURCES_4 } else { &SOURCES_6 }
}

impl Firewall {
    /// Masquerades what `source` sends to anywhere but `direct` and multicast.
    /// Replaces what was asked for the same address, by whomever.
    pub(crate) fn masquerade_add(
        &mut self,
        owner: &str,
        source: IpAddr,
        direct: IpNet,
    ) -> Result<(), FirewallError> {
        self.run(
            || format!("masquerade {source} outside {direct}"),
            |channel| Addition::new(owner, source, direct)?.perform(channel),
        )
    }

    /// Ends the masquerading of `source`, if `owner` is who asked for it;
    /// returns whether it was.
    pub(crate) fn masquerade_remove(&mut self, owner: &str, source: IpAddr) -> Result<bool, FirewallError> {
        self.run(|| format!("end the masquerading of {source}"), |channel| remove(channel, owner, source))
    }

    /// What `owner` asked for and the kernel holds. Reads all elements.
    pub(crate) fn masquerade_list(&mut self, owner: &str) -> Result<Vec<(IpAddr, IpNet)>, FirewallError> {
        let entries = self.run(|| format!("list the masquerading of {owner}"), list)?;
        let mine = entries.into_iter().filter(|(named, ..)| comment::names(named, owner));
        Ok(mine.map(|(_, source, direct)| (source, direct)).collect())
    }

    /// The network outside which `source` is masqueraded, if `owner` asked for
    /// that. Reads one element, so it is the way to check one.
    pub(crate) fn masquerade_get(
        &mut self,
        owner: &str,
        source: IpAddr,
    ) -> Result<Option<IpNet>, FirewallError> {
        let (_, [element]) = self.run(
            || format!("look up the masquerading of {source}"),
            |channel| channel.elements([(sources(source), &network::octets(source))]),
        )?;
        Ok(element
            .filter(|element| comment::names(&element.owner, owner))
            .and_then(|element| direct(&element)))
    }

    /// All that is masqueraded: owner, address, network.
    pub(crate) fn masquerade_owners(&mut self) -> Result<Vec<(String, IpAddr, IpNet)>, FirewallError> {
        self.run(|| "list what is masqueraded".to_owned(), list)
    }

    /// Removes the chains of networks that have no container any more; returns
    /// how many. Slow: the kernel waits until no packet is in a removed chain.
    pub(crate) fn sweep(&mut self) -> Result<usize, FirewallError> {
        self.run(|| "remove the chains of unused networks".to_owned(), sweep)
    }
}

/// The steps that adding an element takes on this node. The first attempt
/// expects all else to be there, and what the kernel answers tells what to do
/// in the next.
struct Addition<'a> {
    owner: &'a str,
    userdata: Vec<u8>,
    key: Vec<u8>,
    source: IpAddr,
    direct: IpNet,
    chain: String,
    with_base: bool,
    with_network: bool,
    replaces: bool,
}

impl<'a> Addition<'a> {
    fn new(owner: &'a str, source: IpAddr, direct: IpNet) -> Result<Self, Cause> {
        if source.is_ipv4() != direct.addr().is_ipv4() {
            return Err(Cause::Invalid("the address and the network are of different families".to_owned()));
        }
        let userdata = comment::of_owner(owner)
            .ok_or_else(|| Cause::Invalid(format!("{owner:?} cannot be kept as the owner's name")))?;
        let direct = direct.trunc();
        Ok(Self {
            owner,
            userdata,
            key: network::octets(source),
            source,
            direct,
            chain: network::chain_name(direct),
            with_base: false,
            with_network: false,
            replaces: false,
        })
    }

    fn perform(mut self, channel: &mut Channel) -> Result<(), Cause> {
        loop {
            match channel.commit(&self.batch(), None)? {
                Outcome::Committed => return Ok(()),
                Outcome::Outdated => {}
                Outcome::Refused(refused) => {
                    if self.learn(&refused)? && self.is_done(channel)? {
                        return Ok(());
                    }
                }
            }
            channel.check_time()?;
        }
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::new(FAMILY);
        if self.with_base {
            base(&mut batch, self.source);
        }
        if self.with_network {
            batch.chain(Role::Network, &self.chain);
            for rule in network::rules(self.direct) {
                batch.rule(Role::Network, &self.chain, rule, NEEDS_MASQUERADE);
            }
        }
        let sources = sources(self.source);
        if self.replaces {
            batch.remove(sources, &self.key);
        }
        batch.add(Role::Owned, sources, &self.key, Some(&self.chain), self.userdata.clone());
        batch
    }

    /// Decides what the next attempt has to do; returns whether an element for
    /// the address is there.
    fn learn(&mut self, refused: &[Refused]) -> Result<bool, Cause> {
        let any = |role, errno| {
            refused.iter().any(|refused| refused.role == role && refused.refusal.errno == errno)
        };
        // Others made these in the meantime.
        let base_exists = any(Role::Base, EEXIST);
        let network_exists = any(Role::Network, EEXIST);
        let was_removed = any(Role::Removal, ENOENT);
        let is_there = any(Role::Owned, EEXIST);
        let is_missing = any(Role::Owned, ENOENT);
        let (had_base, had_network) = (self.with_base, self.with_network);
        let table_was_missing = is_missing && !had_base;
        for Refused { role, needs, refusal } in refused {
            let expected = match (role, refusal.errno) {
                (Role::Base | Role::Network, EEXIST) => true,
                (Role::Network, ENOENT) => table_was_missing,
                (Role::Removal, ENOENT) | (Role::Owned, EEXIST) => true,
                // The chain cannot have been made where its rules were refused.
                (Role::Owned, ENOENT) => !(had_base && had_network) || base_exists || network_exists,
                _ => false,
            };
            if !expected {
                return Err(refusal_of(*role, needs, refusal));
            }
        }
        self.with_base &= !base_exists;
        self.with_network &= !network_exists;
        self.replaces &= !was_removed;
        if is_missing {
            // First the chain is made; if that does not help, the map is
            // missing, too.
            self.with_network |= !had_network;
            self.with_base |= had_network && !base_exists;
        }
        Ok(is_there)
    }

    /// Whether the element that is there is the one asked for; otherwise it
    /// will be replaced.
    fn is_done(&mut self, channel: &mut Channel) -> Result<bool, Cause> {
        let (_, [element]) = channel.elements([(sources(self.source), &self.key)])?;
        let is_done = element.as_ref().is_some_and(|element| {
            comment::names(&element.owner, self.owner) && element.chain.as_deref() == Some(&self.chain)
        });
        self.replaces = element.is_some();
        Ok(is_done)
    }
}

/// What all networks of a family share. The set makes it happen once.
fn base(batch: &mut Batch, like: IpAddr) {
    let sources = sources(like);
    batch.table(
        "weir's: containers leave the node with its addresses; changes by others are lost",
        NEEDS_TABLE,
    );
    batch.base_chain(&POSTROUTING);
    batch.set(sources);
    let mut expressions = Vec::from(rule::family(like));
    expressions.extend([rule::source(like), rule::follow(sources.name)]);
    batch.rule(Role::Base, POSTROUTING.name, expressions, NEEDS_LOOKUP);
}

/// What a refusal that nothing can be done about means: a step that makes
/// something in a table that is there fails like that only if the kernel does
/// not know what is to be made.
pub(super) fn refusal_of(role: Role, needs: &'static str, refusal: &super::error::Refusal) -> Cause {
    use nix::libc::{EAFNOSUPPORT, EOPNOTSUPP};
    match (role, refusal.errno) {
        (Role::Base | Role::Network, ENOENT | EOPNOTSUPP | EAFNOSUPPORT) => {
            Cause::Unsupported { needs, refusal: refusal.clone() }
        }
        _ => Cause::Kernel(refusal.clone()),
    }
}

fn remove(channel: &mut Channel, owner: &str, source: IpAddr) -> Result<bool, Cause> {
    let sources = sources(source);
    let key = network::octets(source);
    loop {
        let (generation, [element]) = channel.elements([(sources, &key)])?;
        if !element.is_some_and(|element| comment::names(&element.owner, owner)) {
            return Ok(false);
        }
        let mut batch = Batch::new(FAMILY);
        batch.remove(sources, &key);
        // The generation makes sure that the element is still the owner's.
        match channel.commit(&batch, Some(generation))? {
            Outcome::Committed => return Ok(true),
            Outcome::Outdated => {}
            Outcome::Refused(refused) => {
                if let Some(refused) = refused.iter().find(|refused| refused.refusal.errno != ENOENT) {
                    return Err(refusal_of(refused.role, refused.needs, &refused.refusal));
                }
            }
        }
    }
}

fn list(channel: &mut Channel) -> Result<Vec<(String, IpAddr, IpNet)>, Cause> {
    let mut entries = Vec::new();
    for set in [&SOURCES_4, &SOURCES_6] {
        let elements = channel.list(set)?.into_iter();
        entries.extend(elements.filter_map(|element| {
            let source = address(&element.key)?;
            let direct = direct(&element)?;
            Some((element.owner, source, direct))
        }));
    }
    Ok(entries)
}

fn address(key: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(key).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(key).map(IpAddr::from)).ok()
}

fn direct(element: &Element) -> Option<IpNet> {
    element.chain.as_deref().and_then(network::of_chain)
}

fn sweep(channel: &mut Channel) -> Result<usize, Cause> {
    let request = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    // A chain that is missed or seen twice matters little here.
    let (chains, _) = channel.dump(FAMILY, &request)?;
    let mut removed = 0;
    for chain in chains.iter().filter_map(unused_network) {
        let mut batch = Batch::new(FAMILY);
        batch.remove_chain(chain);
        match channel.commit(&batch, None)? {
            Outcome::Committed => removed += 1,
            Outcome::Outdated => {}
            Outcome::Refused(refused) => {
                // A container came, or another process was faster.
                let other = refused.iter().find(|refused| !matches!(refused.refusal.errno, EBUSY | ENOENT));
                if let Some(refused) = other {
                    return Err(refusal_of(refused.role, refused.needs, &refused.refusal));
                }
            }
        }
    }
    Ok(removed)
}

/// The name of a network's chain in weir's table that only its own rules use.
fn unused_network(chain: &NfTablesMessage) -> Option<&str> {
    let NfTablesMessage::NewChain(chain) = chain else { return None };
    let (mut table, mut name, mut uses) = (None, None, 0);
    for attribute in &chain.attributes {
        match attribute {
            ChainAttribute::Table(value) => table = Some(value.as_str()),
            ChainAttribute::Name(value) => name = Some(value.as_str()),
            ChainAttribute::Use(value) => uses = *value,
            _ => {}
        }
    }
    let name = name.filter(|name| network::of_chain(name).is_some())?;
    (table == Some(TABLE) && uses <= network::RULES).then_some(name)
}
