//! One call of a runtime while it is being served: what all sandboxes of the
//! call share.

mod certainty;
mod data_dir;
#[cfg(debug_assertions)]
mod disturbance;
mod journaled;
mod record;
mod tenant;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::audit::Audit;
use crate::catalog::{self, Plugin};
use crate::failure::{Failure, code};
use crate::guest::Guest;
use crate::journal::{Inverse, Journal, Key};
use crate::node::Node;
use crate::policy::Policy;
use crate::printable::printable;
use crate::request::{Command, Request};

pub(crate) use certainty::Certainty;
pub(crate) use data_dir::DataDir;

/// How long a call waits for another one that has what it needs: the same
/// attachment, or the leases of the same network.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(10);

/// More changes than this are no attachment but a runaway plugin; a policy may
/// allow fewer. What is refused counts too.
const CHANGE_LIMIT: u32 = 4096;

/// Bytes that the plugins of a call may log.
const LOG_LIMIT: usize = 64 << 10;

/// Bytes of values that an ADD may replace or remove: they are in its journal
/// until it has succeeded, and in what is left of that afterwards.
const EARLIER_LIMIT: usize = 256 << 10;

/// A call.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) node: Node,
    /// What the call is about; tags what is made for it.
    pub(crate) key: Key,
    /// None where nothing may be changed (CHECK, STATUS), and during GC.
    pub(crate) journal: RefCell<Option<Journal>>,
    /// The node as seen with the namespace that ADD was called with, if the
    /// runtime does not name it any more.
    pub(crate) remembered: OnceCell<Node>,
    ipam: OnceCell<Option<Plugin>>,
    /// Held while leases are counted and taken.
    census: RefCell<Option<File>>,
    pub(crate) audit: Audit,
    /// What plugins may do.
    pub(crate) policy: Policy,
    deadline: Cell<Instant>,
    /// Why it is earlier than the runtime's, if it is.
    time_limit: Cell<Option<Duration>>,
    /// All changes, of all plugins, for faults that are asked for.
    #[cfg(debug_assertions)]
    changes: Cell<u32>,
    /// Whether a plugin was refused something.
    pub(crate) is_refused: Cell<bool>,
    /// What each plugin changed, or was refused.
    changes_of: RefCell<HashMap<String, u32>>,
    sandboxes: Cell<u32>,
    /// Bytes that plugins may still log.
    pub(crate) log_left: Cell<usize>,
    /// Bytes of values that plugins may still replace or remove.
    pub(crate) earlier_left: Cell<usize>,
}

/// What becomes of a change when the attachment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The journal takes it back.
    Journaled,
    /// Nothing is left of it: it goes with a link that the attachment made, or
    /// takes something away.
    Passing,
    /// It is for good, as attachments share it.
    Shared,
    /// It takes away what belongs to nobody any more.
    Garbage,
    /// It stays until the plugin takes it away, unless ADD fails.
    Kept,
}

/// The reason for ending a plugin, on its way through the sandbox.
#[derive(Debug)]
pub(crate) struct Stop(pub(crate) Failure);

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stop {}

/// The result of a function that a plugin calls: `Err` ends the plugin.
pub(crate) type Served<T> = wasmtime::Result<T>;

impl Call {
    pub(crate) fn new(
        request: Request,
        node: Node,
        key: Key,
        (policy, audit): (Policy, Audit),
        deadline: Instant,
    ) -> Rc<Self> {
        Rc::new(Self {
            request,
            node,
            key,
            journal: RefCell::new(None),
            remembered: OnceCell::new(),
            ipam: OnceCell::new(),
            census: RefCell::new(None),
            audit,
            policy,
            deadline: Cell::new(deadline),
            time_limit: Cell::new(None),
            #[cfg(debug_assertions)]
            changes: Cell::new(0),
            is_refused: Cell::new(false),
            changes_of: RefCell::new(HashMap::new()),
            sandboxes: Cell::new(0),
            log_left: Cell::new(LOG_LIMIT),
            earlier_left: Cell::new(EARLIER_LIMIT),
        })
    }

    /// The time that is left.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.get().saturating_duration_since(Instant::now())
    }

    /// How long to wait for a lock that another call holds.
    pub(crate) fn lock_wait(&self) -> Duration {
        LOCK_WAIT.min(self.remaining())
    }

    /// Gives a plugin less time than the call has. Returns what
    /// [`Self::give_back_time`] takes.
    pub(crate) fn limit_time(&self, limit: Duration) -> Option<(Instant, Option<Duration>)> {
        let (before, end) = (self.deadline.get(), Instant::now() + limit);
        if end >= before {
            return None;
        }
        self.deadline.set(end);
        self.node.extend(end);
        Some((before, self.time_limit.replace(Some(limit))))
    }

    /// Gives the call the time again that a plugin could not have.
    pub(crate) fn give_back_time(&self, (deadline, limit): (Instant, Option<Duration>)) {
        self.deadline.set(deadline);
        self.node.extend(deadline);
        self.time_limit.set(limit);
    }

    /// The component of the type that `ipam.type` names; none if no component
    /// has it.
    pub(crate) fn ipam_plugin(&self) -> Result<Option<&Plugin>, Failure> {
        if let Some(found) = self.ipam.get() {
            return Ok(found.as_ref());
        }
        let found = match &self.request.config.ipam_kind {
            Some(kind) => catalog::find(self.node.paths(), kind)?,
            None => None,
        };
        Ok(self.ipam.get_or_init(|| found).as_ref())
    }

    /// Counts a sandbox that has ended.
    pub(crate) fn count_sandbox(&self) -> u32 {
        self.sandboxes.set(self.sandboxes.get().saturating_add(1));
        self.sandboxes.get()
    }

    /// Ends the plugin if the call's time is up.
    pub(crate) fn check_time(&self) -> Served<()> {
        if self.remaining().is_zero() { Err(Stop(self.out_of_time()).into()) } else { Ok(()) }
    }

    /// Whether the call may make things.
    pub(crate) fn is_add(&self) -> bool {
        self.request.environment.command == Command::Add
    }

    /// Whether the call is to take things away.
    pub(crate) fn is_del(&self) -> bool {
        self.request.environment.command == Command::Del
    }

    /// Whether plugins may change what they keep between calls.
    pub(crate) fn may_keep(&self) -> bool {
        matches!(self.request.environment.command, Command::Add | Command::Del | Command::Gc)
    }

    pub(crate) fn out_of_time(&self) -> Failure {
        if let Some(limit) = self.time_limit.get() {
            return Failure::new(
                code::DEADLINE,
                format!(
                    "the plugin did not finish {} within the {limit:?} that the policy gives it",
                    self.request.environment.command.as_str()
                ),
            )
            .details("key \"limits.time\" of the policy's rules sets another limit");
        }
        Failure::new(
            code::DEADLINE,
            format!(
                "{} did not finish within {:?}",
                self.request.environment.command.as_str(),
                self.request.environment.budget
            ),
        )
        .details("WEIR_TIMEOUT in the runtime's environment sets another limit, in seconds")
    }

    /// Makes a change to the node: journal first, then the change itself.
    ///
    /// `inverse` is none for what goes away with a link that this attachment
    /// made, and for removals.
    pub(crate) fn change<T, E: fmt::Display + Certainty>(
        &self,
        guest: &Guest,
        operation: &'static str,
        object: impl Into<String>,
        inverse: Option<Inverse>,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Served<Result<T, E>> {
        let fate = if inverse.is_some() { Fate::Journaled } else { Fate::Passing };
        self.carry_out(guest, operation, object.into(), fate, inverse, work)
    }

    /// The same for a list, of which each item is a change that is counted.
    pub(crate) fn change_list<T, E: fmt::Display + Certainty>(
        &self,
        guest: &Guest,
        operation: &'static str,
        (object, count): (String, usize),
        inverse: Option<Inverse>,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Served<Result<T, E>> {
        let more = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.count_changes(guest, more)?;
        self.change(guest, operation, object, inverse, work)
    }

    /// The same for what attachments share, which nothing takes back.
    pub(crate) fn change_shared<T, E: fmt::Display + Certainty>(
        &self,
        guest: &Guest,
        operation: &'static str,
        object: impl Into<String>,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Served<Result<T, E>> {
        self.carry_out(guest, operation, object.into(), Fate::Shared, None, work)
    }

    fn carry_out<T, E: fmt::Display + Certainty>(
        &self,
        guest: &Guest,
        operation: &'static str,
        object: String,
        fate: Fate,
        inverse: Option<Inverse>,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Served<Result<T, E>> {
        let started = Instant::now();
        self.permit_change(guest, operation, &object, fate)?;
        let result = self.make(guest, inverse, work)?;
        self.note(guest, operation, object, &result, started);
        Ok(result)
    }

    /// Ends a plugin that wants to change what nothing would ever take back.
    pub(crate) fn permit_change(
        &self,
        guest: &Guest,
        operation: &str,
        object: &str,
        fate: Fate,
    ) -> Served<()> {
        let command = self.request.environment.command;
        let is_lasting = match fate {
            Fate::Shared => true,
            Fate::Journaled => self.journal.borrow().is_none(),
            Fate::Passing | Fate::Garbage | Fate::Kept => false,
        };
        let reason = match command {
            Command::Add => return Ok(()),
            Command::Gc if matches!(fate, Fate::Garbage | Fate::Kept) => return Ok(()),
            Command::Del if guest.grants.is_some() || !is_lasting => return Ok(()),
            Command::Del => "it takes away what ADD made",
            _ => "it changes nothing",
        };
        let attempt = format!("{operation} {object} during {}", command.as_str());
        let message = format!("plugin {} may not {}: {reason}", guest.name, printable(&attempt));
        self.refuse(guest, operation, object, &message)?;
        Err(Stop(Failure::new(code::DENIED, message)).into())
    }

    /// The same for a change whose object is known only afterwards; the caller
    /// notes it.
    pub(crate) fn make<T, E: Certainty>(
        &self,
        guest: &Guest,
        inverse: Option<Inverse>,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Served<Result<T, E>> {
        self.check_time()?;
        self.count_change(guest)?;
        #[cfg(debug_assertions)]
        let count = self.changes.replace(self.changes.get() + 1) + 1;
        let recorded = self.record(inverse)?;
        #[cfg(debug_assertions)]
        self.disturb(crate::request::Moment::Before, count)?;
        let result = work();
        if result.as_ref().is_err_and(Certainty::nothing_changed)
            && let Some(number) = recorded
            && let Some(journal) = self.journal.borrow_mut().as_mut()
        {
            journal.cancel(number).map_err(Stop)?;
        }
        #[cfg(debug_assertions)]
        self.disturb(crate::request::Moment::After, count)?;
        Ok(result)
    }

    /// Ends a plugin that wants to make too many changes. They are those of the
    /// whole call, in which it may be started several times.
    pub(crate) fn count_change(&self, guest: &Guest) -> Served<()> {
        self.count_changes(guest, 1)
    }

    fn count_changes(&self, guest: &Guest, more: u32) -> Served<()> {
        let mut counts = self.changes_of.borrow_mut();
        let count = counts.entry(guest.name.clone()).or_insert(0);
        *count = count.saturating_add(more);
        let limit = guest.permit.limits().changes.unwrap_or(CHANGE_LIMIT).min(CHANGE_LIMIT);
        if *count <= limit {
            return Ok(());
        }
        let message = format!("plugin {} made more than {limit} changes in one call", guest.name);
        Err(Stop(Failure::new(code::LIMIT, message)).into())
    }
}
