//! `weir:net/neighbors`: neighbors of links, and forwarding databases.

use std::net::IpAddr;

use ipnet::IpNet;
use wasmtime::component::Resource;

use super::addresses::address_family;
use super::error::net_error;
use super::links::LinkHandle;
use crate::call::Served;
use crate::journal::{Inverse, Side, some_of};
use crate::netlink::{self, Mac, NeighborState};
use crate::policy::Operation;
use crate::session::Session;
use crate::wit::weir::net::neighbors::{self, Forwarding, ForwardingInfo, Neighbor, NeighborInfo};
use crate::wit::weir::net::types::MacAddress;
use crate::wit::{self, IpAddress, IpFamily, NetError};

/// Items of a list.
const LIST_LIMIT: usize = 1024;

impl neighbors::Host for Session {
    fn list(
        &mut self,
        link: Resource<LinkHandle>,
        family: Option<IpFamily>,
    ) -> Served<Result<Vec<NeighborInfo>, NetError>> {
        self.call.check_time()?;
        let link = self.link_of(&link)?;
        let states = link.netns.neighbors(link.index(), family.map(address_family)).map_err(net_error);
        let info = |NeighborState { neighbor, permanent }| NeighborInfo {
            address: wit::to_ip(neighbor.address),
            mac: wit::to_mac(neighbor.mac),
            permanent,
        };
        Ok(states.map(|states| states.into_iter().map(info).collect()))
    }

    fn add(&mut self, link: Resource<LinkHandle>, wanted: Vec<Neighbor>) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        let wanted = match stations(&wanted) {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Err(error)),
        };
        let object = format!("{} to {}", some_of(&wanted), link.name());
        if let Err(denied) = self.permit_neighbors(link, "add-neighbors", &object, &wanted)? {
            return Ok(Err(denied));
        }
        self.call.check_time()?;
        let missing = match link.netns.missing_neighbors(link.index(), &wanted) {
            Ok(missing) => missing,
            Err(error) => return Ok(Err(net_error(error))),
        };
        if missing.is_empty() {
            return Ok(Ok(()));
        }
        let inverse = (!self.is_own(link))
            .then(|| Inverse::RemoveNeighbors { link: link.id(), neighbors: missing.clone() });
        let counted = (object, missing.len());
        let added = self.call.change_list(&self.guest, "add-neighbors", counted, inverse, || {
            link.netns.add_neighbors(link.index(), &missing)
        })?;
        Ok(added.map_err(|error| net_error(error.into())))
    }

    fn remove(
        &mut self,
        link: Resource<LinkHandle>,
        unwanted: Vec<Neighbor>,
    ) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        let unwanted = match stations(&unwanted) {
            Ok(unwanted) => unwanted,
            Err(error) => return Ok(Err(error)),
        };
        let object = format!("{} from {}", some_of(&unwanted), link.name());
        if let Err(denied) = self.permit_neighbors(link, "remove-neighbors", &object, &unwanted)? {
            return Ok(Err(denied));
        }
        self.call.check_time()?;
        let present = match link.netns.present_neighbors(link.index(), &unwanted) {
            Ok(present) => present,
            Err(error) => return Ok(Err(net_error(error))),
        };
        if present.is_empty() {
            return Ok(Ok(()));
        }
        let mine = self.added_neighbors(link);
        let others: Vec<_> = present.iter().copied().filter(|neighbor| !mine.contains(neighbor)).collect();
        let id = link.id();
        let inverse = (!self.is_own(link) && !others.is_empty())
            .then(|| Inverse::RestoreNeighbors { link: id.clone(), neighbors: others });
        let counted = (object, present.len());
        let removed = self.call.change_list(&self.guest, "remove-neighbors", counted, inverse, || {
            link.netns.remove_neighbors(link.index(), &present)
        })?;
        if removed.is_ok() {
            self.call.settle(|inverse| match inverse {
                Inverse::RemoveNeighbors { link, neighbors } => {
                    link.is(&id) && neighbors.iter().all(|neighbor| unwanted.contains(neighbor))
                }
                _ => false,
            })?;
        }
        Ok(removed.map_err(|error| net_error(error.into())))
    }

    fn list_forwarding(
        &mut self,
        link: Resource<LinkHandle>,
    ) -> Served<Result<Vec<ForwardingInfo>, NetError>> {
        self.list_entries(&link)
    }

    fn add_forwarding(
        &mut self,
        link: Resource<LinkHandle>,
        wanted: Vec<Forwarding>,
    ) -> Served<Result<(), NetError>> {
        self.add_entries(&link, &wanted)
    }

    fn remove_forwarding(
        &mut self,
        link: Resource<LinkHandle>,
        unwanted: Vec<Forwarding>,
    ) -> Served<Result<(), NetError>> {
        self.remove_entries(&link, &unwanted)
    }
}

impl Session {
    /// Whether a link may get or lose neighbors: the link is within reach, and
    /// on the node the policy names their addresses.
    fn permit_neighbors(
        &self,
        link: &LinkHandle,
        operation: &str,
        object: &str,
        neighbors: &[netlink::Neighbor],
    ) -> Served<Result<(), NetError>> {
        if let Err(denied) = self.permit_use(link, operation, object)? {
            return Ok(Err(denied));
        }
        self.permit_reached(link, operation, object, neighbors.iter().map(|neighbor| neighbor.address))
    }

    /// Whether the policy lets a link of the node reach these addresses.
    pub(super) fn permit_reached(
        &self,
        link: &LinkHandle,
        operation: &str,
        object: &str,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> Served<Result<(), NetError>> {
        if link.side == Side::Container {
            return Ok(Ok(()));
        }
        let wanted: Vec<Operation<'_>> =
            addresses.map(|address| Operation::Neighbor(IpNet::from(address))).collect();
        self.permit(operation, object, &wanted)
    }

    /// The neighbors that this attachment has given a link.
    fn added_neighbors(&self, link: &LinkHandle) -> Vec<netlink::Neighbor> {
        let id = link.id();
        let lists = self.call.recorded(|inverse| match inverse {
            Inverse::RemoveNeighbors { link, neighbors } if link.is(&id) => Some(neighbors.clone()),
            _ => None,
        });
        lists.concat()
    }
}

/// Refuses a list that is too long.
pub(super) fn check_length(items: &[impl Sized]) -> Result<(), NetError> {
    if items.len() > LIST_LIMIT {
        let message = format!("{} entries in one list, at most {LIST_LIMIT}", items.len());
        return Err(NetError::Invalid(message));
    }
    Ok(())
}

/// Reads the address of one station.
pub(super) fn station_address(address: IpAddress) -> Result<IpAddr, NetError> {
    let address = wit::ip(address);
    let is_station = match address {
        IpAddr::V4(address) => !address.is_broadcast(),
        // What is meant is an IPv4 address, which no IPv6 packet has.
        IpAddr::V6(address) => address.to_ipv4_mapped().is_none(),
    };
    if is_station && !address.is_unspecified() && !address.is_multicast() && !address.is_loopback() {
        return Ok(address);
    }
    Err(NetError::Invalid(format!("{address} is not the address of another station")))
}

/// Reads the hardware address of one station.
pub(super) fn station_mac(mac: MacAddress) -> Result<[u8; 6], NetError> {
    let mac = wit::mac(mac);
    if mac == [0; 6] || mac[0] & 1 == 1 {
        let message = format!("{} is not the hardware address of one station", Mac(mac));
        return Err(NetError::Invalid(message));
    }
    Ok(mac)
}

fn stations(neighbors: &[Neighbor]) -> Result<Vec<netlink::Neighbor>, NetError> {
    check_length(neighbors)?;
    let station = |neighbor: &Neighbor| {
        let address = station_address(neighbor.address)?;
        Ok(netlink::Neighbor { address, mac: station_mac(neighbor.mac)? })
    };
    neighbors.iter().map(station).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stations_are_neighbors() {
        let address = |text: &str| station_address(wit::to_ip(text.parse().unwrap()));
        for good in ["10.1.0.5", "fd00::5", "fe80::1", "::10.1.0.5"] {
            assert_eq!(address(good).unwrap(), good.parse::<IpAddr>().unwrap());
        }
        for bad in [
            "0.0.0.0",
            "255.255.255.255",
            "127.0.0.1",
            "224.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "::ffff:10.1.0.5",
        ] {
            assert!(matches!(address(bad), Err(NetError::Invalid(_))), "{bad}");
        }
        assert_eq!(station_mac((2, 0, 0, 0, 0, 1)).unwrap(), [2, 0, 0, 0, 0, 1]);
        for bad in [(0, 0, 0, 0, 0, 0), (1, 0, 0x5e, 0, 0, 1), (255, 255, 255, 255, 255, 255)] {
            assert!(matches!(station_mac(bad), Err(NetError::Invalid(_))));
        }
    }

    #[test]
    fn lists_are_bounded() {
        let one = Neighbor { address: IpAddress::Ipv4((10, 1, 0, 5)), mac: (2, 0, 0, 0, 0, 1) };
        assert_eq!(stations(&vec![one; LIST_LIMIT]).unwrap().len(), LIST_LIMIT);
        assert!(matches!(stations(&vec![one; LIST_LIMIT + 1]), Err(NetError::Invalid(_))));
    }
}
