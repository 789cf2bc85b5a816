//! GC: removes what belongs to attachments that the runtime no longer knows
//! (specification, section "GC").

use crate::call::Call;
use crate::dispatch;
use crate::failure::Failure;
use crate::journal::Journal;
use crate::request::AttachmentId;
use std::time::Duration;

/// How long GC waits for a call that still works on an attachment.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Cleans the network's stale attachments from the journal, then lets the
/// component (`rest`) do what the journal cannot know. Goes on after failures
/// and reports all of them.
pub(crate) fn collect(call: &Call, rest: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    // Without a list nothing is known to be stale.
    let Some(valid) = &call.request.config.valid_attachments else { return rest() };
    let directory = call.request.environment.paths.attachments();
    let mut failures = Vec::new();
    for name in dispatch::journals(&directory)? {
        if !name.starts_with(&format!("{}:", call.key.network)) {
            continue;
        }
        let stale = match Journal::open(&directory, &name, LOCK_WAIT) {
            Ok(Some(journal)) => {
                let key = &journal.header.key;
                let id = AttachmentId { container_id: key.container_id.clone(), ifname: key.ifname.clone() };
                key.network == call.key.network && !valid.contains(&id)
            }
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
    if let Err(failure) = rest() {
        failures.push(failure);
    }
    let mut failures = failures.into_iter();
    let Some(mut first) = failures.next() else { return Ok(()) };
    for failure in failures {
        first.message = format!("{}; {failure}", first.message);
    }
    Err(first)
}
