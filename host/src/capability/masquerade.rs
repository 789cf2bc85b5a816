//! `weir:firewall/masquerade`: hiding containers behind the node.

use std::net::IpAddr;

use ipnet::IpNet;

use super::error::failure_to_net_error;
use crate::call::Served;
use crate::failure::Failure;
use crate::journal::Inverse;
use crate::policy::Operation;
use crate::result::Prefix;
use crate::session::Session;
use crate::wit::weir::firewall::masquerade::{self, Entry};
use crate::wit::{self, NetError};

impl masquerade::Host for Session {
    fn add(&mut self, entry: Entry) -> Served<Result<(), NetError>> {
        let owner = self.call.key.name();
        let source = wit::ip(entry.source);
        let direct = wit::prefix(entry.direct).and_then(Prefix::network);
        let Some(direct) = direct.filter(|direct| direct.addr().is_ipv4() == source.is_ipv4()) else {
            return Ok(Err(NetError::Invalid(format!(
                "masquerade {source}: its network is of another family"
            ))));
        };
        let inverse = Inverse::RemoveMasquerade { source };
        let object = format!("{source} outside {direct}");
        if let Err(denied) = self.permit("masquerade", &object, &[Operation::Address(IpNet::from(source))])? {
            return Ok(Err(denied));
        }
        if let Err(denied) = self.permit_source(&owner, source, &object)? {
            return Ok(Err(denied));
        }
        let added = self.call.change(&self.guest, "masquerade", object, Some(inverse), || {
            self.call.node.firewall(|firewall| firewall.masquerade_add(&owner, source, direct))
        })?;
        Ok(added.map_err(failure_to_net_error))
    }

    fn remove(&mut self) -> Served<Result<(), NetError>> {
        let owner = self.call.key.name();
        let sources = match self.masqueraded() {
            Ok(sources) => sources,
            Err(failure) => return Ok(Err(failure_to_net_error(failure))),
        };
        for source in sources {
            let removed = self.call.change(&self.guest, "unmasquerade", source.to_string(), None, || {
                self.call.node.firewall(|firewall| firewall.masquerade_remove(&owner, source))
            })?;
            if let Err(failure) = removed {
                return Ok(Err(failure_to_net_error(failure)));
            }
            self.call.settle(
                |inverse| matches!(inverse, Inverse::RemoveMasquerade { source: other } if *other == source),
            )?;
        }
        self.remove_native("unmasquerade", |firewall, key| {
            firewall.native_masquerade(&key.network, &key.container_id, &key.ifname)
        })
    }

    fn list(&mut self) -> Served<Result<Vec<Entry>, NetError>> {
        self.call.check_time()?;
        let owner = self.call.key.name();
        let entries = self.masqueraded().and_then(|sources| {
            let mut entries = Vec::new();
            for source in sources {
                let direct = self.call.node.firewall(|firewall| firewall.masquerade_get(&owner, source))?;
                entries.extend(direct.map(|direct| Entry {
                    source: wit::to_ip(source),
                    direct: wit::to_prefix(Prefix { address: direct.addr(), length: direct.prefix_len() }),
                }));
            }
            Ok(entries)
        });
        Ok(entries.map_err(failure_to_net_error))
    }
}

impl Session {
    /// Refuses to take over what another attachment that is still there asked
    /// for; those of a range may be many.
    fn permit_source(&self, owner: &str, source: IpAddr, object: &str) -> Served<Result<(), NetError>> {
        if self.guest.grants.is_some() {
            return Ok(Ok(()));
        }
        let holder = self.call.node.firewall(|firewall| firewall.masquerade_of_another(owner, source));
        let holder = match holder {
            Ok(holder) => holder,
            Err(failure) => return Ok(Err(failure_to_net_error(failure))),
        };
        let attachments = self.call.node.paths().attachments();
        match holder {
            Some(holder) if attachments.join(&holder).exists() => {
                let reason = format!("masquerade {source}: another attachment ({holder}) masquerades it");
                self.forbid("masquerade", object, reason)
            }
            _ => Ok(Ok(())),
        }
    }

    /// The attachment's masqueraded addresses. The journal knows them; without
    /// one the kernel is asked, which takes longer the more there are.
    fn masqueraded(&self) -> Result<Vec<IpAddr>, Failure> {
        let journaled = self.call.journaled(|inverse| match inverse {
            Inverse::RemoveMasquerade { source } => Some(*source),
            _ => None,
        })?;
        match journaled {
            Some(sources) => Ok(sources),
            None => {
                let owner = self.call.key.name();
                let entries = self.call.node.firewall(|firewall| firewall.masquerade_list(&owner))?;
                Ok(entries.into_iter().map(|(source, _)| source).collect())
            }
        }
    }
}
