//! `weir:net/addresses`: addresses of links.

use std::time::Duration;

use rtnetlink::packet_route::AddressFamily;
use wasmtime::component::Resource;

use super::error::net_error;
use super::links::LinkHandle;
use super::permission::claimed;
use crate::call::Served;
use crate::journal::{Inverse, Side};
use crate::session::Session;
use crate::wit::weir::net::addresses::{self, AddressInfo};
use crate::wit::{self, IpFamily, IpPrefix, NetError};

/// The kernel's number of a family.
pub(super) fn address_family(family: IpFamily) -> AddressFamily {
    match family {
        IpFamily::Ipv4 => AddressFamily::Inet,
        IpFamily::Ipv6 => AddressFamily::Inet6,
    }
}

/// Says that a prefix length is larger than the family allows.
pub(super) fn bad_prefix(value: IpPrefix) -> NetError {
    NetError::Invalid(format!("{}/{} is no prefix of its family", wit::ip(value.address), value.length))
}

impl addresses::Host for Session {
    fn list(
        &mut self,
        link: Resource<LinkHandle>,
        family: Option<IpFamily>,
    ) -> Served<Result<Vec<AddressInfo>, NetError>> {
        self.call.check_time()?;
        let link = self.link_of(&link)?;
        let addresses = link.netns.addresses(link.index(), family.map(address_family)).map_err(net_error);
        Ok(addresses.map(|addresses| {
            addresses
                .into_iter()
                .map(|address| AddressInfo {
                    prefix: wit::to_prefix(address.prefix),
                    tentative: address.tentative,
                    duplicate: address.duplicate,
                    link_local: address.link_local,
                })
                .collect()
        }))
    }

    fn add(&mut self, link: Resource<LinkHandle>, prefix: IpPrefix) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        let Some(prefix) = wit::prefix(prefix) else { return Ok(Err(bad_prefix(prefix))) };
        let Some(claimed) = claimed(link.side, prefix) else {
            return Ok(Err(bad_prefix(wit::to_prefix(prefix))));
        };
        let inverse = link.inverse(|link| Inverse::RemoveAddress { link, prefix: prefix.to_string() });
        let object = format!("{prefix} to {}", link.name());
        if let Err(denied) = self.permit_use(link, "add-address", &object)? {
            return Ok(Err(denied));
        }
        if let Err(denied) = self.permit_address("add-address", &object, link, claimed)? {
            return Ok(Err(denied));
        }
        let added = self.call.change(&self.guest, "add-address", object, inverse, || {
            link.netns.add_address(link.index(), prefix)
        })?;
        Ok(added.map_err(net_error))
    }

    fn remove(&mut self, link: Resource<LinkHandle>, prefix: IpPrefix) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        let Some(prefix) = wit::prefix(prefix) else { return Ok(Err(bad_prefix(prefix))) };
        let inverse = link.inverse(|link| Inverse::RestoreAddress { link, prefix: prefix.to_string() });
        let object = format!("{prefix} from {}", link.name());
        if let Err(denied) = self.permit_use(link, "remove-address", &object)? {
            return Ok(Err(denied));
        }
        // A bridge has addresses of others too, and nothing puts them back.
        if link.side == Side::Host
            && !self.is_own(link)
            && let Some(claimed) = claimed(link.side, prefix)
            && let Err(denied) = self.permit_address("remove-address", &object, link, claimed)?
        {
            return Ok(Err(denied));
        }
        let removed = self.call.change(&self.guest, "remove-address", object, inverse, || {
            link.netns.remove_address(link.index(), prefix)
        })?;
        Ok(removed.map_err(net_error))
    }

    fn settle(&mut self, link: Resource<LinkHandle>, timeout: u32) -> Served<Result<(), NetError>> {
        self.call.check_time()?;
        let link = self.link_of(&link)?;
        let timeout = Duration::from_millis(timeout.into()).min(self.call.remaining());
        let addresses = match link.netns.settle(link.index(), timeout) {
            Ok(addresses) => addresses,
            Err(error) => return Ok(Err(net_error(error))),
        };
        if let Some(taken) = addresses.iter().find(|address| address.duplicate) {
            return Ok(Err(NetError::AlreadyExists(format!(
                "address {} of link {}: duplicate address detection found another holder",
                taken.prefix,
                link.name()
            ))));
        }
        if addresses.iter().any(|address| address.tentative) {
            return Ok(Err(NetError::Busy(format!(
                "duplicate address detection on link {} still runs after {timeout:?}",
                link.name()
            ))));
        }
        Ok(Ok(()))
    }

    fn announce(&mut self, link: Resource<LinkHandle>) -> Served<Result<(), NetError>> {
        if let Err(denied) = self.own_only(&link, "announce")? {
            return Ok(Err(denied));
        }
        let link = self.link_of(&link)?;
        let announced = self
            .call
            .change(&self.guest, "announce", link.name(), None, || link.netns.announce(link.index()))?;
        Ok(announced.map_err(net_error))
    }
}
