//! Taking away what a native plugin put into the packet filter, whose place
//! weir has taken since.

use super::error::failure_to_net_error;
use crate::call::Served;
use crate::firewall::{Firewall, FirewallError, NativeRules};
use crate::journal::Key;
use crate::session::Session;
use crate::wit::NetError;

impl Session {
    /// Removes what `find` finds for the attachment, unless weir made it.
    pub(super) fn remove_native(
        &self,
        operation: &'static str,
        find: impl FnOnce(&mut Firewall, &Key) -> Result<Vec<NativeRules>, FirewallError>,
    ) -> Served<Result<(), NetError>> {
        let call = &self.call;
        // Only bundled plugins stand for native ones.
        if self.guest.grants.is_none() {
            return Ok(Ok(()));
        }
        let found = match call.is_journaled() {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => call.node.firewall(|firewall| find(firewall, &call.key)),
            Err(failure) => Err(failure),
        };
        let found = match found {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure_to_net_error(failure))),
        };
        for rules in found {
            let removed = call.change(&self.guest, operation, rules.to_string(), None, || {
                call.node.firewall(|firewall| firewall.remove_native(&rules))
            })?;
            if let Err(failure) = removed {
                return Ok(Err(failure_to_net_error(failure)));
            }
        }
        Ok(Ok(()))
    }
}
