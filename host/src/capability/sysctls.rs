//! `weir:net/sysctls`: settings of one link.

use wasmtime::component::Resource;

use super::error::net_error;
use super::links::LinkHandle;
use crate::call::Served;
use crate::journal::{Inverse, Side};
use crate::policy::Operation;
use crate::session::Session;
use crate::wit::weir::net::sysctls;
use crate::wit::{IpFamily, NetError};

/// The kernel has no setting of a link that needs more bytes.
const VALUE_LIMIT: usize = 256;

/// The setting's path below `/proc/sys/net/ipv4` or `ipv6`, by the name that
/// the link has at this moment.
fn path(link: &LinkHandle, key: &str) -> Result<String, NetError> {
    let is_key = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_key {
        return Err(NetError::Invalid(format!("{key:?} is no setting of a link")));
    }
    let name = link.netns.link_name(link.index()).map_err(net_error)?;
    Ok(format!("conf/{name}/{key}"))
}

impl sysctls::Host for Session {
    fn get(
        &mut self,
        link: Resource<LinkHandle>,
        family: IpFamily,
        key: String,
    ) -> Served<Result<String, NetError>> {
        self.call.check_time()?;
        let link = self.link_of(&link)?;
        let path = match path(link, &key) {
            Ok(path) => path,
            Err(error) => return Ok(Err(error)),
        };
        Ok(link.netns.sysctl(family == IpFamily::Ipv4, &path).map_err(net_error))
    }

    fn set(
        &mut self,
        link: Resource<LinkHandle>,
        family: IpFamily,
        key: String,
        value: String,
    ) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        let path = match path(link, &key) {
            Ok(path) => path,
            Err(error) => return Ok(Err(error)),
        };
        if value.len() > VALUE_LIMIT {
            let message =
                format!("{path}: its value cannot have {} bytes, at most {VALUE_LIMIT}", value.len());
            return Ok(Err(NetError::Invalid(message)));
        }
        let ipv4 = family == IpFamily::Ipv4;
        let object = format!("{path} to {value}");
        if let Err(denied) = self.permit_use(link, "set-sysctl", &object)? {
            return Ok(Err(denied));
        }
        if link.side == Side::Host
            && let Err(denied) = self.permit("set-sysctl", &object, &[Operation::Sysctl(&key)])?
        {
            return Ok(Err(denied));
        }
        let mut inverse = None;
        if !link.is_own {
            let old = match link.netns.sysctl(ipv4, &path) {
                Ok(old) if old == value => return Ok(Ok(())),
                Ok(old) => old,
                Err(error) => return Ok(Err(net_error(error))),
            };
            inverse =
                link.inverse(|link| Inverse::RestoreSysctl { link, ipv4, key: key.clone(), value: old });
        }
        let set = self.call.change(&self.guest, "set-sysctl", object, inverse, || {
            link.netns.set_sysctl(ipv4, &path, &value)
        })?;
        Ok(set.map_err(net_error))
    }
}
