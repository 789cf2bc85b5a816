//! The audit log: what plugins did to the node, were refused or failed to do,
//! and what was taken back, a record for each operation.
//!
//! Records of a call are collected and written at once at its end, however it
//! ends: the log is opened at the beginning, when the process may still open
//! files, and what is collected is written when the [`Audit`] is dropped.

mod entry;
mod file;
mod journald;
mod settings;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub(crate) use entry::{Entry, Verdict};
pub(crate) use file::files;
pub(crate) use settings::AuditSettings;

use crate::failure::Failure;
use crate::paths::Paths;
use crate::printable::printable;
use file::LogFile;
use journald::Journald;

/// Refused and failed operations of one call that are recorded one by one; the
/// rest is counted. What was done is always recorded.
const REFUSALS: u32 = 1024;

/// More than this is not kept in memory but written at once.
const COLLECTED: usize = 1 << 20;

/// What all records of a call have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    /// `CNI_COMMAND`.
    pub(crate) command: &'static str,
    /// The network's name.
    pub(crate) network: String,
    /// `CNI_CONTAINERID`; may be empty.
    pub(crate) container_id: String,
    /// `CNI_IFNAME`; may be empty.
    pub(crate) ifname: String,
    /// For whom the container runs, if the runtime says so.
    pub(crate) tenant: Option<String>,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// The type of the plugin that asked for it.
    pub(crate) plugin: &'a str,
    /// The digest of its component; may be empty.
    pub(crate) digest: &'a str,
    /// Its name in the contract.
    pub(crate) operation: &'a str,
    /// What it was done to.
    pub(crate) object: &'a str,
    /// How it ended.
    pub(crate) outcome: Outcome<'a>,
    /// How long it took.
    pub(crate) duration: Duration,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome<'a> {
    /// It was done.
    Done,
    /// It was tried, and failed for this reason.
    Failed(&'a str),
    /// It was not tried, as the plugin may not do it for this reason.
    Denied(&'a str),
}

/// The audit log of one call.
pub(crate) struct Audit {
    who: Who,
    path: PathBuf,
    settings: AuditSettings,
    state: RefCell<State>,
}

struct State {
    sink: Sink,
    /// Lines that are not written yet.
    lines: Vec<u8>,
    refusals: u32,
    /// Why lines were lost.
    loss: Option<io::Error>,
}

impl State {
    fn new(sink: Sink) -> Self {
        Self { sink, lines: Vec::new(), refusals: 0, loss: None }
    }
}

enum Sink {
    /// There is no log, or it cannot be written to.
    Nowhere,
    File(LogFile),
    Journald(Journald),
}

impl Audit {
    /// Opens the log for a call.
    ///
    /// # Errors
    ///
    /// Only where the operator wants no call without a log. Otherwise a note
    /// on standard error says that there is none.
    pub(crate) fn open(settings: &AuditSettings, paths: &Paths, who: Who) -> Result<Self, Failure> {
        let path = paths.audit(settings.file.as_deref());
        let sink = if settings.enabled {
            open(settings, &path, Path::new(journald::SOCKET))?
        } else {
            Sink::Nowhere
        };
        let state = RefCell::new(State::new(sink));
        Ok(Self { who, path, settings: settings.clone(), state })
    }

    /// A log that records nothing, for a plan.
    pub(crate) fn nowhere(settings: &AuditSettings, who: Who) -> Self {
        let state = RefCell::new(State::new(Sink::Nowhere));
        Self { who, path: PathBuf::new(), settings: settings.clone(), state }
    }

    /// Where files of the log may still have to be opened.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self.state.borrow().sink {
            Sink::Journald(_) => self.path.parent(),
            _ => None,
        }
    }

    /// Adds an operation of the call.
    pub(crate) fn add(&self, record: Record<'_>) {
        self.add_of((&self.who.container_id, &self.who.ifname), record);
    }

    /// Adds an operation that concerns an attachment (container and interface)
    /// other than the call's.
    pub(crate) fn add_of(&self, (container, ifname): (&str, &str), record: Record<'_>) {
        let state = &mut *self.state.borrow_mut();
        if matches!(state.sink, Sink::Nowhere) {
            return;
        }
        if !matches!(record.outcome, Outcome::Done) {
            state.refusals += 1;
            // Whoever is refused again and again must not push what was done
            // out of the log.
            if state.refusals > REFUSALS {
                return;
            }
        }
        self.write(state, &self.entry((container, ifname), &record));
    }

    /// Writes what was collected. Otherwise dropping the value does.
    pub(crate) fn flush(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.refusals > REFUSALS {
            let reason = format!("{} more operations were refused or failed", state.refusals - REFUSALS);
            state.refusals = 0;
            let record = Record {
                plugin: "",
                digest: "",
                operation: "audit",
                object: "",
                outcome: Outcome::Failed(&reason),
                duration: Duration::ZERO,
            };
            self.write(state, &self.entry((&self.who.container_id, &self.who.ifname), &record));
        }
        self.write_lines(state);
    }

    /// Writes what was collected, and fails if it is lost although the policy
    /// requires a log.
    pub(crate) fn secure(&self) -> Result<(), Failure> {
        if !self.settings.required {
            return Ok(());
        }
        self.flush();
        match &self.state.borrow().loss {
            Some(error) => Err(Failure::io(format!("write the audit log {}: {error}", self.path.display()))
                .details("the policy requires an audit log (key \"required\" of [audit])")),
            None => Ok(()),
        }
    }

    fn entry<'a>(&'a self, (container, ifname): (&'a str, &'a str), record: &Record<'a>) -> Entry<'a> {
        let (outcome, reason) = match record.outcome {
            Outcome::Done => (Verdict::Done, ""),
            Outcome::Failed(reason) => (Verdict::Failed, reason),
            Outcome::Denied(reason) => (Verdict::Denied, reason),
        };
        Entry {
            time: humantime::format_rfc3339_micros(SystemTime::now()).to_string().into(),
            command: self.who.command.into(),
            network: printable(&self.who.network),
            container: printable(container),
            ifname: printable(ifname),
            tenant: printable(self.who.tenant.as_deref().unwrap_or_default()),
            plugin: printable(record.plugin),
            digest: printable(record.digest),
            operation: printable(record.operation),
            object: printable(record.object),
            outcome,
            reason: printable(reason),
            duration_us: record.duration.as_micros().try_into().unwrap_or(u64::MAX),
        }
    }

    fn write(&self, state: &mut State, entry: &Entry<'_>) {
        if let Sink::Journald(journald) = &state.sink {
            match journald.send(entry) {
                Ok(()) => return,
                Err(error) => {
                    note(&format!("{}: {error}; going on with {}", journald::SOCKET, self.path.display()));
                    state.sink = open_file(&self.settings, &self.path).unwrap_or(Sink::Nowhere);
                }
            }
        }
        entry.write(&mut state.lines);
        if state.lines.len() > COLLECTED {
            self.write_lines(state);
        }
    }

    fn write_lines(&self, state: &mut State) {
        if state.lines.is_empty() {
            return;
        }
        if let Sink::File(file) = &mut state.sink
            && let Err(error) = file.append(&state.lines)
        {
            note(&format!("write {}: {error}; records of this call are lost", self.path.display()));
            state.sink = Sink::Nowhere;
            state.loss = Some(error);
        }
        state.lines.clear();
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.flush();
    }
}

fn open(settings: &AuditSettings, path: &Path, socket: &Path) -> Result<Sink, Failure> {
    if settings.journald {
        match Journald::connect(socket) {
            Ok(journald) => return Ok(Sink::Journald(journald)),
            Err(error) => note(&format!("{}: {error}; going on with {}", socket.display(), path.display())),
        }
    }
    match open_file(settings, path) {
        Err(error) if settings.required => {
            Err(Failure::io(format!("open the audit log {}: {error}", path.display())).details(
                "the policy requires an audit log (key \"required\" of [audit]), so that nothing was done",
            ))
        }
        Err(error) => {
            note(&format!("open {}: {error}; this call is not recorded", path.display()));
            Ok(Sink::Nowhere)
        }
        Ok(sink) => Ok(sink),
    }
}

fn open_file(settings: &AuditSettings, path: &Path) -> io::Result<Sink> {
    LogFile::open(path, settings).map(Sink::File)
}

fn note(text: &str) {
    eprintln!("weir: audit log: {text}");
}

#[cfg(test)]
mod tests;
