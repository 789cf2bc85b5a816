//! `loopback`: brings up a container's `lo`.

#![forbid(unsafe_code)]

use weir_sdk::net::addresses;
use weir_sdk::net::links::{self, Link};
use weir_sdk::net::types::{IpFamily, NetError};
use weir_sdk::request::{Attachment, Network};
use weir_sdk::types::{CniResult, Dns, Interface, IpConfig, Sandbox};
use weir_sdk::{CniError, InterfacePlugin, IpNet, mac};

/// The link, whatever interface the runtime names.
const LO: &str = "lo";

struct Loopback;

weir_sdk::export_interface_plugin!(Loopback);

impl InterfacePlugin for Loopback {
    fn add(attachment: &Attachment) -> Result<CniResult, CniError> {
        let lo = links::container()?.link(LO)?;
        lo.set_up(true)?;
        let ips = loopback_addresses(&lo)?;
        // Behind another plugin of a chain there is nothing to add.
        if let Some(result) = attachment.prev_result() {
            return Ok(result);
        }
        let mac = mac::text(lo.as_found().mac);
        let interfaces = vec![Interface { name: LO.to_owned(), mac, mtu: None, sandbox: Sandbox::Container }];
        Ok(CniResult { interfaces, ips, routes: Vec::new(), dns: Dns::none() })
    }

    fn del(_: &Attachment) -> Result<(), CniError> {
        match links::container() {
            Ok(container) => Ok(container.link(LO)?.set_up(false)?),
            Err(NetError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn check(_: &Attachment) -> Result<(), CniError> {
        let lo = links::container()?.link(LO)?;
        if lo.as_found().up { Ok(()) } else { Err(CniError::changed("check lo: it is down")) }
    }

    fn gc(_: &Network) -> Result<(), CniError> {
        Ok(())
    }

    fn status(_: &Network) -> Result<(), CniError> {
        Ok(())
    }
}

/// The first address of each family; refuses any that is no loopback address.
fn loopback_addresses(lo: &Link) -> Result<Vec<IpConfig>, CniError> {
    let mut ips = Vec::new();
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        let present: Vec<IpNet> =
            addresses::list(lo, Some(family))?.into_iter().map(|address| address.prefix.into()).collect();
        if let Some(foreign) = present.iter().find(|net| !net.addr().is_loopback()) {
            return Err(CniError::config(format!(
                "loopback interface found with non-loopback address \"{foreign}\""
            )));
        }
        ips.extend(present.first().map(|net| IpConfig {
            address: (*net).into(),
            gateway: None,
            interface: Some(0),
        }));
    }
    Ok(ips)
}

#[cfg(test)]
mod tests;
