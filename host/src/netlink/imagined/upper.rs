//! Links that sit on other links, perhaps of another namespace.

use nix::libc::EINVAL;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State as OperState,
};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};

use super::link_message::{controller, described, infos, kind, namespace_of_file, replace};
use super::{Inquiry, NetlinkError};

/// The first number of a namespace. The kernel counts from 0, and never gets
/// that far.
const FIRST_NUMBER: i32 = 1 << 30;

/// What stands in front of a frame in a tunnel over IPv4, and over IPv6.
const OVERHEAD: [u32; 2] = [50, 70];

impl Inquiry<'_> {
    /// Tells the number of another namespace.
    pub(super) fn number_of(
        &mut self,
        message: &NsidMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let namespace = message.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Fd(file) => namespace_of_file(file.cast_signed()),
            _ => None,
        });
        let Some(namespace) = namespace else { return Err(self.refusal(EINVAL)) };
        let numbers = &mut self.state.numbers;
        let position = numbers.iter().position(|known| *known == namespace).unwrap_or_else(|| {
            numbers.push(namespace);
            numbers.len() - 1
        });
        let mut answer = NsidMessage::default();
        answer.attributes.push(NsidAttribute::Id(FIRST_NUMBER + i32::try_from(position).unwrap_or(0)));
        Ok(vec![RouteNetlinkMessage::NewNsId(answer)])
    }

    /// Makes a macvlan. What its parent is, only its own namespace could tell;
    /// who asks has looked.
    pub(super) fn create_macvlan(&mut self, message: &LinkMessage) -> Result<u32, NetlinkError> {
        let parent = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Link(parent) => Some(*parent),
            _ => None,
        });
        let Some(parent) = parent else { return Err(self.refusal(EINVAL)) };
        let number = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkNetNsId(number) => Some(*number),
            _ => None,
        });
        let home = number.and_then(|number| usize::try_from(number - FIRST_NUMBER).ok());
        let home = home.and_then(|position| self.state.numbers.get(position).copied());
        let home = home.unwrap_or(self.namespace);
        let index = self.next_index();
        let mut more = vec![LinkAttribute::Link(parent), LinkAttribute::LinkInfo(infos(message).to_vec())];
        more.extend(number.map(LinkAttribute::LinkNetNsId));
        self.space().links.insert(index, described(message, index, more));
        self.space().parents.insert(index, (home, parent));
        Ok(index)
    }

    /// Makes a tunnel endpoint.
    pub(super) fn create_vxlan(&mut self, message: &LinkMessage) -> Result<u32, NetlinkError> {
        let data = infos(message).iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data.clone()),
            _ => None,
        });
        let data = data.unwrap_or_default();
        let underlay = data.iter().find_map(|item| match item {
            InfoVxlan::Link(underlay) => Some(*underlay),
            _ => None,
        });
        let below = underlay.map(|underlay| self.link_by_index(underlay)).transpose()?;
        let index = self.next_index();
        let mut link =
            described(message, index, vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan)])]);
        let names_mtu = message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Mtu(_)));
        if let Some(mtu) = below.as_ref().and_then(mtu).filter(|_| !names_mtu) {
            let is_ipv6 = data.iter().any(|item| matches!(item, InfoVxlan::Local6(_)));
            replace(&mut link, LinkAttribute::Mtu(mtu.saturating_sub(OVERHEAD[usize::from(is_ipv6)])));
        }
        let here = self.namespace;
        self.space().links.insert(index, link);
        self.space().parents.extend(underlay.map(|underlay| (index, (here, underlay))));
        if let Some(controller) = controller(message) {
            self.attach(index, controller)?;
        }
        Ok(index)
    }

    /// Links that were made go with what they sit on.
    pub(super) fn forget_upper(&mut self, below: (u64, u32)) {
        let upper: Vec<(u64, u32)> = self
            .state
            .spaces
            .iter()
            .flat_map(|(namespace, space)| {
                space.parents.iter().map(move |(index, on)| (*namespace, *index, *on))
            })
            .filter(|(.., on)| *on == below)
            .map(|(namespace, index, _)| (namespace, index))
            .collect();
        for (namespace, index) in upper {
            self.forget(namespace, index);
        }
    }

    /// The operational state of a link that sits on another one: a macvlan has
    /// that of its parent. Of a parent that the plan did not touch it is
    /// expected that it works.
    pub(super) fn state_of_upper(&self, link: &LinkMessage, (home, parent): (u64, u32)) -> OperState {
        if !link.header.flags.contains(LinkFlags::Up) {
            return OperState::Down;
        }
        if kind(link) == Some(&InfoKind::Vxlan) {
            return OperState::Unknown;
        }
        let space = self.state.spaces.get(&home);
        let below = space.and_then(|space| space.links.get(&parent));
        match below.and_then(|below| self.state_of(home, below)) {
            None | Some(OperState::Up | OperState::Unknown) => OperState::Up,
            Some(_) => OperState::LowerLayerDown,
        }
    }
}

fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}
