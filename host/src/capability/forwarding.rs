//! Forwarding databases, as `weir:net/neighbors` offers them.

use wasmtime::component::Resource;

use super::error::{failure_to_net_error, net_error};
use super::links::LinkHandle;
use super::neighbors::{check_length, station_address, station_mac};
use crate::call::Served;
use crate::journal::{Inverse, Side, some_of};
use crate::netlink::{ALL_ADDRESSES, Forwarding, ForwardingState, LinkState};
use crate::session::Session;
use crate::wit::weir::net::neighbors::{self, ForwardingInfo};
use crate::wit::{self, NetError};

impl Session {
    /// Lists the entries about a link.
    pub(super) fn list_entries(
        &self,
        link: &Resource<LinkHandle>,
    ) -> Served<Result<Vec<ForwardingInfo>, NetError>> {
        self.call.check_time()?;
        let link = self.link_of(link)?;
        let states = link.netns.link_by_index(link.index()).map_err(net_error).and_then(|now| {
            if now.port.is_none() && !is_tunnel(&now) {
                return Err(without_database(link));
            }
            link.netns.forwarding(link.index()).map_err(net_error)
        });
        let info = |ForwardingState { forwarding, permanent }| ForwardingInfo {
            mac: wit::to_mac(forwarding.mac),
            destination: forwarding.destination.map(wit::to_ip),
            permanent,
        };
        Ok(states.map(|states| states.into_iter().map(info).collect()))
    }

    /// Adds entries about a link.
    pub(super) fn add_entries(
        &self,
        link: &Resource<LinkHandle>,
        wanted: &[neighbors::Forwarding],
    ) -> Served<Result<(), NetError>> {
        const OPERATION: &str = "add-forwarding";
        let link = self.link_of(link)?;
        let wanted = match entries(wanted) {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Err(error)),
        };
        let object = format!("{} to {}", some_of(&wanted), link.name());
        if let Err(denied) = self.permit_forwarding(link, OPERATION, &object, &wanted)? {
            return Ok(Err(denied));
        }
        if let Err(denied) = self.permit_stations(link, OPERATION, &object, &wanted)? {
            return Ok(Err(denied));
        }
        self.call.check_time()?;
        let missing = self
            .check_database(link, &wanted)
            .and_then(|()| link.netns.missing_forwarding(link.index(), &wanted).map_err(net_error));
        let missing = match missing {
            Ok(missing) if missing.is_empty() => return Ok(Ok(())),
            Ok(missing) => missing,
            Err(error) => return Ok(Err(error)),
        };
        let inverse = (!self.is_own(link))
            .then(|| Inverse::RemoveForwarding { link: link.id(), entries: missing.clone() });
        let counted = (object, missing.len());
        let added = self.call.change_list(&self.guest, OPERATION, counted, inverse, || {
            link.netns.add_forwarding(link.index(), &missing)
        })?;
        Ok(added.map_err(|error| net_error(error.into())))
    }

    /// Removes entries about a link.
    pub(super) fn remove_entries(
        &self,
        link: &Resource<LinkHandle>,
        unwanted: &[neighbors::Forwarding],
    ) -> Served<Result<(), NetError>> {
        const OPERATION: &str = "remove-forwarding";
        let link = self.link_of(link)?;
        let unwanted = match entries(unwanted) {
            Ok(unwanted) => unwanted,
            Err(error) => return Ok(Err(error)),
        };
        let object = format!("{} from {}", some_of(&unwanted), link.name());
        if let Err(denied) = self.permit_forwarding(link, OPERATION, &object, &unwanted)? {
            return Ok(Err(denied));
        }
        self.call.check_time()?;
        let present = match link.netns.present_forwarding(link.index(), &unwanted) {
            Ok(present) => present,
            Err(error) => return Ok(Err(net_error(error))),
        };
        if present.is_empty() {
            return Ok(Ok(()));
        }
        let mine = self.added_entries(link);
        let others: Vec<_> = present.iter().copied().filter(|entry| !mine.contains(entry)).collect();
        let id = link.id();
        let inverse = (!self.is_own(link) && !others.is_empty())
            .then(|| Inverse::RestoreForwarding { link: id.clone(), entries: others });
        let counted = (object, present.len());
        let removed = self.call.change_list(&self.guest, OPERATION, counted, inverse, || {
            link.netns.remove_forwarding(link.index(), &present)
        })?;
        if removed.is_ok() {
            self.call.settle(|inverse| match inverse {
                Inverse::RemoveForwarding { link, entries } => {
                    link.is(&id) && entries.iter().all(|entry| unwanted.contains(entry))
                }
                _ => false,
            })?;
        }
        Ok(removed.map_err(|error| net_error(error.into())))
    }

    /// Whether entries about a link may change: tunnels lead to addresses that
    /// the policy names, and ports of the node's bridges are the attachment's.
    fn permit_forwarding(
        &self,
        link: &LinkHandle,
        operation: &str,
        object: &str,
        entries: &[Forwarding],
    ) -> Served<Result<(), NetError>> {
        if let Err(denied) = self.permit_use(link, operation, object)? {
            return Ok(Err(denied));
        }
        let has_port = entries.iter().any(|entry| entry.destination.is_none());
        if has_port && link.side == Side::Host && !self.is_own(link) {
            let reason = format!(
                "{operation} {object}: an entry without a destination could take the traffic of others, and link {} of the host namespace was not made by this attachment",
                link.name()
            );
            return self.forbid(operation, object, reason);
        }
        self.permit_reached(link, operation, object, entries.iter().filter_map(|entry| entry.destination))
    }

    /// Whether stations may be at a port of the node: a plugin that the
    /// operator installed can say so of the container alone.
    fn permit_stations(
        &self,
        link: &LinkHandle,
        operation: &str,
        object: &str,
        entries: &[Forwarding],
    ) -> Served<Result<(), NetError>> {
        let mut stations = entries.iter().filter(|entry| entry.destination.is_none()).peekable();
        if link.side == Side::Container || self.guest.grants.is_some() || stations.peek().is_none() {
            return Ok(Ok(()));
        }
        let far = match self.far_end(link) {
            Ok(far) => far,
            Err(error) => return Ok(Err(error)),
        };
        let Some(foreign) = stations.find(|entry| Some(entry.mac) != far) else { return Ok(Ok(())) };
        let reason = format!(
            "{operation} {object}: {foreign} is not the hardware address of the other end of link {} in the container",
            link.name()
        );
        self.forbid(operation, object, reason)
    }

    /// The hardware address of a link's other end, if that is in the
    /// container.
    fn far_end(&self, link: &LinkHandle) -> Result<Option<[u8; 6]>, NetError> {
        let is_pair = |state: &LinkState| state.is_kind("veth");
        let Some(index) = link.found.peer.filter(|_| is_pair(&link.found)) else { return Ok(None) };
        let Some(container) = self.call.node.container().map_err(failure_to_net_error)? else {
            return Ok(None);
        };
        match container.link_by_index(index) {
            Ok(far) if is_pair(&far) && far.peer == Some(link.index()) => Ok(far.mac),
            Ok(_) => Ok(None),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(net_error(error)),
        }
    }

    /// Refuses entries that the link has no place for, and those about
    /// stations that the bridge knows elsewhere.
    fn check_database(&self, link: &LinkHandle, entries: &[Forwarding]) -> Result<(), NetError> {
        let now = link.netns.link_by_index(link.index()).map_err(net_error)?;
        let (tunnels, stations): (Vec<&Forwarding>, Vec<&Forwarding>) =
            entries.iter().partition(|entry| entry.destination.is_some());
        if !tunnels.is_empty() && !is_tunnel(&now) {
            return Err(without_database(link));
        }
        if stations.is_empty() {
            return Ok(());
        }
        let (Some(bridge), Some(_)) = (now.controller, now.port) else { return Err(without_database(link)) };
        let elsewhere = link.netns.stations_elsewhere(bridge, link.index()).map_err(net_error)?;
        match stations.into_iter().find(|entry| elsewhere.contains(&entry.mac)) {
            Some(taken) => Err(NetError::AlreadyExists(format!(
                "add forwarding of {taken} to {}: the bridge has that address, or knows it at another port",
                link.name()
            ))),
            None => Ok(()),
        }
    }

    /// The entries that this attachment has given a link.
    fn added_entries(&self, link: &LinkHandle) -> Vec<Forwarding> {
        let id = link.id();
        let lists = self.call.recorded(|inverse| match inverse {
            Inverse::RemoveForwarding { link, entries } if link.is(&id) => Some(entries.clone()),
            _ => None,
        });
        lists.concat()
    }
}

fn is_tunnel(link: &LinkState) -> bool {
    link.is_kind("vxlan")
}

fn without_database(link: &LinkHandle) -> NetError {
    NetError::Unsupported(format!(
        "forwarding entries of link {}: those with a destination are for VXLAN links, those without one for ports of bridges",
        link.name()
    ))
}

fn entries(wanted: &[neighbors::Forwarding]) -> Result<Vec<Forwarding>, NetError> {
    check_length(wanted)?;
    let entry = |entry: &neighbors::Forwarding| {
        let destination = entry.destination.map(station_address).transpose()?;
        let mac = match wit::mac(entry.mac) {
            ALL_ADDRESSES if destination.is_some() => ALL_ADDRESSES,
            _ => station_mac(entry.mac)?,
        };
        Ok(Forwarding { mac, destination })
    };
    wanted.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wit::IpAddress;

    #[test]
    fn all_zeros_lead_through_tunnels_only() {
        let entry = |mac, destination| entries(&[neighbors::Forwarding { mac, destination }]);
        let remote = Some(IpAddress::Ipv4((192, 0, 2, 9)));
        let zeros = (0, 0, 0, 0, 0, 0);
        assert_eq!(entry(zeros, remote).unwrap()[0].mac, ALL_ADDRESSES);
        for bad in [
            entry(zeros, None),
            entry((1, 0, 0, 0, 0, 0), remote),
            entry((2, 0, 0, 0, 0, 1), Some(IpAddress::Ipv4((224, 0, 0, 1)))),
            entry((2, 0, 0, 0, 0, 1), Some(IpAddress::Ipv6((0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0209)))),
        ] {
            assert!(matches!(bad, Err(NetError::Invalid(_))), "{bad:?}");
        }
    }
}
