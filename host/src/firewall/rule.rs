//! Expressions, the steps of a rule: each takes values from registers or puts
//! values there.

use std::net::IpAddr;

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta,
    MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};
use rtnetlink::packet_core::DefaultNla;

/// A step of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// `IPS_DST_NAT`.
const DST_NAT: u32 = 1 << 5;

/// `NF_DROP`.
pub(super) const DROP: Verdict = Verdict::Other(0);

/// Headers whose fields a rule can read.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// A register of four bytes: they follow on each other, and fill the others.
/// The first one is the beginning of the first of the others.
fn word(number: u32) -> Register {
    const NFT_REG32_00: u32 = 8;
    Register::from(NFT_REG32_00 + number)
}

/// How many words an address fills.
fn words(like: IpAddr) -> u32 {
    if like.is_ipv4() { 1 } else { 4 }
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

/// Loads the fields of a key, one behind the other.
pub(super) fn key(like: IpAddr, fields: &[Field]) -> Vec<Expression> {
    let mut at = 0;
    let load_field = |field: &Field| {
        let register = word(at);
        at += if field.is_address() { words(like) } else { 1 };
        field.load(like, register)
    };
    fields.iter().map(load_field).collect()
}

/// A field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// The packet's destination address.
    Destination,
    /// The destination address that the connection's first packet came with.
    OriginalDestination,
    /// The transport protocol.
    Protocol,
    /// The packet's destination port.
    Port,
    /// The destination port that the connection's first packet came with.
    OriginalPort,
}

impl Field {
    fn is_address(self) -> bool {
        matches!(self, Self::Destination | Self::OriginalDestination)
    }

    fn load(self, like: IpAddr, register: Register) -> Expression {
        const NFT_CT_PROTO_DST: u32 = 12;
        const NFT_CT_DST_IP: u32 = 20;
        const NFT_CT_DST_IP6: u32 = 22;
        match self {
            Self::Destination if like.is_ipv4() => load(Header::Network, 16, 4, register),
            Self::Destination => load(Header::Network, 24, 16, register),
            Self::OriginalDestination if like.is_ipv4() => load_original(NFT_CT_DST_IP, register),
            Self::OriginalDestination => load_original(NFT_CT_DST_IP6, register),
            Self::Protocol => load_meta_into(MetaKey::L4Proto, register),
            Self::Port => load(Header::Transport, 2, 2, register),
            Self::OriginalPort => load_original(NFT_CT_PROTO_DST, register),
        }
    }
}

/// Goes on only with packets to an address of the node.
pub(super) fn to_the_node() -> [Expression; 2] {
    const NFTA_FIB_DREG: u16 = 1;
    const NFTA_FIB_RESULT: u16 = 2;
    const NFTA_FIB_FLAGS: u16 = 3;
    const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
    const NFTA_FIB_F_DADDR: u32 = 2;
    const RTN_LOCAL: u32 = 2;
    let fib = other(
        "fib",
        &[
            (NFTA_FIB_DREG, Register::Reg1.into()),
            (NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE),
            (NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR),
        ],
    );
    [fib, equals(RTN_LOCAL.to_ne_bytes().to_vec())]
}

/// Goes on only with packets of connections whose destination was not changed.
pub(super) fn keeps_destination() -> [Expression; 3] {
    const NFTA_CT_DREG: u16 = 1;
    const NFTA_CT_KEY: u16 = 2;
    const NFT_CT_STATUS: u32 = 2;
    let status = other("ct", &[(NFTA_CT_DREG, Register::Reg1.into()), (NFTA_CT_KEY, NFT_CT_STATUS)]);
    [status, mask(4, DST_NAT.to_ne_bytes().to_vec()), equals(vec![0; 4])]
}

/// Goes on only with packets that came in from outside of the node.
pub(super) fn not_from_loopback() -> [Expression; 2] {
    /// The first link of each namespace.
    const LOOPBACK_INDEX: u32 = 1;
    [load_meta(MetaKey::Iif), differs(LOOPBACK_INDEX.to_ne_bytes().to_vec())]
}

/// Goes on only with packets of a transport protocol.
pub(super) fn protocol(number: u8) -> [Expression; 2] {
    [load_meta(MetaKey::L4Proto), equals(vec![number])]
}

/// Puts the value that the map has for the key in the key's place.
pub(super) fn look_up(map: &str) -> Expression {
    Expressions::Lookup(vec![
        Lookup::Set(map.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::DestinationRegister(Register::Reg1),
    ])
    .into()
}

/// Sends the connection to the address and port that were looked up.
pub(super) fn redirect(like: IpAddr) -> Expression {
    const NFTA_NAT_TYPE: u16 = 1;
    const NFTA_NAT_FAMILY: u16 = 2;
    const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
    const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
    const NFT_NAT_DNAT: u32 = 1;
    let family = if like.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    other(
        "nat",
        &[
            (NFTA_NAT_TYPE, NFT_NAT_DNAT),
            (NFTA_NAT_FAMILY, u8::from(family).into()),
            (NFTA_NAT_REG_ADDR_MIN, Register::Reg1.into()),
            (NFTA_NAT_REG_PROTO_MIN, word(words(like)).into()),
        ],
    )
}

/// Goes on in another chain.
pub(super) fn goto(chain: &str) -> Expression {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![
            VerdictAttribute::Code(Verdict::Goto),
            VerdictAttribute::Chain(chain.to_owned()),
        ])),
    ])
    .into()
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
    compare(Operator::Equal, value)
}

/// Goes on only if what was loaded is not `value`.
pub(super) fn differs(value: Vec<u8>) -> Expression {
    compare(Operator::NotEqual, value)
}

fn compare(operator: Operator, value: Vec<u8>) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
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
    load_meta_into(key, Register::Reg1)
}

fn load_meta_into(key: MetaKey, register: Register) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register)]).into()
}

/// Loads what a connection's first packet came with.
fn load_original(key: u32, register: Register) -> Expression {
    const NFTA_CT_DREG: u16 = 1;
    const NFTA_CT_KEY: u16 = 2;
    const NFTA_CT_DIRECTION: u16 = 3;
    const IP_CT_DIR_ORIGINAL: u8 = 0;
    Expressions::Other {
        expression_type: "ct".to_owned(),
        attributes: vec![
            number(NFTA_CT_DREG, register.into()),
            number(NFTA_CT_KEY, key),
            DefaultNla::new(NFTA_CT_DIRECTION, vec![IP_CT_DIR_ORIGINAL]),
        ],
    }
    .into()
}

/// An expression whose attributes are numbers.
fn other(name: &str, attributes: &[(u16, u32)]) -> Expression {
    let attributes = attributes.iter().map(|(kind, value)| number(*kind, *value)).collect();
    Expressions::Other { expression_type: name.to_owned(), attributes }.into()
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
