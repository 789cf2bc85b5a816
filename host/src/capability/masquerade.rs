//! `weir:firewall/masquerade`: hiding containers behind the node.

use ipnet::IpNet;

use super::links::failure_to_net_error;
use crate::call::Served;
use crate::journal::Inverse;
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
            return Ok(Err(NetError::Invalid(format!("masquerade {source}: its network is of another family"))));
        };
        let inverse = Inverse::RemoveMasquerade { source };
        let object = format!("{source} outside {direct}");
        let added = self.call.change(self.plugin, "masquerade", object, Some(inverse), || {
            self.call.node.firewall(|firewall| firewall.masquerade_add(&owner, source, direct))
        })?;
        Ok(added.map_err(failure_to_net_error))
    }

    fn remove(&mut self) -> Served<Result<(), NetError>> {
        let owner = self.call.key.name();
        // The journal knows the addresses; without one the kernel is asked.
        let journaled: Option<Vec<_>> = self.call.journal.borrow().as_ref().map(|journal| {
            let pending = journal.pending(false);
            let sources = pending.iter().filter_map(|(_, inverse)| match inverse {
                Inverse::RemoveMasquerade { source } => Some(*source),
                _ => None,
            });
            sources.collect()
        });
        let sources = match journaled {
            Some(sources) => sources,
            None => match self.call.node.firewall(|firewall| firewall.masquerade_list(&owner)) {
                Ok(entries) => entries.into_iter().map(|(source, _): (_, IpNet)| source).collect(),
                Err(failure) => return Ok(Err(failure_to_net_error(failure))),
            },
        };
        for source in sources {
            let removed = self.call.change(self.plugin, "unmasquerade", source.to_string(), None, || {
                self.call.node.firewall(|firewall| firewall.masquerade_remove(&owner, source))
            })?;
            if let Err(failure) = removed {
                return Ok(Err(failure_to_net_error(failure)));
            }
            self.call.settle(|inverse| matches!(inverse, Inverse::RemoveMasquerade { source: other } if *other == source));
        }
        Ok(Ok(()))
    }

    fn list(&mut self) -> Served<Result<Vec<Entry>, NetError>> {
        self.call.check_time()?;
        let owner = self.call.key.name();
        let listed = self.call.node.firewall(|firewall| firewall.masquerade_list(&owner));
        Ok(listed
            .map(|entries| {
                let entry = |(source, direct): (std::net::IpAddr, IpNet)| Entry {
                    source: wit::to_ip(source),
                    direct: wit::to_prefix(Prefix { address: direct.addr(), length: direct.prefix_len() }),
                };
                entries.into_iter().map(entry).collect()
            })
            .map_err(failure_to_net_error))
    }
}
