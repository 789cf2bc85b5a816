//! `weir:net/addresses`: addresses of links.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use super::links::Link;
use super::links::OperState;
pub use super::types::{IpFamily, IpPrefix, NetError};
use super::{kernel, parsed_address, parsed_net};
use crate::IpNet;
pub use crate::bindings::platform::weir::net::addresses::AddressInfo;
use crate::double::state::State;
use crate::double::{Node, Side};

/// An address that somebody added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) net: IpNet,
    /// Duplicate address detection is over.
    is_settled: bool,
    is_duplicate: bool,
}

impl Address {
    pub(super) fn is_ipv4(&self) -> bool {
        self.net.addr().is_ipv4()
    }
}

impl Node {
    /// A link has an address, as `10.1.0.1/24`.
    ///
    /// # Panics
    ///
    /// If there is no such link, or the text is no address.
    #[must_use]
    pub fn with_address(self, side: Side, link: &str, address: &str) -> Self {
        let address = Address { net: parsed_net(address), is_settled: true, is_duplicate: false };
        let mut state = self.0.borrow_mut();
        let device = state.namespace_mut(side).and_then(|namespace| {
            let index = namespace.find(link)?;
            namespace.devices.get_mut(&index)
        });
        device.unwrap_or_else(|| panic!("there is no link {link}")).addresses.push(address);
        drop(state);
        self
    }

    /// Somebody else on the network has this IPv6 address, which duplicate
    /// address detection finds out.
    ///
    /// # Panics
    ///
    /// If the text is no address.
    #[must_use]
    pub fn with_duplicate(self, address: &str) -> Self {
        self.0.borrow_mut().duplicates.push(parsed_address(address));
        self
    }

    /// The addresses that plugins announced.
    pub fn announced(&self) -> Vec<IpAddr> {
        self.0.borrow().announced.clone()
    }

    /// The addresses of a link, without those that the kernel gave it.
    pub fn addresses(&self, side: Side, link: &str) -> Vec<IpNet> {
        self.look_at(side, link, |device| device.addresses.iter().map(|address| address.net).collect())
    }
}

/// Lists the addresses of a link, of one family or of both.
pub fn list(link: &Link, family: Option<IpFamily>) -> Result<Vec<AddressInfo>, NetError> {
    link.work("addresses.list", |state| {
        let added = state.device(link.side, link.index)?.addresses.iter().map(|address| AddressInfo {
            prefix: address.net.into(),
            tentative: state.is_tentative(link, address),
            duplicate: address.is_duplicate,
            link_local: is_link_local(address.net.addr()),
        });
        let own = state.kernel_addresses(link.side, link.index).into_iter().map(|net| AddressInfo {
            prefix: net.into(),
            tentative: false,
            duplicate: false,
            link_local: is_link_local(net.addr()),
        });
        let of_family = |info: &AddressInfo| {
            family.is_none_or(|family| IpFamily::from(IpAddr::from(info.prefix.address)) == family)
        };
        Ok(added.chain(own).filter(of_family).collect())
    })
}

/// Adds an address.
pub fn add(link: &Link, prefix: IpPrefix) -> Result<(), NetError> {
    link.work("addresses.add", |state| {
        let net = checked(prefix)?;
        let attempt = format!("add address {net} to link {}", link.name());
        if net.addr().is_ipv6() {
            state.allow_ipv6(link, &attempt)?;
        }
        let mut present: Vec<IpNet> =
            state.device(link.side, link.index)?.addresses.iter().map(|address| address.net).collect();
        present.extend(state.kernel_addresses(link.side, link.index));
        // IPv6 does not look at the length.
        if present.iter().any(|other| *other == net || (net.addr().is_ipv6() && other.addr() == net.addr())) {
            return Err(NetError::AlreadyExists(format!("{attempt}: File exists")));
        }
        let address = Address { net, is_settled: net.addr().is_ipv4(), is_duplicate: false };
        let device = state.device_mut(link.side, link.index)?;
        device.withdrawn.retain(|network| *network != net.trunc());
        device.addresses.push(address);
        Ok(())
    })
}

/// Removes an address.
pub fn remove(link: &Link, prefix: IpPrefix) -> Result<(), NetError> {
    link.work("addresses.remove", |state| {
        let net = checked(prefix)?;
        let addresses = &mut state.device_mut(link.side, link.index)?.addresses;
        let position = addresses.iter().position(|address| address.net == net).ok_or_else(|| {
            NetError::NotFound(format!("remove address {net} from link {}: it does not have it", link.name()))
        })?;
        addresses.remove(position);
        Ok(())
    })
}

/// Waits until no address of the link is tentative.
pub fn settle(link: &Link, timeout: u32) -> Result<(), NetError> {
    link.work("addresses.settle", |state| {
        let is_operational = state.oper_state(link.side, link.index) == OperState::Up;
        let detects = state.detects_duplicates(link);
        let duplicates = state.duplicates.clone();
        let addresses = &mut state.device_mut(link.side, link.index)?.addresses;
        for address in addresses.iter_mut().filter(|address| !address.is_settled && is_operational) {
            address.is_settled = true;
            address.is_duplicate = detects && duplicates.contains(&address.net.addr());
        }
        if let Some(taken) = addresses.iter().find(|address| address.is_duplicate) {
            return Err(NetError::AlreadyExists(format!(
                "address {} of link {}: duplicate address detection found another holder",
                taken.net,
                link.name()
            )));
        }
        if detects && addresses.iter().any(|address| !address.is_settled) {
            state.ambient.wait(timeout);
            return Err(NetError::Busy(format!(
                "duplicate address detection on link {} still runs after {timeout}ms",
                link.name()
            )));
        }
        Ok(())
    })
}

/// Tells the network that the link's addresses are at its hardware address.
pub fn announce(link: &Link) -> Result<(), NetError> {
    link.work("addresses.announce", |state| {
        link.own_only(state, "announce")?;
        if state.oper_state(link.side, link.index) != OperState::Up {
            return Ok(());
        }
        let asks =
            |family, key| state.setting(link.side, link.index, family, key).is_some_and(|value| value == "1");
        let (ipv4, ipv6) = (asks(IpFamily::Ipv4, "arp_notify"), asks(IpFamily::Ipv6, "ndisc_notify"));
        let is_told = |address: &&Address| {
            if address.is_ipv4() { ipv4 } else { ipv6 && !state.is_tentative(link, address) }
        };
        let addresses = &state.device(link.side, link.index)?.addresses;
        let told: Vec<_> = addresses.iter().filter(is_told).map(|address| address.net.addr()).collect();
        state.announced.extend(told);
        Ok(())
    })
}

impl State {
    /// Whether a link of the namespace has an address.
    pub(in crate::double) fn has_address(&self, side: Side, address: IpAddr) -> bool {
        let devices = self.namespace(side).into_iter().flat_map(|namespace| &namespace.devices);
        devices.into_iter().any(|(index, device)| {
            let own = self.kernel_addresses(side, *index).into_iter();
            own.chain(device.addresses.iter().map(|address| address.net)).any(|net| net.addr() == address)
        })
    }

    /// IPv6 is there, and not turned off for the link.
    pub(super) fn allow_ipv6(&self, link: &Link, attempt: &str) -> Result<(), NetError> {
        match self.setting(link.side, link.index, IpFamily::Ipv6, "disable_ipv6").as_deref() {
            None => Err(NetError::Unsupported(format!("{attempt}: Operation not supported"))),
            Some("0") => Ok(()),
            Some(_) => Err(kernel(13, attempt, "Permission denied: IPv6 is disabled on this device")),
        }
    }

    fn detects_duplicates(&self, link: &Link) -> bool {
        self.setting(link.side, link.index, IpFamily::Ipv6, "accept_dad").is_some_and(|value| value != "0")
    }

    fn is_tentative(&self, link: &Link, address: &Address) -> bool {
        !address.is_settled && self.detects_duplicates(link)
    }

    /// Addresses that the kernel gives a link that is up.
    pub(super) fn kernel_addresses(&self, side: Side, index: u32) -> Vec<IpNet> {
        let Ok(device) = self.device(side, index) else { return Vec::new() };
        let has_ipv6 =
            self.setting(side, index, IpFamily::Ipv6, "disable_ipv6").is_some_and(|value| value == "0");
        let mut addresses = Vec::new();
        if !device.up {
            return addresses;
        }
        let net = |address: IpAddr, length| IpNet::new(address, length).ok();
        if device.is_loopback() {
            addresses.extend(net(Ipv4Addr::LOCALHOST.into(), 8));
            addresses.extend(net(Ipv6Addr::LOCALHOST.into(), 128).filter(|_| has_ipv6));
        } else if let (true, Some((a, b, c, d, e, f))) = (has_ipv6, device.mac) {
            // RFC 4291, appendix A.
            let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
            let address =
                Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f));
            addresses.extend(net(address.into(), 64));
        }
        addresses
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Refuses a length that is too large for the family.
pub(super) fn checked(prefix: IpPrefix) -> Result<IpNet, NetError> {
    let address = IpAddr::from(prefix.address);
    IpNet::new(address, prefix.length)
        .map_err(|_| NetError::Invalid(format!("{address}/{} is no prefix of its family", prefix.length)))
}
