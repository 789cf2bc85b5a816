//! Changes of the store: one process at a time, and each file whole or not at
//! all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::compiler;
use super::description::Description;
use super::digest::Digest;
use super::directory::Directory;
use super::record::Record;
use super::store::{Store, StoreError, compiled_name, is_type};
use super::{COMPILED_FOR, interfaces};
use crate::failure::{Failure, code};
use crate::lock;
use crate::paths::Paths;
use crate::{engine, role};

/// How long to wait for another process that changes the store.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// A component in memory is no larger.
const COMPONENT_LIMIT: u64 = 256 << 20;

/// The store, locked against other changes.
#[derive(Debug)]
pub(crate) struct Writer {
    store: Store,
    components: Directory,
    compiled: Directory,
    records: Directory,
    types: Directory,
    _lock: File,
}

/// What adding a component changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: it was there and in use.
    None,
    /// It is there now.
    Added,
    /// It was there, and serves the type now, or its code was made anew.
    Restored,
    /// It took the place of another one, which is still there.
    Replaced(Digest),
}

/// What compiling everything for this weir came to.
#[derive(Debug)]
pub(crate) struct Refreshed {
    pub(crate) compiled: usize,
    pub(crate) failed: Vec<Outdated>,
}

/// A component that cannot be compiled for this weir.
#[derive(Debug)]
pub(crate) struct Outdated {
    /// A type that it serves.
    pub(crate) in_use_by: Option<String>,
    pub(crate) failure: Failure,
}

impl Writer {
    /// Opens the store and makes it where there is none.
    pub(crate) fn open(paths: &Paths) -> Result<Self, Failure> {
        let path = paths.state();
        fs::create_dir_all(path).map_err(|error| StoreError::Io {
            attempt: "create",
            path: path.to_owned(),
            error,
        })?;
        let state =
            Directory::open(path)?.ok_or_else(|| StoreError::io("open", path, nix::errno::Errno::ENOENT))?;
        state.check()?;
        let root = state.ensure("plugins")?;
        let lock = take_turn(&root)?;
        let [components, compiled, records, types] = ["components", "compiled", "records", "types"];
        let writer = Self {
            components: root.ensure(components)?,
            compiled: root.ensure(compiled)?,
            records: root.ensure(records)?,
            types: root.ensure(types)?,
            store: Store { root },
            _lock: lock,
        };
        writer.sweep()?;
        Ok(writer)
    }

    /// What is in the store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Removes what an interrupted process left: unfinished files, and files
    /// that no record lists.
    fn sweep(&self) -> Result<(), StoreError> {
        for directory in [&self.components, &self.compiled, &self.records, &self.types] {
            for name in directory.names()?.iter().filter(|name| name.starts_with('.')) {
                directory.remove(name)?;
            }
        }
        let records = self.records.names()?;
        for directory in [&self.components, &self.compiled] {
            for name in directory.names()? {
                let Some(digest) = name.get(..64) else { continue };
                if !records.contains(&format!("{digest}.json")) {
                    directory.remove(&name)?;
                }
            }
        }
        let code = self.compiled.names()?;
        for record in self.store.records()?.into_iter().filter_map(|(_, record)| record.ok()) {
            let listed: Vec<String> =
                record.compiled.keys().map(|engine| compiled_name(&record.digest, engine)).collect();
            let others = code.iter().filter(|name| name.starts_with(record.digest.hex()));
            for name in others.filter(|name| !listed.contains(name)) {
                self.compiled.remove(name)?;
            }
        }
        Ok(())
    }

    /// Adds a component and lets it serve a type.
    pub(crate) fn add(
        &self,
        kind: &str,
        component: &[u8],
        description: &Description,
        signed_by: Option<&str>,
    ) -> Result<(Digest, Change), Failure> {
        interfaces::check(description).map_err(|reason| Failure::new(code::COMPONENT, reason))?;
        let digest = Digest::of(component);
        let before = self.store.current(kind).ok().flatten();
        let old = self.intact(&digest);
        let mut record = match &old {
            Some(record) => record.clone(),
            None => {
                let record = Record {
                    digest: digest.clone(),
                    size: component.len() as u64,
                    types: Vec::new(),
                    description: description.clone(),
                    added: now(),
                    signed_by: None,
                    compiled: BTreeMap::new(),
                };
                self.install(kind, component, record)?
            }
        };
        if !record.types.iter().any(|known| known == kind) {
            record.types.push(kind.to_owned());
            record.types.sort();
        }
        if let Some(key) = signed_by {
            record.signed_by = Some(key.to_owned());
        }
        if old.as_ref() != Some(&record) {
            self.write_record(&record)?;
        }
        let is_in_use = before.as_ref() == Some(&digest);
        if !is_in_use {
            self.write_type(kind, &digest)?;
        }
        let change = match (old, before) {
            (Some(_), _) if is_in_use => Change::None,
            (_, Some(before)) if !is_in_use => Change::Replaced(before),
            (None, None) => Change::Added,
            _ => Change::Restored,
        };
        Ok((digest, change))
    }

    /// The record of a component of which everything is there and unchanged.
    fn intact(&self, digest: &Digest) -> Option<Record> {
        let record = self.store.record(digest).ok()??;
        let component = self.components.read(&component_name(digest), COMPONENT_LIMIT).ok()??;
        let compiled = self.store.compiled(digest, record.compiled.get(COMPILED_FOR)?).ok()?;
        (Digest::of(&component) == *digest && compiled.read().is_ok()).then_some(record)
    }

    /// Compiles a component and writes both, if the result fits this weir.
    fn install(&self, kind: &str, component: &[u8], mut record: Record) -> Result<Record, Failure> {
        if let Ok(Some(old)) = self.store.record(&record.digest) {
            record.types = old.types;
            record.signed_by = old.signed_by;
            record.added = old.added;
            record.compiled = old.compiled;
        }
        let code = compiler::compile(component).map_err(|error| {
            Failure::new(code::COMPONENT, format!("compile the component of plugin type {kind}: {error}"))
        })?;
        record.compiled.insert(COMPILED_FOR.to_owned(), Digest::of(&code));
        self.components.write(&component_name(&record.digest), component)?;
        self.compiled.write(&compiled_name(&record.digest, COMPILED_FOR), &code)?;
        let checked = self.store.plugin_of(kind, &record).map_err(Failure::from).and_then(|plugin| {
            let engine = engine::engine()
                .map_err(|error| Failure::new(code::COMPONENT, format!("start the sandbox: {error:#}")))?;
            role::check(engine, &plugin)
        });
        if let Err(failure) = checked {
            self.sweep()?;
            return Err(failure);
        }
        Ok(record)
    }

    /// Compiles all components for this weir that are not. What another weir
    /// uses stays.
    pub(crate) fn refresh(&self) -> Result<Refreshed, Failure> {
        let mut refreshed = Refreshed { compiled: 0, failed: Vec::new() };
        for (digest, record) in self.store.records()? {
            if self.intact(&digest).is_some() {
                continue;
            }
            // One that is damaged keeps no other from being of use.
            match record.map_err(Failure::from).and_then(|record| self.refresh_one(record)) {
                Ok(()) => refreshed.compiled += 1,
                Err(failure) => {
                    refreshed.failed.push(Outdated { in_use_by: self.served_by(&digest), failure });
                }
            }
        }
        Ok(refreshed)
    }

    fn refresh_one(&self, record: Record) -> Result<(), Failure> {
        let name = component_name(&record.digest);
        let component = self.components.read(&name, COMPONENT_LIMIT)?;
        let component = component.filter(|component| Digest::of(component) == record.digest);
        let component = component.ok_or_else(|| {
            let path = self.components.path().join(&name);
            StoreError::damaged(path, "it is not the component that was installed")
        })?;
        let kind = record.types.first().cloned().unwrap_or_default();
        Ok(self.write_record(&self.install(&kind, &component, record)?)?)
    }

    /// Removes code for other engines, once no other weir is used any more.
    pub(crate) fn forget_other_engines(&self) -> Result<(), StoreError> {
        for mut record in self.store.records()?.into_iter().filter_map(|(_, record)| record.ok()) {
            let Some(own) = record.compiled.remove_entry(COMPILED_FOR) else { continue };
            let others = std::mem::replace(&mut record.compiled, BTreeMap::from([own]));
            if others.is_empty() {
                continue;
            }
            self.write_record(&record)?;
            for engine in others.keys() {
                self.compiled.remove(&compiled_name(&record.digest, engine))?;
            }
        }
        Ok(())
    }

    /// Lets another installed version serve a type.
    pub(crate) fn switch(&self, kind: &str, digest: &Digest) -> Result<(), Failure> {
        let record = self.store.record(digest)?;
        let record = record.filter(|record| record.types.iter().any(|known| known == kind));
        let record = record.ok_or_else(|| absent(kind, digest))?;
        self.store.plugin_of(kind, &record)?;
        Ok(self.write_type(kind, digest)?)
    }

    /// Removes all versions of a type, or one; returns those that are gone.
    pub(crate) fn remove(&self, kind: &str, only: Option<&Digest>) -> Result<Vec<Digest>, Failure> {
        if !is_type(kind) {
            return Err(Failure::new(
                code::COMPONENT,
                format!("remove plugin type {kind:?}: it is no name of a type"),
            ));
        }
        // A damaged one can be removed as well.
        let current = self.store.current(kind).ok().flatten();
        let mut versions = self.store.records()?;
        versions.retain(|(digest, record)| match record {
            Ok(record) => record.types.iter().any(|known| known == kind),
            // What it is for shows only if it is in use, or was named.
            Err(StoreError::Damaged { .. } | StoreError::Untrusted { .. }) => {
                current.as_ref() == Some(digest) || only == Some(digest) && self.served_by(digest).is_none()
            }
            Err(_) => false,
        });
        if let Some(only) = only {
            if !versions.iter().any(|(digest, _)| digest == only) {
                return Err(absent(kind, only));
            }
            if current.as_ref() == Some(only) && versions.len() > 1 {
                return Err(Failure::new(
                    code::COMPONENT,
                    format!("remove {only} of plugin type {kind}: it is the version in use"),
                )
                .details("let another one serve the type first, with \"weir plugin use\""));
            }
        }
        let is_gone = |(digest, _): &(Digest, _)| only.is_none_or(|only| digest == only);
        if only.is_none() || versions.iter().all(is_gone) {
            // From here on no call finds it; those under way have it open.
            let was_there = self.types.remove(kind)?;
            if !was_there && versions.is_empty() {
                return Err(Failure::new(
                    code::COMPONENT,
                    format!("remove plugin type {kind}: no component is installed for it"),
                )
                .details("\"weir plugin list\" shows what is installed"));
            }
        }
        let mut gone = Vec::new();
        for (digest, record) in versions.into_iter().filter(is_gone) {
            match record {
                Ok(mut record) if record.types.len() > 1 => {
                    record.types.retain(|known| known != kind);
                    self.write_record(&record)?;
                }
                _ => {
                    self.records.remove(&format!("{}.json", digest.hex()))?;
                }
            }
            gone.push(digest);
        }
        self.sweep()?;
        Ok(gone)
    }

    /// A type that a component serves.
    fn served_by(&self, digest: &Digest) -> Option<String> {
        let types = self.store.types().unwrap_or_default();
        types.into_iter().find(|kind| self.store.current(kind).ok().flatten().as_ref() == Some(digest))
    }

    fn write_record(&self, record: &Record) -> Result<(), StoreError> {
        let name = format!("{}.json", record.digest.hex());
        let text = serde_json::to_vec_pretty(record).map_err(|error| StoreError::Io {
            attempt: "write",
            path: self.records.path().join(&name),
            error: error.into(),
        })?;
        self.records.write(&name, &text)
    }

    fn write_type(&self, kind: &str, digest: &Digest) -> Result<(), StoreError> {
        self.types.write(kind, format!("{digest}\n").as_bytes())
    }
}

fn component_name(digest: &Digest) -> String {
    format!("{}.wasm", digest.hex())
}

fn absent(kind: &str, digest: &Digest) -> Failure {
    Failure::new(code::COMPONENT, format!("{digest} is not installed for plugin type {kind}"))
        .details("\"weir plugin list\" shows what is installed")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Waits for its turn. Whoever holds the lock compiles something.
fn take_turn(root: &Directory) -> Result<File, Failure> {
    let file = root.lock_file("lock")?;
    lock::acquire(file, Instant::now() + LOCK_WAIT)
        .map_err(|error| Failure::io(format!("lock {}: {error}", root.path().display())))?
        .ok_or_else(|| {
            Failure::new(
                code::TRY_AGAIN,
                format!("{} is being changed by another process", root.path().display()),
            )
        })
}

#[cfg(test)]
mod tests;
