//! What messages tell about links.

use std::os::fd::BorrowedFd;

use nix::sys::stat::fstat;
use rtnetlink::packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoPortData, LinkAttribute, LinkInfo, LinkMessage,
};

/// What the kernel gives links that name none.
const DEFAULT_MTU: u32 = 1500;

/// What a new link is, as far as the request says.
pub(super) fn described(message: &LinkMessage, index: u32, more: Vec<LinkAttribute>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = message.header.flags & message.header.change_mask;
    link.attributes.push(LinkAttribute::Mtu(DEFAULT_MTU));
    for attribute in &message.attributes {
        if matches!(attribute, LinkAttribute::IfName(_) | LinkAttribute::Address(_) | LinkAttribute::Mtu(_)) {
            replace(&mut link, attribute.clone());
        }
    }
    link.attributes.extend(more);
    link
}

/// Puts an attribute in the place of the one of its kind.
pub(super) fn replace(link: &mut LinkMessage, attribute: LinkAttribute) {
    let kind = std::mem::discriminant(&attribute);
    link.attributes.retain(|other| std::mem::discriminant(other) != kind);
    link.attributes.push(attribute);
}

pub(super) fn merge(link: &mut LinkMessage, change: &LinkInfo) {
    for info in infos_mut(link) {
        match (info, change) {
            (
                LinkInfo::PortData(InfoPortData::BridgePort(data)),
                LinkInfo::PortData(InfoPortData::BridgePort(changes)),
            ) => merge_items(data, changes),
            (LinkInfo::Data(InfoData::Bridge(data)), LinkInfo::Data(InfoData::Bridge(changes))) => {
                merge_items(data, changes);
            }
            _ => {}
        }
    }
}

pub(super) fn merge_items<T: Clone>(items: &mut Vec<T>, changes: &[T]) {
    for change in changes {
        let kind = std::mem::discriminant(change);
        items.retain(|item| std::mem::discriminant(item) != kind);
        items.push(change.clone());
    }
}

pub(super) fn infos(link: &LinkMessage) -> &[LinkInfo] {
    let found = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos.as_slice()),
        _ => None,
    });
    found.unwrap_or_default()
}

pub(super) fn infos_mut(link: &mut LinkMessage) -> &mut Vec<LinkInfo> {
    let place = link.attributes.iter().position(|attribute| matches!(attribute, LinkAttribute::LinkInfo(_)));
    let place = place.unwrap_or_else(|| {
        link.attributes.push(LinkAttribute::LinkInfo(Vec::new()));
        link.attributes.len() - 1
    });
    match &mut link.attributes[place] {
        LinkAttribute::LinkInfo(infos) => infos,
        _ => unreachable!("the place was looked up"),
    }
}

pub(super) fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    infos(link).iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

pub(super) fn bridge_data(link: &LinkMessage) -> &[InfoBridge] {
    let found = infos(link).iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => Some(data.as_slice()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// The name that a message tells; empty if it tells none.
pub(super) fn name(link: &LinkMessage) -> &str {
    let found = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    });
    found.unwrap_or_default()
}

/// The bridge that a link is, or is to be, a port of.
pub(super) fn controller(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}

/// The namespace in which a link is to be made, if it is another one.
pub(super) fn namespace_of(link: &LinkMessage) -> Option<u64> {
    let file = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::NetNsFd(file) => Some(*file),
        _ => None,
    })?;
    namespace_of_file(file)
}

/// The number of the namespace behind a file.
pub(super) fn namespace_of_file(file: i32) -> Option<u64> {
    // SAFETY: who made the message keeps the file open until it is answered.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    fstat(file).ok().map(|status| status.st_ino)
}
