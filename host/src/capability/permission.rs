//! The checks that capabilities have in common: what the policy says of an
//! operation, and whose a link is. A refusal is recorded before the plugin
//! hears of it.

use ipnet::IpNet;
use wasmtime::component::Resource;

use super::links::LinkHandle;
use crate::call::Served;
use crate::guest::Guest;
use crate::journal::{Inverse, Side};
use crate::policy::{Key, LINK_KINDS, Operation};
use crate::result::Prefix;
use crate::session::Session;
use crate::wit::weir::net::types::NetError;

/// Links of a container that every plugin may change, beside the one that the
/// call is about and those that the attachment made.
const LOOPBACK: &str = "lo";

impl Session {
    /// Asks the policy for all of `wanted`; the answer is the reason of a
    /// refusal.
    pub(super) fn refused(
        &self,
        operation: &str,
        object: &str,
        wanted: &[Operation<'_>],
    ) -> Served<Option<String>> {
        self.refused_to(&self.guest, operation, object, wanted)
    }

    fn refused_to(
        &self,
        guest: &Guest,
        operation: &str,
        object: &str,
        wanted: &[Operation<'_>],
    ) -> Served<Option<String>> {
        for wanted in wanted {
            let Err(refusal) = guest.check(wanted) else { continue };
            let hint = refusal.hint();
            let separator = if hint.is_empty() { "" } else { "; " };
            let reason = format!("{refusal}{separator}{hint}");
            self.call.refuse(guest, operation, object, &reason)?;
            return Ok(Some(reason));
        }
        if self.call.node.is_imagined() {
            guest.remember_rules(operation, wanted);
        }
        Ok(None)
    }

    /// Whether a link of the node may get an address, or lose one that this
    /// attachment did not give it: by leave of the plugin, and of the one that
    /// told it which addresses to give.
    pub(super) fn permit_address(
        &self,
        operation: &str,
        object: &str,
        link: &LinkHandle,
        claimed: IpNet,
    ) -> Served<Result<(), NetError>> {
        let wanted = [Operation::Address(claimed)];
        let mut refused = self.refused(operation, object, &wanted)?;
        if let (None, Side::Host, Some(adviser)) = (&refused, link.side, &self.adviser) {
            refused = self.refused_to(adviser, operation, object, &wanted)?;
        }
        Ok(refused.map_or(Ok(()), |reason| Err(NetError::Denied(reason))))
    }

    /// The same for functions of `weir:net` and `weir:firewall`.
    pub(super) fn permit(
        &self,
        operation: &str,
        object: &str,
        wanted: &[Operation<'_>],
    ) -> Served<Result<(), NetError>> {
        Ok(self.refused(operation, object, wanted)?.map_or(Ok(()), |reason| Err(NetError::Denied(reason))))
    }

    /// Refuses what no policy can allow.
    pub(super) fn forbid<T>(
        &self,
        operation: &str,
        object: &str,
        reason: String,
    ) -> Served<Result<T, NetError>> {
        self.call.refuse(&self.guest, operation, object, &reason)?;
        Ok(Err(NetError::Denied(reason)))
    }

    /// Whether the plugin may see a link of the node: one that the attachment
    /// made, or that the policy names, if only as a parent of others.
    pub(super) fn permit_sight(&self, link: &LinkHandle) -> Served<Result<(), NetError>> {
        if link.side == Side::Container || self.guest.is_unrestricted() || self.is_own(link) {
            return Ok(Ok(()));
        }
        let as_parent = Operation::Parent(link.name());
        let is_named = self.guest.permit.names(Key::Parents) && self.guest.check(&as_parent).is_ok();
        // No rule of a plugin that did not come with weir can name a link of
        // another kind than plugins make.
        let is_made = link.found.kind.as_deref().is_some_and(|kind| LINK_KINDS.contains(&kind));
        if is_named || !(is_made || self.guest.grants.is_some()) {
            return self.permit("link", link.name(), &[as_parent]);
        }
        self.permit("link", link.name(), &[named(link)])
    }

    /// Whether the plugin may change a link in ways that leave it to others as
    /// it is: give it addresses, routes or settings.
    pub(super) fn permit_use(
        &self,
        link: &LinkHandle,
        operation: &str,
        object: &str,
    ) -> Served<Result<(), NetError>> {
        if self.is_own(link) {
            return Ok(Ok(()));
        }
        match link.side {
            Side::Container => self.permit_container_link(link, operation, object),
            Side::Host if link.is_shared() || self.guest.grants.is_some() => {
                self.permit(operation, object, &[named(link)])
            }
            Side::Host => {
                let name = link.name();
                let reason = format!(
                    "{operation} {object}: link {name} of the host namespace is neither one that attachments share nor made by this attachment"
                );
                self.forbid(operation, object, reason)
            }
        }
    }

    /// Refuses what may be done in the node's namespace only to links of this
    /// attachment, and to those that attachments share, if the policy names
    /// them.
    pub(super) fn own_or_shared(
        &self,
        link: &Resource<LinkHandle>,
        operation: &'static str,
    ) -> Served<Result<(), NetError>> {
        let handle = self.link_of(link)?;
        if handle.side == Side::Host && handle.is_shared() && !self.is_own(handle) {
            return self.permit(operation, handle.name(), &[named(handle)]);
        }
        self.own_only(link, operation)
    }

    /// The same for what others may need, too: it may be switched on where
    /// attachments share the link, and off by nobody.
    pub(super) fn may_switch(
        &self,
        link: &Resource<LinkHandle>,
        operation: &'static str,
        on: bool,
    ) -> Served<Result<(), NetError>> {
        if on { self.own_or_shared(link, operation) } else { self.own_only(link, operation) }
    }

    /// Whether the policy names a bridge of the node.
    pub(super) fn permit_bridge(
        &self,
        bridge: &Resource<LinkHandle>,
        operation: &'static str,
    ) -> Served<Result<(), NetError>> {
        let bridge = self.link_of(bridge)?;
        match bridge.side {
            Side::Host => self.permit(operation, bridge.name(), &[Operation::Bridge(bridge.name())]),
            Side::Container => Ok(Ok(())),
        }
    }

    /// Refuses what may be done only to links of this attachment.
    pub(super) fn own_only(
        &self,
        link: &Resource<LinkHandle>,
        operation: &'static str,
    ) -> Served<Result<(), NetError>> {
        let link = self.link_of(link)?;
        if self.is_own(link) {
            return Ok(Ok(()));
        }
        if link.side == Side::Container {
            return self.permit_container_link(link, operation, link.name());
        }
        let reason = format!(
            "{operation} link {} of the host namespace: it was not made by this attachment",
            link.name()
        );
        self.forbid(operation, link.name(), reason)
    }

    /// A container may be on networks of other tenants too.
    fn permit_container_link(
        &self,
        link: &LinkHandle,
        operation: &str,
        object: &str,
    ) -> Served<Result<(), NetError>> {
        let ifname = self.call.request.environment.ifname.as_str();
        if self.is_own(link) || [ifname, LOOPBACK].contains(&link.name()) {
            return Ok(Ok(()));
        }
        let reason = format!(
            "{operation} {object}: link {} of the container is neither the interface that the call is about ({ifname}) nor made by this attachment",
            link.name()
        );
        self.forbid(operation, object, reason)
    }

    /// Whether this attachment made the link, in this call or in an earlier
    /// one.
    pub(super) fn is_own(&self, link: &LinkHandle) -> bool {
        link.is_own || self.is_journaled(link)
    }

    /// Whether the journal will delete the link.
    pub(super) fn is_journaled(&self, link: &LinkHandle) -> bool {
        let id = link.id();
        let made = self.call.recorded(|inverse| {
            matches!(inverse, Inverse::DeleteLink { link: made, mac, .. }
                if made.is(&id) && mac.is_none_or(|mac| link.found.mac == Some(mac)))
            .then_some(())
        });
        !made.is_empty()
    }

    /// The names of this attachment's veth ends on the node that are not there
    /// any more.
    pub(super) fn absent_host_ends(&self) -> Vec<String> {
        let made = self.call.recorded(|inverse| match inverse {
            Inverse::DeleteLink { link, kind, .. } if link.side == Side::Host && kind == "veth" => {
                Some(link.name.clone())
            }
            _ => None,
        });
        // What is not known stays in the journal.
        let Ok(host) = self.call.node.host() else { return Vec::new() };
        made.into_iter().filter(|name| host.has_link(name).is_ok_and(|there| !there)).collect()
    }
}

/// A link of the node as the policy names it, by what the kernel says of it.
fn named(link: &LinkHandle) -> Operation<'_> {
    if link.is_bridge() {
        Operation::Bridge(link.name())
    } else {
        Operation::CreateLink { kind: link.found.kind.as_deref().unwrap_or_default(), name: link.name() }
    }
}

/// What an address lets its holder do: in the container's namespace it is the
/// address alone, while the node also gets a route to the whole network.
pub(super) fn claimed(side: Side, prefix: Prefix) -> Option<IpNet> {
    match side {
        Side::Container => Some(IpNet::from(prefix.address)),
        Side::Host => prefix.network(),
    }
}
