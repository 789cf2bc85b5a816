//! Links.

use nix::libc::{EEXIST, EINVAL, ENODEV, EOPNOTSUPP};
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State as OperState,
};

use super::link_message::{
    bridge_data, controller, described, infos, infos_mut, kind, merge, name, namespace_of, replace,
};
use super::{FIRST_INDEX, Imagined, Inquiry, NetlinkError};

type Answers = Result<Vec<RouteNetlinkMessage>, NetlinkError>;

impl Imagined {
    /// The name of a link that was made or changed; `None` if it is as the
    /// kernel says.
    /// There is none if the link is gone.
    pub(in super::super) fn link_name(&self, index: u32) -> Option<Option<String>> {
        let state = self.world.lock();
        let space = state.spaces.get(&self.namespace)?;
        match space.links.get(&index) {
            Some(link) => Some(Some(name(link).to_owned())),
            None => (index >= FIRST_INDEX || space.gone.contains(&index)).then_some(None),
        }
    }
}

impl Inquiry<'_> {
    /// Answers a question about one link, or about all.
    pub(super) fn links(&mut self, message: LinkMessage, flags: u16) -> Answers {
        if flags & NLM_F_DUMP != 0 {
            let mut answers = self.ask_all(RouteNetlinkMessage::GetLink(message))?;
            answers.retain(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => self.is_untouched(link),
                _ => true,
            });
            let own: Vec<LinkMessage> = self.space().links.values().cloned().collect();
            answers.extend(own.into_iter().map(|link| RouteNetlinkMessage::NewLink(self.present(link))));
            return Ok(answers);
        }
        let link = match name(&message) {
            "" => self.link_by_index(message.header.index)?,
            name => self.link_by_name(name)?,
        };
        Ok(vec![RouteNetlinkMessage::NewLink(self.present(link))])
    }

    /// Whether a real link is as the kernel describes it.
    fn is_untouched(&mut self, link: &LinkMessage) -> bool {
        let index = link.header.index;
        let peer = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Link(peer) => Some(*peer),
            _ => None,
        });
        let here = self.namespace;
        let is_severed = kind(link) == Some(&InfoKind::Veth)
            && self
                .state
                .severed
                .iter()
                .any(|&(there, other, own)| there != here && own == index && peer == Some(other));
        let space = self.space();
        !is_severed && !space.gone.contains(&index) && !space.links.contains_key(&index)
    }

    pub(super) fn link_by_index(&mut self, index: u32) -> Result<LinkMessage, NetlinkError> {
        if let Some(link) = self.space().links.get(&index) {
            return Ok(link.clone());
        }
        if index >= FIRST_INDEX {
            return Err(self.refusal(ENODEV));
        }
        let mut question = LinkMessage::default();
        question.header.index = index;
        self.real_link(question)
    }

    fn link_by_name(&mut self, wanted: &str) -> Result<LinkMessage, NetlinkError> {
        if let Some(link) = self.space().links.values().find(|link| name(link) == wanted) {
            return Ok(link.clone());
        }
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(wanted.to_owned()));
        self.real_link(question)
    }

    fn refuse_existing(&mut self, name: &str) -> Result<(), NetlinkError> {
        match self.link_by_name(name) {
            Ok(_) => Err(self.refusal(EEXIST)),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn real_link(&mut self, mut question: LinkMessage) -> Result<LinkMessage, NetlinkError> {
        question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let answers = self.ask_one(RouteNetlinkMessage::GetLink(question))?;
        let found = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        match found {
            Some(link) if self.is_untouched(&link) => Ok(link),
            _ => Err(self.refusal(ENODEV)),
        }
    }

    /// Makes a link.
    pub(super) fn create_link(&mut self, message: &LinkMessage) -> Answers {
        self.refuse_existing(name(message))?;
        let index = match kind(message) {
            Some(InfoKind::Bridge) => self.create_bridge(message),
            Some(InfoKind::Veth) => self.create_pair(message)?,
            Some(InfoKind::MacVlan) => self.create_macvlan(message)?,
            Some(InfoKind::Vxlan) => self.create_vxlan(message)?,
            _ => return Err(self.refusal(EOPNOTSUPP)),
        };
        let link = self.link_by_index(index)?;
        Ok(vec![RouteNetlinkMessage::NewLink(self.present(link))])
    }

    pub(super) fn next_index(&mut self) -> u32 {
        self.state.links_made += 1;
        FIRST_INDEX + self.state.links_made - 1
    }

    fn create_bridge(&mut self, message: &LinkMessage) -> u32 {
        let index = self.next_index();
        let is_filtering = bridge_data(message).contains(&InfoBridge::VlanFiltering(true));
        let data = vec![InfoBridge::VlanFiltering(is_filtering)];
        let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(data))];
        let link = described(message, index, vec![LinkAttribute::LinkInfo(info)]);
        self.space().links.insert(index, link);
        index
    }

    fn create_pair(&mut self, message: &LinkMessage) -> Result<u32, NetlinkError> {
        let infos = infos(message);
        let far = infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))) => Some(far),
            _ => None,
        });
        let Some(far) = far else { return Err(self.refusal(EINVAL)) };
        let (here, there) = (self.namespace, namespace_of(far).unwrap_or(self.namespace));
        let (index, far_index) = (self.next_index(), self.next_index());
        let pair = || LinkInfo::Kind(InfoKind::Veth);
        let near = described(
            message,
            index,
            vec![LinkAttribute::Link(far_index), LinkAttribute::LinkInfo(vec![pair()])],
        );
        let far = described(
            far,
            far_index,
            vec![LinkAttribute::Link(index), LinkAttribute::LinkInfo(vec![pair()])],
        );
        let controller = controller(message);
        self.space().links.insert(index, near);
        self.space().peers.insert(index, (there, far_index));
        let space = self.state.spaces.entry(there).or_default();
        space.links.insert(far_index, far);
        space.peers.insert(far_index, (here, index));
        if let Some(controller) = controller {
            self.attach(index, controller)?;
        }
        Ok(index)
    }

    /// Changes what a message names about a link.
    pub(super) fn change_link(&mut self, message: &LinkMessage) -> Answers {
        let index = message.header.index;
        let mut link = self.link_by_index(index)?;
        if !name(message).is_empty() && name(message) != name(&link) {
            self.refuse_existing(name(message))?;
        }
        let was_up = link.header.flags.contains(LinkFlags::Up);
        let mask = message.header.change_mask;
        link.header.flags = (link.header.flags & !mask) | (message.header.flags & mask);
        let is_up = link.header.flags.contains(LinkFlags::Up);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Mtu(_) | LinkAttribute::Address(_) | LinkAttribute::IfName(_) => {
                    replace(&mut link, attribute.clone());
                }
                LinkAttribute::LinkInfo(changes) => changes.iter().for_each(|info| merge(&mut link, info)),
                _ => {}
            }
        }
        self.space().links.insert(index, link);
        if let Some(controller) = controller(message) {
            self.attach(index, controller)?;
        }
        match (was_up, is_up) {
            (false, true) => {
                self.address_loopback(index)?;
                self.connect_routes(index);
            }
            (true, false) => {
                self.drop_routes(index);
                self.drop_neighbors(index)?;
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    /// Makes a link a port of a bridge.
    pub(super) fn attach(&mut self, index: u32, bridge: u32) -> Result<(), NetlinkError> {
        if kind(&self.link_by_index(bridge)?) != Some(&InfoKind::Bridge) {
            return Err(self.refusal(EOPNOTSUPP));
        }
        let mut link = self.link_by_index(index)?;
        replace(&mut link, LinkAttribute::Controller(bridge));
        let flags = vec![InfoBridgePort::HairpinMode(false), InfoBridgePort::Isolated(false)];
        infos_mut(&mut link).extend([
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(flags)),
        ]);
        self.space().links.insert(index, link);
        Ok(())
    }

    /// Deletes a link, and with it the other end of a pair.
    pub(super) fn delete_link(&mut self, index: u32) -> Answers {
        let link = self.link_by_index(index)?;
        self.leave_bridge(&link)?;
        if let Some((there, other)) = self.space().peers.remove(&index) {
            self.forget(there, other);
        } else if kind(&link) == Some(&InfoKind::Veth)
            && let Some(other) = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Link(other) => Some(*other),
                _ => None,
            })
        {
            let is_elsewhere =
                link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)));
            if is_elsewhere {
                self.state.severed.push((self.namespace, index, other));
            } else {
                self.forget(self.namespace, other);
            }
        }
        self.forget(self.namespace, index);
        Ok(Vec::new())
    }

    /// Takes a port off a bridge of the kernel's, which works only as long as
    /// one of its ports does.
    fn leave_bridge(&mut self, port: &LinkMessage) -> Result<(), NetlinkError> {
        let Some(bridge) = controller(port).filter(|bridge| *bridge < FIRST_INDEX) else { return Ok(()) };
        let works = |answer: &RouteNetlinkMessage| match answer {
            RouteNetlinkMessage::NewLink(link) => {
                controller(link) == Some(bridge)
                    && link.header.index != port.header.index
                    && link.attributes.contains(&LinkAttribute::OperState(OperState::Up))
            }
            _ => false,
        };
        if !self.links(LinkMessage::default(), NLM_F_DUMP)?.iter().any(works) {
            let mut link = self.link_by_index(bridge)?;
            replace(&mut link, LinkAttribute::OperState(OperState::Down));
            self.space().links.insert(bridge, link);
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, namespace: u64, index: u32) {
        let space = self.state.spaces.entry(namespace).or_default();
        space.links.remove(&index);
        space.peers.remove(&index);
        space.parents.remove(&index);
        space.vlans.remove(&index);
        space.addresses.retain(|address| address.header.index != index);
        space.routes.retain(|route| super::route::out_of(route) != Some(index));
        space.neighbors.retain(|entry| entry.header.ifindex != index);
        if index < FIRST_INDEX {
            space.gone.insert(index);
        }
        self.forget_upper((namespace, index));
    }

    /// A link as it is told, with the state that follows from others'.
    fn present(&self, mut link: LinkMessage) -> LinkMessage {
        if let Some(state) = self.state_of(self.namespace, &link) {
            replace(&mut link, LinkAttribute::OperState(state));
        }
        link
    }

    /// The operational state of a link; `None` if it is what the kernel said.
    pub(super) fn state_of(&self, namespace: u64, link: &LinkMessage) -> Option<OperState> {
        let space = self.state.spaces.get(&namespace)?;
        let is_up = |link: &LinkMessage| link.header.flags.contains(LinkFlags::Up);
        let index = link.header.index;
        if let Some((there, other)) = space.peers.get(&index) {
            let other = self.state.spaces.get(there).and_then(|space| space.links.get(other));
            return Some(match (is_up(link), other.is_some_and(is_up)) {
                (true, true) => OperState::Up,
                (true, false) => OperState::LowerLayerDown,
                (false, _) => OperState::Down,
            });
        }
        if let Some(parent) = space.parents.get(&index) {
            return Some(self.state_of_upper(link, *parent));
        }
        if kind(link) != Some(&InfoKind::Bridge) || !space.links.contains_key(&index) {
            return None;
        }
        let was_up = link.attributes.contains(&LinkAttribute::OperState(OperState::Up));
        let has_port = || {
            space.links.values().any(|port| {
                controller(port) == Some(index) && self.state_of(namespace, port) == Some(OperState::Up)
            })
        };
        Some(if is_up(link) && (was_up || has_port()) { OperState::Up } else { OperState::Down })
    }
}
