//! What a call tells of each operation: to the audit log and, if anybody wants
//! one, to the trace.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Call, Certainty, Served};
use crate::audit::{Outcome, Record};
use crate::guest::Guest;
use crate::journal::{self, Journal, Undone};
use crate::node::Node;
use crate::printable::printable;
use crate::trace::Operation;

impl Call {
    /// Tells of an operation that was done or failed.
    pub(crate) fn note<T, E: fmt::Display + Certainty>(
        &self,
        guest: &Guest,
        operation: &str,
        object: String,
        result: &Result<T, E>,
        started: Instant,
    ) {
        let duration = started.elapsed();
        let reason = result.as_ref().err().map(ToString::to_string);
        let outcome = match (result, &reason) {
            (Err(error), Some(reason)) if error.is_denial() => Outcome::Denied(reason),
            (_, Some(reason)) => Outcome::Failed(reason),
            _ => Outcome::Done,
        };
        let (plugin, digest) = (guest.name.as_str(), guest.digest.as_str());
        let record = Record { plugin, digest, operation, object: &object, outcome, duration };
        self.tell(self.attachment(), record, || guest.take_rules(operation));
    }

    /// Tells of an operation that a plugin was refused, which counts as a
    /// change that it wanted to make.
    pub(crate) fn refuse(&self, guest: &Guest, operation: &str, object: &str, reason: &str) -> Served<()> {
        let record = Record {
            plugin: &guest.name,
            digest: &guest.digest,
            operation,
            object,
            outcome: Outcome::Denied(reason),
            duration: Duration::ZERO,
        };
        self.tell(self.attachment(), record, Vec::new);
        self.is_refused.set(true);
        self.count_change(guest)
    }

    /// Takes back what a journal holds, and tells of it.
    pub(crate) fn roll_back(&self, journal: &mut Journal, node: &Node, only_new: bool) -> Undone {
        // Taking it back may take long, and the runtime may lose patience.
        self.audit.flush();
        let (key, mut last) = (journal.header.key.clone(), Instant::now());
        // Another plugin of the list, which may clean up for this one, knows
        // nothing of its IPAM plugin.
        let is_its_config = key.plugin == self.key.plugin;
        let has_component = || matches!(self.ipam_plugin(), Ok(Some(_)));
        let is_given_up = |plugin: &str| {
            is_its_config && (self.request.config.ipam_kind.as_deref() != Some(plugin) || has_component())
        };
        journal::roll_back(journal, node, &is_given_up, only_new, &mut |inverse, result| {
            let reason = result.as_ref().err().map(ToString::to_string);
            let record = Record {
                plugin: &key.plugin,
                digest: "",
                operation: inverse.name(),
                object: &inverse.object(),
                outcome: reason.as_deref().map_or(Outcome::Done, Outcome::Failed),
                duration: last.elapsed(),
            };
            self.tell((&key.container_id, &key.ifname), record, Vec::new);
            last = Instant::now();
        })
    }

    /// The container and interface that the call is about.
    fn attachment(&self) -> (&str, &str) {
        let environment = &self.request.environment;
        (&environment.container_id, &environment.ifname)
    }

    fn tell(&self, attachment: (&str, &str), record: Record<'_>, rules: impl FnOnce() -> Vec<String>) {
        self.audit.add_of(attachment, record);
        let Some(trace) = &self.request.environment.trace else { return };
        let (refusal, is_denied) = match record.outcome {
            Outcome::Done => (None, false),
            Outcome::Failed(reason) => (Some(printable(reason).into_owned()), false),
            Outcome::Denied(reason) => (Some(printable(reason).into_owned()), true),
        };
        trace.add(Operation {
            plugin: record.plugin.to_owned(),
            operation: record.operation.to_owned(),
            object: printable(record.object).into_owned(),
            refusal,
            is_denied,
            rules: rules(),
            time: record.duration,
        });
    }
}
