//! Batches: changes that the kernel makes all at once or not at all.

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, InetHookNumber, NfTablesMessage, RuleAttribute,
    RuleMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use nix::libc::{EAFNOSUPPORT, EEXIST, ENOENT, EOPNOTSUPP};
use rtnetlink::packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};

use super::error::Cause;
use super::rule::Expression;
use super::set::{Data, Set};
use super::{TABLE, comment};
use crate::kernel::Refusal;

/// What a step of a batch is about, to tell what a refusal of it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The table or a base chain. Others may have made it.
    Shared,
    /// What is made once: sets and the rules that use them.
    Base,
    /// A network's chain and its rules.
    Network,
    /// The removal of an element.
    Removal,
    /// The element that names the owner.
    Owned,
    /// The element that says that a port is guarded.
    Port,
}

/// A base chain: where the kernel hands packets to the table.
pub(super) struct BaseChain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: InetHookNumber,
    pub(super) priority: i32,
    /// What a kernel that refuses the chain lacks.
    pub(super) needs: &'static str,
}

#[derive(Debug)]
struct Step {
    role: Role,
    message: NfTablesMessage,
    flags: u16,
    needs: &'static str,
}

/// A list of changes in the tables of one family.
#[derive(Debug)]
pub(super) struct Batch {
    family: NetfilterProtoFamily,
    steps: Vec<Step>,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All its changes were made.
    Committed,
    /// The rule set is not of the given generation any more. Nothing changed.
    Outdated,
    /// The kernel refused some steps. Nothing changed.
    Refused(Vec<Refused>),
}

/// A step that the kernel refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) role: Role,
    /// What the kernel may lack.
    pub(super) needs: &'static str,
    pub(super) refusal: Refusal,
}

/// Why a batch failed; none if that was because other processes changed what
/// it relied on, so that it has to be made anew. `makes_base` tells whether it
/// was to make the table and all that belongs to it.
pub(super) fn failure(refused: &[Refused], makes_base: bool) -> Option<Cause> {
    let is_outrun = refused.iter().any(|refused| match (refused.role, refused.refusal.errno) {
        // A chain of the same name, but not weir's.
        (Role::Shared, EEXIST) => false,
        (_, EEXIST) | (Role::Removal, ENOENT) => true,
        (Role::Owned | Role::Port, ENOENT) => !makes_base,
        _ => false,
    });
    if is_outrun {
        return None;
    }
    let Refused { role, needs, refusal } = refused.first()?;
    let refusal = refusal.clone();
    Some(match (role, refusal.errno) {
        // What it is to be made in is there, so the kernel does not know what
        // is to be made.
        (Role::Shared | Role::Base | Role::Network, ENOENT | EOPNOTSUPP | EAFNOSUPPORT) => {
            Cause::Unsupported { needs, refusal }
        }
        _ => Cause::Kernel(refusal),
    })
}

impl Batch {
    pub(super) fn new(family: NetfilterProtoFamily) -> Self {
        Self { family, steps: Vec::with_capacity(2) }
    }

    /// Makes weir's table, unless it is there.
    pub(super) fn table(&mut self, text: &str, needs: &'static str) {
        let attributes =
            vec![TableAttribute::Name(TABLE.to_owned()), TableAttribute::UserData(comment::plain(text))];
        self.push(Role::Shared, NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE, needs);
    }

    /// Makes a base chain, unless it is there.
    pub(super) fn base_chain(&mut self, chain: &BaseChain) {
        let attributes = vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(chain.name.to_owned()),
            ChainAttribute::Type(chain.kind.to_owned()),
            ChainAttribute::Hook(vec![
                Hook::Number(HookNumber::Inet(chain.hook)),
                Hook::Priority(chain.priority.cast_unsigned()),
            ]),
        ];
        self.push(
            Role::Base,
            NfTablesMessage::NewChain(ChainMessage { attributes }),
            NLM_F_CREATE,
            chain.needs,
        );
    }

    /// Makes a set; the whole batch fails if it is there. So what a batch does
    /// beside that is done once, whoever else does the same.
    pub(super) fn set(&mut self, set: &Set) {
        self.push(
            Role::Base,
            set.create(),
            NLM_F_CREATE | NLM_F_EXCL,
            "sets of nf_tables (CONFIG_NF_TABLES)",
        );
    }

    /// Makes a chain that others lead to; the whole batch fails if it is there.
    pub(super) fn chain(&mut self, role: Role, name: &str) {
        let attributes = vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(name.to_owned())];
        let message = NfTablesMessage::NewChain(ChainMessage { attributes });
        self.push(role, message, NLM_F_CREATE | NLM_F_EXCL, "chains of nf_tables (CONFIG_NF_TABLES)");
    }

    /// Removes a chain with its rules; the whole batch fails if anything leads
    /// to it.
    pub(super) fn remove_chain(&mut self, name: &str) {
        self.remove_chain_of(TABLE, name);
    }

    /// The same in a table of others.
    pub(super) fn remove_chain_of(&mut self, table: &str, name: &str) {
        let attributes = vec![ChainAttribute::Table(table.to_owned()), ChainAttribute::Name(name.to_owned())];
        self.push(Role::Removal, NfTablesMessage::DeleteChain(ChainMessage { attributes }), 0, "");
    }

    /// Removes a rule from a table of others; the whole batch fails if it is
    /// not there.
    pub(super) fn remove_rule_of(&mut self, table: &str, chain: &str, handle: u64) {
        let attributes = vec![
            RuleAttribute::Table(table.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Handle(handle),
        ];
        self.push(Role::Removal, NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0, "");
    }

    /// Removes all rules of a chain.
    pub(super) fn flush_chain(&mut self, name: &str) {
        let attributes = vec![RuleAttribute::Table(TABLE.to_owned()), RuleAttribute::Chain(name.to_owned())];
        self.push(Role::Removal, NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0, "");
    }

    /// Appends a rule to a chain.
    pub(super) fn rule(
        &mut self,
        role: Role,
        chain: &str,
        expressions: Vec<Expression>,
        needs: &'static str,
    ) {
        const NLM_F_APPEND: u16 = 0x800;
        let attributes = vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ];
        let message = NfTablesMessage::NewRule(RuleMessage { attributes });
        self.push(role, message, NLM_F_CREATE | NLM_F_APPEND, needs);
    }

    /// Adds an element; the whole batch fails if the key is there.
    pub(super) fn add(&mut self, role: Role, set: &Set, key: &[u8], data: Data<'_>, userdata: Vec<u8>) {
        self.push(role, set.add(key, data, userdata), NLM_F_CREATE | NLM_F_EXCL, "");
    }

    /// Removes an element; the whole batch fails if it is not there.
    pub(super) fn remove(&mut self, set: &Set, key: &[u8]) {
        self.push(Role::Removal, set.remove(key), 0, "");
    }

    fn push(&mut self, role: Role, message: NfTablesMessage, flags: u16, needs: &'static str) {
        self.steps.push(Step { role, message, flags, needs });
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// What to make of the refusal of the step that came `index`th.
    pub(super) fn refused(&self, index: usize, refusal: Refusal) -> Option<Refused> {
        self.steps.get(index).map(|step| Refused { role: step.role, needs: step.needs, refusal })
    }

    /// The batch as it is sent: the beginning has the number `first`, each
    /// step the next. Only the last step asks for an acknowledgement: the
    /// kernel answers in the order of the steps, so refusals come before it.
    pub(super) fn encode(&self, first: u32, generation: Option<u32>) -> Vec<u8> {
        const NFNL_MSG_BATCH_BEGIN: u8 = 16;
        const NFNL_BATCH_GENID: u16 = 1;
        const NFNL_SUBSYS_NFTABLES: u16 = 10;
        let subsystem = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFNL_SUBSYS_NFTABLES);
        let begin = match generation {
            None => ControlMessage::BatchBegin,
            Some(generation) => ControlMessage::Other {
                message_type: NFNL_MSG_BATCH_BEGIN,
                attributes: vec![DefaultNla::new(NFNL_BATCH_GENID, generation.to_be_bytes().to_vec())],
            },
        };
        let mut bytes = Vec::with_capacity(512);
        encode(&mut bytes, subsystem.clone(), begin, NLM_F_REQUEST, first);
        for (number, step) in (1..).zip(&self.steps) {
            let acknowledge = if number as usize == self.steps.len() { NLM_F_ACK } else { 0 };
            let header = NetfilterHeader::new(self.family, 0, 0);
            let flags = NLM_F_REQUEST | step.flags | acknowledge;
            encode(&mut bytes, header, step.message.clone(), flags, first.wrapping_add(number));
        }
        let last = first.wrapping_add(self.steps.len() as u32 + 1);
        encode(&mut bytes, subsystem, ControlMessage::BatchEnd, NLM_F_REQUEST, last);
        bytes
    }
}

/// Appends a message to `bytes`.
pub(super) fn encode(
    bytes: &mut Vec<u8>,
    header: NetfilterHeader,
    message: impl Into<NetfilterMessageInner>,
    flags: u16,
    number: u32,
) {
    let message = NetfilterMessage::new(header, message);
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    message.header.flags = flags;
    message.header.sequence_number = number;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(bytes: &[u8]) -> Vec<(u16, u16, u32)> {
        let mut rest = bytes;
        let mut headers = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest).unwrap();
            headers.push((message.header.message_type, message.header.flags, message.header.sequence_number));
            rest = &rest[(message.header.length as usize).next_multiple_of(4)..];
        }
        headers
    }

    #[test]
    fn a_batch_is_framed_and_its_last_step_acknowledged() {
        let mut batch = Batch::new(NetfilterProtoFamily::Inet);
        batch.table("a table of odd length", "");
        batch.remove_chain("c");
        assert_eq!(
            headers(&batch.encode(u32::MAX, None)),
            [(16, 1, u32::MAX), (0xa00, 0x401, 0), (0xa05, 5, 1), (17, 1, 2)]
        );
    }

    #[test]
    fn only_what_others_did_makes_a_batch_be_made_anew() {
        let refused =
            |role, errno| Refused { role, needs: "sense", refusal: Refusal { errno, reason: String::new() } };
        assert!(failure(&[refused(Role::Base, EEXIST), refused(Role::Network, EEXIST)], true).is_none());
        assert!(failure(&[refused(Role::Owned, EEXIST)], false).is_none());
        assert!(failure(&[refused(Role::Network, ENOENT), refused(Role::Owned, ENOENT)], false).is_none());
        assert!(failure(&[refused(Role::Removal, ENOENT)], true).is_none());
        assert!(matches!(
            failure(&[refused(Role::Network, ENOENT)], false),
            Some(Cause::Unsupported { needs: "sense", .. })
        ));
        assert!(matches!(
            failure(&[refused(Role::Shared, ENOENT), refused(Role::Owned, ENOENT)], true),
            Some(Cause::Unsupported { .. })
        ));
        assert!(matches!(failure(&[refused(Role::Shared, EEXIST)], true), Some(Cause::Kernel(_))));
        assert!(matches!(failure(&[refused(Role::Owned, nix::libc::ENOSPC)], false), Some(Cause::Kernel(_))));
    }

    #[test]
    fn a_generation_is_given_in_network_order() {
        let bytes = Batch::new(NetfilterProtoFamily::Inet).encode(1, Some(0x0102_0304));
        assert_eq!(bytes[16..28], [0, 0, 0, 10, 8, 0, 1, 0, 1, 2, 3, 4]);
        assert_eq!(headers(&bytes), [(16, 1, 1), (17, 1, 2)]);
    }
}
