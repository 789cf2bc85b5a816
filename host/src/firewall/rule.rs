//! Expressions, the steps of a rule: each takes values from registers or puts
//! values there.

use std::net::IpAddr;

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta,
    MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};

/// A step of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// `NF_DROP`.
pub(super) const DROP: Verdict = Verdict::Other(0);

/// Headers whose fields a rule can read.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Header {
    Link = 0,
    Network = 1,
}

/// Goes on only with packets of the address's family. nft writes it in front
/// of each rule on addresses, and understands such rules only behind it.
pub(super) fn family(address: IpAddr) -> [Expression; 2] {
    let family = if address.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    [load_meta(MetaKey::Nfproto), equals(vec![family.into()])]
}

/// Loads the packet's source address.
pub(super) fn source(like: IpAddr) -> Expression {
    let (offset, length) = if like.is_ipv4() { (12, 4) } else { (8, 16) };
    load(Header::Network, offset, length, Register::Reg1)
}

/// Loads the packet's destination address; returns its length, too.
pub(super) fn destination(like: IpAddr) -> (Expression, u32) {
    let (offset, length) = if like.is_ipv4() { (16, 4) } else { (24, 16) };
    (load(Header::Network, offset, length, Register::Reg1), length)
}

/// Loads the frame's destination hardware address.
pub(super) fn destination_mac() -> Expression {
    load(Header::Link, 0, 6, Register::Reg1)
}

/// Loads the name of the port by which the frame came in.
pub(super) fn port() -> Expression {
    load_meta(MetaKey::Iifname)
}

/// Loads the frame's source hardware address behind the name of its port:
/// together they are a key of two fields.
pub(super) fn then_source_mac() -> Expression {
    load(Header::Link, 6, 6, Register::Reg2)
}

/// Keeps the bits of `mask`.
pub(super) fn mask(length: u32, mask: Vec<u8>) -> Expression {
    let no_change = vec![0; mask.len()];
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(length),
        Bitwise::Mask(DataAttribute::Value(mask)),
        Bitwise::Xor(DataAttribute::Value(no_change)),
    ])
    .into()
}

/// Goes on only if what was loaded is `value`.
pub(super) fn equals(value: Vec<u8>) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(value)),
    ])
    .into()
}

/// Goes on only if what was loaded is in the set.
pub(super) fn is_in(set: &str) -> Expression {
    Expressions::Lookup(vec![Lookup::Set(set.to_owned()), Lookup::SourceRegister(Register::Reg1)]).into()
}

/// Goes on only if what was loaded is not in the set.
pub(super) fn is_not_in(set: &str) -> Expression {
    const NFT_LOOKUP_F_INV: u32 = 1;
    Expressions::Lookup(vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::Flags(NFT_LOOKUP_F_INV),
    ])
    .into()
}

/// Does what the map says for what was loaded.
pub(super) fn follow(map: &str) -> Expression {
    Expressions::Lookup(vec![
        Lookup::Set(map.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::DestinationRegister(Register::Verdict),
    ])
    .into()
}

/// Ends the rule.
pub(super) fn verdict(verdict: Verdict) -> Expression {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(verdict)])),
    ])
    .into()
}

/// Gives the packet the address of the interface by which it leaves.
pub(super) fn masquerade() -> Expression {
    Expressions::Other { expression_type: "masq".to_owned(), attributes: Vec::new() }.into()
}

fn load(header: Header, offset: u32, length: u32, register: Register) -> Expression {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(header as u32),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn load_meta(key: MetaKey) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]).into()
}
