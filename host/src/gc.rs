//! GC: removes what belongs to attachments that the runtime no longer knows
//! (specification, section "GC").

use std::collections::HashSet;
use std::time::Duration;

use crate::call::Call;
use crate::dispatch;
use crate::failure::Failure;
use crate::firewall::{Firewall, FirewallError};
use crate::journal::{self, Journal, Key};
use crate::request::AttachmentId;

/// How long GC waits for a call that still works on an attachment.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Cleans the network's stale attachments: first from the journal, then what
/// the packet filter still holds for them, then (`rest`) the component does
/// what only it can know. Goes on after failures and reports all of them.
pub(crate) fn collect(call: &Call, rest: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    // Without a list nothing is known to be stale.
    let Some(valid) = &call.request.config.valid_attachments else { return rest() };
    let mut failures = Vec::new();
    clean_journals(call, valid, &mut failures)?;
    let network = &call.key.network;
    if let Err(failure) = call.node.firewall(|firewall| clean_firewall(firewall, network, valid)) {
        failures.push(failure);
    }
    if let Err(failure) = rest() {
        failures.push(failure);
    }
    Failure::all(failures)
}

/// Whether something belongs to the network and to none of its attachments.
fn is_stale(key: &Key, network: &str, valid: &HashSet<AttachmentId>) -> bool {
    let id = AttachmentId { container_id: key.container_id.clone(), ifname: key.ifname.clone() };
    key.network == network && !valid.contains(&id)
}

fn clean_journals(
    call: &Call,
    valid: &HashSet<AttachmentId>,
    failures: &mut Vec<Failure>,
) -> Result<(), Failure> {
    let directory = call.request.environment.paths.attachments();
    let network = &call.key.network;
    for name in journal::list(&directory)? {
        if !Key::may_be_of(&name, network) {
            continue;
        }
        let stale = match Journal::open(&directory, &name, LOCK_WAIT) {
            Ok(Some(journal)) => is_stale(&journal.header.key, network, valid),
            Ok(None) => false,
            Err(failure) => {
                failures.push(failure);
                false
            }
        };
        if stale && let Err(failure) = dispatch::clean(&directory, &name, call) {
            failures.push(failure);
        }
    }
    Ok(())
}

/// Removes elements whose journal was lost. Owners that are too long to be
/// read back are left to the journal.
fn clean_firewall(
    firewall: &mut Firewall,
    network: &str,
    valid: &HashSet<AttachmentId>,
) -> Result<(), FirewallError> {
    let stale = |owner: &str| Key::parse(owner).is_some_and(|key| is_stale(&key, network, valid));
    for (owner, source, _) in firewall.masquerade_owners()? {
        if stale(&owner) {
            firewall.masquerade_remove(&owner, source)?;
        }
    }
    for (owner, port, mac) in firewall.guard_owners()? {
        if stale(&owner) {
            firewall.guard_remove(&owner, &port, mac)?;
        }
    }
    for (owner, port) in firewall.publications()? {
        if stale(&owner) {
            firewall.unpublish(&owner, &[port])?;
        }
    }
    firewall.sweep().map(drop)
}
