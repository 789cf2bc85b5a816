//! Links.

use std::time::{Duration, Instant};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};

use super::link_state::{LinkState, OperState, PortFlags, link_state};
use super::{NetlinkError, Netns};

/// One end of a veth pair to be made.
#[derive(Debug, Clone)]
pub(crate) struct VethEnd {
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    pub(crate) up: bool,
}

/// A bridge to be made.
#[derive(Debug, Clone)]
pub(crate) struct BridgeSpec {
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) vlan_filtering: bool,
    pub(crate) default_vlan: bool,
}

impl Netns {
    /// Lists all links.
    pub(crate) fn links(&self) -> Result<Vec<LinkState>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let answers = self.dump(RouteNetlinkMessage::GetLink(message), || "list the links".to_owned())?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => Some(link_state(message)),
                _ => None,
            })
            .collect())
    }

    /// Finds a link by name.
    pub(crate) fn link_by_name(&self, name: &str) -> Result<LinkState, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.one_link(message, || format!("find link {name}"))
    }

    /// The name that a link has at this moment, which is asked for in a faster
    /// way than the rest of its state.
    pub(crate) fn link_name(&self, index: u32) -> Result<String, NetlinkError> {
        let attempt = || format!("find the name of link number {index} in {}", self.label);
        if let Some(name) = self.imagined.as_ref().and_then(|imagined| imagined.link_name(index)) {
            return name.ok_or_else(|| NetlinkError::Absent { attempt: attempt() });
        }
        self.connection.link_name(index).map_err(|error| {
            let attempt = attempt();
            match error.raw_os_error() {
                Some(nix::libc::ENODEV) => NetlinkError::Absent { attempt },
                _ => NetlinkError::Socket { attempt, reason: error.to_string() },
            }
        })
    }

    /// Whether a link has a name at this moment.
    pub(crate) fn has_link(&self, name: &str) -> Result<bool, NetlinkError> {
        // Asked by ioctl, the kernel would look for a module of that name.
        match self.link_by_name(name) {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Refuses a name that a link has already.
    ///
    /// The way back of a new link finds it by its name and its hardware
    /// address. If that was not drawn for it, nothing may have the name when
    /// the journal is written: the request itself, in which the kernel looks,
    /// may never be sent.
    pub(crate) fn refuse_existing(&self, name: &str) -> Result<(), NetlinkError> {
        if !self.has_link(name)? {
            return Ok(());
        }
        Err(NetlinkError::Kernel {
            attempt: format!("create link {name} in {}", self.label),
            errno: nix::libc::EEXIST,
            reason: nix::Error::EEXIST.desc().to_owned(),
        })
    }

    /// Asks for the state of a link.
    pub(crate) fn link_by_index(&self, index: u32) -> Result<LinkState, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.one_link(message, || format!("look at link number {index}"))
    }

    fn one_link(
        &self,
        mut message: LinkMessage,
        attempt: impl Fn() -> String,
    ) -> Result<LinkState, NetlinkError> {
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let answers = self.get(RouteNetlinkMessage::GetLink(message), &attempt)?;
        first_link(&answers).ok_or_else(|| NetlinkError::Absent { attempt: attempt() })
    }

    /// Makes a veth pair, its far end in `peer`, in one request.
    pub(crate) fn create_veth(
        &self,
        near: &VethEnd,
        far: &VethEnd,
        peer: &Self,
        mtu: u32,
        controller: Option<u32>,
    ) -> Result<(LinkState, LinkState), NetlinkError> {
        // The kernel looks for the name itself, what stands in for it in a
        // plan only in the namespace that it is asked in.
        if self.imagined.is_some() && peer.link_by_name(&far.name).is_ok() {
            return Err(NetlinkError::Kernel {
                attempt: format!("create veth pair {} in {}", near.name, self.label),
                errno: nix::libc::EEXIST,
                reason: nix::Error::EEXIST.desc().to_owned(),
            });
        }
        // The kernel configures the far end before the two are connected, and
        // then it cannot come up (ENOTCONN).
        let mut far_message = end_message(&VethEnd { up: false, ..far.clone() }, mtu);
        far_message.attributes.push(LinkAttribute::NetNsFd(peer.file().raw_fd()));
        let mut message = end_message(near, mtu);
        // Without a number the kernel makes a queue for each processor, takes
        // all but one out of use and waits until every processor has noticed,
        // for each end (veth_init_queues).
        for end in [&mut far_message, &mut message] {
            end.attributes.extend([LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]);
        }
        message.attributes.extend(controller.map(LinkAttribute::Controller));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far_message))),
        ]));
        let near_state = self.create(message, &near.name, &format!("veth pair {}", near.name))?;
        let mut far_state = match near_state.peer {
            Some(index) => LinkState {
                name: far.name.clone(),
                index,
                mac: Some(far.mac),
                up: false,
                state: OperState::Down,
                controller: None,
                peer: Some(near_state.index),
                port: None,
                ..near_state.clone()
            },
            None => peer.link_by_name(&far.name)?,
        };
        if far.up {
            peer.set_up(far_state.index, true)?;
            far_state.up = true;
        }
        Ok((near_state, far_state))
    }

    /// Makes a bridge that is up and keeps its hardware address.
    pub(crate) fn create_bridge(&self, bridge: &BridgeSpec) -> Result<LinkState, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::IfName(bridge.name.clone()));
        // A bridge without an address of its own takes the lowest of its
        // ports', and changes it as containers come and go.
        message.attributes.push(LinkAttribute::Address(bridge.mac.to_vec()));
        if bridge.mtu != 0 {
            message.attributes.push(LinkAttribute::Mtu(bridge.mtu));
        }
        let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
        if bridge.vlan_filtering {
            let mut data = vec![InfoBridge::VlanFiltering(true)];
            if !bridge.default_vlan {
                data.push(InfoBridge::VlanDefaultPvid(0));
            }
            info.push(LinkInfo::Data(InfoData::Bridge(data)));
        }
        message.attributes.push(LinkAttribute::LinkInfo(info));
        self.create(message, &bridge.name, &format!("bridge {}", bridge.name))
    }

    pub(super) fn create(
        &self,
        message: LinkMessage,
        name: &str,
        what: &str,
    ) -> Result<LinkState, NetlinkError> {
        let answers = self.change(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
            || format!("create {what}"),
        )?;
        // Kernels before 6.2 do not echo the new link.
        match first_link(&answers) {
            Some(link) if link.name == name => Ok(link),
            _ => self.link_by_name(name),
        }
    }

    /// Sets a link up or down.
    pub(crate) fn set_up(&self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let what = if up { "up" } else { "down" };
        self.set_flag(index, LinkFlags::Up, up, || format!("set link number {index} {what}"))
    }

    /// Gives a link that is down another name.
    pub(crate) fn set_name(&self, index: u32, name: &str) -> Result<(), NetlinkError> {
        self.set_attribute(index, LinkAttribute::IfName(name.to_owned()), || {
            format!("give link number {index} the name {name}")
        })
    }

    /// Turns promiscuous mode on or off.
    pub(crate) fn set_promiscuous(&self, index: u32, on: bool) -> Result<(), NetlinkError> {
        let what = if on { "on" } else { "off" };
        self.set_flag(index, LinkFlags::Promisc, on, || {
            format!("turn promiscuous mode of link number {index} {what}")
        })
    }

    fn set_flag(
        &self,
        index: u32,
        flag: LinkFlags,
        on: bool,
        attempt: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = flag;
        if on {
            message.header.flags = flag;
        }
        self.change(RouteNetlinkMessage::SetLink(message), 0, attempt).map(drop)
    }

    fn set_attribute(
        &self,
        index: u32,
        attribute: LinkAttribute,
        attempt: impl Fn() -> String,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        self.change(RouteNetlinkMessage::SetLink(message), 0, attempt).map(drop)
    }

    /// Sets the MTU.
    pub(crate) fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        self.set_attribute(index, LinkAttribute::Mtu(mtu), || format!("set MTU {mtu} of link number {index}"))
    }

    /// Sets the hardware address.
    pub(crate) fn set_mac(&self, index: u32, mac: [u8; 6]) -> Result<(), NetlinkError> {
        self.set_attribute(index, LinkAttribute::Address(mac.to_vec()), || {
            format!("set hardware address of link number {index}")
        })
    }

    /// Has the kernel announce the addresses of a link, as it does whenever
    /// somebody sets the hardware address, be it to what it is.
    pub(crate) fn announce(&self, index: u32) -> Result<(), NetlinkError> {
        match self.link_by_index(index)?.mac {
            Some(mac) => self.set_mac(index, mac),
            None => Ok(()),
        }
    }

    /// Makes a link a port of a bridge.
    pub(crate) fn set_controller(&self, index: u32, bridge: u32) -> Result<(), NetlinkError> {
        self.set_attribute(index, LinkAttribute::Controller(bridge), || {
            format!("attach link number {index} to bridge number {bridge}")
        })
    }

    /// Sets the flags of a port.
    pub(crate) fn set_port(&self, index: u32, flags: PortFlags) -> Result<(), NetlinkError> {
        let port = vec![InfoBridgePort::HairpinMode(flags.hairpin), InfoBridgePort::Isolated(flags.isolated)];
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(port)),
        ]));
        // RTM_NEWLINK on a link that exists: RTM_SETLINK takes no port data.
        self.change(RouteNetlinkMessage::NewLink(message), 0, || {
            format!("set port flags of link number {index}")
        })
        .map(drop)
    }

    /// Turns VLAN filtering of a bridge on or off.
    pub(crate) fn set_vlan_filtering(&self, index: u32, on: bool) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(on)])),
        ]));
        self.change(RouteNetlinkMessage::NewLink(message), 0, || {
            format!("set VLAN filtering of bridge number {index}")
        })
        .map(drop)
    }

    /// Deletes a link.
    pub(crate) fn remove_link(&self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.change(RouteNetlinkMessage::DelLink(message), 0, || format!("delete link number {index}"))
            .map(drop)
    }

    /// Waits until a link is operational; `false` if the time runs out.
    pub(crate) fn wait_until_up(&self, index: u32, timeout: Duration) -> Result<bool, NetlinkError> {
        let end = Instant::now() + timeout;
        let mut pause = Duration::from_micros(100);
        loop {
            if self.link_by_index(index)?.state == OperState::Up {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            self.pause(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// What a new link is to be, less its kind.
pub(super) fn end_message(end: &VethEnd, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(end.name.clone()));
    message.attributes.push(LinkAttribute::Address(end.mac.to_vec()));
    if mtu != 0 {
        message.attributes.push(LinkAttribute::Mtu(mtu));
    }
    if end.up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message
}

fn first_link(answers: &[RouteNetlinkMessage]) -> Option<LinkState> {
    answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(link_state(message)),
        _ => None,
    })
}
