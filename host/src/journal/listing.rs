//! Which journals there are, and what they say.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::file::{Header, Journal};
use crate::failure::{Failure, code};

/// What a journal says, for people.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) state: State,
}

/// How far an attachment has got.
#[derive(Debug)]
pub(crate) enum State {
    /// A call is working on it.
    Busy,
    /// Its ADD was killed; the next DEL or GC cleans up.
    Interrupted,
    /// It exists, with these addresses.
    Added(Vec<String>),
}

/// Looks at a journal without waiting for a call that works on it. None if it
/// is gone, or nothing is in it yet.
pub(crate) fn look(directory: &Path, name: &str) -> Result<Option<Entry>, Failure> {
    match Journal::open(directory, name, Duration::ZERO) {
        Ok(Some(journal)) => Ok(journal.is_written().then(|| {
            let state = journal.added.map_or(State::Interrupted, State::Added);
            Entry { header: journal.header, state }
        })),
        Ok(None) => Ok(None),
        Err(failure) if failure.code == code::TRY_AGAIN => {
            let bytes = fs::read(directory.join(name)).unwrap_or_default();
            let header = bytes.split(|byte| *byte == b'\n').next();
            let header = header.and_then(|line| serde_json::from_slice(line).ok());
            Ok(header.map(|header| Entry { header, state: State::Busy }))
        }
        Err(failure) => Err(failure),
    }
}

/// Names of all journals in a directory.
pub(crate) fn list(directory: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Failure::io(format!(
                "read the journal's directory {}: {error}",
                directory.display()
            )));
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_journal(name))
        .collect();
    names.sort();
    Ok(names)
}

/// Names of networks begin with a letter or digit; others are the journal's
/// own.
fn is_journal(name: &str) -> bool {
    !name.starts_with('.')
}
