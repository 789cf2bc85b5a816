//! The maps in which published ports are kept.

use super::FAMILY;
use crate::firewall::answers;
use crate::firewall::comment::ByteOrder;
use crate::firewall::publication::Publication;
use crate::firewall::set::{Element, Set, Target, key_type};

/// The maps of one family.
pub(super) struct Maps {
    /// By protocol and port.
    pub(super) at_all: Set,
    /// By address, protocol and port.
    pub(super) at_one: Set,
    /// By the container's address, protocol and the node's port.
    pub(super) answers_at_all: Set,
    /// The same, with the node's address in front.
    pub(super) answers_at_one: Set,
}

pub(super) static MAPS_4: Maps =
    maps(["published4", "published-at4", "answers4", "answers-at4"], (key_type::IPV4, 4), 1);

pub(super) static MAPS_6: Maps =
    maps(["published6", "published-at6", "answers6", "answers-at6"], (key_type::IPV6, 16), 5);

const fn maps(names: [&'static str; 4], (address, length): (u32, u32), number: u32) -> Maps {
    use key_type::{PORT, PROTOCOL, of};
    let container = Target::Value(of(&[address, PORT]), length + 4);
    let [at_all, at_one, answers_at_all, answers_at_one] = names;
    let answers = "connections that were sent on, by the network in which answers would get lost";
    Maps {
        at_all: map(at_all, of(&[PROTOCOL, PORT]), 8, container, "ports at all addresses", number),
        at_one: map(
            at_one,
            of(&[address, PROTOCOL, PORT]),
            length + 8,
            container,
            "ports at one address",
            number + 1,
        ),
        answers_at_all: map(
            answers_at_all,
            of(&[address, PROTOCOL, PORT]),
            length + 8,
            Target::Chain,
            answers,
            number + 2,
        ),
        answers_at_one: map(
            answers_at_one,
            of(&[address, address, PROTOCOL, PORT]),
            2 * length + 8,
            Target::Chain,
            answers,
            number + 3,
        ),
    }
}

const fn map(
    name: &'static str,
    key_type: u32,
    key_length: u32,
    leads_to: Target,
    comment: &'static str,
    number: u32,
) -> Set {
    let byte_order = ByteOrder::OfFields;
    Set { family: FAMILY, name, key_type, key_length, byte_order, leads_to, comment, number }
}

impl Publication {
    pub(super) fn maps(&self) -> &'static Maps {
        if self.is_ipv4() { &MAPS_4 } else { &MAPS_6 }
    }

    /// The map that leads to the container.
    pub(super) fn map(&self) -> &'static Set {
        if self.host.is_some() { &self.maps().at_one } else { &self.maps().at_all }
    }

    /// The map that answers are looked up in.
    pub(super) fn answers(&self) -> &'static Set {
        if self.host.is_some() { &self.maps().answers_at_one } else { &self.maps().answers_at_all }
    }

    pub(super) fn chain(&self) -> String {
        answers::chain_name(self.container.trunc())
    }

    /// Where its elements are: the one that leads to the container, and the one
    /// for answers.
    pub(super) fn places(&self) -> [(&'static Set, Vec<u8>); 2] {
        [(self.map(), self.key()), (self.answers(), self.answer_key())]
    }

    /// Reads what an element says; none if it says nothing sensible.
    pub(super) fn of(element: &Element) -> Option<(String, Self)> {
        Some((element.owner.clone(), Self::read(&element.key, element.value.as_deref()?)?))
    }
}
