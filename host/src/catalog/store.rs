//! The store of installed components.
//!
//! | in `<state>/plugins` | what |
//! |---|---|
//! | `components/<digest>.wasm` | the component, as it was installed |
//! | `compiled/<digest>-<engine>.cwasm` | its code for one engine |
//! | `records/<digest>.json` | what is known of it, and the digests of its code |
//! | `types/<type>` | the digest of the component that serves a type |
//!
//! A file is replaced by a rename and never changed, so that calls that are
//! under way go on with what they have opened.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;

use super::digest::Digest;
use super::directory::Directory;
use super::record::Record;
use super::{COMPILED_FOR, Code, Origin, Plugin};
use crate::failure::{Failure, code};
use crate::paths::Paths;
use crate::request::is_identifier;

/// Names of types are names of files.
const TYPE_LIMIT: usize = 64;

/// A record is larger than this only if it is none.
const RECORD_LIMIT: u64 = 1 << 20;

/// Compiled code is larger than this only if it is none.
const CODE_LIMIT: u64 = 1 << 30;

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Somebody else may have changed a file.
    #[error("{} cannot be trusted: {reason}", path.display())]
    Untrusted { path: PathBuf, reason: String },
    /// A file is not what weir wrote.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// There is no code for this weir.
    #[error("plugin type {kind} was compiled by another version of weir")]
    Outdated { kind: String },
    /// The file system failed.
    #[error("{attempt} {}: {error}", path.display())]
    Io { attempt: &'static str, path: PathBuf, error: io::Error },
    /// Only root may change it.
    #[error("{} belongs to root", path.display())]
    NotRoot { path: PathBuf },
}

impl StoreError {
    pub(super) fn untrusted(path: PathBuf, reason: impl Into<String>) -> Self {
        Self::Untrusted { path, reason: reason.into() }
    }

    pub(super) fn damaged(path: PathBuf, reason: impl Into<String>) -> Self {
        Self::Damaged { path, reason: reason.into() }
    }

    pub(super) fn io(attempt: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Io { attempt, path: path.to_owned(), error: errno.into() }
    }

    /// What the operator can do.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Untrusted { .. } => {
                "only the user that weir runs as may own it and write to it: correct owner and mode if that was an accident, otherwise remove it and run \"weir plugin add\" again"
            }
            Self::NotRoot { .. } => "run this as root",
            Self::Damaged { .. } => "run \"weir plugin add\" again with the component",
            Self::Outdated { .. } => "run \"weir plugin refresh\"",
            Self::Io { .. } => "",
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(code::COMPONENT, error.to_string()).details(error.advice())
    }
}

/// The store, open for reading.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) root: Directory,
}

/// A component, and its record or why there is none to use.
pub(crate) type Entry = (Digest, Result<Record, StoreError>);

/// Compiled code in the store, opened and not yet read.
#[derive(Debug)]
pub(crate) struct Compiled {
    file: File,
    path: PathBuf,
    digest: Digest,
}

impl Compiled {
    /// Reads the code, which is what weir compiled: its digest is the one that
    /// was recorded then. Nobody can change it any more, as it is a copy.
    pub(crate) fn read(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let mut file = &self.file;
        file.rewind()
            .and_then(|()| file.take(CODE_LIMIT + 1).read_to_end(&mut bytes))
            .map_err(|error| StoreError::Io { attempt: "read", path: self.path.clone(), error })?;
        if Digest::of(&bytes) != self.digest {
            return Err(StoreError::damaged(self.path.clone(), "it is not the code that weir compiled"));
        }
        Ok(bytes)
    }
}

/// Whether a text can be the name of a plugin type. By the name `weir` the
/// program itself is called, also when the store is broken.
pub(crate) fn is_type(name: &str) -> bool {
    name.len() <= TYPE_LIMIT && name != "weir" && is_identifier(name)
}

/// Finds the installed component of a type.
pub(super) fn find(paths: &Paths, kind: &str) -> Result<Option<Plugin>, StoreError> {
    if !is_type(kind) {
        return Ok(None);
    }
    let Some(store) = Store::open(paths)? else { return Ok(None) };
    store.plugin(kind)
}

/// The types that installed components serve.
pub(super) fn types(paths: &Paths) -> Result<Vec<String>, StoreError> {
    match Store::open(paths)? {
        Some(store) => store.types(),
        None => Ok(Vec::new()),
    }
}

impl Store {
    /// Opens the store; none if nothing was ever installed.
    pub(crate) fn open(paths: &Paths) -> Result<Option<Self>, StoreError> {
        let Some(state) = Directory::open(paths.state())? else { return Ok(None) };
        let Some(root) = state.directory("plugins")? else { return Ok(None) };
        // Who can write there can put another directory in the store's place.
        state.check()?;
        Ok(Some(Self { root }))
    }

    /// The types that are served, sorted.
    pub(crate) fn types(&self) -> Result<Vec<String>, StoreError> {
        let Some(types) = self.root.directory("types")? else { return Ok(Vec::new()) };
        Ok(types.names()?.into_iter().filter(|name| is_type(name)).collect())
    }

    /// The component that serves a type.
    pub(crate) fn current(&self, kind: &str) -> Result<Option<Digest>, StoreError> {
        let Some(types) = self.root.directory("types")? else { return Ok(None) };
        let Some(bytes) = types.read(kind, 128)? else { return Ok(None) };
        let digest = std::str::from_utf8(&bytes).ok().and_then(|text| Digest::parse(text.trim_end()));
        match digest {
            Some(digest) => Ok(Some(digest)),
            None => Err(StoreError::damaged(types.path().join(kind), "it does not name a component")),
        }
    }

    /// The record of a component.
    pub(crate) fn record(&self, digest: &Digest) -> Result<Option<Record>, StoreError> {
        let Some(records) = self.root.directory("records")? else { return Ok(None) };
        let name = format!("{}.json", digest.hex());
        let Some(bytes) = records.read(&name, RECORD_LIMIT)? else { return Ok(None) };
        let damaged = |reason: String| StoreError::damaged(records.path().join(&name), reason);
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.digest != *digest {
            return Err(damaged(format!("it is about {}", record.digest)));
        }
        Ok(Some(record))
    }

    /// The records of all components, in the order of their digests. One that
    /// cannot be used keeps nobody from the others.
    pub(crate) fn records(&self) -> Result<Vec<Entry>, StoreError> {
        let mut found = Vec::new();
        let Some(records) = self.root.directory("records")? else { return Ok(found) };
        for name in records.names()? {
            let Some(digest) = name.strip_suffix(".json").and_then(Digest::from_hex) else { continue };
            let record = self.record(&digest).transpose();
            found.extend(record.map(|record| (digest, record)));
        }
        Ok(found)
    }

    /// Whether something in it was compiled by another weir only.
    pub(crate) fn is_outdated(&self) -> Result<bool, StoreError> {
        let lacks = |(_, record): &Entry| {
            record.as_ref().is_ok_and(|record| !record.compiled.contains_key(COMPILED_FOR))
        };
        Ok(self.records()?.iter().any(lacks))
    }

    /// Finds what serves a type.
    fn plugin(&self, kind: &str) -> Result<Option<Plugin>, StoreError> {
        match self.current_record(kind)? {
            Some(record) => self.plugin_of(kind, &record).map(Some),
            None => Ok(None),
        }
    }

    /// A component as the plugin of a type.
    pub(super) fn plugin_of(&self, kind: &str, record: &Record) -> Result<Plugin, StoreError> {
        let Some(digest) = record.compiled.get(COMPILED_FOR) else {
            return Err(StoreError::Outdated { kind: kind.to_owned() });
        };
        Ok(Plugin {
            name: intern(kind),
            digest: record.digest.to_string().into(),
            origin: Origin::Installed,
            is_interface_plugin: record.description.is_interface_plugin(),
            is_ipam_plugin: record.description.is_ipam_plugin(),
            code: Code::Stored(self.compiled(&record.digest, digest)?),
            imports: record.description.imports.clone(),
        })
    }

    fn current_record(&self, kind: &str) -> Result<Option<Record>, StoreError> {
        // Between the two looks the type may have got another component, and
        // the one before may have been removed.
        let mut missing = None;
        while let Some(digest) = self.current(kind)? {
            if let Some(record) = self.record(&digest)? {
                return Ok(Some(record));
            }
            if missing.as_ref() == Some(&digest) {
                let path = self.root.path().join("types").join(kind);
                return Err(StoreError::damaged(path, format!("{digest} is not in the store")));
            }
            missing = Some(digest);
        }
        Ok(None)
    }

    /// Opens the code of a component for this weir.
    pub(super) fn compiled(&self, component: &Digest, code: &Digest) -> Result<Compiled, StoreError> {
        let name = compiled_name(component, COMPILED_FOR);
        let path = self.root.path().join("compiled").join(&name);
        let file = match self.root.directory("compiled")? {
            Some(directory) => directory.file(&name)?,
            None => None,
        };
        let file = file.ok_or_else(|| StoreError::damaged(path.clone(), "it does not exist"))?;
        Ok(Compiled { file, path, digest: code.clone() })
    }
}

/// The name of the file of a component's code for an engine.
pub(super) fn compiled_name(component: &Digest, engine: &str) -> String {
    format!("{}-{engine}.cwasm", component.hex())
}

/// Keeps the name of an installed type for as long as the process lives, which
/// will meet few of them: all that is done in its name can refer to it.
fn intern(kind: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(name) = names.get(kind) {
        return name;
    }
    let name: &'static str = Box::leak(kind.to_owned().into_boxed_str());
    names.insert(name);
    name
}
