//! Macvlan links.

use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkInfo, MacVlanMode};

use super::link::end_message;
use super::{LinkState, NetlinkError, Netns, VethEnd};

/// Who may talk to whom on one parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MacvlanMode {
    Bridge,
    Private,
    Vepa,
    Passthru,
}

/// A macvlan link to be made.
#[derive(Debug, Clone)]
pub(crate) struct MacvlanSpec {
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    /// 0 stands for the parent's.
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) mode: MacvlanMode,
}

impl Netns {
    /// Makes a macvlan link here, on a link of this namespace.
    pub(crate) fn create_macvlan(
        &self,
        macvlan: &MacvlanSpec,
        parent: &LinkState,
    ) -> Result<LinkState, NetlinkError> {
        self.request_macvlan(macvlan, &macvlan.name, macvlan.up, parent, None)
    }

    /// Makes one here on a link of the namespace `home`: under another name,
    /// and down.
    ///
    /// Kernels before 6.14 make it at `home`, where no other link may have its
    /// name, and move it, which takes it down.
    pub(crate) fn create_nameless_macvlan(
        &self,
        macvlan: &MacvlanSpec,
        drawn: &str,
        parent: &LinkState,
        home: &Self,
    ) -> Result<LinkState, NetlinkError> {
        self.request_macvlan(macvlan, drawn, false, parent, Some(self.number_of(home)?))
    }

    fn request_macvlan(
        &self,
        macvlan: &MacvlanSpec,
        first_name: &str,
        up: bool,
        parent: &LinkState,
        home: Option<i32>,
    ) -> Result<LinkState, NetlinkError> {
        let MacvlanSpec { name, mac, mtu, mode, .. } = macvlan;
        let mut message = end_message(&VethEnd { name: first_name.to_owned(), mac: *mac, up }, *mtu);
        message.attributes.push(LinkAttribute::Link(parent.index));
        message.attributes.extend(home.map(LinkAttribute::LinkNetNsId));
        let mode = match mode {
            MacvlanMode::Bridge => MacVlanMode::Bridge,
            MacvlanMode::Private => MacVlanMode::Private,
            MacvlanMode::Vepa => MacVlanMode::Vepa,
            MacvlanMode::Passthru => MacVlanMode::Passthrough,
        };
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::MacVlan),
            LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)])),
        ]));
        self.create(message, first_name, &format!("macvlan {name} on {}", parent.name))
    }
}
