//! `weir:net/sysctls`: settings of one link.

use super::kernel;
pub use super::links::Link;
pub use super::types::{IpFamily, NetError};
use crate::double::state::State;
use crate::double::{Node, Side};

/// Settings of an IPv4 link and the kernel's defaults.
const IPV4: [(&str, &str); 22] = [
    ("accept_local", "0"),
    ("accept_redirects", "1"),
    ("accept_source_route", "1"),
    ("arp_accept", "0"),
    ("arp_announce", "0"),
    ("arp_filter", "0"),
    ("arp_ignore", "0"),
    ("arp_notify", "0"),
    ("bc_forwarding", "0"),
    ("disable_policy", "0"),
    ("disable_xfrm", "0"),
    ("forwarding", "0"),
    ("ignore_routes_with_linkdown", "0"),
    ("log_martians", "0"),
    ("medium_id", "0"),
    ("promote_secondaries", "0"),
    ("proxy_arp", "0"),
    ("route_localnet", "0"),
    ("rp_filter", "0"),
    ("secure_redirects", "1"),
    ("send_redirects", "1"),
    ("src_valid_mark", "0"),
];

/// Settings of an IPv6 link and the kernel's defaults.
const IPV6: [(&str, &str); 20] = [
    ("accept_dad", "1"),
    ("accept_ra", "1"),
    ("accept_ra_defrtr", "1"),
    ("accept_ra_pinfo", "1"),
    ("accept_redirects", "1"),
    ("addr_gen_mode", "0"),
    ("autoconf", "1"),
    ("dad_transmits", "1"),
    ("disable_ipv6", "0"),
    ("enhanced_dad", "1"),
    ("forwarding", "0"),
    ("hop_limit", "64"),
    ("keep_addr_on_down", "0"),
    ("max_addresses", "16"),
    ("mtu", "1500"),
    ("ndisc_notify", "0"),
    ("optimistic_dad", "0"),
    ("proxy_ndp", "0"),
    ("router_solicitations", "-1"),
    ("use_tempaddr", "0"),
];

impl Node {
    /// A link has a setting.
    ///
    /// # Panics
    ///
    /// If there is no such link.
    #[must_use]
    pub fn with_sysctl(self, side: Side, link: &str, family: IpFamily, key: &str, value: &str) -> Self {
        let mut state = self.0.borrow_mut();
        let device = state.namespace_mut(side).and_then(|namespace| {
            let index = namespace.find(link)?;
            namespace.devices.get_mut(&index)
        });
        let device = device.unwrap_or_else(|| panic!("there is no link {link}"));
        device.settings.insert((family, key.to_owned()), value.to_owned());
        drop(state);
        self
    }

    /// A setting of a link; none if there is no such link or setting.
    pub fn sysctl(&self, side: Side, link: &str, family: IpFamily, key: &str) -> Option<String> {
        let state = self.0.borrow();
        let index = state.namespace(side)?.find(link)?;
        state.setting(side, index, family, key)
    }
}

/// Reads a setting.
pub fn get(link: &Link, family: IpFamily, key: &str) -> Result<String, NetError> {
    link.work("sysctls.get", |state| {
        check_key(key)?;
        state.setting(link.side, link.index, family, key).ok_or_else(|| absent("read", link, key))
    })
}

/// Writes a setting.
pub fn set(link: &Link, family: IpFamily, key: &str, value: &str) -> Result<(), NetError> {
    link.work("sysctls.set", |state| {
        check_key(key)?;
        if state.setting(link.side, link.index, family, key).is_none() {
            return Err(absent("set", link, key));
        }
        if value.trim().parse::<i32>().is_err() {
            let attempt = format!("set sysctl conf/{}/{key} to {value:?}", link.name());
            return Err(kernel(22, &attempt, "Invalid argument"));
        }
        let device = state.device_mut(link.side, link.index)?;
        device.settings.insert((family, key.to_owned()), value.trim().to_owned());
        Ok(())
    })
}

impl State {
    /// A setting; none if this kernel has none of that name.
    pub(super) fn setting(&self, side: Side, index: u32, family: IpFamily, key: &str) -> Option<String> {
        let defaults: &[(&str, &str)] = match family {
            IpFamily::Ipv4 => &IPV4,
            IpFamily::Ipv6 if self.has_ipv6 => &IPV6,
            IpFamily::Ipv6 => &[],
        };
        let (_, default) = defaults.iter().find(|(name, _)| *name == key)?;
        let device = self.device(side, index).ok()?;
        let set = device.settings.get(&(family, key.to_owned()));
        Some(set.map_or(*default, String::as_str).to_owned())
    }
}

fn check_key(key: &str) -> Result<(), NetError> {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if key.is_empty() || !key.bytes().all(is_good) {
        return Err(NetError::Invalid(format!("{key:?} is no setting of a link")));
    }
    Ok(())
}

fn absent(attempt: &str, link: &Link, key: &str) -> NetError {
    NetError::NotFound(format!("{attempt} sysctl conf/{}/{key}: No such file or directory", link.name()))
}
