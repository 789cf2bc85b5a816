//! What the native plugins put into the packet filter for an attachment that
//! they made, and that weir is to take away: rules that lead to chains of the
//! attachment's own, or that carry its mark.
//!
//! They reach the packet filter by `iptables` and `nft`. What `iptables-legacy`
//! made is in tables that nf_tables does not see.

use std::fmt;

use netlink_packet_netfilter::NetfilterProtoFamily as Family;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage,
};
use sha2::{Digest, Sha512};

use super::batch::{Batch, Outcome};
use super::channel::{Channel, Object};
use super::error::Cause;
use super::{Firewall, FirewallError};
use crate::kernel::attribute::attribute;

/// What one plugin made in one table.
#[derive(Debug)]
pub(crate) struct NativeRules {
    place: Place,
    /// Handles of rules that packets come by.
    rules: Vec<u64>,
    /// Chains that they lead to.
    chains: Vec<String>,
}

impl fmt::Display for NativeRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { family, table, base, .. } = &self.place;
        let family = format!("{family:?}").to_lowercase();
        write!(f, "{} of chain {base} in table {family} {table}", self.rules.len())?;
        if self.chains.is_empty() { Ok(()) } else { write!(f, ", {}", self.chains.join(", ")) }
    }
}

/// Where to look, and for what.
#[derive(Debug, Clone)]
struct Place {
    family: Family,
    table: &'static str,
    /// The chain with the rules that packets come by.
    base: &'static str,
    /// Rules that have this text anywhere are the attachment's.
    mark: String,
    /// The attachment's own chains, in the order in which they lead on.
    chains: Vec<String>,
}

impl Firewall {
    /// What masquerades an attachment. The chains of `iptables` are those of
    /// all its interfaces in the network.
    pub(crate) fn native_masquerade(
        &mut self,
        network: &str,
        container: &str,
        ifname: &str,
    ) -> Result<Vec<NativeRules>, FirewallError> {
        let chain = format!("CNI-{}", hash(&format!("{network}{container}"), 24));
        let with_iptables = |family| Place {
            family,
            table: "nat",
            base: "POSTROUTING",
            mark: chain.clone(),
            chains: vec![chain.clone()],
        };
        let with_nft = Place {
            family: Family::Inet,
            table: "cni_plugins_masquerade",
            base: "masq_checks",
            mark: format!("{}-{}", hash(network, 16), hash(&format!("{ifname}:{container}"), 16)),
            chains: Vec::new(),
        };
        self.find(&[with_iptables(Family::IPv4), with_iptables(Family::IPv6), with_nft])
    }

    /// What keeps the port of an attachment from sending with other hardware
    /// addresses.
    pub(crate) fn native_guard(
        &mut self,
        container: &str,
        ifname: &str,
    ) -> Result<Vec<NativeRules>, FirewallError> {
        let chain = format!("cni-br-iface-{container}-{ifname}");
        self.find(&[Place {
            family: Family::Bridge,
            table: "nat",
            base: "PREROUTING",
            // As the comment ends.
            mark: format!("macspoofchk-{container}-{ifname}\0"),
            chains: vec![chain.clone(), format!("{chain}-mac")],
        }])
    }

    fn find(&mut self, places: &[Place]) -> Result<Vec<NativeRules>, FirewallError> {
        self.run(
            || "look for rules of the native plugins".to_owned(),
            |channel| {
                let found = places.iter().map(|place| find(channel, place));
                found.filter_map(Result::transpose).collect()
            },
        )
    }

    /// Removes what was found, and what is found instead if others changed it
    /// meanwhile.
    pub(crate) fn remove_native(&mut self, found: &NativeRules) -> Result<(), FirewallError> {
        self.run(
            || format!("remove rules of the native plugins from table {}", found.place.table),
            |channel| {
                let mut removed = remove(channel, found)?;
                while !removed {
                    channel.check_time()?;
                    removed = match find(channel, &found.place)? {
                        Some(found) => remove(channel, &found)?,
                        None => true,
                    };
                }
                Ok(())
            },
        )
    }
}

/// Removes what was found; false if it is not there as it was.
fn remove(channel: &mut Channel, found: &NativeRules) -> Result<bool, Cause> {
    let Place { family, table, base, .. } = &found.place;
    let mut batch = Batch::new(*family);
    for rule in &found.rules {
        batch.remove_rule_of(table, base, *rule);
    }
    for chain in &found.chains {
        batch.remove_chain_of(table, chain);
    }
    match channel.commit(&batch, None)? {
        Outcome::Committed => Ok(true),
        Outcome::Outdated => Ok(false),
        Outcome::Refused(refused) => match refused.into_iter().next() {
            Some(refused) if refused.refusal.errno != nix::libc::ENOENT => {
                Err(Cause::Kernel(refused.refusal))
            }
            _ => Ok(false),
        },
    }
}

/// As the native plugins shorten names: digits of SHA-512.
fn hash(text: &str, digits: usize) -> String {
    let mut hex = format!("{:x}", Sha512::digest(text.as_bytes()));
    hex.truncate(digits);
    hex
}

fn find(channel: &mut Channel, place: &Place) -> Result<Option<NativeRules>, Cause> {
    let attributes =
        vec![RuleAttribute::Table(place.table.to_owned()), RuleAttribute::Chain(place.base.to_owned())];
    let request = NfTablesMessage::GetRule(RuleMessage { attributes });
    let rules = loop {
        channel.check_time()?;
        let (listed, is_complete) = channel.dump(place.family, &request)?;
        if is_complete {
            break listed.iter().filter_map(|rule| handle_if_marked(rule, &place.mark)).collect::<Vec<u64>>();
        }
    };
    if rules.is_empty() {
        return Ok(None);
    }
    let look_up = |chain: &String| {
        let attributes =
            vec![ChainAttribute::Table(place.table.to_owned()), ChainAttribute::Name(chain.clone())];
        NfTablesMessage::GetChain(ChainMessage { attributes })
    };
    let wanted: Vec<NfTablesMessage> = place.chains.iter().map(look_up).collect();
    let (_, present) = channel.objects_of(place.family, &wanted)?;
    let chains =
        place.chains.iter().zip(present).filter_map(|(chain, is_there)| is_there.map(|_| chain.clone()));
    Ok(Some(NativeRules { rules, chains: chains.collect(), place: place.clone() }))
}

fn handle_if_marked(rule: &Object, mark: &str) -> Option<u64> {
    const NFTA_RULE_HANDLE: u16 = 3;
    let is_marked = rule.windows(mark.len()).any(|part| part == mark.as_bytes());
    let handle = attribute(rule, NFTA_RULE_HANDLE)?.try_into().ok()?;
    is_marked.then_some(u64::from_be_bytes(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened_as_the_native_plugins_do() {
        // As seen: network mynet, container cont-1.
        assert_eq!(hash("mynetcont-1", 24), "614a50ffd65a839382c07304");
    }
}
