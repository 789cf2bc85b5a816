//! Masquerading: containers leave the node with its addresses.
//!
//! One map per family leads from a container's address to the chain of its
//! network. The chain's use count is the kernel's: a chain that an element
//! leads to cannot be removed, whoever tries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::InetHookNumber;
use nix::libc::EBUSY;

use super::batch::{self, BaseChain, Batch, Outcome, Role};
use super::chain;
use super::channel::Channel;
use super::comment::{self, ByteOrder};
use super::error::{Cause, FirewallError};
use super::set::{Data, Element, Set, Target, key_type};
use super::{Firewall, answers, network, rule};

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
    leads_to: Target::Chain,
    comment: "container addresses that stay inside the node, by their network",
    number: 1,
};

static SOURCES_6: Set = Set {
    family: FAMILY,
    name: "masquerade6",
    key_type: key_type::IPV6,
    key_length: 16,
    byte_order: ByteOrder::Network,
    leads_to: Target::Chain,
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
            |channel| Entry::new(owner, source, direct)?.add(channel),
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
        let element = self.run(
            || format!("look up the masquerading of {source}"),
            |channel| {
                let wanted =
                    [sources(source).get(&network::octets(source)), chain::look_up(POSTROUTING.name)];
                let (_, [element, hook]) = channel.objects(FAMILY, wanted)?;
                // Without rules, elements do nothing.
                let element = element.filter(|_| chain::has_rules(hook.as_ref()));
                Ok(element.and_then(|answer| Element::read(&answer).pop()))
            },
        )?;
        Ok(element
            .filter(|element| comment::names(&element.owner, owner))
            .and_then(|element| direct(&element)))
    }

    /// Who asked for the masquerading of `source`, if it was not `owner`.
    /// Reads one element.
    pub(crate) fn masquerade_of_another(
        &mut self,
        owner: &str,
        source: IpAddr,
    ) -> Result<Option<String>, FirewallError> {
        Ok(self
            .masquerade_element(source)?
            .map(|element| element.owner)
            .filter(|named| !comment::names(named, owner)))
    }

    fn masquerade_element(&mut self, source: IpAddr) -> Result<Option<Element>, FirewallError> {
        let (_, [element]) = self.run(
            || format!("look up the masquerading of {source}"),
            |channel| channel.elements(FAMILY, [(sources(source), &network::octets(source))]),
        )?;
        Ok(element)
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

/// What is to be added.
struct Entry<'a> {
    owner: &'a str,
    userdata: Vec<u8>,
    source: IpAddr,
    key: Vec<u8>,
    direct: IpNet,
    chain: String,
}

/// What all networks of a family share, as it was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    Whole,
    Missing,
    /// The set is there, and the rules are not: somebody has flushed them.
    Flushed,
}

impl<'a> Entry<'a> {
    fn new(owner: &'a str, source: IpAddr, direct: IpNet) -> Result<Self, Cause> {
        if source.is_ipv4() != direct.addr().is_ipv4() {
            return Err(Cause::Invalid("the address and the network are of different families".to_owned()));
        }
        let userdata = comment::of_owner(owner)
            .ok_or_else(|| Cause::Invalid(format!("{owner:?} cannot be kept as the owner's name")))?;
        let direct = direct.trunc();
        let chain = network::chain_name(direct);
        Ok(Self { owner, userdata, source, key: network::octets(source), direct, chain })
    }

    /// Adds the entry. Looks before it leaps: looking takes microseconds, but
    /// after a batch that it refused the kernel waits for milliseconds, and
    /// makes all others wait, too.
    fn add(&self, channel: &mut Channel) -> Result<(), Cause> {
        let sources = sources(self.source);
        loop {
            let wanted =
                [sources.get(&self.key), chain::look_up(&self.chain), chain::look_up(POSTROUTING.name)];
            let (generation, [element, chain, hook]) = channel.objects(FAMILY, wanted)?;
            let has_rules = chain::has_rules(hook.as_ref());
            let base = if has_rules && chain.is_some() {
                Base::Whole
            } else {
                match channel.objects(FAMILY, [sources.look_up()])? {
                    (_, [None]) => Base::Missing,
                    (_, [Some(_)]) if has_rules => Base::Whole,
                    (_, [Some(_)]) => Base::Flushed,
                }
            };
            let element = element.and_then(|answer| Element::read(&answer).pop());
            if base == Base::Whole && element.as_ref().is_some_and(|element| self.is(element)) {
                return Ok(());
            }
            let mut batch = Batch::new(FAMILY);
            match base {
                Base::Whole => {}
                Base::Missing => make_base(&mut batch, self.source),
                Base::Flushed => mend_base(channel, &mut batch)?,
            }
            self.fill(&mut batch, chain.is_none(), element.is_some());
            // The generation makes sure that nobody else has mended it.
            let generation = (base == Base::Flushed).then_some(generation);
            match channel.commit(&batch, generation)? {
                Outcome::Committed => return Ok(()),
                Outcome::Outdated => {}
                Outcome::Refused(refused) => {
                    if let Some(cause) = batch::failure(&refused, base == Base::Missing) {
                        return Err(cause);
                    }
                }
            }
        }
    }

    fn is(&self, element: &Element) -> bool {
        comment::names(&element.owner, self.owner) && element.chain.as_deref() == Some(&self.chain)
    }

    /// Adds the element, and the network's chain if it is missing.
    fn fill(&self, batch: &mut Batch, makes_chain: bool, replaces: bool) {
        if makes_chain {
            batch.chain(Role::Network, &self.chain);
            network_rules(batch, &self.chain, self.direct);
        }
        let sources = sources(self.source);
        if replaces {
            batch.remove(sources, &self.key);
        }
        batch.add(Role::Owned, sources, &self.key, Data::Chain(&self.chain), self.userdata.clone());
    }
}

fn network_rules(batch: &mut Batch, chain: &str, direct: IpNet) {
    for rule in network::rules(direct) {
        batch.rule(Role::Network, chain, rule, NEEDS_MASQUERADE);
    }
}

/// Puts back the rules, and the chain of the hook. Where they were flushed,
/// those of all networks were as well.
fn mend_base(channel: &mut Channel, batch: &mut Batch) -> Result<(), Cause> {
    let (_, sets) = channel.objects(FAMILY, [SOURCES_4.look_up(), SOURCES_6.look_up()])?;
    let (chains, _) = channel.dump(FAMILY, &chain::list())?;
    batch.base_chain(&POSTROUTING);
    let families = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    for (like, _) in families.into_iter().zip(&sets).filter(|(_, set)| set.is_some()) {
        follow(batch, like);
    }
    for chain in chains.iter().filter_map(|answer| chain::name(answer)) {
        if let Some(direct) = network::of_chain(chain) {
            batch.flush_chain(chain);
            network_rules(batch, chain, direct);
        }
    }
    Ok(())
}

/// What all networks of a family share. The set makes it happen once.
fn make_base(batch: &mut Batch, like: IpAddr) {
    batch.table(
        "weir's: containers leave the node with its addresses; changes by others are lost",
        NEEDS_TABLE,
    );
    batch.base_chain(&POSTROUTING);
    batch.set(sources(like));
    follow(batch, like);
}

/// The rule that leads to the chains of networks.
fn follow(batch: &mut Batch, like: IpAddr) {
    let sources = sources(like);
    let mut expressions = Vec::from(rule::family(like));
    expressions.extend([rule::source(like), rule::follow(sources.name)]);
    batch.rule(Role::Base, POSTROUTING.name, expressions, NEEDS_LOOKUP);
}

fn remove(channel: &mut Channel, owner: &str, source: IpAddr) -> Result<bool, Cause> {
    let sources = sources(source);
    let key = network::octets(source);
    loop {
        let (generation, [element]) = channel.elements(FAMILY, [(sources, &key)])?;
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
                if let Some(cause) = batch::failure(&refused, false) {
                    return Err(cause);
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
    // A chain that is missed or seen twice matters little here.
    let (chains, _) = channel.dump(FAMILY, &chain::list())?;
    let mut removed = 0;
    let rules = |name: &str| {
        network::of_chain(name)
            .map(|_| network::RULES)
            .or_else(|| answers::of_chain(name).map(answers::count))
    };
    // Nothing but its own rules counts.
    let unused = |answer| {
        let name = chain::name(answer)?;
        (chain::uses(answer)? <= rules(name)?).then_some(name)
    };
    for chain in chains.iter().filter_map(|answer| unused(answer)) {
        let mut batch = Batch::new(FAMILY);
        batch.remove_chain(chain);
        match channel.commit(&batch, None)? {
            Outcome::Committed => removed += 1,
            Outcome::Outdated => {}
            Outcome::Refused(refused) => {
                // EBUSY: a container came. ENOENT: another process was faster.
                if refused.iter().any(|refused| refused.refusal.errno != EBUSY)
                    && let Some(cause) = batch::failure(&refused, false)
                {
                    return Err(cause);
                }
            }
        }
    }
    Ok(removed)
}
