//! `weir:net/links`: macvlan links.

use wasmtime::component::Resource;

use super::error::net_error;
use super::links::LinkHandle;
use super::namespaces::{NetnsHandle, check_name, random_mac, random_name};
use crate::call::{Certainty, Served};
use crate::journal::{Inverse, LinkId, Side};
use crate::netlink::{LinkState, MacvlanMode, MacvlanSpec, NetlinkError, Netns};
use crate::policy::Operation;
use crate::session::Session;
use crate::wit;
use crate::wit::weir::net::links::{self, MacvlanOptions};
use crate::wit::weir::net::types::{KernelError, NetError};

/// What a macvlan can be put on.
const EXPECTED_PARENT: &str =
    "a parent is an Ethernet link that has one macvlan in mode passthru, or any number in other modes";

impl Session {
    /// Makes a macvlan link on a link of one namespace in another one.
    pub(super) fn make_macvlan(
        &mut self,
        netns: &Resource<NetnsHandle>,
        options: MacvlanOptions,
        parent: &Resource<LinkHandle>,
        target: &Resource<NetnsHandle>,
    ) -> Served<Result<Resource<LinkHandle>, NetError>> {
        self.call.check_time()?;
        if let Err(error) = check_name(&options.name) {
            return Ok(Err(error));
        }
        let (home, home_side) = self.netns_of(netns)?;
        let (there, side) = self.netns_of(target)?;
        let index = match self.index_in(parent, home_side)? {
            Ok(index) => index,
            Err(error) => return Ok(Err(error)),
        };
        // It may have got another name since it was found.
        let below = match home.link_by_index(index) {
            Ok(below) => below,
            Err(error) => return Ok(Err(net_error(error))),
        };
        let object = format!("{} on {} in {}", options.name, below.name, there.label());
        let permitted = match home_side {
            Side::Host => self.permit_macvlan(&options, &below, side, &object)?,
            Side::Container if side == Side::Host => Err(NetError::Invalid(format!(
                "create macvlan {object}: on a link of the container it stays in the container"
            ))),
            Side::Container => self.own_only(parent, "create-macvlan")?,
        };
        if let Err(error) = permitted.and_then(|()| check_fit(&options, &below, &object)) {
            return Ok(Err(error));
        }
        let mac = match (options.mode, options.mac) {
            (links::MacvlanMode::Passthru, _) => below.mac.unwrap_or_default(),
            (_, Some(mac)) => wit::mac(mac),
            (_, None) => random_mac()?,
        };
        let macvlan = MacvlanSpec {
            name: options.name,
            mac,
            mtu: options.mtu,
            up: options.up,
            mode: match options.mode {
                links::MacvlanMode::Bridge => MacvlanMode::Bridge,
                links::MacvlanMode::Private => MacvlanMode::Private,
                links::MacvlanMode::Vepa => MacvlanMode::Vepa,
                links::MacvlanMode::Passthru => MacvlanMode::Passthru,
            },
        };
        let is_unique = options.mac.is_none() && macvlan.mode != MacvlanMode::Passthru;
        if !is_unique && let Err(error) = there.refuse_existing(&macvlan.name) {
            return Ok(Err(net_error(error)));
        }
        let made = if side == home_side {
            let link = LinkId::new(side, &macvlan.name);
            self.call.change(&self.guest, "create-macvlan", object, Some(way_back(link, mac)), || {
                there.create_macvlan(&macvlan, &below)
            })?
        } else {
            self.make_elsewhere(&macvlan, object, (&below, &home), (&there, side))?
        };
        match made {
            Ok(link) => Ok(Ok(self.push_link(there, side, link, true)?)),
            // The kernel does not say why.
            Err(error) if error.errno() == nix::libc::EINVAL => Ok(Err(NetError::Kernel(KernelError {
                errno: error.errno(),
                message: format!("{error}: {EXPECTED_PARENT}"),
            }))),
            Err(error) => Ok(Err(net_error(error))),
        }
    }

    /// Makes a macvlan in another namespace than its parent's. For older kernels
    /// it gets its name, and comes up, where it is to be: what links of the
    /// other namespace are called does not matter.
    fn make_elsewhere(
        &self,
        macvlan: &MacvlanSpec,
        object: String,
        (parent, home): (&LinkState, &Netns),
        (there, side): (&Netns, Side),
    ) -> Served<Result<LinkState, NetlinkError>> {
        let drawn = random_name("mv")?;
        let nameless = LinkId::new(side, &drawn);
        let inverse = way_back(nameless.clone(), macvlan.mac);
        let made = self.call.change(&self.guest, "create-macvlan", object, Some(inverse), || {
            there.create_nameless_macvlan(macvlan, &drawn, parent, home)
        })?;
        let index = match made {
            Ok(link) => link.index,
            Err(error) => return Ok(Err(error)),
        };
        let named = LinkId { index: Some(index), ..LinkId::new(side, &macvlan.name) };
        let object = format!("{} in {}", macvlan.name, there.label());
        let inverse = way_back(named, macvlan.mac);
        let done = self.call.change(&self.guest, "name-link", object, Some(inverse), || {
            let named = there.set_name(index, &macvlan.name);
            let complete = named.and_then(|()| if macvlan.up { there.set_up(index, true) } else { Ok(()) });
            // As it is, it is of no use to the plugin.
            complete.and_then(|()| there.link_by_index(index)).map_err(|error| give_up(there, index, error))
        })?;
        if done.as_ref().map_or_else(Certainty::nothing_changed, |_| true) {
            self.call.settle(|inverse| inverse.link() == Some(&nameless))?;
        }
        Ok(done)
    }

    /// Whether a macvlan may be put on a link of the node. What it is called
    /// in the container is the container's business.
    fn permit_macvlan(
        &self,
        options: &MacvlanOptions,
        below: &LinkState,
        side: Side,
        object: &str,
    ) -> Served<Result<(), NetError>> {
        let mut wanted = vec![match options.mode {
            links::MacvlanMode::Passthru => Operation::Passthru(&below.name),
            _ => Operation::PutOn { kind: "macvlan", parent: Some(&below.name) },
        }];
        if side == Side::Host {
            wanted.push(Operation::CreateLink { kind: "macvlan", name: &options.name });
        }
        self.permit("create-macvlan", object, &wanted)
    }

    /// Refuses what would be done to the parent of a macvlan, which is a link
    /// of the node.
    pub(super) fn spare_parent(
        &self,
        link: &Resource<LinkHandle>,
        operation: &'static str,
        effect: &str,
    ) -> Served<Result<(), NetError>> {
        let link = self.link_of(link)?;
        if !is_macvlan(&link.found) {
            return Ok(Ok(()));
        }
        let reason = format!("{operation} link {}: it is a macvlan, and {effect}", link.name());
        self.forbid(operation, link.name(), reason)
    }
}

/// Removes a link that could not be completed; the journal has to know it if
/// it stays.
fn give_up(netns: &Netns, index: u32, error: NetlinkError) -> NetlinkError {
    match netns.remove_link(index) {
        Err(left) if !left.is_absent() => {
            NetlinkError::Socket { attempt: left.to_string(), reason: format!("after this: {error}") }
        }
        _ => error,
    }
}

fn way_back(link: LinkId, mac: [u8; 6]) -> Inverse {
    Inverse::DeleteLink { link, kind: "macvlan".to_owned(), mac: Some(mac) }
}

/// Macvtap links are macvlan links with a file.
fn is_macvlan(link: &LinkState) -> bool {
    ["macvlan", "macvtap"].iter().any(|kind| link.is_kind(kind))
}

/// What the kernel would refuse without saying why, or do otherwise than it
/// was asked.
fn check_fit(options: &MacvlanOptions, below: &LinkState, object: &str) -> Result<(), NetError> {
    let attempt = format!("create macvlan {object}");
    if is_macvlan(below) {
        return Err(NetError::Invalid(format!(
            "{attempt}: {} is a macvlan itself, and the kernel would take its parent: name that one",
            below.name
        )));
    }
    if options.mtu > below.mtu {
        return Err(NetError::Invalid(format!(
            "{attempt}: MTU {} is above the parent's, which is {}",
            options.mtu, below.mtu
        )));
    }
    if options.mode == links::MacvlanMode::Passthru && options.mac.is_some() {
        return Err(NetError::Invalid(format!(
            "{attempt}: in mode passthru it has the parent's hardware address, and no other"
        )));
    }
    if below.port.is_some() {
        return Err(NetError::Busy(format!(
            "{attempt}: {} is a port of a bridge: name the bridge",
            below.name
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{NetlinkError, OperState, PortFlags};

    fn parent() -> LinkState {
        LinkState {
            name: "eth1".to_owned(),
            index: 3,
            mac: Some([2, 0, 0, 0, 0, 3]),
            mtu: 1500,
            up: true,
            state: OperState::Up,
            ..LinkState::default()
        }
    }

    fn options(mode: links::MacvlanMode, mtu: u32) -> MacvlanOptions {
        MacvlanOptions { name: "eth0".to_owned(), mode, mac: None, mtu, up: true }
    }

    #[test]
    fn a_kernel_without_the_kind_is_told_from_other_refusals() {
        let refused = |errno| {
            net_error(NetlinkError::Kernel {
                attempt: "create macvlan eth0 on eth1".to_owned(),
                errno,
                reason: "Unknown device type".to_owned(),
            })
        };
        let lacking = refused(nix::libc::EOPNOTSUPP);
        assert!(
            matches!(&lacking, NetError::Unsupported(text) if text.contains("device type")),
            "{lacking:?}"
        );
        assert!(matches!(refused(nix::libc::EBUSY), NetError::Busy(_)));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_reason() {
        let check = |options: &MacvlanOptions, parent: &LinkState| check_fit(options, parent, "eth0 on eth1");
        let bridge = options(links::MacvlanMode::Bridge, 0);
        assert!(check(&bridge, &parent()).is_ok());
        assert!(check(&options(links::MacvlanMode::Bridge, 1500), &parent()).is_ok());
        let error = check(&options(links::MacvlanMode::Bridge, 1501), &parent()).unwrap_err();
        assert!(matches!(&error, NetError::Invalid(text) if text.contains("1501 is above")), "{error:?}");
        for kind in ["macvlan", "macvtap"] {
            let error = check(&bridge, &LinkState { kind: Some(kind.to_owned()), ..parent() }).unwrap_err();
            assert!(matches!(&error, NetError::Invalid(text) if text.contains("its parent")), "{error:?}");
        }
        let port = LinkState { port: Some(PortFlags::default()), ..parent() };
        assert!(matches!(check(&bridge, &port), Err(NetError::Busy(_))));
        let passthru = options(links::MacvlanMode::Passthru, 0);
        assert!(check(&passthru, &parent()).is_ok());
        let with_mac = MacvlanOptions { mac: Some((2, 0, 0, 0, 0, 9)), ..passthru };
        assert!(matches!(check(&with_mac, &parent()), Err(NetError::Invalid(_))));
    }
}
