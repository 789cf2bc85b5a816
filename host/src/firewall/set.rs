//! Sets and maps, and the messages about them and their elements.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetAttribute, SetElementAttribute, SetElementList,
    SetElementMessage, SetFlags, SetMessage, Verdict, VerdictAttribute,
};

use super::TABLE;
use super::comment::{self, ByteOrder};
use crate::kernel::attribute::{attribute, attributes, text};

/// nft's numbers of the types of keys; the kernel only keeps them.
pub(super) mod key_type {
    /// An IPv4 address.
    pub(in crate::firewall) const IPV4: u32 = 7;
    /// An IPv6 address.
    pub(in crate::firewall) const IPV6: u32 = 8;
    /// A transport protocol.
    pub(in crate::firewall) const PROTOCOL: u32 = 12;
    /// A port of a transport protocol.
    pub(in crate::firewall) const PORT: u32 = 13;
    /// A hardware address.
    pub(in crate::firewall) const MAC: u32 = 9;
    /// The name of an interface.
    pub(in crate::firewall) const IFNAME: u32 = 41;

    /// The type of a key with several fields.
    pub(in crate::firewall) const fn of(fields: &[u32]) -> u32 {
        /// How many bits the type of one field takes.
        const NEXT: u32 = 6;
        let (mut all, mut at) = (0, 0);
        while at < fields.len() {
            all = all << NEXT | fields[at];
            at += 1;
        }
        all
    }
}

/// What a map leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Nothing: it is a set.
    Nothing,
    /// The chain in which the packet goes on.
    Chain,
    /// A value of this type and length.
    Value(u32, u32),
}

/// What an element of a map leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data<'a> {
    /// Nothing: it is an element of a set.
    Nothing,
    /// A chain.
    Chain(&'a str),
    /// A value.
    Value(&'a [u8]),
}

/// A set, or a map. The kernel keeps it as a hash table, as no element is an
/// interval.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) family: NetfilterProtoFamily,
    pub(super) name: &'static str,
    pub(super) key_type: u32,
    pub(super) key_length: u32,
    pub(super) byte_order: ByteOrder,
    /// What each element leads to.
    pub(super) leads_to: Target,
    /// Tells the operator what it is for.
    pub(super) comment: &'static str,
    /// Distinguishes the sets that one batch makes.
    pub(super) number: u32,
}

/// An element as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// The chain that a map's element leads to.
    pub(super) chain: Option<String>,
    /// The value that a map's element leads to.
    pub(super) value: Option<Vec<u8>>,
    /// The owner that the comment names.
    pub(super) owner: String,
}

impl Set {
    /// Makes the set.
    pub(super) fn create(&self) -> NfTablesMessage {
        const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
        let flags = if self.leads_to == Target::Nothing { SetFlags::empty() } else { SetFlags::Map };
        let mut attributes = vec![
            SetAttribute::Table(TABLE.to_owned()),
            SetAttribute::Name(self.name.to_owned()),
            SetAttribute::Flags(flags),
            SetAttribute::KeyType(self.key_type),
            SetAttribute::KeyLen(self.key_length),
            SetAttribute::Id(self.number),
            SetAttribute::UserData(comment::of_set(self.comment, self.byte_order)),
        ];
        match self.leads_to {
            Target::Nothing => {}
            Target::Chain => attributes.push(SetAttribute::DataType(NFT_DATA_VERDICT)),
            Target::Value(kind, length) => {
                attributes.extend([SetAttribute::DataType(kind), SetAttribute::DataLen(length)]);
            }
        }
        NfTablesMessage::NewSet(SetMessage { attributes })
    }

    /// Asks for the set itself.
    pub(super) fn look_up(&self) -> NfTablesMessage {
        let attributes =
            vec![SetAttribute::Table(TABLE.to_owned()), SetAttribute::Name(self.name.to_owned())];
        NfTablesMessage::GetSet(SetMessage { attributes })
    }

    /// Adds an element.
    pub(super) fn add(&self, key: &[u8], data: Data<'_>, userdata: Vec<u8>) -> NfTablesMessage {
        let mut attributes = vec![Self::key(key)];
        match data {
            Data::Nothing => {}
            Data::Chain(chain) => {
                attributes.push(SetElementAttribute::Data(DataAttribute::Verdict(vec![
                    VerdictAttribute::Code(Verdict::Goto),
                    VerdictAttribute::Chain(chain.to_owned()),
                ])));
            }
            Data::Value(value) => {
                attributes.push(SetElementAttribute::Data(DataAttribute::Value(value.to_vec())));
            }
        }
        attributes.push(SetElementAttribute::UserData(userdata));
        NfTablesMessage::NewSetElement(self.elements(Some(attributes)))
    }

    /// Removes an element.
    pub(super) fn remove(&self, key: &[u8]) -> NfTablesMessage {
        NfTablesMessage::DeleteSetElement(self.elements(Some(vec![Self::key(key)])))
    }

    /// Asks for an element.
    pub(super) fn get(&self, key: &[u8]) -> NfTablesMessage {
        NfTablesMessage::GetSetElement(self.elements(Some(vec![Self::key(key)])))
    }

    /// Asks for all elements.
    pub(super) fn list(&self) -> NfTablesMessage {
        NfTablesMessage::GetSetElement(self.elements(None))
    }

    fn elements(&self, element: Option<Vec<SetElementAttribute>>) -> SetElementMessage {
        let mut attributes =
            vec![SetElementList::Table(TABLE.to_owned()), SetElementList::Set(self.name.to_owned())];
        if let Some(element) = element {
            attributes.push(SetElementList::Elements(vec![ListAttribute::Element(element)]));
        }
        SetElementMessage { attributes }
    }

    fn key(key: &[u8]) -> SetElementAttribute {
        SetElementAttribute::Key(DataAttribute::Value(key.to_vec()))
    }
}

impl Element {
    /// Reads the elements of an answer.
    pub(super) fn read(answer: &[u8]) -> Vec<Self> {
        const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
        const NFTA_LIST_ELEM: u16 = 1;
        let list = attribute(answer, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
        let elements = attributes(list).filter(|(kind, _)| *kind == NFTA_LIST_ELEM);
        elements.filter_map(|(_, element)| Self::read_one(element)).collect()
    }

    fn read_one(element: &[u8]) -> Option<Self> {
        const NFTA_SET_ELEM_KEY: u16 = 1;
        const NFTA_SET_ELEM_DATA: u16 = 2;
        const NFTA_SET_ELEM_USERDATA: u16 = 6;
        const NFTA_DATA_VALUE: u16 = 1;
        const NFTA_DATA_VERDICT: u16 = 2;
        const NFTA_VERDICT_CHAIN: u16 = 2;
        let key = attribute(attribute(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
        let data = attribute(element, NFTA_SET_ELEM_DATA);
        let chain = data
            .and_then(|data| attribute(data, NFTA_DATA_VERDICT))
            .and_then(|verdict| attribute(verdict, NFTA_VERDICT_CHAIN))
            .and_then(text);
        let value = data.and_then(|data| attribute(data, NFTA_DATA_VALUE)).map(<[u8]>::to_vec);
        let owner = attribute(element, NFTA_SET_ELEM_USERDATA).map(comment::owner).unwrap_or_default();
        Some(Self { key: key.to_vec(), chain: chain.map(str::to_owned), value, owner })
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{Emitable, ParseableParametrized};

    use super::*;

    const MAP: Set = Set {
        family: NetfilterProtoFamily::Inet,
        name: "m",
        key_type: key_type::IPV4,
        key_length: 4,
        byte_order: ByteOrder::Network,
        leads_to: Target::Chain,
        comment: "",
        number: 1,
    };

    fn emitted(message: &NfTablesMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn an_element_reads_back() {
        let sent =
            MAP.add(&[10, 0, 0, 1], Data::Chain("direct-10.0.0.0/8"), comment::plain("net:ctr:eth0:x"));
        let element = Element {
            key: vec![10, 0, 0, 1],
            chain: Some("direct-10.0.0.0/8".to_owned()),
            value: None,
            owner: "net:ctr:eth0:x".to_owned(),
        };
        assert_eq!(Element::read(&emitted(&sent)), [element]);
        let sent = MAP.add(&[1, 2, 3, 4], Data::Value(&[5, 6]), comment::plain("x"));
        let element =
            Element { key: vec![1, 2, 3, 4], chain: None, value: Some(vec![5, 6]), owner: "x".to_owned() };
        assert_eq!(Element::read(&emitted(&sent)), [element]);
    }

    #[test]
    fn an_element_that_names_nobody_reads_back() {
        let element = Element { key: vec![1, 2, 3, 4], chain: None, value: None, owner: String::new() };
        assert_eq!(Element::read(&emitted(&MAP.remove(&[1, 2, 3, 4]))), [element]);
        assert_eq!(Element::read(&emitted(&MAP.list())), []);
    }

    #[test]
    fn messages_are_well_formed() {
        let values = Set { leads_to: Target::Value(key_type::PORT, 4), ..MAP };
        for sent in [MAP.create(), values.create(), MAP.look_up(), MAP.get(&[1, 2, 3, 4])] {
            let read = NfTablesMessage::parse_with_param(&emitted(&sent), sent.message_type().into());
            assert_eq!(read.unwrap(), sent);
        }
    }
}
