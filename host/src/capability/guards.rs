//! `weir:firewall/guards`: hardware addresses that a port may send from.

use wasmtime::component::Resource;

use super::error::{failure_to_net_error, net_error};
use super::links::LinkHandle;
use crate::call::Served;
use crate::failure::Failure;
use crate::journal::{Inverse, Side};
use crate::session::Session;
use crate::wit::weir::firewall::guards;
use crate::wit::weir::net::types::MacAddress;
use crate::wit::{self, NetError};

impl guards::Host for Session {
    fn add(&mut self, link: Resource<LinkHandle>, mac: MacAddress) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        if !link.is_own {
            let reason = format!("guard link {}: it was not made by this attachment", link.name());
            return self.forbid("guard", link.name(), reason);
        }
        if let Err(denied) = self.permit_port(link)? {
            return Ok(Err(denied));
        }
        let owner = self.call.key.name();
        let port = match link.netns.link_name(link.index()) {
            Ok(port) => port,
            Err(error) => return Ok(Err(net_error(error))),
        };
        let mac = wit::mac(mac);
        let inverse = Inverse::RemoveGuard { port: port.clone(), mac };
        let added = self.call.change(&self.guest, "guard", port.as_str(), Some(inverse), || {
            self.call.node.firewall(|firewall| firewall.guard_add(&owner, &port, mac))
        })?;
        Ok(added.map_err(failure_to_net_error))
    }

    fn remove(&mut self) -> Served<Result<(), NetError>> {
        let owner = self.call.key.name();
        let mine = match self.guarded() {
            Ok(mine) => mine,
            Err(failure) => return Ok(Err(failure_to_net_error(failure))),
        };
        for (port, mac) in mine {
            let removed = self.call.change(&self.guest, "unguard", port.as_str(), None, || {
                self.call.node.firewall(|firewall| firewall.guard_remove(&owner, &port, mac))
            })?;
            if let Err(failure) = removed {
                return Ok(Err(failure_to_net_error(failure)));
            }
            self.call.settle(
                |inverse| matches!(inverse, Inverse::RemoveGuard { port: other, .. } if *other == port),
            )?;
        }
        self.remove_native("unguard", |firewall, key| firewall.native_guard(&key.container_id, &key.ifname))
    }

    fn present(&mut self, link: Resource<LinkHandle>, mac: MacAddress) -> Served<Result<bool, NetError>> {
        self.call.check_time()?;
        let link = self.link_of(&link)?;
        if let Err(denied) = self.permit_port(link)? {
            return Ok(Err(denied));
        }
        let port = link.name().to_owned();
        let present = self.call.node.firewall(|firewall| firewall.guard_present(&port, wit::mac(mac)));
        Ok(present.map_err(failure_to_net_error))
    }
}

impl Session {
    /// Guards go by names of the node's links; in a container any link may have
    /// the same.
    fn permit_port(&self, link: &LinkHandle) -> Served<Result<(), NetError>> {
        if link.side == Side::Host {
            return Ok(Ok(()));
        }
        let reason = format!("guard link {}: it is not in the host namespace", link.name());
        self.forbid("guard", link.name(), reason)
    }

    /// The attachment's guards, as for masquerading.
    fn guarded(&self) -> Result<Vec<(String, [u8; 6])>, Failure> {
        let journaled = self.call.journaled(|inverse| match inverse {
            Inverse::RemoveGuard { port, mac } => Some((port.clone(), *mac)),
            _ => None,
        })?;
        match journaled {
            Some(guards) => Ok(guards),
            None => {
                let owner = self.call.key.name();
                let all = self.call.node.firewall(|firewall| firewall.guard_owners())?;
                Ok(all
                    .into_iter()
                    .filter(|(tag, ..)| *tag == owner)
                    .map(|(_, port, mac)| (port, mac))
                    .collect())
            }
        }
    }
}
