//! Chains as the kernel tells of them.

use netlink_packet_netfilter::nftables::{ChainAttribute, ChainMessage, NfTablesMessage};

use super::TABLE;
use super::channel::Object;
use crate::kernel::attribute::{attribute, number, text};

/// Asks for a chain of weir's.
pub(super) fn look_up(chain: &str) -> NfTablesMessage {
    let attributes = vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(chain.to_owned())];
    NfTablesMessage::GetChain(ChainMessage { attributes })
}

/// Asks for all chains.
pub(super) fn list() -> NfTablesMessage {
    NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() })
}

/// The name of the chain in an answer, if it is weir's.
pub(super) fn name(answer: &[u8]) -> Option<&str> {
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    let table = attribute(answer, NFTA_CHAIN_TABLE).and_then(text)?;
    let name = attribute(answer, NFTA_CHAIN_NAME).and_then(text)?;
    (table == TABLE).then_some(name)
}

/// How many rules the chain in an answer has, and how much leads to it.
pub(super) fn uses(answer: &[u8]) -> Option<u32> {
    const NFTA_CHAIN_USE: u16 = 6;
    attribute(answer, NFTA_CHAIN_USE).and_then(number)
}

/// Whether a base chain is there and has rules: one that somebody has flushed
/// has none.
pub(super) fn has_rules(answer: Option<&Object>) -> bool {
    answer.and_then(|answer| uses(answer)).is_some_and(|uses| uses > 0)
}
