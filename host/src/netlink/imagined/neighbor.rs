//! Neighbors, and entries of forwarding databases.

use nix::libc::{EEXIST, EINVAL, ENOENT, EOPNOTSUPP};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_EXCL};
use rtnetlink::packet_route::link::{InfoKind, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link_message::{controller, kind};
use super::{FIRST_INDEX, Inquiry, NetlinkError};
use crate::netlink::forwarding::{destination_of, is_of_bridge};

/// What tells an entry from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    link: u32,
    table: Table,
    address: Option<NeighbourAddress>,
    /// Not of neighbors, of which each address has one.
    mac: Option<Vec<u8>>,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Neighbors(AddressFamily),
    /// That of the bridge that the link is a port of.
    Bridge,
    /// The link's own.
    Own,
}

type Answers = Result<Vec<RouteNetlinkMessage>, NetlinkError>;

impl Inquiry<'_> {
    /// Lists what is known about a link, or about all ports of a bridge.
    pub(super) fn neighbors(&mut self, message: NeighbourMessage, _: u16) -> Answers {
        let (index, bridge) = (index_of(&message), controller_of(&message));
        let family = message.header.family;
        let mut answers = Vec::new();
        if index.or(bridge).is_none_or(|index| index < FIRST_INDEX) {
            answers = self.ask_all(RouteNetlinkMessage::GetNeighbour(message))?;
        }
        let space = self.space();
        answers.retain(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(entry) => {
                !space.gone.contains(&entry.header.ifindex) && !space.removed_neighbors.contains(&read(entry))
            }
            _ => true,
        });
        let is_wanted = |entry: &&NeighbourMessage| {
            let is_forwarding = entry.header.family == AddressFamily::Bridge;
            let is_of_family = match family {
                AddressFamily::Unspec => !is_forwarding,
                family => entry.header.family == family,
            };
            is_of_family
                && index.is_none_or(|index| entry.header.ifindex == index)
                && bridge.is_none_or(|bridge| controller_of(entry) == Some(bridge))
        };
        let own = space.neighbors.iter().filter(is_wanted).cloned();
        answers.extend(own.map(RouteNetlinkMessage::NewNeighbour));
        Ok(answers)
    }

    fn entries_of(
        &mut self,
        index: u32,
        family: AddressFamily,
    ) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        question.attributes.push(NeighbourAttribute::IfIndex(index));
        let answers = self.neighbors(question, 0)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(entry) if entry.header.ifindex == index => Some(entry),
                _ => None,
            })
            .collect())
    }

    /// Adds an entry, or puts it in the place of another one.
    pub(super) fn add_neighbor(&mut self, mut message: NeighbourMessage, flags: u16) -> Answers {
        let index = message.header.ifindex;
        let link = self.link_by_index(index)?;
        let wanted = read(&message);
        match wanted.table {
            Table::Neighbors(_) if wanted.address.is_none() => return Err(self.refusal(EINVAL)),
            Table::Neighbors(_) => {}
            Table::Bridge => match controller(&link) {
                Some(bridge) => message.attributes.push(NeighbourAttribute::Controller(bridge)),
                None => return Err(self.refusal(EOPNOTSUPP)),
            },
            Table::Own if is_tunnel(&link) => {}
            Table::Own => return Err(self.refusal(EOPNOTSUPP)),
        }
        let is_appended = flags & NLM_F_APPEND != 0;
        let is_same = |entry: &Entry| match wanted.table {
            Table::Own if !is_appended => entry.table == wanted.table && entry.mac == wanted.mac,
            _ => *entry == wanted,
        };
        let present = self.entries_of(index, message.header.family)?;
        let same: Vec<Entry> = present.iter().map(read).filter(is_same).collect();
        if !same.is_empty() && flags & NLM_F_EXCL != 0 {
            return Err(self.refusal(EEXIST));
        }
        same.into_iter().for_each(|entry| self.forget_neighbor(entry));
        self.space().neighbors.push(message);
        Ok(Vec::new())
    }

    /// Removes an entry.
    pub(super) fn remove_neighbor(&mut self, message: &NeighbourMessage) -> Answers {
        let index = message.header.ifindex;
        self.link_by_index(index)?;
        let wanted = read(message);
        let present = self.entries_of(index, message.header.family)?;
        if !present.iter().any(|entry| read(entry) == wanted) {
            return Err(self.refusal(ENOENT));
        }
        self.forget_neighbor(wanted);
        Ok(Vec::new())
    }

    fn forget_neighbor(&mut self, entry: Entry) {
        let space = self.space();
        space.neighbors.retain(|own| read(own) != entry);
        // The kernel may have one of its own.
        if entry.link < FIRST_INDEX && !space.removed_neighbors.contains(&entry) {
            space.removed_neighbors.push(entry);
        }
    }

    /// Removes the neighbors of a link that goes down.
    pub(super) fn drop_neighbors(&mut self, index: u32) -> Result<(), NetlinkError> {
        for entry in self.entries_of(index, AddressFamily::Unspec)? {
            self.forget_neighbor(read(&entry));
        }
        Ok(())
    }
}

/// Whether a link has a forwarding database of its own.
fn is_tunnel(link: &LinkMessage) -> bool {
    kind(link) == Some(&InfoKind::Vxlan)
}

fn read(message: &NeighbourMessage) -> Entry {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(address) => Some(address.clone()),
        _ => None,
    });
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => Some(mac.clone()),
        _ => None,
    });
    let link = message.header.ifindex;
    match message.header.family {
        AddressFamily::Bridge if is_of_bridge(message) => {
            Entry { link, table: Table::Bridge, address: None, mac }
        }
        AddressFamily::Bridge => {
            let address = destination_of(message).map(NeighbourAddress::from);
            Entry { link, table: Table::Own, address, mac }
        }
        family => Entry { link, table: Table::Neighbors(family), address, mac: None },
    }
}

fn index_of(message: &NeighbourMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::IfIndex(index) => Some(*index),
        _ => None,
    })
}

fn controller_of(message: &NeighbourMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}
