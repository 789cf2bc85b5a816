//! `weir:firewall/guards`: hardware addresses that a port may send from.

use wasmtime::component::Resource;

use super::links::{LinkHandle, failure_to_net_error, mac_bytes};
use crate::call::Served;
use crate::journal::Inverse;
use crate::session::Session;
use crate::wit::NetError;
use crate::wit::weir::firewall::guards;
use crate::wit::weir::net::types::MacAddress;

impl guards::Host for Session {
    fn add(&mut self, link: Resource<LinkHandle>, mac: MacAddress) -> Served<Result<(), NetError>> {
        let link = self.link_of(&link)?;
        if !link.is_own {
            return Ok(Err(NetError::Denied(format!(
                "guard link {}: it was not made by this attachment",
                link.name
            ))));
        }
        let owner = self.call.key.name();
        let (port, mac) = (link.name.clone(), mac_bytes(mac));
        let inverse = Inverse::RemoveGuard { port: port.clone(), mac };
        let added = self.call.change(self.plugin, "guard", port.as_str(), Some(inverse), || {
            self.call.node.firewall(|firewall| firewall.guard_add(&owner, &port, mac))
        })?;
        Ok(added.map_err(failure_to_net_error))
    }

    fn remove(&mut self) -> Served<Result<(), NetError>> {
        let owner = self.call.key.name();
        let mine: Vec<(String, [u8; 6])> = match self.call.journal.borrow().as_ref() {
            Some(journal) => {
                let pending = journal.pending(false);
                let guards = pending.into_iter().filter_map(|(_, inverse)| match inverse {
                    Inverse::RemoveGuard { port, mac } => Some((port, mac)),
                    _ => None,
                });
                guards.collect()
            }
            None => match self.call.node.firewall(|firewall| firewall.guard_owners()) {
                Ok(all) => all.into_iter().filter(|(tag, ..)| *tag == owner).map(|(_, port, mac)| (port, mac)).collect(),
                Err(failure) => return Ok(Err(failure_to_net_error(failure))),
            },
        };
        for (port, mac) in mine {
            let removed = self.call.change(self.plugin, "unguard", port.as_str(), None, || {
                self.call.node.firewall(|firewall| firewall.guard_remove(&owner, &port, mac))
            })?;
            if let Err(failure) = removed {
                return Ok(Err(failure_to_net_error(failure)));
            }
            self.call.settle(|inverse| matches!(inverse, Inverse::RemoveGuard { port: other, .. } if *other == port));
        }
        Ok(Ok(()))
    }

    fn present(&mut self, link: Resource<LinkHandle>, mac: MacAddress) -> Served<Result<bool, NetError>> {
        self.call.check_time()?;
        let port = self.link_of(&link)?.name.clone();
        let present = self.call.node.firewall(|firewall| firewall.guard_present(&port, mac_bytes(mac)));
        Ok(present.map_err(failure_to_net_error))
    }
}
